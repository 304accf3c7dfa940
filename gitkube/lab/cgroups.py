"""The control groups of a lab host: a subtree of the machine's, which the host sees as the whole.

Before it boots, a host's first process enters `gitkube-lab-MARK/HOST` in every hierarchy and then makes a
cgroup namespace, so that what the host mounts shows only that subtree. Two hosts may so use the same paths.

On a machine with the old controllers (v1), also beside a cgroup2 ("hybrid"), the host gets the plain v1
layout, because crun refuses the hybrid one. The machine's own mounts are never changed.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

CONTROLLERS = frozenset({
    "blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "hugetlb", "memory", "misc", "net_cls",
    "net_prio", "perf_event", "pids", "rdma",
})  # fmt: skip
REMOVE_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """One mounted tree of control groups."""

    mount_point: str
    options: str
    """What names it to mount(2), such as `cpu,cpuacct` or `name=systemd`; "" for cgroup2."""


@dataclass(frozen=True, slots=True)
class CgroupMounts:
    """What the machine has. Either `v1` is not empty, or `v2` is what counts."""

    v1: tuple[Hierarchy, ...]
    v2: Hierarchy | None


def read_mounts(mountinfo: str) -> CgroupMounts:
    """The hierarchies in the text of /proc/self/mountinfo (proc(5)). Pure."""
    v1: list[Hierarchy] = []
    v2: Hierarchy | None = None
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        mount_point = left.split(" ")[4]
        kind, _, super_options = right.split(" ")
        if kind == "cgroup":
            named = [o for o in super_options.split(",") if o in CONTROLLERS or o.startswith("name=")]
            v1.append(Hierarchy(mount_point, ",".join(named)))
        elif kind == "cgroup2":
            v2 = Hierarchy(mount_point, "")
    return CgroupMounts(tuple(v1), v2)


def machine_mounts() -> CgroupMounts:
    return read_mounts(Path("/proc/self/mountinfo").read_text())


def enter(mounts: CgroupMounts, group: str) -> None:
    """Make `group` (such as `gitkube-lab-1f/ant`) anew in each hierarchy and move this process into it.

    Raises:
        OSError: a hierarchy refuses it.
    """
    for hierarchy in mounts.v1:
        folder = Path(hierarchy.mount_point) / group
        remove_tree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if "cpuset" in hierarchy.options.split(","):
            _inherit_cpuset(Path(hierarchy.mount_point), folder)
        (folder / "cgroup.procs").write_text(str(os.getpid()))
    if not mounts.v1 and mounts.v2 is not None:
        root = Path(mounts.v2.mount_point)
        folder = root / group
        remove_tree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for parent in (root, folder.parent):
            _pass_on_controllers(parent)
        (folder / "cgroup.procs").write_text(str(os.getpid()))


def settle(mounts: CgroupMounts, group: str) -> None:
    """After the cgroup namespace was made: leave the root of a cgroup2 subtree to its children.

    A cgroup2 with processes of its own can't hand controllers down ("no internal processes"), so the host's
    own processes live in a leaf, as under any service manager.
    """
    if not mounts.v1 and mounts.v2 is not None:
        folder = Path(mounts.v2.mount_point) / group
        (folder / "init").mkdir(exist_ok=True)
        (folder / "init" / "cgroup.procs").write_text(str(os.getpid()))
        _pass_on_controllers(folder)


def remove_tree(folder: Path) -> None:
    """Remove a cgroup with all below it, once their last process is gone.

    Raises:
        OSError: processes are still in it after `REMOVE_TIMEOUT_S`.
    """
    if not folder.is_dir():
        return
    deadline = time.monotonic() + REMOVE_TIMEOUT_S
    for path, _, _ in os.walk(folder, topdown=False):
        while True:
            try:
                os.rmdir(path)
                break
            except FileNotFoundError:
                break
            except OSError:  # EBUSY: processes that were killed are still being put away
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)


def _inherit_cpuset(root: Path, folder: Path) -> None:
    # A new v1 cpuset has no CPUs and takes no process until it is given some, each level in turn.
    for part in [*reversed(folder.relative_to(root).parents), folder.relative_to(root)]:
        for name in ("cpuset.cpus", "cpuset.mems"):
            here, parent = root / part / name, (root / part).parent / name
            if (root / part) != root and not here.read_text().strip():
                here.write_text(parent.read_text().strip())


def _pass_on_controllers(folder: Path) -> None:
    available = (folder / "cgroup.controllers").read_text().split()
    enabled = (folder / "cgroup.subtree_control").read_text().split()
    missing = [
        name
        for name in available
        if name not in enabled and name in ("cpu", "cpuset", "io", "memory", "pids")
    ]
    if missing:
        (folder / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in missing))
