"""Which cgroups this host has, and what a container's cgroup says.

Version 1 and version 2 are fine; the hybrid of both is not, since crun refuses every container there. The
cgroups are made by crun through the file system (`/gitkube/POD/CONTAINER`), no manager in between.
"""

from __future__ import annotations

import ctypes
import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from gitkube.node.files import read_text

PARENT = "/gitkube"
CGROUP1_MAGIC, CGROUP2_MAGIC = 0x27E0EB, 0x63677270


class CgroupError(Exception):
    """The host's cgroup layout cannot hold containers. The text says what to do."""


@dataclass(frozen=True)
class Cgroups:
    """The layout found at `base`."""

    version: int  # 1 or 2
    base: Path

    def path(self, cgroups_path: str, controller: str) -> Path:
        """The directory of a container's cgroup, under version 1 that of one controller."""
        relative = cgroups_path.lstrip("/")
        return self.base / relative if self.version == 2 else self.base / controller / relative

    def remove(self, cgroups_path: str) -> None:
        """Take an empty cgroup away; one that still has members stays."""
        relative = cgroups_path.lstrip("/")
        parents = [self.base] if self.version == 2 else list(self.base.iterdir())
        for parent in parents:
            place = parent / relative
            if place.is_dir():
                for child in place.iterdir():
                    if child.is_dir():
                        _remove_empty(child)
                _remove_empty(place)

    def oom_kills(self, cgroups_path: str) -> int:
        """How often the kernel killed a process of this cgroup for want of memory; 0 when unknown."""
        name = "memory.events" if self.version == 2 else "memory.oom_control"
        for line in read_text(self.path(cgroups_path, "memory") / name).splitlines():
            key, _, value = line.partition(" ")
            if key == "oom_kill" and value.strip().isdigit():
                return int(value)
        return 0


def _remove_empty(place: Path) -> None:
    try:
        place.rmdir()
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.ENOENT, errno.ENOTEMPTY):
            raise


def filesystem_magic(path: Path) -> int:
    """statfs(2)'s number of the file system at a path; 0 where there is nothing.

    The mount table would also list what lies hidden under later mounts, so the file system is asked.
    """
    buffer = ctypes.create_string_buffer(256)
    if ctypes.CDLL(None, use_errno=True).statfs(os.fsencode(path), buffer) != 0:
        return 0
    return ctypes.c_long.from_buffer(buffer).value


def detect(
    base: Path = Path("/sys/fs/cgroup"), magic_of: Callable[[Path], int] = filesystem_magic
) -> Cgroups:
    """The layout of this host.

    Raises:
        CgroupError: hybrid, or nothing that limits memory and CPU.
    """
    if magic_of(base) == CGROUP2_MAGIC:
        return Cgroups(2, base)
    if magic_of(base / "unified") == CGROUP2_MAGIC:
        raise CgroupError(
            f"this host mounts cgroups of both versions ({base}/unified beside version 1), and crun refuses "
            "containers there; boot with systemd.unified_cgroup_hierarchy=1 (version 2, recommended), or "
            f"unmount {base}/unified"
        )
    missing = [
        name for name in ("cpu", "devices", "memory", "pids") if magic_of(base / name) != CGROUP1_MAGIC
    ]
    if missing:
        raise CgroupError(
            f"this host lacks the cgroup controllers {', '.join(missing)} under {base}; "
            "boot with systemd.unified_cgroup_hierarchy=1 for version 2, or enable them in the kernel"
        )
    return Cgroups(1, base)
