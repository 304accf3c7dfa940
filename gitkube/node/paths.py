"""Where everything of the agent lies on the disk.

Two roots: `root` survives a reboot (desired state, images, what pods wrote), `run` does not (sockets,
namespaces, tmpfs). No other module joins these paths, so this page is the map; and since names out of
manifests become file names here, this is also the place that refuses those which could be anything else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_SAFE_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")


class UnsafeName(ValueError):
    """A name that must not become part of a path."""


def safe(name: str) -> str:
    """`name`, when it can be a single path component and nothing else.

    Raises:
        UnsafeName: it has a slash, starts with a dot, or is longer than a file name may be.
    """
    if not _SAFE_NAME.fullmatch(name) or ".." in name:
        raise UnsafeName(
            f"{name!r} cannot be used as a name on this host: letters, digits, '-', '_', '.' only"
        )
    return name


@dataclass(frozen=True)
class Layout:
    """The agent's directories."""

    root: Path
    run: Path

    @property
    def socket(self) -> Path:
        return self.run / "agent.sock"

    @property
    def failure(self) -> Path:
        """Why the agent could not start, for `link` to show."""
        return self.run / "agent.error"

    @property
    def lock(self) -> Path:
        return self.run / "agent.lock"

    @property
    def desired(self) -> Path:
        return self.root / "desired"

    @property
    def term(self) -> Path:
        return self.root / "term"

    @property
    def exits(self) -> Path:
        """conmon leaves one file per ended container here, named by its id, holding the exit code."""
        return self.root / "exits"

    @property
    def images(self) -> Path:
        return self.root / "images"

    @property
    def attach_sockets(self) -> Path:
        return self.run / "attach"

    @property
    def pods(self) -> Path:
        return self.root / "pods"

    def pod(self, uid: str) -> PodLayout:
        """The directories of one pod.

        Raises:
            UnsafeName: the uid cannot be a path component.
        """
        return PodLayout(self.pods / safe(uid), self.run / "pods" / safe(uid))


@dataclass(frozen=True)
class PodLayout:
    """One pod's directories: `base` on the disk, `run` until the next reboot."""

    base: Path
    run: Path

    @property
    def state(self) -> Path:
        return self.base / "state.json"

    @property
    def volumes(self) -> Path:
        return self.base / "volumes"

    @property
    def uts(self) -> Path:
        return self.run / "uts"

    @property
    def ipc(self) -> Path:
        return self.run / "ipc"

    @property
    def shm(self) -> Path:
        return self.run / "shm"

    def etc(self, name: str) -> Path:
        """A file of the pod's own `/etc`: hosts, hostname or resolv.conf."""
        return self.base / "etc" / safe(name)

    def volume(self, name: str) -> Path:
        return self.volumes / safe(name)

    def subpath(self, container: str, index: int) -> Path:
        return self.run / "subpaths" / safe(container) / str(index)

    def container(self, name: str) -> Path:
        return self.base / "containers" / safe(name)

    def bundle(self, name: str, attempt: int) -> Path:
        """One attempt's config.json, root, upper layer and conmon's files."""
        return self.container(name) / str(attempt)

    def log(self, name: str, attempt: int) -> Path:
        return self.base / "logs" / safe(name) / f"{attempt}.log"
