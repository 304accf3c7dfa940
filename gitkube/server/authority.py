"""One certificate authority: a key, a certificate of its own, and what it signs.

A data directory has several, one for each door, because whoever is trusted at one must not be at another: a
client of the API has no business among the members of the store. Each is made once, lies in two files, and is
opened again at every start.

Invariants: a private key is never readable by anybody but the owner of the process, not even for a moment; a
file is there whole or not at all; an authority's key is never replaced, because every certificate out there
hangs on it.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gitkube.clock import Clock
from gitkube.files import fsync_directory, replace_durably
from gitkube.server.kubeconfig import Credentials

CA_VALID_DAYS = 3650
VALID_DAYS = 365
RENEW_BEFORE_DAYS = 30
"""A certificate this near to its end is made anew."""
BACKDATE_S = 300
"""Certificates are valid from a little earlier, for machines whose clocks lag."""
MIN_RSA_BITS = 2048
MAX_COMMON_NAME = 64
"""RFC 5280, appendix A.1: ub-common-name."""


class PkiError(Exception):
    """A key or certificate is missing or of no use; the text says which file, and what to do."""


class Authority:
    """Make one with `Authority.open`."""

    def __init__(
        self,
        certificate: x509.Certificate,
        key: ec.EllipticCurvePrivateKey,
        paths: tuple[Path, Path],
        clock: Clock,
    ) -> None:
        self._certificate = certificate
        self._key = key
        self._clock = clock
        self.certificate_path, self.key_path = paths
        self.pem: bytes = certificate.public_bytes(serialization.Encoding.PEM)

    @classmethod
    def open(cls, directory: Path, stem: str, *, name: str, clock: Clock) -> Authority:
        """The authority of the files `<stem>.crt` and `<stem>.key`; made when there is none.

        Args:
            name: its common name, when it is made.

        Raises:
            PkiError: what is there does not fit together, has ended, or cannot be read.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        key_path, certificate_path = directory / f"{stem}.key", directory / f"{stem}.crt"
        if not key_path.exists():
            if certificate_path.exists():
                raise PkiError(f"{certificate_path} is there but its key {key_path} is not: {_GET_BACK}")
            # The key comes first: whoever dies before the certificate is written finds it and goes on.
            replace_durably(key_path, key_pem(new_key()))
            fsync_directory(directory.parent)
        refuse_open_key(key_path)
        key = load_key(key_path)
        if not certificate_path.exists():
            replace_durably(certificate_path, pem_of(_self_signed(key, name, clock)))
        certificate = load_certificate(certificate_path)
        if public_bytes(certificate) != public_bytes(key):
            raise PkiError(
                f"{certificate_path} is not the certificate of {key_path}: restore both from one backup"
            )
        if certificate.not_valid_after_utc <= now_of(clock):
            raise PkiError(
                f"the authority {certificate_path} ended on {certificate.not_valid_after_utc:%Y-%m-%d}, and "
                f"with it all that it signed. Move {certificate_path.name} and {key_path.name} away on every "
                "controller, start one of them, and hand out what it makes anew: docs/how-to/disaster.md"
            )
        return cls(certificate, key, (certificate_path, key_path), clock)

    def secret(self) -> bytes:
        """The private key itself. Only for deriving others from; never to be written or sent."""
        return self._key.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    # ------------------------------------------------------------------ signing

    def sign(
        self,
        key: ec.EllipticCurvePrivateKey,
        common_name: str,
        organizations: Sequence[str] = (),
        *,
        server: bool = False,
        client: bool = False,
        names: Iterable[str] = (),
        valid_days: int = VALID_DAYS,
    ) -> x509.Certificate:
        """A new certificate, which ends with the authority at the latest.

        Args:
            organizations: of the subject.
            server, client: what it may be used for.
            names: host names and addresses that it is valid for.

        Raises:
            PkiError: a name cannot be in a certificate.
        """
        if not 0 < len(common_name) <= MAX_COMMON_NAME:
            raise PkiError(
                f"a user's name in a certificate has 1 to {MAX_COMMON_NAME} characters: {common_name!r}"
            )
        attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, one) for one in organizations]
        subject = x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        usages = [ExtendedKeyUsageOID.SERVER_AUTH] * server + [ExtendedKeyUsageOID.CLIENT_AUTH] * client
        end = min(now_of(self._clock) + timedelta(days=valid_days), self._certificate.not_valid_after_utc)
        builder = self._builder(subject, key.public_key(), usages, end)
        if subject_names := general_names(names):
            builder = builder.add_extension(x509.SubjectAlternativeName(subject_names), critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def sign_request(self, pem: bytes, valid_s: int) -> x509.Certificate:
        """A client certificate for the subject and the key of a request (PKCS #10); of all else that it
        wishes for, nothing.

        Args:
            valid_s: from now on; it ends with the authority at the latest.

        Raises:
            PkiError: it is no request, is not signed with its own key, or has a weak key or no name.
        """
        try:
            request = x509.load_pem_x509_csr(pem)
            is_good = request.is_signature_valid
        except (ValueError, UnsupportedAlgorithm) as error:
            raise PkiError(f"this is no certificate request: {error}") from error
        if not is_good:
            raise PkiError("the request is not signed with the key that it names")
        key = request.public_key()
        if isinstance(key, rsa.RSAPublicKey) and key.key_size < MIN_RSA_BITS:
            raise PkiError(f"an RSA key has {MIN_RSA_BITS} bits at least; this one has {key.key_size}")
        if not isinstance(key, (rsa.RSAPublicKey, ec.EllipticCurvePublicKey, ed25519.Ed25519PublicKey)):
            raise PkiError("the key is of no kind that this authority signs (RSA, elliptic curve, Ed25519)")
        names = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        if len(names) != 1 or not str(names[0].value).strip():
            raise PkiError("the subject has no common name, or several: nobody could say who this is")
        now = now_of(self._clock)
        end = min(now + timedelta(seconds=valid_s), self._certificate.not_valid_after_utc)
        return self._builder(request.subject, key, [ExtendedKeyUsageOID.CLIENT_AUTH], end).sign(
            self._key, hashes.SHA256()
        )

    def _builder(
        self, subject: x509.Name, key: Any, usages: list[x509.ObjectIdentifier], end: datetime
    ) -> x509.CertificateBuilder:
        identifier = self._certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        issuer = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now_of(self._clock) - timedelta(seconds=BACKDATE_S))
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(is_ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(issuer, critical=False)
        )

    def is_fresh(self, certificate: x509.Certificate) -> bool:
        """Whether it is ours and not near its end."""
        try:
            certificate.verify_directly_issued_by(self._certificate)
        except Exception:  # the library raises several kinds; each means "not ours"
            return False
        return certificate.not_valid_after_utc - now_of(self._clock) > timedelta(days=RENEW_BEFORE_DAYS)

    # ------------------------------------------------------------------ files

    def keep(
        self,
        stem: str,
        common_name: str,
        organizations: Sequence[str] = (),
        *,
        server: bool = False,
        client: bool = False,
        names: Iterable[str] = (),
    ) -> tuple[Path, Path]:
        """Paths of a certificate (with the authority behind it) and its key, beside the authority's own.

        Made anew when it nears its end, is of another authority or another subject, or has other names. The
        key is replaced first: whoever reads both in between finds that they do not fit, and reads again.

        Args: as `sign`.

        Raises:
            PkiError: as `sign`.
        """
        directory = self.key_path.parent
        certificate_path, key_path = directory / f"{stem}.crt", directory / f"{stem}.key"
        names = list(names)
        if not self._still_holds(certificate_path, key_path, common_name, organizations, names):
            key = new_key()
            certificate = self.sign(
                key, common_name, organizations, server=server, client=client, names=names
            )
            replace_durably(key_path, key_pem(key))
            replace_durably(certificate_path, pem_of(certificate) + self.pem)
        return certificate_path, key_path

    def _still_holds(
        self,
        certificate_path: Path,
        key_path: Path,
        name: str,
        organizations: Sequence[str],
        names: Sequence[str],
    ) -> bool:
        if not certificate_path.exists() or not key_path.exists():
            return False
        try:
            certificate, key = load_certificate(certificate_path), load_key(key_path)
        except PkiError:
            return False  # unreadable: it is only derived from the authority, so a new one is as good
        return (
            public_bytes(certificate) == public_bytes(key)
            and self.is_fresh(certificate)
            and subject_of(certificate) == (name, set(organizations))
            and _names_of(certificate) == set(general_names(names))
        )

    def credentials(
        self, common_name: str, organizations: Sequence[str] = (), *, valid_days: int = VALID_DAYS
    ) -> Credentials:
        """A new certificate and key for a client.

        Raises:
            PkiError: as `sign`.
        """
        key = new_key()
        certificate = self.sign(key, common_name, organizations, client=True, valid_days=valid_days)
        return Credentials(pem_of(certificate), key_pem(key))


def _self_signed(key: ec.EllipticCurvePrivateKey, name: str, clock: Clock) -> x509.Certificate:
    now = now_of(clock)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(seconds=BACKDATE_S))
        .not_valid_after(now + timedelta(days=CA_VALID_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(is_ca=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _key_usage(*, is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        encipher_only=False,
        decipher_only=False,
    )


def general_names(names: Iterable[str]) -> list[x509.GeneralName]:
    """Host names and addresses as a certificate holds them, each once.

    Raises:
        PkiError: a name cannot be in a certificate.
    """
    found: dict[str, x509.GeneralName] = {}
    for name in names:
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            try:
                found[name.lower()] = x509.DNSName(name.lower().rstrip("."))
            except ValueError as error:
                raise PkiError(f"{name!r} is no host name that a certificate can hold") from error
        else:
            if not address.is_unspecified:  # 0.0.0.0 means "all addresses" and names none
                found[str(address)] = x509.IPAddress(address)
    return list(found.values())


def subject_of(certificate: x509.Certificate) -> tuple[str, set[str]]:
    """Common name and organizations."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    organizations = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    name = names[0].value if len(names) == 1 else ""
    return str(name), {str(organization.value) for organization in organizations}


def _names_of(certificate: x509.Certificate) -> set[x509.GeneralName]:
    try:
        return set(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return set()


_GET_BACK = "restore it from a backup of pki/, or copy it from another controller"


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def refuse_open_key(path: Path) -> None:
    """Raises:
    PkiError: others can read this private key, or we cannot.
    """
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise PkiError(f"{path} can be read by others (mode {mode:o}); run: chmod 600 {path}")
    if not os.access(path, os.R_OK):
        raise PkiError(f"{path} cannot be read; it belongs to another user")


def load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Raises:
    PkiError: it is none.
    """
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise PkiError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError) as error:  # TypeError: it is encrypted
        raise PkiError(f"{path} is not a private key in PEM form without a password; {_GET_BACK}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise PkiError(f"{path} is not an elliptic curve key; {_GET_BACK}")
    return key


def load_certificate(path: Path) -> x509.Certificate:
    """Raises:
    PkiError: it is none.
    """
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise PkiError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise PkiError(f"{path} is not a certificate in PEM form; {_GET_BACK}") from error


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def pem_of(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def public_bytes(holder: x509.Certificate | ec.EllipticCurvePrivateKey) -> bytes:
    """What tells whether a certificate and a key belong together."""
    return holder.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def now_of(clock: Clock) -> datetime:
    return datetime.fromtimestamp(int(clock.now()), UTC)
