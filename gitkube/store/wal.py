"""The log on disk: entries and the hard state, in segments of zeros that are filled from the front.

Appending is `append` (any number of times, in memory) and then one `sync`: everything of one turn becomes one
record (`segments.py` has the format) and shares one fsync. Nothing may be acknowledged before `sync` has
returned. A segment is full of zeros before use: an fsync then has no file size or block map to write, which
makes it about a third faster. To make those zeros takes a while, so `prepare_next` does it ahead, in another
thread if need be.

What keeps it whole in a crash: a segment gets its name only when its first record is on the disk, and each
segment begins with the hard state, so that older ones can be removed at any time. What was read at a start
may have been written by a process that died before its fsync, or after one that failed; so the newest record
is written and synced again before anything rests on it.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from gitkube.store import records
from gitkube.store.disk import Disk, DiskFile
from gitkube.store.raft.types import Entry, HardState
from gitkube.store.segments import (
    BATCH,
    HEADER_BYTES,
    LogContents,
    Segment,
    entry_pieces,
    hard_state_piece,
    header_of,
    read_log,
    segment_path,
)

SEGMENT_BYTES = 16 * 1024 * 1024
_ZEROS = bytes(1024 * 1024)


class Wal:
    """An open log. One process at a time; the owner of the data directory's lock.

    Its methods are called one at a time; only `prepare_next` and `trim` may run beside any of the others.
    """

    def __init__(self, disk: Disk, directory: Path, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._disk = disk
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._segments: list[Segment] = []
        self._file: DiskFile | None = None
        self._offset = 0
        self._pending: list[bytes] = []
        self._pending_index = 1
        self._failure: OSError | None = None
        self._is_closed = False
        self._prepared: tuple[DiskFile, Path] | None = None
        self._preparing = threading.Lock()
        self._removing = threading.Lock()
        self._file_numbers = itertools.count(1)
        self.hard_state = HardState()
        self.last_index = 0
        """Of the newest entry appended; without one, of the snapshot that the log follows."""
        self.prepare_failure: OSError | None = None
        """Why the next segment could not be prepared; None when it could. Most often the disk is full."""

    # ------------------------------------------------------------------ opening

    def open(self, after_index: int, after_term: int | None = None) -> list[Entry]:
        """Read the log, and make it ready to be appended to.

        What a crash may have cut short is finished here: files that count for nothing are removed, and a log
        that ends before the snapshot, or contradicts it, begins anew behind it (the snapshot came from
        another member, and `reset` was not reached).

        Args:
            after_index: what the newest snapshot has; only later entries are returned. It must be durable.
            after_term: the term of the snapshot's last entry. If the log has that entry with another term,
                all that follows it in the log is void (Raft, section 7).

        Returns:
            The entries after it, in order.

        Raises:
            CorruptError: damage, or a gap between the snapshot and the log. Nothing was changed.
            OSError: the disk failed or is full.
        """
        self._disk.make_directory(self._directory)
        contents = read_log(self._disk, self._directory, after_index)
        self._segments = contents.segments
        self.hard_state = contents.hard_state
        self.last_index = contents.last_index
        # Names that a process made and died over need not be durable yet, and what they replace goes now.
        self._disk.sync_directory(self._directory)
        for path in contents.leftovers:
            self._disk.unlink(path)
        if not self._segments:
            self._start_segment(1, [])
            return []
        self._reopen_last(contents)
        terms = [entry.term for entry in contents.entries if entry.index == after_index]
        is_contradicted = bool(terms) and after_term is not None and terms[0] != after_term
        if self.last_index < after_index or is_contradicted:
            self.reset(after_index, after_term or 0)
            return []
        return [entry for entry in contents.entries if entry.index > after_index]

    def _reopen_last(self, contents: LogContents) -> None:
        self._file = self._disk.open(self._segments[-1].path)
        self._offset = contents.end
        start = contents.end - len(contents.last_record)
        # What lies behind the last whole record was torn: zeros again before anything follows it.
        again = contents.last_record + bytes(contents.rest_bytes)
        if again:
            self._file.write_at(start, again)
        self._file.sync()

    # ------------------------------------------------------------------ appending

    def append(self, entries: Iterable[Entry], hard_state: HardState | None = None) -> None:
        """Take entries (and a changed hard state) to be written by the next `sync`.

        An entry with an index that the log has replaces it and all behind it.
        """
        taken = list(entries)
        if taken:
            if not self._pending:
                self._pending_index = taken[0].index
            self._pending += entry_pieces(taken)
            self.last_index = taken[-1].index
        if hard_state is not None and hard_state != self.hard_state:
            if not self._pending:
                self._pending_index = self.last_index + 1
            self.hard_state = hard_state
            self._pending.append(hard_state_piece(hard_state))

    def sync(self) -> None:
        """Make durable what was appended: one write and one fsync.

        Raises:
            OSError: the disk failed or is full. Nobody knows what is on it, so the log takes nothing more.
        """
        if not self._pending:
            return
        file = self._usable_file()
        record = records.encode(self._segments[-1].sequence, BATCH, self._pending, self._offset)
        try:
            if self._offset + len(record) > self._segment_bytes and self._offset > HEADER_BYTES:
                self._start_segment(self._pending_index, self._pending)
            else:
                file.write_at(self._offset, record)
                file.sync()
                self._grow(len(record))
        except OSError as error:
            self._failure = error
            raise
        self._pending = []

    def _usable_file(self) -> DiskFile:
        if self._failure is not None:
            raise OSError(self._failure.errno, f"the log failed before, and must not go on: {self._failure}")
        if self._file is None:
            raise ValueError("the log is not open")
        return self._file

    def _grow(self, length: int) -> None:
        self._offset += length
        segment = self._segments[-1]
        segment.size_bytes = max(segment.size_bytes, self._offset)

    def _start_segment(
        self, first_index: int, pieces: list[bytes], *, base_term: int = 0, is_reset: bool = False
    ) -> None:
        """Make a segment the newest one, durably, with a first record of `pieces`."""
        sequence = self._segments[-1].sequence + 1 if self._segments else 1
        path = segment_path(self._directory, sequence, first_index)
        segment = Segment(path, sequence, first_index, base_term, is_reset, self._segment_bytes)
        file, temporary = self._take_prepared() or self._make_file()
        # The hard state must outlive the segment that it was written in.
        pieces = [hard_state_piece(self.hard_state), *pieces]
        record = records.encode(sequence, BATCH, pieces, HEADER_BYTES)
        file.write_at(0, header_of(segment) + record)
        file.sync()
        self._disk.rename(temporary, path)
        self._disk.sync_directory(self._directory)
        if self._file is not None:
            self._file.close()
        self._file = file
        self._segments.append(segment)
        self._offset = HEADER_BYTES
        self._grow(len(record))

    # ------------------------------------------------------------------ the next segment

    @property
    def needs_next(self) -> bool:
        """Whether `prepare_next` has something to do; stays true after it failed."""
        return self._prepared is None

    def prepare_next(self, pause: Callable[[], object] = lambda: None) -> None:
        """Fill the next segment with zeros, if it is not there yet.

        Args:
            pause: called after each piece, which is on the disk then. All of them at once would keep the disk
                from the log's own syncs.

        Raises:
            OSError: the disk failed or is full. That is no reason to stop: nothing that was acknowledged is
                in it, and the log goes on as long as the segment in use has room. `prepare_failure` keeps it.
        """
        if not self._preparing.acquire(blocking=False):
            return
        try:
            if self._prepared is None and not self._is_closed:
                self._prepared = self._make_file(pause)
            self.prepare_failure = None
        except OSError as error:
            self.prepare_failure = error
            raise
        finally:
            self._preparing.release()

    def _take_prepared(self) -> tuple[DiskFile, Path] | None:
        prepared = self._prepared
        if prepared is not None:  # `prepare_next` touches it only while it is None
            self._prepared = None
        return prepared

    def _make_file(self, pause: Callable[[], object] | None = None) -> tuple[DiskFile, Path]:
        """A file of zeros under a name that `open` removes; durable, so that its later sync is quick."""
        path = self._directory / f"next-{next(self._file_numbers)}.tmp"
        file = self._disk.create(path)
        try:
            for offset in range(0, self._segment_bytes, len(_ZEROS)):
                file.write_at(offset, _ZEROS[: self._segment_bytes - offset])
                if pause is not None:
                    file.sync()
                    pause()
            file.sync()
        except OSError:
            file.close()
            with suppress(OSError):  # the first error says more; the next start removes the file
                self._disk.unlink(path)
            raise
        return file, path

    # ------------------------------------------------------------------ forgetting

    def trim(self, up_to_index: int) -> None:
        """Remove segments that hold only entries up to and with `up_to_index`.

        Args:
            up_to_index: a durable snapshot has all entries up to it.
        """
        removed = False
        with self._removing:
            while len(self._segments) > 1 and self._segments[1].first_index <= up_to_index + 1:
                self._disk.unlink(self._segments.pop(0).path)
                removed = True
        if removed:
            self._disk.sync_directory(self._directory)

    def reset(self, index: int, term: int) -> None:
        """Forget all entries: a snapshot of another member replaces them, and the log goes on at `index` + 1.

        The hard state stays. A crash leaves the log as it was or as it shall be; `open` with the snapshot
        makes the same of both.

        Args:
            index: of the last entry that the snapshot has, which must be durable by now.
            term: of that entry.

        Raises:
            OSError: the disk failed or is full; as for `sync`.
        """
        self._usable_file()
        try:
            self._start_segment(index + 1, [], base_term=term, is_reset=True)
            self._pending = []
            self.last_index = index
            with self._removing:
                while len(self._segments) > 1:
                    self._disk.unlink(self._segments.pop(0).path)
            self._disk.sync_directory(self._directory)
        except OSError as error:
            self._failure = error
            raise

    @property
    def size_bytes(self) -> int:
        """Of all segments on disk."""
        return sum(segment.size_bytes for segment in self._segments)

    def close(self) -> None:
        """Release the files. What was appended and not synced is not written."""
        self._is_closed = True
        with self._preparing:  # wait for a `prepare_next` that is under way
            prepared = self._take_prepared()
        if prepared is not None:
            prepared[0].close()
        if self._file is not None:
            self._file.close()
            self._file = None
