"""The few file operations that durability rests on, with every fsync they need.

An error of fsync is never retried: the kernel may have dropped the dirty pages, and a second fsync would
report success for data that is lost (PostgreSQL's "fsyncgate", 2018). The caller must stop.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

_replacing = threading.Lock()
"""Two threads that replace one file at once would take each other's half-written one away."""


def fsync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_durably(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write a whole file so that after a crash there is the old one or the new one, never a part.

    Threads of one process may do so at the same time; the last one's content stays.
    """
    with _replacing:
        _replace(path, data, mode)


def _replace(path: Path, data: bytes, mode: int) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    # What lies there may be a leftover with another mode, or a link that somebody put into an open directory.
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    try:
        os.fchmod(descriptor, mode)  # whatever the umask says
        write_all(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(temporary, path)
    fsync_directory(path.parent)


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """`os.write` until everything is written."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
