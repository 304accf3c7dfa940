"""The disk as a parameter: the few operations that durability rests on, and what each promises.

The log and the snapshots use only these, so that a simulation can own the disk: lose what was not synced,
tear a write, flip a bit, be slow or full. `SystemDisk` is the machine's own.

What a crash may do, and so what callers must expect: written bytes that no `sync` covered may be there, in
part, or not; a name that was made, moved or removed may be back as it was until `sync_directory` has
returned. A process that dies leaves all of that as it is: what it reads when it starts again need not be
durable yet. An error of a sync is never retried (see `gitkube/files.py`), and what can be read after one may
still be lost.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from gitkube.files import fsync_directory


class DiskFile(Protocol):
    """An open file, read and written at offsets; it outlives its name."""

    def read_at(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes; fewer only at the end of the file.

        Raises:
            OSError: the disk failed.
        """
        ...

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write all of `data`; the file grows as needed.

        Raises:
            OSError: the disk failed or is full.
        """
        ...

    def sync(self) -> None:
        """Make what was written durable (fdatasync).

        Raises:
            OSError: nobody knows what is on the disk; the caller must stop.
        """
        ...

    def size(self) -> int: ...

    def close(self) -> None: ...


class Disk(Protocol):
    """A file system, as far as a store needs one."""

    def make_directory(self, path: Path) -> None:
        """Make it and its parents, for this user only; durable when it returns."""
        ...

    def names(self, directory: Path) -> list[str]:
        """Sorted; empty when there is no such directory."""
        ...

    def exists(self, path: Path) -> bool: ...

    def size(self, path: Path) -> int: ...

    def read(self, path: Path) -> bytes: ...

    def create(self, path: Path) -> DiskFile:
        """A new, empty file, for this user only; one that is there is emptied."""
        ...

    def open(self, path: Path) -> DiskFile:
        """One that is there, for writing."""
        ...

    def rename(self, source: Path, target: Path) -> None:
        """A file or a directory. Replaces `target`, if that is a file or an empty directory.

        Durable after `sync_directory`.
        """
        ...

    def unlink(self, path: Path) -> None: ...

    def sync_directory(self, path: Path) -> None: ...

    def free_bytes(self, directory: Path) -> int: ...


class SystemDisk:
    """The machine's own."""

    def make_directory(self, path: Path) -> None:
        if not path.is_dir():
            self.make_directory(path.parent)
            path.mkdir(exist_ok=True, mode=0o700)
            fsync_directory(path.parent)

    def names(self, directory: Path) -> list[str]:
        return sorted(os.listdir(directory)) if directory.is_dir() else []

    def exists(self, path: Path) -> bool:
        return path.exists()

    def size(self, path: Path) -> int:
        return path.stat().st_size

    def read(self, path: Path) -> bytes:
        return path.read_bytes()

    def create(self, path: Path) -> DiskFile:
        return _SystemFile(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600))

    def open(self, path: Path) -> DiskFile:
        return _SystemFile(os.open(path, os.O_RDWR | os.O_NOFOLLOW))

    def rename(self, source: Path, target: Path) -> None:
        os.replace(source, target)

    def unlink(self, path: Path) -> None:
        path.unlink()

    def sync_directory(self, path: Path) -> None:
        fsync_directory(path)

    def free_bytes(self, directory: Path) -> int:
        found = os.statvfs(directory)
        return found.f_bavail * found.f_frsize


class _SystemFile:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read_at(self, offset: int, length: int) -> bytes:
        pieces = []
        while length > 0 and (piece := os.pread(self._descriptor, length, offset)):
            pieces.append(piece)
            offset += len(piece)
            length -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        written = os.pwrite(self._descriptor, data, offset)
        while written < len(data):  # rare: a signal, or the disk is nearly full
            with memoryview(data)[written:] as rest:
                written += os.pwrite(self._descriptor, rest, offset + written)

    def sync(self) -> None:
        os.fdatasync(self._descriptor)

    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
