"""Signed tokens: JSON Web Tokens (RFC 7519) with one algorithm, ES256 (RFC 7518 section 3.4).

Only what we sign ourselves is ever read, so no other algorithm, and none that a token asks for, is accepted.
Nothing in a token is looked at before its signature has been found good.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Any

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

ALGORITHM = "ES256"
MAX_TOKEN_BYTES = 16 * 1024
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of the group of P-256 (FIPS 186-4, D.1.2.3): private keys are 1 … order - 1."""
_HALF_BYTES = 32
_PURPOSE = b"gitkube service account tokens 1"


class SigningKey:
    """A key that signs tokens and knows its own again."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        self._public = key.public_key()
        encoded = self._public.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.key_id = encode_part(hashlib.sha256(encoded).digest())
        self._header = encode_part(orjson.dumps({"alg": ALGORITHM, "kid": self.key_id}))

    @classmethod
    def derived_from(cls, secret: bytes) -> SigningKey:
        """The key that everybody gets who has the same secret; it does not tell the secret.

        HKDF (RFC 5869) to 384 bits and a reduction: more bits than the order has, so that the remainder is
        as good as even (FIPS 186-4, B.4.1).
        """
        wide = HKDF(hashes.SHA256(), 48, None, _PURPOSE).derive(secret)
        number = int.from_bytes(wide, "big") % (_ORDER - 1) + 1
        return cls(ec.derive_private_key(number, ec.SECP256R1()))

    def sign(self, claims: dict[str, Any]) -> str:
        """The token that says this."""
        signed = f"{self._header}.{encode_part(orjson.dumps(claims))}"
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        signature = r.to_bytes(_HALF_BYTES, "big") + s.to_bytes(_HALF_BYTES, "big")
        return f"{signed}.{encode_part(signature)}"

    def verified(self, token: str) -> dict[str, Any] | None:
        """What a token says that this key has signed; None for every other text."""
        if len(token) > MAX_TOKEN_BYTES or not token.isascii():
            return None
        signed, dot, last = token.rpartition(".")
        if not dot or signed.partition(".")[0] != self._header:
            return None
        try:
            signature = decode_part(last)
            if len(signature) != 2 * _HALF_BYTES:
                return None
            halves = (signature[:_HALF_BYTES], signature[_HALF_BYTES:])
            r, s = (int.from_bytes(half, "big") for half in halves)
            self._public.verify(encode_dss_signature(r, s), signed.encode(), ec.ECDSA(hashes.SHA256()))
            claims = orjson.loads(decode_part(signed.partition(".")[2]))
        except (InvalidSignature, ValueError, binascii.Error):
            return None
        return claims if isinstance(claims, dict) else None

    def to_jwk(self) -> dict[str, str]:
        """The public half as a JSON Web Key (RFC 7517)."""
        numbers = self._public.public_numbers()
        return {
            "use": "sig",
            "kty": "EC",
            "kid": self.key_id,
            "alg": ALGORITHM,
            "crv": "P-256",
            "x": encode_part(numbers.x.to_bytes(_HALF_BYTES, "big")),
            "y": encode_part(numbers.y.to_bytes(_HALF_BYTES, "big")),
        }


def encode_part(data: bytes) -> str:
    """Base64 as URLs take it, without padding (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode_part(text: str) -> bytes:
    """
    Raises:
        ValueError: it is not exactly what `encode_part` makes of something.
    """
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if encode_part(data) != text:
        raise ValueError("another spelling of the same bytes")
    return data
