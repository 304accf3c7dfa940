"""The log on disk: entries and the hard state, in segments of zeros that are filled from the front.

A segment `<sequence>-<first index>.log` has a header and records (`records.py`), stamped with its sequence.
It is written full of zeros before use: an fsync then has no file size or block map to write, which makes it
about a third faster. Appending is `append` (any number of times, in memory) and then one `sync`: everything
of one turn becomes one record and shares one fsync. Nothing may be acknowledged before `sync` has returned.

Entries carry index and term and follow one another without gaps. An entry with an index that is there
already replaces it and all behind it: that is how a follower's log is corrected by a leader (Raft, section
5.3); a lone member never does it.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from gitkube.files import fsync_directory, write_all
from gitkube.store import records
from gitkube.store.protocol import CorruptError

SEGMENT_BYTES = 16 * 1024 * 1024
_MAGIC = b"gitkube wal\0"
FORMAT_VERSION = 1
_HEADER = struct.Struct("<12sIQQ")  # magic, version, sequence, first index; then zeros to 64 bytes
_HEADER_BYTES = 64
_ENTRY = struct.Struct("<QQ")
_HARD_STATE = struct.Struct("<QQQ")
_ITEM = struct.Struct("<BI")
_BATCH = 1
_ITEM_ENTRY, _ITEM_HARD_STATE = 1, 2
_NAME = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})\.log")


@dataclass(frozen=True, slots=True)
class Entry:
    """One command of the log. `data` is empty for the entry with which a leader opens its term."""

    index: int
    term: int
    data: bytes


class HardState(NamedTuple):
    """What a member must not forget over a restart (Raft, figure 2)."""

    term: int = 0
    vote: int = 0
    commit: int = 0


@dataclass(slots=True)
class _Segment:
    path: Path
    sequence: int
    first_index: int


class Wal:
    """An open log. One process at a time; the owner of the data directory's lock."""

    def __init__(self, directory: Path, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._segments: list[_Segment] = []
        self._descriptor = -1
        self._offset = 0
        self._pending = bytearray()
        self._pending_index = 1
        self.hard_state = HardState()
        self.last_index = 0
        """Of the newest entry appended, or 0."""

    # ------------------------------------------------------------------ opening

    def open(self, after_index: int) -> list[Entry]:
        """Read the log, and make it ready to be appended to.

        Args:
            after_index: what a snapshot already has; only later entries are returned.

        Returns:
            The entries after it, in order.

        Raises:
            CorruptError: damage, or a gap between the snapshot and the log.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        self._segments = self._find_segments()
        entries: list[Entry] = []
        for position, segment in enumerate(self._segments):
            is_last = position == len(self._segments) - 1
            self._offset = self._read_segment(segment, is_last, entries)
        entries = [entry for entry in entries if entry.index > after_index]
        if entries and entries[0].index != after_index + 1:
            raise CorruptError(
                f"the log in {self._directory} begins at entry {entries[0].index}, but the newest snapshot "
                f"ends at {after_index}: entries between them are missing. Restore from a backup."
            )
        self.last_index = entries[-1].index if entries else after_index
        if self._segments:
            self._reopen_last()
        else:
            self._start_segment(self.last_index + 1)
        return entries

    def _find_segments(self) -> list[_Segment]:
        found = []
        for path in self._directory.iterdir():
            match = _NAME.fullmatch(path.name)
            if match:
                found.append(_Segment(path, int(match[1], 16), int(match[2], 16)))
            elif path.name.endswith(".tmp"):
                path.unlink()  # a segment that was being made when the process died: holds nothing yet
        found.sort(key=lambda segment: segment.sequence)
        for before, after in pairwise(found):
            if after.sequence != before.sequence + 1:
                raise CorruptError(
                    f"the log has a hole: no segment between {before.path} and {after.path.name}"
                )
        return found

    def _read_segment(self, segment: _Segment, is_last: bool, entries: list[Entry]) -> int:
        data = segment.path.read_bytes()
        expected = _HEADER.pack(_MAGIC, FORMAT_VERSION, segment.sequence, segment.first_index)
        if len(data) < _HEADER_BYTES or data[: _HEADER.size] != expected:
            version = struct.unpack_from("<I", data, 12)[0] if len(data) >= 16 else 0
            if data[:12] == _MAGIC and version > FORMAT_VERSION:
                raise CorruptError(
                    f"{segment.path} was written by a newer gitkube (format {version}, this one knows "
                    f"{FORMAT_VERSION}). Use that version."
                )
            raise CorruptError(f"{segment.path} is damaged at offset 0: not the header of this segment")
        if data[_HEADER.size : _HEADER_BYTES].strip(b"\0"):
            raise CorruptError(
                f"{segment.path} is damaged at offset {_HEADER.size}: bytes that are always zero"
            )
        end = _HEADER_BYTES
        for record in records.scan(
            str(segment.path), segment.sequence, data, _HEADER_BYTES, tail_may_be_torn=is_last
        ):
            end = record.end
            if record.type != _BATCH:
                raise CorruptError(f"{segment.path} at offset {record.offset}: unknown record {record.type}")
            for type, body in _items(record.payload):
                if type == _ITEM_ENTRY:
                    index, term = _ENTRY.unpack_from(body)
                    entry = Entry(index, term, body[_ENTRY.size :])
                    self._take(entry, entries, segment, record.offset)
                elif type == _ITEM_HARD_STATE:
                    self.hard_state = HardState(*_HARD_STATE.unpack(body))
                else:
                    raise CorruptError(f"{segment.path} at offset {record.offset}: unknown item {type}")
        return end

    @staticmethod
    def _take(entry: Entry, entries: list[Entry], segment: _Segment, offset: int) -> None:
        if entries and entry.index != entries[-1].index + 1:
            if not entries[0].index <= entry.index <= entries[-1].index:
                raise CorruptError(
                    f"{segment.path} at offset {offset}: entry {entry.index} follows {entries[-1].index}"
                )
            del entries[entry.index - entries[0].index :]
        entries.append(entry)

    def _reopen_last(self) -> None:
        segment = self._segments[-1]
        self._descriptor = os.open(segment.path, os.O_RDWR)
        size = os.fstat(self._descriptor).st_size
        # What lies behind the last whole record was torn: make it zeros again before anything follows it.
        _write_zeros(self._descriptor, self._offset, max(size, self._segment_bytes) - self._offset)
        os.fsync(self._descriptor)

    # ------------------------------------------------------------------ appending

    def append(self, entries: Iterable[Entry], hard_state: HardState | None = None) -> None:
        """Take entries (and a changed hard state) to be written by the next `sync`."""
        for entry in entries:
            if not self._pending:
                self._pending_index = entry.index
            body = _ENTRY.pack(entry.index, entry.term) + entry.data
            self._pending += _ITEM.pack(_ITEM_ENTRY, len(body)) + body
            self.last_index = entry.index
        if hard_state is not None and hard_state != self.hard_state:
            if not self._pending:
                self._pending_index = self.last_index + 1
            self.hard_state = hard_state
            self._pending += _hard_state_item(hard_state)

    def sync(self) -> None:
        """Make durable what was appended.

        Raises:
            OSError: the disk failed or is full. The log must not be used any further.
        """
        if not self._pending:
            return
        record = records.encode(self._segments[-1].sequence, _BATCH, bytes(self._pending))
        if self._offset + len(record) > self._segment_bytes and self._offset > _HEADER_BYTES:
            self._start_segment(self._pending_index)
            record = records.encode(self._segments[-1].sequence, _BATCH, bytes(self._pending))
        os.lseek(self._descriptor, self._offset, os.SEEK_SET)
        write_all(self._descriptor, record)
        os.fdatasync(self._descriptor)
        self._offset += len(record)
        self._pending.clear()

    def _start_segment(self, first_index: int) -> None:
        sequence = self._segments[-1].sequence + 1 if self._segments else 1
        path = self._directory / f"{sequence:016x}-{first_index:016x}.log"
        temporary = path.with_suffix(".tmp")
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        header = _HEADER.pack(_MAGIC, FORMAT_VERSION, sequence, first_index)
        _write_zeros(descriptor, 0, self._segment_bytes)
        os.lseek(descriptor, 0, os.SEEK_SET)
        write_all(descriptor, header)
        os.fsync(descriptor)
        os.replace(temporary, path)
        fsync_directory(self._directory)
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = descriptor
        self._segments.append(_Segment(path, sequence, first_index))
        self._offset = _HEADER_BYTES
        # The hard state must outlive the segment that it was written in.
        self._pending[:0] = _hard_state_item(self.hard_state)

    # ------------------------------------------------------------------ trimming

    def trim(self, up_to_index: int) -> None:
        """Remove segments that hold only entries up to and with `up_to_index`, which a snapshot has."""
        removed = False
        while len(self._segments) > 1 and self._segments[1].first_index <= up_to_index + 1:
            self._segments.pop(0).path.unlink()
            removed = True
        if removed:
            fsync_directory(self._directory)

    @property
    def size_bytes(self) -> int:
        """Of all segments on disk."""
        return sum(segment.path.stat().st_size for segment in self._segments)

    def close(self) -> None:
        """Release the file. What was appended and not synced is not written."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _hard_state_item(hard_state: HardState) -> bytes:
    body = _HARD_STATE.pack(*hard_state)
    return _ITEM.pack(_ITEM_HARD_STATE, len(body)) + body


def _items(payload: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(payload):
        type, length = _ITEM.unpack_from(payload, at)
        at += _ITEM.size
        yield type, payload[at : at + length]
        at += length


def _write_zeros(descriptor: int, start: int, length: int) -> None:
    os.lseek(descriptor, start, os.SEEK_SET)
    zeros = memoryview(bytes(min(length, 1024 * 1024)) if length > 0 else b"")
    while length > 0:
        write_all(descriptor, zeros[:length])
        length -= len(zeros[:length])
