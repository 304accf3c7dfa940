"""Which cgroups this host has, and what a container's cgroup says.

Version 1 and version 2 are fine; the hybrid of both is not, since crun refuses every container there. The
cgroups are made by crun through the file system (`/gitkube/POD/CONTAINER`), no manager in between.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from pathlib import Path

from gitkube.node.files import read_text

PARENT = "/gitkube"


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


def detect(mountinfo: str, base: Path = Path("/sys/fs/cgroup")) -> Cgroups:
    """The layout, out of /proc/self/mountinfo.

    Raises:
        CgroupError: hybrid, or nothing that limits memory and CPU.
    """
    types: dict[str, str] = {}
    options: set[str] = set()
    for line in mountinfo.splitlines():
        before, separator, after = line.partition(" - ")
        fields = before.split(" ")
        if not separator or len(fields) < 5:
            continue
        target = fields[4]
        if target == str(base) or target.startswith(f"{base}/"):
            types[target] = after.split(" ", 1)[0]
            if types[target] == "cgroup":
                options.update(after.rsplit(" ", 1)[-1].split(","))
    if types.get(str(base)) == "cgroup2":
        return Cgroups(2, base)
    if types.get(f"{base}/unified") == "cgroup2":
        raise CgroupError(
            f"this host mounts cgroups of both versions ({base}/unified beside version 1), and crun refuses "
            "containers there; boot with systemd.unified_cgroup_hierarchy=1 (version 2, recommended) or "
            "unmount it"
        )
    missing = {"memory", "cpu", "pids", "devices"} - options
    if missing:
        raise CgroupError(
            f"this host lacks the cgroup controllers {', '.join(sorted(missing))} under {base}; "
            "boot with systemd.unified_cgroup_hierarchy=1 for version 2, or enable them in the kernel"
        )
    return Cgroups(1, base)
