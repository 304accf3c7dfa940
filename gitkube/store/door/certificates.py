"""The door's certificates, which may be replaced while it is open.

Whoever rotates them writes files; at each handshake gRPC asks whether there are others. Files that do not fit
together, such as a pair of which only one half is written yet, are left aside with an error in the log, and
looked at again at the next handshake.

Invariant: gRPC is only given what was checked; what it has goes on being used until then.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gitkube.store.etcd.wire import grpc

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class DoorTls:
    """Mutual TLS: certificate and key of the server, and the authority that signed its clients' certificates.

    Files in PEM. They are read again when they change, so that a rotated certificate needs no restart.
    """

    certificate: Path
    key: Path
    client_authority: Path


@dataclass(frozen=True, slots=True)
class _Contents:
    certificate: bytes
    key: bytes
    client_authority: bytes


def server_credentials(tls: DoorTls) -> Any:
    """What gRPC's server takes; renews itself.

    Raises:
        OSError, ValueError: a file cannot be read or is not what it should be.
    """
    current = _read(tls)
    _check(current, tls)

    def changed() -> Any:
        """Called by gRPC at each handshake, in a thread of its own; None: go on with what there is."""
        nonlocal current
        try:
            found = _read(tls)
            if found == current:
                return None
            _check(found, tls)
        except (OSError, ValueError) as error:
            log.error("door_certificates_unusable", error=str(error))
            return None
        current = found
        return _configuration(found)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(current), changed, require_client_authentication=True
    )


def _read(tls: DoorTls) -> _Contents:
    return _Contents(tls.certificate.read_bytes(), tls.key.read_bytes(), tls.client_authority.read_bytes())


def _check(contents: _Contents, tls: DoorTls) -> None:
    for path, pem in (
        (tls.certificate, contents.certificate),
        (tls.client_authority, contents.client_authority),
    ):
        try:
            x509.load_pem_x509_certificates(pem)
        except ValueError as error:
            raise ValueError(f"{path} holds no certificate in PEM") from error
    try:
        key = load_pem_private_key(contents.key, None)
    except (ValueError, TypeError) as error:  # TypeError: it is encrypted
        raise ValueError(f"{tls.key} holds no private key in PEM without a password") from error
    if key.public_key() != x509.load_pem_x509_certificates(contents.certificate)[0].public_key():
        raise ValueError(f"{tls.key} is not the key of {tls.certificate}")


def _configuration(contents: _Contents) -> Any:
    return grpc.ssl_server_certificate_configuration(
        [(contents.key, contents.certificate)], contents.client_authority
    )
