"""Who is who over TLS: one certificate authority, in the data directory, and what it signs.

The CA is made once and signs the server's certificate and those of its clients; a client *is* the common name
of its certificate, in the groups that its organizations name (Kubernetes' convention for X.509). Nothing else
is trusted, so whoever holds `ca.key` is the cluster's owner.

Invariants: a private key is never readable by anybody but the owner of the process, not even for a moment; a
file is there whole or not at all; the CA's key is never replaced, because every certificate out there hangs
on it.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gitkube.clock import Clock
from gitkube.files import fsync_directory, replace_durably
from gitkube.server.kubeconfig import Credentials, kubeconfig, read_kubeconfig, write_kubeconfig

CA_VALID_DAYS = 3650
SERVER_VALID_DAYS = 365
CLIENT_VALID_DAYS = 365
RENEW_BEFORE_DAYS = 30
"""A certificate this near to its end is made anew."""
BACKDATE_S = 300
"""Certificates are valid from a little earlier, for machines whose clocks lag."""
MAX_COMMON_NAME = 64
"""RFC 5280, appendix A.1: ub-common-name."""

SERVER_NAMES = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)
SERVER_ADDRESSES = ("127.0.0.1", "::1", "10.43.0.1")
ADMIN_USER, ADMIN_GROUP = "kubernetes-admin", "system:masters"


class PkiError(Exception):
    """A key or certificate is missing or of no use; the text says which file, and what to do."""


class Pki:
    """The authority of one data directory. Make one with `Pki.open`."""

    def __init__(
        self, directory: Path, ca: x509.Certificate, ca_key: ec.EllipticCurvePrivateKey, clock: Clock
    ) -> None:
        self._directory = directory
        self._ca = ca
        self._ca_key = ca_key
        self._clock = clock
        self.ca_pem: bytes = ca.public_bytes(serialization.Encoding.PEM)

    @classmethod
    def open(cls, directory: Path, *, clock: Clock) -> Pki:
        """The authority that lives in `directory` (such as `<data>/pki`); made when there is none.

        Raises:
            PkiError: what is there does not fit together or cannot be read.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        key_path, ca_path = directory / "ca.key", directory / "ca.crt"
        if not key_path.exists():
            if ca_path.exists():
                raise PkiError(f"{ca_path} is there but its key {key_path} is not: restore it from a backup")
            # The key comes first: whoever dies before the certificate is written finds it and goes on.
            replace_durably(key_path, _key_pem(ec.generate_private_key(ec.SECP256R1())))
            fsync_directory(directory.parent)
        _refuse_open_key(key_path)
        ca_key = _load_key(key_path)
        if not ca_path.exists():
            replace_durably(ca_path, _pem(_self_signed(ca_key, clock)))
        ca = _load_certificate(ca_path)
        if _public_bytes(ca) != _public_bytes(ca_key):
            raise PkiError(f"{ca_path} is not the certificate of {key_path}: restore both from one backup")
        if ca.not_valid_after_utc <= _now(clock):
            raise PkiError(f"the authority {ca_path} ended on {ca.not_valid_after_utc:%Y-%m-%d}")
        return cls(directory, ca, ca_key, clock)

    # ------------------------------------------------------------------ server

    def server_certificate(self, names: Iterable[str] = ()) -> tuple[Path, Path]:
        """Paths of the server's certificate (with the CA behind it) and key.

        It is made anew when it nears its end, is of another authority, or lacks one of the names.

        Args:
            names: host names and addresses by which clients call this server, beside the usual ones.

        Raises:
            PkiError: a name cannot be in a certificate.
        """
        wanted = _subject_names([*SERVER_NAMES, *SERVER_ADDRESSES, *names])
        certificate_path, key_path = self._directory / "server.crt", self._directory / "server.key"
        if not self._serves(certificate_path, key_path, wanted):
            key = ec.generate_private_key(ec.SECP256R1())
            usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
            subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gitkube")])
            certificate = self._sign(
                subject, key, usage, SERVER_VALID_DAYS, x509.SubjectAlternativeName(wanted)
            )
            replace_durably(key_path, _key_pem(key))
            replace_durably(certificate_path, _pem(certificate) + self.ca_pem)
        return certificate_path, key_path

    def _serves(self, certificate_path: Path, key_path: Path, wanted: Sequence[x509.GeneralName]) -> bool:
        if not certificate_path.exists() or not key_path.exists():
            return False
        try:
            certificate, key = _load_certificate(certificate_path), _load_key(key_path)
        except PkiError:
            return False  # unreadable: it is only derived from the CA, so a new one is as good
        if _public_bytes(certificate) != _public_bytes(key) or not self._is_fresh(certificate):
            return False
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return set(wanted) == set(names)

    def server_context(self, names: Iterable[str] = ()) -> ssl.SSLContext:
        """TLS 1.2 or newer; client certificates are asked for, and trusted only from our authority."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(cadata=self.ca_pem.decode())
        context.set_alpn_protocols(["http/1.1"])
        certificate, key = self.server_certificate(names)
        context.load_cert_chain(certificate, key)
        return context

    # ------------------------------------------------------------------ clients

    def client_certificate(
        self, user: str, groups: Sequence[str] = (), *, valid_days: int = CLIENT_VALID_DAYS
    ) -> Credentials:
        """A new certificate that makes its holder `user`, in `groups`.

        Raises:
            PkiError: the name is empty or too long for a certificate.
        """
        if not 0 < len(user) <= MAX_COMMON_NAME:
            raise PkiError(f"a user's name in a certificate has 1 to {MAX_COMMON_NAME} characters: {user!r}")
        key = ec.generate_private_key(ec.SECP256R1())
        organizations = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
        subject = x509.Name([*organizations, x509.NameAttribute(NameOID.COMMON_NAME, user)])
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        return Credentials(_pem(self._sign(subject, key, usage, valid_days)), _key_pem(key))

    def write_kubeconfig(
        self, path: Path, server: str, *, user: str = ADMIN_USER, groups: Sequence[str] = (ADMIN_GROUP,)
    ) -> None:
        """Write a kubeconfig of `user`, unless the one that is there still holds.

        It holds if it is of our making: for that server, our authority, that user, not near its end.

        Args:
            server: URL such as `https://127.0.0.1:6443`.
        """
        kept = read_kubeconfig(path)
        if kept is not None:
            found_server, found_ca, credentials = kept
            is_ours = (found_server, found_ca) == (server, self.ca_pem)
            if is_ours and self.is_current(credentials, user, groups):
                path.chmod(0o600)
                return
        credentials = self.client_certificate(user, groups)
        write_kubeconfig(path, kubeconfig(server, self.ca_pem, user, credentials))

    def is_current(self, credentials: Credentials, user: str, groups: Sequence[str]) -> bool:
        """Whether these credentials are of our authority, of that user, and not near their end."""
        try:
            certificate = x509.load_pem_x509_certificate(credentials.certificate)
            key = serialization.load_pem_private_key(credentials.key, None)
        except (ValueError, TypeError):
            return False
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        organizations = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        return (
            isinstance(key, ec.EllipticCurvePrivateKey)
            and _public_bytes(certificate) == _public_bytes(key)
            and [name.value for name in names] == [user]
            and {organization.value for organization in organizations} == set(groups)
            and self._is_fresh(certificate)
        )

    def _is_fresh(self, certificate: x509.Certificate) -> bool:
        try:
            certificate.verify_directly_issued_by(self._ca)
        except Exception:  # the library raises several kinds; each means "not ours"
            return False
        return certificate.not_valid_after_utc - _now(self._clock) > timedelta(days=RENEW_BEFORE_DAYS)

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        usage: x509.ExtendedKeyUsage,
        valid_days: int,
        names: x509.SubjectAlternativeName | None = None,
    ) -> x509.Certificate:
        now = _now(self._clock)
        end = min(now + timedelta(days=valid_days), self._ca.not_valid_after_utc)
        authority = self._ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._ca.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(seconds=BACKDATE_S))
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(is_ca=False), critical=True)
            .add_extension(usage, critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(authority), critical=False
            )
        )
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self._ca_key, hashes.SHA256())


def _self_signed(key: ec.EllipticCurvePrivateKey, clock: Clock) -> x509.Certificate:
    now = _now(clock)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gitkube-ca")])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
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


def _subject_names(names: Iterable[str]) -> list[x509.GeneralName]:
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


def _refuse_open_key(path: Path) -> None:
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise PkiError(f"{path} can be read by others (mode {mode:o}); run: chmod 600 {path}")
    if not os.access(path, os.R_OK):
        raise PkiError(f"{path} cannot be read; it belongs to another user")


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise PkiError(f"{path} is not a private key in PEM form: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise PkiError(f"{path} is not an elliptic curve key")
    return key


def _load_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise PkiError(f"{path} is not a certificate in PEM form: {error}") from error


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _public_bytes(holder: x509.Certificate | ec.EllipticCurvePrivateKey) -> bytes:
    return holder.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _now(clock: Clock) -> datetime:
    return datetime.fromtimestamp(int(clock.now()), UTC)
