"""A state in one file: a head, its parts, and an end that proves that all of it is there.

Snapshots (`snapshot.py`) and backups (`backup.py`) are such files; they differ in their magic word and in
what the head says. The file is a header of 32 bytes and records (`records.py`): one HEAD, any number of
PARTs, and one END, which has the number of parts and the SHA-256 of all bytes before it. Each part is a list,
packed with msgpack. Both directions work in pieces, so that a state of gigabytes passes through a megabyte of
memory.

Such a file gets its name only when all of it is on the disk, so a missing byte is damage and not a crash.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgpack

from gitkube.store import records
from gitkube.store.protocol import CorruptError

FORMAT_VERSION = 2
PIECE_BYTES = 1024 * 1024
_HEADER = struct.Struct("<12sIQ")  # magic, version, number; then zeros to 28 bytes, and a checksum
_HEADER_BYTES = 32
_HEADER_CRC = struct.Struct("<I")
_HEAD, _PART, _END = 1, 2, 3


def encode_parts(
    magic: bytes, number: int, head: Sequence[Any], parts: Iterable[Sequence[Any]]
) -> Iterator[bytes]:
    """The bytes of a file, in pieces of about PIECE_BYTES.

    Args:
        magic: 12 bytes that say what kind of file it is.
        number: stamps the records, so that those of another file never pass.
        head: what to know before reading the parts.
    """
    header = _HEADER.pack(magic, FORMAT_VERSION, number)
    header += bytes(_HEADER_BYTES - _HEADER_CRC.size - len(header))
    buffer = bytearray(header + _HEADER_CRC.pack(zlib.crc32(header)))
    buffer += records.encode(number, _HEAD, [msgpack.packb(head)])
    digest, count = hashlib.sha256(), 0
    packer = msgpack.Packer()
    for part in parts:
        count += 1
        buffer += records.encode(number, _PART, [packer.pack(part)])
        if len(buffer) >= PIECE_BYTES:
            piece = bytes(buffer)
            buffer.clear()
            digest.update(piece)
            yield piece
    digest.update(buffer)
    buffer += records.encode(number, _END, [msgpack.packb([count, digest.digest()])])
    yield bytes(buffer)


class PartsReader:
    """Takes the bytes of a file in pieces of any size, and gives its parts. Everything is verified."""

    def __init__(self, name: str, magic: bytes) -> None:
        self._name = name
        self._magic = magic
        self._start = b""
        self._parser: records.Parser | None = None
        self._digest = hashlib.sha256()
        self._undigested = bytearray()
        """Fed, but perhaps of the END record, which the digest leaves out."""
        self._undigested_at = 0
        self._has_ended = False
        self.head: list[Any] | None = None
        """Once it was read."""
        self.count = 0
        """Of the parts so far."""

    def feed(self, data: bytes) -> Iterator[list[Any]]:
        """The parts that end in `data`.

        Raises:
            CorruptError: the file is damaged, of another kind, or was written by a newer version.
        """
        if not self._has_ended:
            self._undigested += data
        if self._parser is None:
            self._start += data
            if len(self._start) < _HEADER_BYTES:
                return
            self._parser = records.Parser(self._name, self._check_header(), _HEADER_BYTES)
            data = self._start[_HEADER_BYTES:]
        for record in self._parser.feed(data):
            self._refuse_more(record.offset)
            part = self._take(record)
            if part is not None:
                yield part
        if self._parser.pending_bytes:
            self._refuse_more(self._parser.offset)
        self._digest_up_to(self._parser.offset)

    def finish(self) -> None:
        """All was fed.

        Raises:
            CorruptError: the file ends too early.
        """
        if not self._has_ended:
            at = self._parser.offset if self._parser else len(self._start)
            raise records.damaged(self._name, at, "its end record is missing")

    def _check_header(self) -> int:
        magic, version, number = _HEADER.unpack_from(self._start)
        header = self._start[:_HEADER_BYTES]
        if magic == self._magic and version != FORMAT_VERSION:
            age = "a newer" if version > FORMAT_VERSION else "an older"
            raise CorruptError(
                f"{self._name} was written by {age} gitkube (format {version}, this one knows "
                f"{FORMAT_VERSION}), or is damaged at offset {len(magic)}. Use that version, or another copy."
            )
        if magic != self._magic or _HEADER_CRC.pack(zlib.crc32(header[: -_HEADER_CRC.size])) != header[-4:]:
            kind = self._magic.decode().rstrip()
            raise records.damaged(self._name, 0, f"not the header of a file of the kind {kind!r}")
        return int(number)

    def _refuse_more(self, offset: int) -> None:
        if self._has_ended:
            raise records.damaged(self._name, offset, "there is more behind its end record")

    def _take(self, record: records.Record) -> list[Any] | None:
        if (record.type == _HEAD) != (self.head is None):
            raise records.damaged(self._name, record.offset, "its head is missing, or is there twice")
        if record.type == _END:
            self._digest_up_to(record.offset)
            if msgpack.unpackb(record.payload) != [self.count, self._digest.digest()]:
                raise records.damaged(
                    self._name, record.offset, "what lies before is not what its end record says"
                )
            self._has_ended = True
            return None
        content: list[Any] = msgpack.unpackb(record.payload, strict_map_key=False)
        if record.type == _HEAD:
            self.head = content
            return None
        self.count += 1
        return content

    def _digest_up_to(self, offset: int) -> None:
        length = offset - self._undigested_at
        if length > 0 and not self._has_ended:
            self._digest.update(self._undigested[:length])
            del self._undigested[:length]
            self._undigested_at = offset
