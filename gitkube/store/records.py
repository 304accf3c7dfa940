"""Records with checksums in a file, and what to make of one that does not check.

A record is a 16-byte header and a payload, padded with zeros to a multiple of 16 bytes:

    length:u32  type:u8  zeros:3  header_crc:u32  payload_crc:u32

Both checksums (CRC-32) start from the file's own number, so that a valid record of another file, left over
on the disk, never passes. Headers are aligned to 16 bytes and so never cross a 512-byte sector, the unit that
a disk writes whole or not at all. That is what lets a reader tell a crash from damage:

- a header of zeros is the end (files are made of zeros before use);
- a header that does not check was damaged, unless the file ends inside it;
- a payload that does not check was *torn* by a crash if one of its sectors is still zeros or beyond the end
  of the file, and no valid record follows; otherwise it was damaged.

This rests on one rule for writers: **one record a fsync**. So only the last record of a file can be torn, and
a record behind a bad one proves damage. A torn record was never acknowledged, so it is forgotten; damage is
never guessed around.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from gitkube.store.protocol import CorruptError

ALIGNMENT = 16
_SECTOR_BYTES = 512
_HEAD = struct.Struct("<IB3x")
_HEADER = struct.Struct("<IB3xII")


class Record(NamedTuple):
    type: int
    payload: bytes
    offset: int
    """Where it begins in its file."""
    end: int


def encode(file_number: int, type: int, payload: bytes) -> bytes:
    """The bytes of a record for the file of that number."""
    header_crc = zlib.crc32(_HEAD.pack(len(payload), type), file_number & 0xFFFFFFFF)
    padded = payload + bytes(-len(payload) % ALIGNMENT)
    return _HEADER.pack(len(payload), type, header_crc, zlib.crc32(padded, header_crc)) + padded


def scan(name: str, file_number: int, data: bytes, start: int, *, tail_may_be_torn: bool) -> Iterator[Record]:
    """The records of a file's bytes from `start` on.

    Args:
        name: of the file, for errors.
        tail_may_be_torn: whether the file was being written when the writer may have died.

    Raises:
        CorruptError: damage that a crash cannot explain; names file and offset.
    """
    at = start
    while True:
        header = data[at : at + _HEADER.size]
        if len(header) < _HEADER.size:
            if header.strip(b"\0") and not tail_may_be_torn:
                raise _damaged(name, at, "the file ends inside a record's header")
            return
        if header == bytes(_HEADER.size):
            if data.count(0, at) != len(data) - at:
                _refuse_records_after(name, file_number, data, at)
            return
        length, type, header_crc, payload_crc = _HEADER.unpack(header)
        if zlib.crc32(_HEAD.pack(length, type), file_number & 0xFFFFFFFF) != header_crc:
            raise _damaged(name, at, "a record's header fails its checksum")
        if header[5:8] != b"\0\0\0":
            raise _damaged(name, at, "a record's header has bytes set that are always zero")
        start = at + _HEADER.size
        end = start + length + (-length % ALIGNMENT)
        if end > len(data) or zlib.crc32(data[start:end], header_crc) != payload_crc:
            if not tail_may_be_torn or not _is_torn(data, start, end):
                raise _damaged(name, at, "a record fails its checksum")
            _refuse_records_after(name, file_number, data, start)
            return
        yield Record(type, data[start : start + length], at, end)
        at = end


def _is_torn(data: bytes, start: int, end: int) -> bool:
    if end > len(data):
        return True
    at = start
    while at < end:
        sector_end = min((at // _SECTOR_BYTES + 1) * _SECTOR_BYTES, end)
        if not data[at:sector_end].strip(b"\0"):
            return True
        at = sector_end
    return False


def _refuse_records_after(name: str, file_number: int, data: bytes, start: int) -> None:
    """A valid record behind a bad one: the bad one had been synced, so no crash explains it."""
    for at in range(start + -start % ALIGNMENT, len(data) - _HEADER.size + 1, ALIGNMENT):
        if data[at + 5 : at + 8] != b"\0\0\0":
            continue  # cheap, and true of most bytes that are no header
        length, type, header_crc, payload_crc = _HEADER.unpack_from(data, at)
        if not header_crc or zlib.crc32(_HEAD.pack(length, type), file_number & 0xFFFFFFFF) != header_crc:
            continue
        end = at + _HEADER.size + length + (-length % ALIGNMENT)
        if end <= len(data) and zlib.crc32(data[at + _HEADER.size : end], header_crc) == payload_crc:
            raise _damaged(name, start, f"records follow it, the next valid one at offset {at}")


def _damaged(name: str, at: int, why: str) -> CorruptError:
    return CorruptError(
        f"{name} is damaged at offset {at}: {why}. Nothing was changed. "
        "Restore the data directory from a backup, or rebuild this member from the others."
    )
