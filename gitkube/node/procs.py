"""Processes that are not our children, told apart from later ones with the same number.

A pid alone says nothing after a restart; with the time at which the process began, out of /proc, it is a
name that is never used twice while the machine is up.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from gitkube.node.files import read_text


@dataclass(frozen=True)
class ProcessId:
    """A process: its number, when it began (clock ticks since boot), and which boot that was."""

    pid: int
    start_ticks: int
    boot_id: str


def identify(pid: int) -> ProcessId | None:
    """The process that has this number now; None when there is none, or only its corpse."""
    text = read_text(Path(f"/proc/{pid}/stat"), 4096)
    fields = text.rpartition(")")[2].split()
    if len(fields) < 20 or fields[0] in ("Z", "X"):
        return None
    return ProcessId(pid, int(fields[19]), boot_id())


def is_alive(process: ProcessId | None) -> bool:
    """Whether it still runs."""
    return process is not None and identify(process.pid) == process


@lru_cache(maxsize=1)
def boot_id() -> str:
    """Changes with every boot of the machine."""
    return read_text(Path("/proc/sys/kernel/random/boot_id")).strip()
