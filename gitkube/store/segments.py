"""The log's segments as they lie on the disk, and how they are read.

A segment `<sequence>-<first index>.log` is a header of 64 bytes and records (`records.py`), stamped with its
sequence. Each record is one batch, written with one fsync; its items are entries and hard states. `read_log`
only reads, so that the log can be checked while nothing is changed.

Which segments count is decided backwards from the newest one: as far as their sequence has no hole, and not
beyond one that begins anew (`is_reset`). What lies before is left over from a removal that a crash cut short,
and the newest snapshot has all of it; if it has not, segments were lost, and that is said.

Entries follow one another without gaps. An entry with an index that is there already replaces it and all
behind it: that is how a follower's log is corrected by its leader (Raft, section 5.3).
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gitkube.store import records
from gitkube.store.disk import Disk
from gitkube.store.protocol import CorruptError
from gitkube.store.raft.types import NOBODY, Entry, EntryKind, HardState, MemberId

FORMAT_VERSION = 2
HEADER_BYTES = 64
BATCH = 1
"""The only type of record."""
_MAGIC = b"gitkube wal\0"
_HEADER = struct.Struct("<12sIQQQI")  # magic, version, sequence, first index, base term, is reset
_HEADER_CRC = struct.Struct("<I")  # in the last four bytes; between them are zeros
_ITEM = struct.Struct("<BBIQQ")
"""Entry: item type, kind, bytes of data, index, term; then the data. Hard state: type, 0, 8, term, commit;
then the vote, which has 8 bytes."""
_VOTE = struct.Struct("<Q")
_ITEM_ENTRY, _ITEM_HARD_STATE = 1, 2
_NAME = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})\.log")
_KINDS = {int(kind): kind for kind in EntryKind}


@dataclass(slots=True)
class Segment:
    path: Path
    sequence: int
    first_index: int
    """Of the first entry that was to be written into it; those in the segments before are smaller, or were
    replaced, or are in a snapshot that has at least `first_index` - 1."""
    base_term: int = 0
    """If `is_reset`: the term of the entry before `first_index`, which a snapshot has."""
    is_reset: bool = False
    """The log begins anew here: nothing in the segments before counts any more."""
    size_bytes: int = 0


@dataclass(slots=True)
class LogContents:
    """What `read_log` found."""

    segments: list[Segment] = field(default_factory=list)
    """Those that count, oldest first."""
    leftovers: list[Path] = field(default_factory=list)
    """Files that count for nothing: removed segments that are back, and segments that were being made."""
    entries: list[Entry] = field(default_factory=list)
    """May begin before the snapshot ends."""
    hard_state: HardState = field(default_factory=HardState)
    end: int = HEADER_BYTES
    """Of the last whole record of the last segment, ..."""
    last_record: bytes = b""
    """... that record as it is on the disk, ..."""
    rest_bytes: int = 0
    """... and so many bytes behind it must be made zeros again: a torn record is there."""

    @property
    def last_index(self) -> int:
        if self.entries:
            return self.entries[-1].index
        return self.segments[-1].first_index - 1 if self.segments else 0


def entry_pieces(entries: Iterable[Entry]) -> list[bytes]:
    """Entries as pieces of a record's payload."""
    pieces = []
    pack = _ITEM.pack
    for index, term, data, kind in entries:
        pieces.append(pack(_ITEM_ENTRY, kind, len(data), index, term))
        pieces.append(data)
    return pieces


def hard_state_piece(state: HardState) -> bytes:
    return _ITEM.pack(_ITEM_HARD_STATE, 0, _VOTE.size, state.term, state.commit) + _VOTE.pack(state.vote)


def segment_path(directory: Path, sequence: int, first_index: int) -> Path:
    return directory / f"{sequence:016x}-{first_index:016x}.log"


def header_of(segment: Segment) -> bytes:
    head = _HEADER.pack(
        _MAGIC, FORMAT_VERSION, segment.sequence, segment.first_index, segment.base_term, segment.is_reset
    )
    head += bytes(HEADER_BYTES - _HEADER_CRC.size - len(head))
    return head + _HEADER_CRC.pack(zlib.crc32(head))


def read_log(disk: Disk, directory: Path, after_index: int, *, everything: bool = False) -> LogContents:
    """Read what is needed behind a snapshot; nothing is changed.

    Args:
        after_index: the last entry that the snapshot has; 0 without one.
        everything: read also the segments that hold only entries before it.

    Raises:
        CorruptError: damage, or entries are missing between the snapshot and the log or inside of the log.
    """
    found, contents = _find(disk, directory)
    contents.segments = _chain(disk, found)
    counted = {segment.path for segment in contents.segments}
    contents.leftovers += [segment.path for segment in found if segment.path not in counted]
    if contents.segments:
        _check_begin(directory, contents, after_index)
    elif after_index:
        raise CorruptError(
            f"the log in {directory} is missing, though there is a snapshot up to entry {after_index}: this "
            "member would have forgotten its votes. Restore from a backup, or rebuild it from the others."
        )
    needed = contents.segments
    if not everything:
        starts = [at for at, segment in enumerate(needed) if segment.first_index <= after_index]
        needed = needed[starts[-1] if starts else 0 :]
    for segment in needed:
        _read_segment(disk, segment, contents, is_last=segment is needed[-1])
    if contents.entries and contents.entries[0].index > after_index + 1:
        raise _missing(directory, contents.entries[0].index, after_index)
    return contents


def _find(disk: Disk, directory: Path) -> tuple[list[Segment], LogContents]:
    found, contents = [], LogContents()
    for name in disk.names(directory):
        match = _NAME.fullmatch(name)
        path = directory / name
        if match:
            found.append(Segment(path, int(match[1], 16), int(match[2], 16), size_bytes=disk.size(path)))
        elif name.endswith(".tmp"):
            contents.leftovers.append(path)
    return found, contents


def _chain(disk: Disk, found: Sequence[Segment]) -> list[Segment]:
    chain: list[Segment] = []
    for segment in sorted(found, key=lambda segment: segment.sequence, reverse=True):
        if chain and segment.sequence != chain[-1].sequence - 1:
            if segment.sequence == chain[-1].sequence:
                raise CorruptError(f"two segments have one number: {segment.path} and {chain[-1].path.name}")
            break
        _read_header(disk, segment)
        chain.append(segment)
        if segment.is_reset:
            break
    return chain[::-1]


def _check_begin(directory: Path, contents: LogContents, after_index: int) -> None:
    first = contents.segments[0]
    if first.first_index <= after_index + 1:
        return
    before = [path for path in contents.leftovers if _NAME.fullmatch(path.name)]
    if before and not first.is_reset:
        raise CorruptError(
            f"the log has a hole: no segment between {max(before)} and {first.path.name}, and the newest "
            f"snapshot ends at entry {after_index}. Restore from a backup, or rebuild this member."
        )
    raise _missing(directory, first.first_index, after_index)


def _missing(directory: Path, first_index: int, after_index: int) -> CorruptError:
    return CorruptError(
        f"the log in {directory} begins at entry {first_index}, but the newest snapshot ends at "
        f"{after_index}: entries between them are missing. Restore from a backup, or rebuild this member."
    )


def _read_header(disk: Disk, segment: Segment) -> None:
    file = disk.open(segment.path)
    try:
        data = file.read_at(0, HEADER_BYTES)
    finally:
        file.close()
    if len(data) == HEADER_BYTES:
        magic, version, sequence, first_index, base_term, is_reset = _HEADER.unpack_from(data)
        if magic == _MAGIC and version != FORMAT_VERSION:
            age = "a newer" if version > FORMAT_VERSION else "an older"
            raise CorruptError(
                f"{segment.path} was written by {age} gitkube (format {version}, this one knows "
                f"{FORMAT_VERSION}), or is damaged at offset {len(_MAGIC)}. Use that version, or a backup."
            )
        segment.base_term, segment.is_reset = base_term, is_reset == 1
        if (sequence, first_index) == (segment.sequence, segment.first_index) and data == header_of(segment):
            return
    raise records.damaged(str(segment.path), 0, "not the header of this segment")


def _read_segment(disk: Disk, segment: Segment, contents: LogContents, *, is_last: bool) -> None:
    data = disk.read(segment.path)
    name = str(segment.path)
    end, last = HEADER_BYTES, HEADER_BYTES
    for record in records.scan(name, segment.sequence, data, HEADER_BYTES, tail_may_be_torn=is_last):
        last, end = record.offset, record.end
        if record.type != BATCH:
            raise CorruptError(f"{name} at offset {record.offset}: unknown record {record.type}")
        _take_batch(record, contents, name)
    contents.end = end
    contents.last_record = data[last:end]
    contents.rest_bytes = max(0, len(data.rstrip(b"\0")) - end)


def _take_batch(record: records.Record, contents: LogContents, name: str) -> None:
    payload, entries, at = record.payload, contents.entries, 0
    while at < len(payload):
        type, kind, length, index, term = _ITEM.unpack_from(payload, at)
        at += _ITEM.size
        body = payload[at : at + length]
        at += length
        if type == _ITEM_ENTRY and kind in _KINDS:
            if entries and index != entries[-1].index + 1:
                if index > entries[-1].index:
                    raise CorruptError(
                        f"{name} at offset {record.offset}: entry {index} follows {entries[-1].index}"
                    )
                del entries[max(0, index - entries[0].index) :]
            entries.append(Entry(index, term, body, _KINDS[kind]))
        elif type == _ITEM_HARD_STATE:
            vote = _VOTE.unpack(body)[0]
            contents.hard_state = HardState(index, MemberId(vote) if vote else NOBODY, term)
        else:
            raise CorruptError(f"{name} at offset {record.offset}: unknown item {type}, kind {kind}")
