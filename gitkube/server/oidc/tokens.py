"""ID tokens (OpenID Connect Core 1.0, section 3.1.3.7): is one good, and whom does it make of its bearer?

The signature is checked first, with a key that the provider has published and the algorithm that belongs to
that key; what the token itself says about algorithms only chooses among these. Then issuer, audience and
times, and from the claims that the settings name, the user. Invariants: neither `none` nor a symmetric
algorithm is ever accepted; no provider makes anybody a part of the cluster (`system:…`).
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from gitkube.api.authorization import AUTHENTICATED_GROUP, User
from gitkube.api.jwt import MAX_TOKEN_BYTES, decode_part

CLOCK_SKEW_S = 60
MIN_RSA_BITS = 2048
MAX_KEYS = 64
MAX_GROUPS = 512
NO_PREFIX = "-"
SYSTEM = "system:"
_HALF_BYTES = 32

Verify = Callable[[bytes, bytes], None]
"""From what was signed and the signature; raises `InvalidSignature`."""


@dataclass(frozen=True, slots=True)
class OidcSettings:
    """As the options of Kubernetes' API server of the same names."""

    issuer_url: str
    client_id: str
    username_claim: str = "sub"
    username_prefix: str = ""
    """"" is the issuer's URL and `#`, unless the claim is `email`; `-` is none."""
    groups_claim: str = ""
    """"" takes no groups."""
    groups_prefix: str = ""

    @property
    def name_prefix(self) -> str:
        """What stands before each user's name."""
        if self.username_prefix == NO_PREFIX:
            return ""
        if self.username_prefix or self.username_claim == "email":
            return self.username_prefix
        return f"{self.issuer_url}#"


@dataclass(frozen=True, slots=True)
class Key:
    """A key that the provider signs with."""

    id: str
    algorithm: str
    verify: Verify


def keys_of(document: Any) -> tuple[Key, ...]:
    """The signing keys of a JSON Web Key Set (RFC 7517) that we can use; others are left out.

    Raises:
        ValueError: it is no such set.
    """
    found = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(found, list):
        raise ValueError("it is no JSON Web Key Set")
    keys = (_key(one) for one in found[:MAX_KEYS] if isinstance(one, dict) and one.get("use", "sig") == "sig")
    return tuple(key for key in keys if key is not None)


def _key(jwk: Mapping[str, Any]) -> Key | None:
    id = str(jwk.get("kid") or "")
    try:
        if jwk.get("kty") == "RSA" and jwk.get("alg", "RS256") == "RS256":
            n, e = (int.from_bytes(decode_part(str(jwk[part])), "big") for part in ("n", "e"))
            public = rsa.RSAPublicNumbers(e, n).public_key()
            return Key(id, "RS256", _by_rsa(public)) if public.key_size >= MIN_RSA_BITS else None
        if jwk.get("kty") == "EC" and jwk.get("crv") == "P-256" and jwk.get("alg", "ES256") == "ES256":
            x, y = (int.from_bytes(decode_part(str(jwk[part])), "big") for part in ("x", "y"))
            return Key(
                id, "ES256", _by_curve(ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key())
            )
    except (KeyError, ValueError, binascii.Error):
        return None  # a key of no use; what it signed will not be known
    return None


def _by_rsa(key: rsa.RSAPublicKey) -> Verify:
    return lambda signed, signature: key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())


def _by_curve(key: ec.EllipticCurvePublicKey) -> Verify:
    def verify(signed: bytes, signature: bytes) -> None:
        if len(signature) != 2 * _HALF_BYTES:
            raise InvalidSignature
        r, s = (int.from_bytes(half, "big") for half in (signature[:_HALF_BYTES], signature[_HALF_BYTES:]))
        key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256()))

    return verify


def read_header(token: str) -> tuple[str, str] | None:
    """Algorithm and key id of a token; None when it is no JSON Web Token."""
    if len(token) > MAX_TOKEN_BYTES or not token.isascii() or token.count(".") != 2:
        return None
    header = _document(token.partition(".")[0])
    if header is None or "crit" in header:
        return None
    return str(header.get("alg") or ""), str(header.get("kid") or "")


def issuer_of(token: str) -> str:
    """Who says to have issued a token; believed by nobody, it only says whom to ask."""
    claims = _document(token.split(".")[1]) if token.count(".") == 2 else None
    return str((claims or {}).get("iss") or "")


def verified(token: str, keys: Iterable[Key]) -> dict[str, Any] | None:
    """The claims of a token that one of the keys has signed; None for every other."""
    header = read_header(token)
    if header is None:
        return None
    algorithm, id = header
    signed, _, last = token.rpartition(".")
    try:
        signature = decode_part(last)
    except (ValueError, binascii.Error):
        return None
    for key in keys:
        if key.algorithm != algorithm or (id and key.id and key.id != id):
            continue
        try:
            key.verify(signed.encode(), signature)
        except InvalidSignature:
            continue
        return _document(signed.partition(".")[2])
    return None


def user_of(claims: Mapping[str, Any], settings: OidcSettings, now_s: float) -> User | None:
    """The user that the claims of a good signature make; None when they are of somebody else, or too old."""
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if claims.get("iss") != settings.issuer_url or settings.client_id not in audiences:
        return None
    ends_s, begins_s = _number(claims.get("exp")), _number(claims.get("nbf", 0))
    if ends_s is None or begins_s is None or now_s >= ends_s or now_s < begins_s - CLOCK_SKEW_S:
        return None
    name = claims.get(settings.username_claim)
    if not isinstance(name, str) or not name:
        return None
    if settings.username_claim == "email" and claims.get("email_verified", True) is not True:
        return None
    name = settings.name_prefix + name
    if name.startswith(SYSTEM):
        return None
    given = claims.get(settings.groups_claim) if settings.groups_claim else None
    words = [given] if isinstance(given, str) else given if isinstance(given, list) else []
    groups = [settings.groups_prefix + word for word in words[:MAX_GROUPS] if isinstance(word, str) and word]
    kept = [group for group in dict.fromkeys(groups) if not group.startswith(SYSTEM)]
    return User(name, (*kept, AUTHENTICATED_GROUP))


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _document(part: str) -> dict[str, Any] | None:
    try:
        found = orjson.loads(decode_part(part))
    except (ValueError, binascii.Error):
        return None
    return found if isinstance(found, dict) else None
