"""Taking away what a lab has made beside its processes: control groups, mounts, files; and nothing else."""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from gitkube.lab import cgroups
from gitkube.lab.errors import LabError
from gitkube.lab.layout import LabLayout

_UNMOUNT_DETACHED = 2


def remove_cgroups(layout: LabLayout) -> None:
    """Those of its hosts, in every hierarchy."""
    mounts = cgroups.machine_mounts()
    for hierarchy in (*mounts.v1, *([mounts.v2] if mounts.v2 else [])):
        cgroups.remove_tree(Path(hierarchy.mount_point) / f"gitkube-lab-{layout.mark}")


def remove_files(directory: Path, files: Sequence[Path]) -> None:
    """The directories of its machines, with what is mounted there, and `files`.

    Raises:
        LabError: something does not go away.
    """
    hosts = directory / "hosts"
    libc = ctypes.CDLL(None, use_errno=True)
    mounted = [line.split(" ")[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for place in sorted((m for m in mounted if Path(m).is_relative_to(hosts)), reverse=True):
        if libc.umount2(os.fsencode(place), _UNMOUNT_DETACHED) != 0:
            raise LabError(f"{place} cannot be unmounted: {os.strerror(ctypes.get_errno())}")
    for name in ("hosts", "controllers", "registry", "ssh"):
        shutil.rmtree(directory / name, ignore_errors=False, onerror=_unless_missing)
    for file in files:
        file.unlink(missing_ok=True)


def _unless_missing(function: object, path: object, error: object) -> None:
    if not (isinstance(error, tuple) and isinstance(error[1], FileNotFoundError)):
        raise LabError(f"{path} cannot be removed: {error[1] if isinstance(error, tuple) else error}")
