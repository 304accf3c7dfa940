"""Which key each machine showed at the first contact, kept in OpenSSH's known_hosts format.

A host's key is pinned by the inventory, or by the first contact, for ever: a different key later is a changed
machine or somebody in between, and only a person can tell which. So this file is only ever added to by
gitkube; removing a line is how a person says "yes, it is new". It is read at each connection, so that such
an edit is in force at once, and written whole (temporary file, fsync, rename), so that it is never torn.
"""

from __future__ import annotations

import base64
import enum
import hashlib
from pathlib import Path

from gitkube.files import replace_durably
from gitkube.fleet.hosts import HostKey, parse_host_key


class Verdict(enum.Enum):
    """What a shown key means."""

    KNOWN = "known"
    FIRST_CONTACT = "first contact"
    CHANGED = "changed"


def judge(pinned: tuple[HostKey, ...], shown: HostKey) -> Verdict:
    """A key of a type that was never pinned counts as changed: the server was asked for the pinned types."""
    if not pinned:
        return Verdict.FIRST_CONTACT
    return Verdict.KNOWN if shown in pinned else Verdict.CHANGED


def fingerprint(key: HostKey) -> str:
    """As `ssh-keygen -l` shows it."""
    digest = hashlib.sha256(base64.b64decode(key.base64)).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


class KnownHosts:
    """The file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def keys(self, address: str, port: int) -> tuple[HostKey, ...]:
        """Those pinned for an address; () when it was never met.

        Raises:
            OSError: the file cannot be read: then no host may be trusted.
            ValueError: a line for this address is not understood.
        """
        wanted = _host_field(address, port)
        keys = []
        for number, line in enumerate(self._lines(), 1):
            words = line.split(None, 1)
            if len(words) == 2 and wanted in words[0].split(","):
                try:
                    keys.append(parse_host_key(words[1]))
                except ValueError as error:
                    raise ValueError(f"{self.path}:{number}: {error}") from error
        return tuple(keys)

    def remember(self, address: str, port: int, key: HostKey) -> None:
        """Pin the key of a first contact.

        Raises:
            OSError: it could not be written; the host is then not trusted.
        """
        if key in self.keys(address, port):
            return
        lines = [*self._lines(), f"{_host_field(address, port)} {key}"]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        replace_durably(self.path, ("\n".join(lines) + "\n").encode())

    def _lines(self) -> list[str]:
        try:
            return self.path.read_text("utf-8").splitlines()
        except FileNotFoundError:
            return []


def _host_field(address: str, port: int) -> str:
    return address if port == 22 else f"[{address}]:{port}"
