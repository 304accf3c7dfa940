"""Learning at once that a container has ended: an inotify watch on the directory of conmon's exit files.

The watch only says "look again"; the truth is the files, read once more at every start and by the slow poll
of the pod loop, so an event that is lost costs seconds and no correctness.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from pathlib import Path
from typing import Callable

_IN_CLOSE_WRITE, _IN_MOVED_TO = 0x8, 0x80
_IN_NONBLOCK, _IN_CLOEXEC = 0x800, 0x80000
_EVENT = struct.Struct("iIII")


class ExitWatch:
    """Calls `on_exit(container id)` in the loop for each exit file that appears."""

    def __init__(self, directory: Path, on_exit: Callable[[str], None]) -> None:
        self._directory = directory
        self._on_exit = on_exit
        self._fd = -1

    def start(self) -> None:
        """Begin to watch.

        Raises:
            OSError: the kernel has no more watches to give.
        """
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.inotify_init1(_IN_NONBLOCK | _IN_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1 failed")
        mask = ctypes.c_uint32(_IN_CLOSE_WRITE | _IN_MOVED_TO)
        if libc.inotify_add_watch(self._fd, os.fsencode(self._directory), mask) < 0:
            raise OSError(ctypes.get_errno(), "inotify_add_watch failed", str(self._directory))
        asyncio.get_running_loop().add_reader(self._fd, self._take)

    def stop(self) -> None:
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _take(self) -> None:
        try:
            data = os.read(self._fd, 64 * 1024)
        except BlockingIOError:
            return
        at = 0
        while at + _EVENT.size <= len(data):
            length = _EVENT.unpack_from(data, at)[3]
            name = data[at + _EVENT.size : at + _EVENT.size + length].rstrip(b"\0")
            at += _EVENT.size + length
            if name:
                self._on_exit(os.fsdecode(name))


def read_exit(directory: Path, container_id: str) -> tuple[int, float] | None:
    """How a container ended: (exit code, time). None while there is no record of it."""
    path = directory / container_id
    try:
        text = path.read_text()
        finished_s = path.stat().st_mtime
    except FileNotFoundError:
        return None
    # conmon writes the number into a temporary file first; anything else here is a torn write.
    return (int(text), finished_s) if text.strip().lstrip("-").isdigit() else None
