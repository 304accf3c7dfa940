"""A disk in memory that does all the harm a real one may do, and the same harm for the same seed.

Two states are kept: what can be read now (a page cache), and what a power cut would leave for certain. The
second is kept as the difference: for each sector of 512 bytes that was written and not synced, what was there
before; for names, the operations that no `sync_directory` covered. So a sync costs as much as was written.

`crash` decides about each such sector on its own: it has arrived, or not, or only its beginning has (a torn
sector, in steps of 8 bytes); a part of a file that was never there before is zeros where it has not
arrived, or is cut off. Of the operations on names any may be missing, but a rename is done or not. `kill`
ends only the process: all that it wrote is still to be read, and still not durable.

A sync that fails drops pages: they can be read until the power goes, no later sync writes them, and a crash
loses them ("fsyncgate", 2018). To die in the middle of an operation set `cut_power_after`.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from pathlib import Path

from gitkube.store.disk import DiskFile
from gitkube.store.records import SECTOR_BYTES

_TEAR_BYTES = 8


class PowerCut(BaseException):
    """The machine died in the middle of an operation. Not an Exception: no program can catch it."""


class _Content:
    """The bytes of one file, whatever names it has."""

    __slots__ = ("data", "dropped", "durable_size", "unsynced")

    def __init__(self) -> None:
        self.data = bytearray()
        self.durable_size = 0
        self.unsynced: dict[int, bytes] = {}
        """Sector number -> what is durable of it; of sectors that the next sync will write."""
        self.dropped: dict[int, bytes] = {}
        """The same, of sectors that a failed sync forgot to be unwritten."""

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        end = offset + len(data)
        if offset > len(self.data):
            self.write(len(self.data), bytes(offset - len(self.data)))
        for sector in range(offset // SECTOR_BYTES, -(-end // SECTOR_BYTES)):
            if sector not in self.unsynced:
                start = sector * SECTOR_BYTES
                before = self.dropped.pop(sector, None)
                if before is None:
                    before = bytes(self.data[start : min(start + SECTOR_BYTES, self.durable_size)])
                self.unsynced[sector] = before
        self.data[offset:end] = data

    def sync(self) -> None:
        self.unsynced.clear()
        self.durable_size = len(self.data)

    def drop(self, rng: random.Random) -> None:
        """A sync fails: some of it is written, the rest is never tried again."""
        for sector, before in self.unsynced.items():
            if rng.random() < 0.5:
                self.dropped[sector] = before
        self.sync()

    def crash(self, rng: random.Random) -> None:
        size = len(self.data)
        if size > self.durable_size and rng.random() < 0.5:
            size = rng.randint(self.durable_size, size)
        for sector, before in self.unsynced.items():
            start = sector * SECTOR_BYTES
            after = bytes(self.data[start : start + SECTOR_BYTES])
            before = before.ljust(len(after), b"\0")
            fate = rng.random()
            arrived = SECTOR_BYTES
            if fate < 0.45:
                arrived = 0
            elif fate < 0.6:
                arrived = rng.randrange(0, SECTOR_BYTES, _TEAR_BYTES)
            self.data[start : start + len(after)] = after[:arrived] + before[arrived:]
        for sector, before in self.dropped.items():
            start = sector * SECTOR_BYTES
            length = len(self.data[start : start + SECTOR_BYTES])
            self.data[start : start + length] = before.ljust(length, b"\0")
        del self.data[max(size, self.durable_size) :]
        self.dropped.clear()
        self.sync()


_Operation = tuple[Path | None, Path | None, _Content | None]
"""Name that goes, name that comes, and what the new name is of; None for a directory that is moved."""


class SimDisk:
    """A `Disk`. See the module's text."""

    def __init__(self, rng: random.Random, *, capacity_bytes: int = 1 << 40) -> None:
        self._rng = rng
        self._names: dict[Path, _Content] = {}
        self._durable: dict[Path, _Content] = {}
        self._operations: list[_Operation] = []
        self._directories: set[Path] = set()
        self._durable_directories: set[Path] = set()
        self._life = 0
        self._is_off = False
        self.capacity_bytes = capacity_bytes
        """What would need more fails with ENOSPC."""
        self.is_full = False
        """As if nothing were left of it, whatever the capacity."""
        self.syncs_fail = False
        """Each sync fails with EIO, and some of what it should have written is lost at the next crash."""
        self.cut_power_after: int | None = None
        """The operation behind so many more raises PowerCut, and so does everything after it until `crash`
        or `kill`."""
        self.on_operation: Callable[[str, int], None] | None = None
        """Told each operation ("write", "sync", "name" or "read") and its bytes: to count, or to be slow."""
        self.writes = 0
        self.syncs = 0
        self.directory_syncs = 0
        self.operations = 0
        """All that change something."""

    # ------------------------------------------------------------------ harm

    def crash(self) -> None:
        """The power goes, and is there again. Files that were open are not any more."""
        if self._rng.random() < 0.3:  # as a journal does it: all up to some point
            arrived = self._operations[: self._rng.randint(0, len(self._operations))]
        else:
            arrived = [operation for operation in self._operations if self._rng.random() < 0.5]
        for operation in arrived:
            _do(self._durable, self._durable_directories, operation)
        self._operations.clear()
        self._directories = set(self._durable_directories)
        self._names = {
            path: content for path, content in self._durable.items() if path.parent in self._directories
        }
        self._durable = dict(self._names)
        for content in {id(content): content for content in self._names.values()}.values():
            content.crash(self._rng)
        self.kill()

    def kill(self) -> None:
        """The process goes, the machine stays: what was written is there, durable or not."""
        self._life += 1
        self._is_off = False
        self.cut_power_after = None

    def flip_bit(self, path: Path | None = None, offset: int | None = None) -> tuple[Path, int]:
        """One bit of what lies on the disk turns over, at random where it is not said; tells where.

        Raises:
            ValueError: there is nothing to damage.
        """
        if path is None:
            paths = [path for path, content in sorted(self._names.items()) if content.data]
            if not paths:
                raise ValueError("the disk is empty")
            path = self._rng.choice(paths)
        content = self._names[path]
        if offset is None:
            offset = self._rng.randrange(len(content.data))
        content.data[offset] ^= 1 << self._rng.randrange(8)
        return path, offset

    def replace_data(self, path: Path, data: bytes) -> None:
        """Whatever was there is now this, durably: for tests that make their own damage."""
        content = self._names.setdefault(path, _Content())
        self._durable[path] = content
        content.data[:] = data
        content.dropped.clear()
        content.sync()

    # ------------------------------------------------------------------ the Disk protocol

    def make_directory(self, path: Path) -> None:
        if path in self._directories:
            return
        self._change("name", 0)
        self._directories.update((path, *path.parents))
        self._durable_directories.update((path, *path.parents))

    def names(self, directory: Path) -> list[str]:
        self._read(0)
        names = [path.name for path in self._names if path.parent == directory]
        names += [path.name for path in self._directories if path.parent == directory and path != directory]
        return sorted(names)

    def exists(self, path: Path) -> bool:
        self._read(0)
        return path in self._names or path in self._directories

    def size(self, path: Path) -> int:
        return len(self._content(path).data)

    def read(self, path: Path) -> bytes:
        data = bytes(self._content(path).data)
        self._read(len(data))
        return data

    def create(self, path: Path) -> DiskFile:
        self._change("name", 0)
        if path.parent not in self._directories:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        if self.is_full:
            raise _no_space(path)
        # Emptying a file that is there is modelled as a new one under its name.
        content = _Content()
        self._name(None, path, content)
        return _SimFile(self, content, path)

    def open(self, path: Path) -> DiskFile:
        return _SimFile(self, self._content(path), path)

    def rename(self, source: Path, target: Path) -> None:
        self._change("name", 0)
        if source in self._directories:
            if target in self._directories and self.names(target):
                raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), str(target))
            self._name(source, target, None)
        else:
            self._name(source, target, self._content(source))

    def unlink(self, path: Path) -> None:
        self._change("name", 0)
        self._name(path, None, self._content(path))

    def sync_directory(self, path: Path) -> None:
        self._change("sync", 0)
        self.directory_syncs += 1
        self._fail_sync()
        rest = []
        for operation in self._operations:
            if path in [name.parent for name in operation[:2] if name is not None]:
                _do(self._durable, self._durable_directories, operation)
            else:
                rest.append(operation)
        self._operations = rest

    def free_bytes(self, directory: Path) -> int:
        if self.is_full:
            return 0
        return max(0, self.capacity_bytes - sum(len(content.data) for content in self._names.values()))

    # ------------------------------------------------------------------ inside

    def _name(self, source: Path | None, target: Path | None, content: _Content | None) -> None:
        operation = (source, target, content)
        _do(self._names, self._directories, operation)
        self._operations.append(operation)

    def _content(self, path: Path) -> _Content:
        self._read(0)
        content = self._names.get(path)
        if content is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return content

    def _read(self, length: int) -> None:
        if self._is_off:
            raise PowerCut
        if self.on_operation is not None and length:
            self.on_operation("read", length)

    def _change(self, word: str, length: int) -> None:
        if self._is_off:
            raise PowerCut
        self.operations += 1
        if self.cut_power_after is not None:
            self.cut_power_after -= 1
            if self.cut_power_after < 0:
                self._is_off = True
                raise PowerCut
        if self.on_operation is not None:
            self.on_operation(word, length)

    def _fail_sync(self) -> None:
        if self.syncs_fail:
            raise OSError(errno.EIO, os.strerror(errno.EIO))


class _SimFile:
    def __init__(self, disk: SimDisk, content: _Content, path: Path) -> None:
        self._disk = disk
        self._content = content
        self._path = path
        self._life = disk._life
        self._is_open = True

    def read_at(self, offset: int, length: int) -> bytes:
        self._check()
        self._disk._read(length)
        return bytes(self._content.data[offset : offset + length])

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        disk, content = self._disk, self._content
        self._check()
        try:
            disk._change("write", len(data))
        except PowerCut:
            if disk._rng.random() < 0.5:  # it was under way
                content.write(offset, data)
            raise
        disk.writes += 1
        growth = offset + len(data) - len(content.data)
        if growth > 0 and (disk.is_full or growth > disk.free_bytes(self._path.parent)):
            content.write(offset, data[: max(0, len(data) - growth)])
            raise _no_space(self._path)
        content.write(offset, data)

    def sync(self) -> None:
        self._check()
        self._disk._change("sync", len(self._content.unsynced) * SECTOR_BYTES)
        self._disk.syncs += 1
        try:
            self._disk._fail_sync()
        except OSError:
            self._content.drop(self._disk._rng)
            raise
        self._content.sync()

    def size(self) -> int:
        self._check()
        return len(self._content.data)

    def close(self) -> None:
        self._is_open = False

    def _check(self) -> None:
        if self._disk._is_off:
            raise PowerCut
        if not self._is_open or self._life != self._disk._life:
            raise OSError(errno.EBADF, "the file is closed, or its process has died", str(self._path))


def _do(names: dict[Path, _Content], directories: set[Path], operation: _Operation) -> None:
    """One operation on names, as far as it is possible: what it rests on may be missing after a crash."""
    source, target, content = operation
    if content is not None:
        if source is not None:
            names.pop(source, None)
        if target is not None:
            names[target] = content
    elif source is not None and target is not None:
        for path in [path for path in names if source in path.parents]:
            names[target / path.relative_to(source)] = names.pop(path)
        for path in [path for path in directories if path == source or source in path.parents]:
            directories.discard(path)
            directories.add(target / path.relative_to(source))


def _no_space(path: Path) -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
