"""Certificates that are replaced while the server runs.

Whoever rotates them writes the files; each new connection looks whether they changed. A half-written pair is
refused by the TLS library, the old one is used, and the next connection looks again.
"""

from __future__ import annotations

import ssl
from pathlib import Path

import structlog

log = structlog.get_logger()


class ServerTls:
    """Mutual TLS from files that may be replaced while we run; what is new is used for new connections.

    An authority that is replaced is added to the trusted ones; the old one is trusted until a restart.
    """

    def __init__(self, certificate: Path, key: Path, client_authority: Path) -> None:
        """Raises:
        OSError, ssl.SSLError: a file cannot be read or is not what it should be.
        """
        self._files = (certificate, key, client_authority)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.verify_mode = ssl.CERT_REQUIRED
        self.context.set_alpn_protocols(["h2"])
        self._stamp = self._load()

    def renew(self) -> None:
        """Read the files again if they changed. If that fails, what there was is kept, and tried again."""
        try:
            if self._stamps() != self._stamp:
                self._stamp = self._load()
        except (OSError, ssl.SSLError) as error:
            log.error("door_certificates_unreadable", error=str(error), files=[str(f) for f in self._files])

    def _stamps(self) -> list[tuple[int, int, int]]:
        found = [path.stat() for path in self._files]
        return [(each.st_ino, each.st_mtime_ns, each.st_size) for each in found]

    def _load(self) -> list[tuple[int, int, int]]:
        stamps = self._stamps()
        certificate, key, client_authority = self._files
        self.context.load_cert_chain(certificate, key)
        self.context.load_verify_locations(client_authority)
        return stamps
