"""Mutual TLS between members: who may speak at all.

Both ends show a certificate of the store's own authority with the organization `gitkube:store`; a
certificate of a person or a controller, even from the same authority, opens nothing here. The files are read
again when they have changed, so that rotated certificates need no restart.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gitkube.store.protocol import IdentityError

ORGANIZATION = "gitkube:store"
_NOT_YET_VALID, _EXPIRED = 9, 10
"""OpenSSL's numbers of what is the matter with a certificate, X509_V_ERR_*."""


@dataclass(frozen=True, slots=True)
class PeerTls:
    """Files in PEM: the authority, and this member's certificate and key."""

    ca: Path
    certificate: Path
    key: Path

    def server_context(self) -> ssl.SSLContext:
        """For the listening end. `refresh` takes rotated files for connections to come.

        Raises:
            IdentityError: a file is missing or is no certificate.
        """
        context = self._context(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_REQUIRED
        return context

    def client_context(self) -> ssl.SSLContext:
        """For the dialling end. Members are known by authority and organization, not by host name.

        Raises:
            IdentityError: a file is missing or is no certificate.
        """
        context = self._context(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        return context

    def _context(self, protocol: int) -> ssl.SSLContext:
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        self.refresh(context)
        return context

    def stamp(self) -> tuple[tuple[int, int, int], ...]:
        """What changes when one of the files is replaced; to look at it costs much less than to read them."""
        return tuple(map(_stamp_of, (self.ca, self.certificate, self.key)))

    def refresh(self, context: ssl.SSLContext) -> None:
        """Read the files into a context.

        Raises:
            IdentityError: a file is missing or is no certificate, or they do not fit together; the context is
                as it was.
        """
        # One into which files were read that do not fit together has lost the key that it had.
        scratch = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            for each in (scratch, context):
                each.load_verify_locations(self.ca)
                each.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            raise IdentityError(
                f"the member's certificate is of no use ({self.ca}, {self.certificate}, {self.key}): "
                f"{error}. `gitkube serve` makes them anew when they are removed."
            ) from error


def _stamp_of(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0, 0  # whoever reads it is told why
    return found.st_ino, found.st_mtime_ns, found.st_size


def check_peer(certificate: Any) -> None:
    """Whether the verified certificate of the other end is a member's.

    Args:
        certificate: as `ssl.SSLObject.getpeercert()` gives it.

    Raises:
        IdentityError: it is somebody else's.
    """
    names = [
        value
        for part in (certificate or {}).get("subject", ())
        for key, value in part
        if key == "organizationName"
    ]
    if ORGANIZATION not in names:
        raise IdentityError(f"the other end's certificate is of {names or 'nobody'}, not of {ORGANIZATION}")


def words_of(error: BaseException) -> str:
    """Why there is no connection to a member, for whoever must mend it."""
    if not isinstance(error, ssl.SSLCertVerificationError):
        if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) and (error.errno or 0) > 0:
            return os.strerror(error.errno or 0)
        return str(error) or type(error).__name__
    if error.verify_code == _EXPIRED:
        return "its certificate has expired: start its gitkube serve again, which renews it; or set clocks"
    if error.verify_code == _NOT_YET_VALID:
        return "its certificate is not valid yet: set the clocks"
    return (
        "its certificate is of another authority than the one here: pki/store-ca.crt and store-ca.key must "
        f"be the same on all controllers ({error.verify_message})"
    )
