"""Processes that outlive the command that started them, found again without mistaking another for them.

A pid file holds the pid, the time the process started and the boot of the machine. A pid alone is reused by
the kernel; the three together are not, so `kill` never hits a stranger.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

from gitkube.files import replace_durably
from gitkube.lab.errors import LabError

KILL_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 15.0
_POLL_S = 0.005


def write_pid_file(path: Path, pid: int) -> None:
    """Record a process that was just started.

    Raises:
        OSError: it has ended already, or the file cannot be written.
    """
    text = json.dumps({"pid": pid, "started": _start_time(pid), "boot": _boot_id()})
    replace_durably(path, text.encode(), 0o644)


def running_pid(path: Path) -> int | None:
    """The pid in the file, if that very process is alive."""
    try:
        record = json.loads(path.read_text())
        pid = int(record["pid"])
        is_same = record["boot"] == _boot_id() and record["started"] == _start_time(pid)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return pid if is_same else None


def kill(path: Path) -> bool:
    """End the process of a pid file at once, wait until it is gone, remove the file.

    Returns:
        Whether there was one.

    Raises:
        LabError: the kernel has not let go of it in time.
    """
    pid = running_pid(path)
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
        if not _ends_within(path, KILL_TIMEOUT_S):
            raise LabError(f"process {pid} ({path.stem}) does not end, {KILL_TIMEOUT_S:.0f} s after SIGKILL")
    path.unlink(missing_ok=True)
    return pid is not None


def kill_session(path: Path) -> bool:
    """As `kill`, with everything that the process of the pid file has started in its session.

    Raises:
        LabError: the kernel has not let go of it in time.
    """
    pid = running_pid(path)
    if pid is not None:
        os.killpg(pid, signal.SIGKILL)
    kill(path)
    return pid is not None


def stop_session(path: Path) -> None:
    """End the process of a pid file in good order, or its session at once when that takes too long.

    Raises:
        LabError: the kernel has not let go of it in time.
    """
    pid = running_pid(path)
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
        _ends_within(path, STOP_TIMEOUT_S)
    kill_session(path)


def _ends_within(path: Path, timeout_s: float) -> bool:
    """Wait for the process of a pid file to end; whether it did."""
    deadline = time.monotonic() + timeout_s
    while running_pid(path) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _start_time(pid: int) -> int:
    """Field 22 of /proc/PID/stat (proc(5)): clock ticks from the machine's boot to the process's start.

    Raises:
        OSError: there is no such process, or only its exit code is left of it (a zombie).
    """
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    if after_name[0] in "ZX":
        raise ProcessLookupError(pid)
    return int(after_name[19])


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
