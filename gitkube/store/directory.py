"""The data directory of a member: one process at a time, and a format that this version knows."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from gitkube.clock import Clock
from gitkube.files import fsync_directory, replace_durably
from gitkube.store.protocol import CorruptError, StoreError

DATA_FORMAT = 1
_LOCK_PAUSE_S = 0.05


async def lock_directory(directory: Path, clock: Clock, wait_s: float) -> int:
    """Take a directory for this process; closing the descriptor gives it back.

    Raises:
        StoreError: another process still has it after `wait_s` seconds.
    """
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    deadline = clock.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except OSError as error:
            if clock.monotonic() >= deadline:
                os.close(descriptor)
                raise StoreError(
                    f"the data directory {directory} is in use by another gitkube process. "
                    "Stop that one first."
                ) from error
        await clock.sleep(_LOCK_PAUSE_S)


def check_format(directory: Path) -> None:
    """Mark a new directory with the format of this version.

    Raises:
        CorruptError: the directory has another format; nothing in it was touched.
    """
    path = directory / "format"
    if not path.exists():
        replace_durably(path, f"{DATA_FORMAT}\n".encode())
        fsync_directory(directory)
        return
    text = path.read_text().strip()
    if text != str(DATA_FORMAT):
        raise CorruptError(
            f"{directory} has data of format {text!r}; this version knows {DATA_FORMAT}. Use a newer gitkube."
        )
