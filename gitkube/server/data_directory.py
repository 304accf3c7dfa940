"""One control plane to a data directory.

The member has a lock of its own (`store/lock`), and that is not enough: a second `gitkube serve` would find
the first one's member at its socket, and both would act on one store, each undoing the other's addresses and
leadership. So a control plane holds `serve.lock` from before it reads anything there until it has ended.
Invariant: the kernel gives the lock back with the process, however that ends; the file itself means nothing.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gitkube.clock import Clock
from gitkube.server.settings import SettingsError

LOCK = "serve.lock"
WAIT_S = 5.0
"""One that was just told to stop has ended within this."""
_PAUSE_S = 0.05


@asynccontextmanager
async def held(data_dir: Path, clock: Clock, *, wait_s: float = WAIT_S) -> AsyncIterator[None]:
    """A directory, made if it is not there, for this process alone as long as the block.

    Raises:
        SettingsError: it cannot be made or entered; or another control plane has it, and still has after
            `wait_s` seconds.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(data_dir / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise SettingsError(
            f"the data directory {data_dir} cannot be used: {error.filename}: {error.strerror}; it must be a "
            "directory of the user that runs gitkube serve, or name another --data-dir"
        ) from error
    try:
        deadline = clock.monotonic() + wait_s
        while not _taken(descriptor):
            if clock.monotonic() >= deadline:
                raise SettingsError(
                    f"another gitkube serve (process {_written_in(descriptor)}) runs on the data directory "
                    f"{data_dir}; stop that one first, or choose another --data-dir"
                )
            await clock.sleep(_PAUSE_S)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def owner_of(data_dir: Path) -> str | None:
    """Which process has a directory; None where none does, or nobody may know."""
    try:
        descriptor = os.open(data_dir / LOCK, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        return None if _taken(descriptor) else _written_in(descriptor)
    finally:
        os.close(descriptor)


def _written_in(descriptor: int) -> str:
    return os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
