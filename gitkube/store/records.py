"""Records with checksums in a file, and what to make of one that does not check.

A record is a 16-byte header and a payload, filled up with 1 to 16 bytes of 0xFF so that the next one begins
at a multiple of 16:

    length:u32  type:u8  zeros:u24  header_crc:u32  payload_crc:u32

Both checksums (CRC-32) start from the file's own number, so that a valid record of another file, left over
on the disk, never passes. A disk writes sectors of 512 bytes, in any order, and files are made of zeros
before use; so what a crash leaves of a record is its own bytes up to some point of each sector, and zeros
from there to the sector's end. `zeros` says how many zeros the sectors of the whole payload end with, taken
together. That lets a reader tell a crash from damage:

- a header of zeros is the end;
- a header that does not check was damaged, unless the file ends inside it or half of it is zeros;
- a payload that does not check was *torn* by a crash if its sectors end with more zeros than they should, or
  the file ends inside it; otherwise it was damaged;
- whatever it was, if a valid record follows it, it was damaged.

This rests on one rule for writers: **one record a fsync** (docs/decisions/0001). So only the last record of a
file can be torn, and a record behind a bad one proves damage. A torn record was never acknowledged, so it is
forgotten; damage is never guessed around.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from gitkube.store.protocol import CorruptError

ALIGNMENT = 16
SECTOR_BYTES = 512
HEADER_BYTES = 16
MAX_TYPE = 8
_HEAD = struct.Struct("<II")  # length; type in the low byte and zeros above it
_HEADER = struct.Struct("<IIII")
_ROOM = bytes(HEADER_BYTES)
_FILL = b"\xff" * ALIGNMENT
_HALF = bytes(HEADER_BYTES // 2)
_MAX_ZEROS = 0xFFFFFF
"""More are written as this many: of such a record a crash cannot always be told from damage, so it is
refused."""


class Record(NamedTuple):
    type: int
    payload: bytes
    offset: int
    """Where it begins in its file."""
    end: int


def encode(file_number: int, type: int, pieces: Iterable[bytes], offset: int = 0) -> bytearray:
    """The bytes of a record.

    Args:
        file_number: of the file that it is for.
        type: 1 to MAX_TYPE.
        pieces: the payload, in pieces.
        offset: where in the file it will be written, a multiple of ALIGNMENT. Only files whose tail may be
            torn need it.
    """
    record = bytearray().join((_ROOM, *pieces))
    length = len(record) - HEADER_BYTES
    record += _FILL[: _fill_bytes(length)]
    start = offset + HEADER_BYTES
    marks = type | _zeros(record, HEADER_BYTES, len(record), start) << 8
    header_crc = zlib.crc32(_HEAD.pack(length, marks), file_number & 0xFFFFFFFF)
    with memoryview(record) as view:
        payload_crc = zlib.crc32(view[HEADER_BYTES:], header_crc)
    _HEADER.pack_into(record, 0, length, marks, header_crc, payload_crc)
    return record


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
        header = data[at : at + HEADER_BYTES]
        if header == bytes(len(header)):  # of zeros, or there is none
            if not _is_zeros(data, at):
                if not tail_may_be_torn:
                    raise damaged(name, at, "zeros where a record was")
                _refuse_records_after(name, file_number, data, at)
            return
        if len(header) < HEADER_BYTES:
            if not tail_may_be_torn:
                raise damaged(name, at, "the file ends inside a record's header")
            return
        length, marks, header_crc, payload_crc = _HEADER.unpack(header)
        if zlib.crc32(header[: _HEAD.size], file_number & 0xFFFFFFFF) != header_crc:
            is_half = header[: len(_HALF)] == _HALF or header[len(_HALF) :] == _HALF
            if not (tail_may_be_torn and is_half):
                raise damaged(name, at, "a record's header fails its checksum")
            _refuse_records_after(name, file_number, data, at)
            return
        begin = at + HEADER_BYTES
        end = begin + length + _fill_bytes(length)
        if end > len(data) or zlib.crc32(data[begin:end], header_crc) != payload_crc:
            is_torn = end > len(data) or _zeros(data, begin, end, begin) > marks >> 8
            if not (tail_may_be_torn and is_torn):
                raise damaged(name, at, "a record fails its checksum")
            _refuse_records_after(name, file_number, data, at)
            return
        yield Record(marks & 0xFF, data[begin : begin + length], at, end)
        at = end


class Parser:
    """Records that come in pieces, of a file that is whole: nothing of it may be torn."""

    def __init__(self, name: str, file_number: int, offset: int) -> None:
        self._name = name
        self._file_number = file_number & 0xFFFFFFFF
        self._rest = bytearray()
        self.offset = offset
        """Up to where in the file records were taken."""

    def feed(self, data: bytes) -> Iterator[Record]:
        """The records that end in `data`.

        Raises:
            CorruptError: one of them fails its checksum.
        """
        self._rest += data
        rest, at = bytes(self._rest), 0
        while at + HEADER_BYTES <= len(rest):
            length, marks, header_crc, payload_crc = _HEADER.unpack_from(rest, at)
            offset = self.offset + at
            if zlib.crc32(rest[at : at + _HEAD.size], self._file_number) != header_crc:
                raise damaged(self._name, offset, "a record's header fails its checksum")
            begin = at + HEADER_BYTES
            end = begin + length + _fill_bytes(length)
            if end > len(rest):
                break
            if zlib.crc32(rest[begin:end], header_crc) != payload_crc:
                raise damaged(self._name, offset, "a record fails its checksum")
            at = end
            yield Record(marks & 0xFF, rest[begin : begin + length], offset, self.offset + end)
        del self._rest[:at]
        self.offset += at

    @property
    def pending_bytes(self) -> int:
        """Fed, and not yet the whole of a record."""
        return len(self._rest)


def damaged(name: str, at: int, why: str) -> CorruptError:
    return CorruptError(
        f"{name} is damaged at offset {at}: {why}. Nothing was changed. "
        "Restore the data directory from a backup, or rebuild this member from the others."
    )


def _fill_bytes(length: int) -> int:
    return ALIGNMENT - length % ALIGNMENT


def _is_zeros(data: bytes, start: int) -> bool:
    return data.count(0, start) == len(data) - start


def _zeros(data: bytes | bytearray, start: int, end: int, offset: int) -> int:
    """How many zeros the sectors end with.

    Args:
        data: holds the payload from `start` to `end`.
        offset: where in the file `start` is.
    """
    total, rest = 0, start
    first_end = start + SECTOR_BYTES - offset % SECTOR_BYTES
    if first_end <= end:
        last_bytes = data[first_end - 1 : end : SECTOR_BYTES]
        at = last_bytes.find(0)
        while at >= 0:
            sector_end = first_end + at * SECTOR_BYTES
            total += _zeros_at_end(data[max(start, sector_end - SECTOR_BYTES) : sector_end])
            at = last_bytes.find(0, at + 1)
        rest = first_end + (len(last_bytes) - 1) * SECTOR_BYTES
    return min(total + _zeros_at_end(data[rest:end]), _MAX_ZEROS)


def _zeros_at_end(piece: bytes | bytearray) -> int:
    return len(piece) - len(piece.rstrip(b"\0"))


def _refuse_records_after(name: str, file_number: int, data: bytes, start: int) -> None:
    """A valid record behind a bad one: the bad one had been synced, so no crash explains it."""
    limit = len(data.rstrip(b"\0"))
    for at in range(start + ALIGNMENT, limit - HEADER_BYTES + 1, ALIGNMENT):
        if not 0 < data[at + 4] <= MAX_TYPE:
            continue  # cheap, and true of most bytes that are no header
        length, _, header_crc, payload_crc = _HEADER.unpack_from(data, at)
        if zlib.crc32(data[at : at + _HEAD.size], file_number & 0xFFFFFFFF) != header_crc:
            continue
        end = at + HEADER_BYTES + length + _fill_bytes(length)
        if end <= len(data) and zlib.crc32(data[at + HEADER_BYTES : end], header_crc) == payload_crc:
            raise damaged(name, start, f"records follow it, the next valid one at offset {at}")
