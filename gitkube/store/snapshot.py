"""The state in one file, so that the log before it can be forgotten.

`<index>-<term>.snap` is a file of parts (`parts.py`): its head is the `SnapshotMeta`, with the members as of
then; the parts are the business of those who write them. It appears under its name only when all of it is on
the disk. The two newest are kept: if the newest is damaged, that is an error and not a silent step back in
time.

A snapshot travels to another member as the bytes of this file (`snapshot_chunks`), is verified there while it
comes in (`SnapshotReceiver`), and only then gets its name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from gitkube.store import records
from gitkube.store.disk import Disk, DiskFile
from gitkube.store.parts import PIECE_BYTES, PartsReader, encode_parts
from gitkube.store.protocol import CorruptError
from gitkube.store.raft.types import ConfState, SnapshotMeta

KEPT = 2
SYNCED_BYTES = 4 * 1024 * 1024
"""A file is synced whenever so much was written. All at once would keep the disk from the log's syncs."""
_MAGIC = b"gitkube snap"
_NAME = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})\.snap")


def write_snapshot(disk: Disk, directory: Path, meta: SnapshotMeta, parts: Iterable[Sequence[Any]]) -> Path:
    """Write a snapshot durably; of older ones only the newest is kept.

    Raises:
        OSError: the disk failed or is full. The snapshots that were there still are.
    """
    disk.make_directory(directory)
    path = snapshot_path(directory, meta)
    return write_file(disk, path, encode_parts(_MAGIC, meta.index, meta_to_list(meta), parts), keep=KEPT)


def remove_leftovers(disk: Disk, directory: Path) -> None:
    """Remove what a crash left half-written, and make the names durable. Once, before anything is read."""
    disk.make_directory(directory)
    for name in disk.names(directory):
        if name.endswith(".tmp"):
            disk.unlink(directory / name)
    disk.sync_directory(directory)


def newest_snapshot(disk: Disk, directory: Path) -> SnapshotMeta | None:
    """Which snapshot there is, and durably so; only its head is read.

    Raises:
        CorruptError: its head is damaged, or a newer version wrote it.
        OSError: the disk failed.
    """
    paths = snapshot_paths(disk, directory)
    if not paths:
        return None
    disk.sync_directory(directory)  # a process may have died before it could do so
    return read_meta(disk, paths[-1])


def read_snapshot(disk: Disk, directory: Path, meta: SnapshotMeta) -> Iterator[list[Any]]:
    """The parts of a snapshot.

    Raises:
        CorruptError: it is damaged or is not the one of `meta`. Parts before the damage were given out.
    """
    path = snapshot_path(directory, meta)
    reader = PartsReader(str(path), _MAGIC)
    for piece in read_pieces(disk, path):
        for part in reader.feed(piece):
            _check_meta(reader, path, meta)
            yield part
    reader.finish()
    _check_meta(reader, path, meta)


def snapshot_chunks(
    disk: Disk, directory: Path, meta: SnapshotMeta, chunk_bytes: int = PIECE_BYTES
) -> Iterator[bytes]:
    """The bytes of a snapshot, to send; they stay readable when it is replaced meanwhile.

    Raises:
        OSError: there is no such snapshot any more (before the first chunk), or the disk failed.
    """
    return read_pieces(disk, snapshot_path(directory, meta), chunk_bytes)


def snapshot_bytes(disk: Disk, directory: Path) -> int:
    """Of all snapshots on disk."""
    size_bytes = 0
    for path in snapshot_paths(disk, directory):
        with suppress(FileNotFoundError):  # a thread that has written a newer one removes it just now
            size_bytes += disk.size(path)
    return size_bytes


class SnapshotReceiver:
    """A snapshot that comes in from another member: chunks in, and at the end a file with a name.

    Until `install` there is only a temporary file. `abort` removes it, or after a crash `remove_leftovers`.
    """

    def __init__(self, disk: Disk, directory: Path, meta: SnapshotMeta) -> None:
        """Args:
        meta: as announced; what comes in must have it.
        """
        disk.make_directory(directory)
        self._disk = disk
        self._meta = meta
        self._path = snapshot_path(directory, meta)
        # A name of its own: the same state may come twice, from a leader and its successor.
        names = (self._path.with_suffix(f".{number}.tmp") for number in count(1))
        self._temporary = next(name for name in names if not disk.exists(name))
        self._file: DiskFile | None = disk.create(self._temporary)
        self._reader = PartsReader(f"the snapshot received as {self._path.name}", _MAGIC)
        self.received_bytes = 0
        """Where the next chunk must begin."""

    def add(self, offset: int, data: bytes) -> None:
        """Take the next chunk.

        Args:
            offset: of its first byte in the whole; must be `received_bytes`.

        Raises:
            CorruptError: it is not the next one, fails a checksum, or belongs to another snapshot; nothing is
                left of it then.
            OSError: the disk failed or is full; nothing is left either.
        """
        if self._file is None:
            raise ValueError("the snapshot was installed or given up")
        try:
            if offset != self.received_bytes:
                raise CorruptError(
                    f"a chunk of {self._path.name} at {offset}; the next one begins at "
                    f"{self.received_bytes}. The snapshot must be sent again."
                )
            for _ in self._reader.feed(data):
                pass
            if self._reader.head is not None:
                _check_meta(self._reader, self._path, self._meta)
            self._file.write_at(offset, data)
        except (CorruptError, OSError):
            self.abort()
            raise
        self.received_bytes += len(data)

    def complete(self) -> None:
        """All chunks are there: make them durable, still without the name.

        Raises:
            CorruptError: it does not end with its end record; nothing is left of it then.
            OSError: the disk failed or is full; nothing is left either.
        """
        if self._file is None:
            raise ValueError("the snapshot was installed or given up")
        try:
            self._reader.finish()
            self._file.sync()
        except (CorruptError, OSError):
            self.abort()
            raise

    def install(self) -> Path:
        """Give it its name, after `complete`; from then on it is what the member starts from.

        Raises:
            CorruptError, OSError: as for `complete`.
        """
        self.complete()
        assert self._file is not None
        self._file.close()
        self._file = None
        self._disk.rename(self._temporary, self._path)
        self._disk.sync_directory(self._path.parent)
        remove_old(self._disk, self._path.parent, KEPT)
        return self._path

    @property
    def is_open(self) -> bool:
        """Whether it is neither installed nor given up."""
        return self._file is not None

    def abort(self) -> None:
        """Give up, and leave nothing. Does nothing after `install`."""
        if self._file is not None:
            self._file.close()
            self._file = None
            with suppress(OSError):  # `remove_leftovers` removes it at the next start
                self._disk.unlink(self._temporary)


def snapshot_path(directory: Path, meta: SnapshotMeta) -> Path:
    return directory / f"{meta.index:016x}-{meta.term:016x}.snap"


def snapshot_paths(disk: Disk, directory: Path) -> list[Path]:
    """Oldest first."""
    return [directory / name for name in disk.names(directory) if _NAME.fullmatch(name)]


def read_meta(disk: Disk, path: Path) -> SnapshotMeta:
    """The head of a snapshot.

    Raises:
        CorruptError: it is damaged, or belongs to another file.
    """
    reader = PartsReader(str(path), _MAGIC)
    for piece in read_pieces(disk, path, 4096):
        for _ in reader.feed(piece):
            break
        if reader.head is not None:
            meta = meta_from_list(reader.head)
            if snapshot_path(path.parent, meta) != path:
                raise records.damaged(str(path), 0, f"it is the snapshot up to entry {meta.index}")
            return meta
    raise records.damaged(str(path), 0, "it ends before its head")


def write_file(disk: Disk, path: Path, pieces: Iterable[bytes], *, keep: int = 0) -> Path:
    """Write a whole file durably, so that there is all of it or nothing.

    Args:
        keep: so many snapshots beside it, itself included, stay; 0 is all.
    """
    temporary = path.with_suffix(path.suffix + ".tmp")
    file = disk.create(temporary)
    try:
        offset = synced = 0
        for piece in pieces:
            file.write_at(offset, piece)
            offset += len(piece)
            if offset - synced >= SYNCED_BYTES:
                file.sync()
                synced = offset
        file.sync()
    except BaseException:
        file.close()
        with suppress(OSError):  # the first error says more; the next start removes the file
            disk.unlink(temporary)
        raise
    file.close()
    disk.rename(temporary, path)
    disk.sync_directory(path.parent)
    if keep:
        remove_old(disk, path.parent, keep)
    return path


def remove_old(disk: Disk, directory: Path, keep: int) -> None:
    """All but the newest; the newest must be durable."""
    for path in snapshot_paths(disk, directory)[:-keep]:
        with suppress(FileNotFoundError):  # one is being received and another written: both clean up
            disk.unlink(path)


def read_pieces(disk: Disk, path: Path, piece_bytes: int = PIECE_BYTES) -> Iterator[bytes]:
    """A file's bytes; it is opened at once, and stays readable when its name goes."""
    return _pieces_of(disk.open(path), piece_bytes)


def _pieces_of(file: DiskFile, piece_bytes: int) -> Iterator[bytes]:
    try:
        offset = 0
        while piece := file.read_at(offset, piece_bytes):
            yield piece
            offset += len(piece)
    finally:
        file.close()


def meta_to_list(meta: SnapshotMeta) -> list[Any]:
    return [
        meta.index,
        meta.term,
        [list(field) if isinstance(field, tuple) else field for field in meta.conf],
    ]


def meta_from_list(item: Sequence[Any]) -> SnapshotMeta:
    index, term, conf = item
    voters, learners, voters_outgoing, learners_next, auto_leave = conf
    state = ConfState(
        tuple(voters), tuple(learners), tuple(voters_outgoing), tuple(learners_next), auto_leave
    )
    return SnapshotMeta(index, term, state)


def _check_meta(reader: PartsReader, path: Path, meta: SnapshotMeta) -> None:
    if reader.head is None or meta_from_list(reader.head) != meta:
        raise CorruptError(
            f"{path} is not the snapshot that was asked for: it says {reader.head}, not {meta_to_list(meta)}"
        )
