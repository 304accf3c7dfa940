"""The key space in one file, so that the log before it can be forgotten.

`<index>-<term>.snap` holds a header, the parts of `KeySpace.dump` as records with checksums, and an end
record. It appears under its name only when all of it is on the disk, so a file without its end record is
damage, not a crash. The two newest are kept: if the newest is damaged, that is an error and not a silent
step back in time.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgpack

from gitkube.files import fsync_directory, write_all
from gitkube.store import records
from gitkube.store.protocol import CorruptError

FORMAT_VERSION = 1
_MAGIC = b"gitkube snap"
_HEADER = struct.Struct("<12sIQQ")
_HEADER_BYTES = 64
_PART, _END = 1, 2
_NAME = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})\.snap")
_WRITE_BYTES = 1024 * 1024


class SnapshotId(NamedTuple):
    """The last entry of the log that a snapshot contains."""

    last_index: int
    term: int


def write_snapshot(directory: Path, identity: SnapshotId, parts: Iterable[list[Any]]) -> Path:
    """Write a snapshot durably; it replaces the one before the last.

    Raises:
        OSError: the disk failed or is full. The snapshots that were there still are.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{identity.last_index:016x}-{identity.term:016x}.snap"
    temporary = path.with_suffix(".tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        header = _HEADER.pack(_MAGIC, FORMAT_VERSION, identity.last_index, identity.term)
        buffer = bytearray(header + bytes(_HEADER_BYTES - len(header)))
        count = 0
        for part in parts:
            count += 1
            buffer += records.encode(identity.last_index, _PART, msgpack.packb(part))
            if len(buffer) >= _WRITE_BYTES:
                write_all(descriptor, bytes(buffer))
                buffer.clear()
        buffer += records.encode(identity.last_index, _END, msgpack.packb(count))
        write_all(descriptor, bytes(buffer))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(temporary, path)
    fsync_directory(directory)
    for _, old in _find(directory)[:-2]:
        old.unlink()
    return path


def newest_snapshot(directory: Path) -> SnapshotId | None:
    """Which snapshot there is, without reading it."""
    found = _find(directory)
    return found[-1][0] if found else None


def read_snapshot(directory: Path, identity: SnapshotId) -> Iterator[list[Any]]:
    """The parts of a snapshot.

    Raises:
        CorruptError: it is damaged or was written by a newer version.
    """
    path = directory / f"{identity.last_index:016x}-{identity.term:016x}.snap"
    data = path.read_bytes()
    if data[:12] == _MAGIC and len(data) >= 16:
        version = struct.unpack_from("<I", data, 12)[0]
        if version > FORMAT_VERSION:
            raise CorruptError(f"{path} was written by a newer gitkube (format {version}). Use that version.")
    if data[: _HEADER.size] != _HEADER.pack(_MAGIC, FORMAT_VERSION, *identity):
        raise CorruptError(f"{path} is damaged at offset 0: not the header of this snapshot")
    if data[_HEADER.size : _HEADER_BYTES].strip(b"\0"):
        raise CorruptError(f"{path} is damaged at offset {_HEADER.size}: bytes that are always zero")
    count = 0
    for record in records.scan(str(path), identity.last_index, data, _HEADER_BYTES, tail_may_be_torn=False):
        if record.type == _END:
            if msgpack.unpackb(record.payload) != count or record.end != len(data):
                raise CorruptError(
                    f"{path} is damaged: it does not have the parts that its end record counts"
                )
            return
        count += 1  # noqa: SIM113 - the end record does not count itself
        yield msgpack.unpackb(record.payload)
    raise CorruptError(f"{path} is damaged: its end record is missing")


def snapshot_bytes(directory: Path) -> int:
    return sum(path.stat().st_size for _, path in _find(directory))


def _find(directory: Path) -> list[tuple[SnapshotId, Path]]:
    if not directory.is_dir():
        return []
    found = []
    for path in directory.iterdir():
        match = _NAME.fullmatch(path.name)
        if match:
            found.append((SnapshotId(int(match[1], 16), int(match[2], 16)), path))
    return sorted(found)
