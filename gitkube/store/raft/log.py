"""The replicated log as the core sees it: all entries since the last compaction, in memory.

```
   offset           applied         committed          stable           last_index
     |  entries of    |   handed out   |  on some disks   |  not on our    |
     |  the past      |   or soon      |  ours included   |  disk yet      |
```

Invariants: `offset <= applied <= committed <= last_index`, but for a snapshot that is still to be installed
(`snapshot`), until which `applied` may be behind `offset`. `stable <= last_index`. `committed` may be ahead
of `stable`: the others' disks make a majority without ours. An entry at or below `committed` is never
replaced (Raft, section 5.4). Terms never fall from one entry to the next, which the searches use.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from operator import itemgetter

from gitkube.store.raft.types import Entry, EntryKind, SnapshotMeta

_TERM = itemgetter(1)
_DATA = itemgetter(2)
MAX_SLICE_ENTRIES = 8192
"""Of one APPEND, whatever the entries' size: their headers count too."""


def data_bytes(entries: Sequence[Entry]) -> int:
    """The size of the entries' data."""
    return sum(map(len, map(_DATA, entries)))


class RaftLog:
    """Entries `offset + 1 ... last_index`, and how far they are stable, committed and applied."""

    __slots__ = (
        "_sliced",
        "_sliced_from",
        "applied",
        "committed",
        "entries",
        "last_index",
        "offset",
        "offset_term",
        "snapshot",
        "stable",
        "writing",
    )

    def __init__(
        self, snapshot: SnapshotMeta, entries: Sequence[Entry], *, committed: int, applied: int
    ) -> None:
        """What was found on the disk.

        Args:
            snapshot: the state that is durable; the log goes on behind it.
            entries: all that follow, without gap.
            committed: of the hard state; the snapshot's index counts if it is higher.
            applied: what the caller's state has already; likewise.
        """
        self.offset = snapshot.index
        self.offset_term = snapshot.term
        self.entries: list[Entry] = list(entries)
        self.last_index = self.offset + len(self.entries)
        self.stable = self.last_index
        self.writing = 0
        """The last of the entries at the disk that have not been replaced since they were given to it."""
        self.committed = max(committed, snapshot.index)
        self.applied = max(applied, snapshot.index)
        self.snapshot: SnapshotMeta | None = None
        """Received and still to be installed by the caller."""
        self._sliced: tuple[Entry, ...] = ()
        self._sliced_from = 0
        assert are_consecutive(self.entries, self.offset, self.offset_term), "the log on disk has a gap"
        assert self.applied <= self.committed <= self.last_index, (
            f"the hard state says {self.committed} is committed and the state has {self.applied}, "
            f"but the log ends at {self.last_index}: entries are missing on this disk"
        )

    # ------------------------------------------------------------------ reading
    @property
    def first_index(self) -> int:
        """Of the oldest entry that is still here (or will be the next, in an empty log)."""
        return self.offset + 1

    @property
    def last_term(self) -> int:
        return self.entries[-1].term if self.entries else self.offset_term

    def term(self, index: int) -> int | None:
        """Of the entry at `index`; None if it is compacted or not there yet."""
        position = index - self.offset - 1
        if position >= 0:
            return self.entries[position][1] if position < len(self.entries) else None
        return self.offset_term if position == -1 else None

    def between(self, after: int, up_to: int) -> list[Entry]:
        """The entries `after + 1 ... up_to`."""
        assert self.offset <= after <= up_to <= self.last_index, "asked for entries that are not here"
        return self.entries[after - self.offset : up_to - self.offset]

    def slice(self, first: int, max_bytes: int) -> tuple[Entry, ...]:
        """Entries from `first` on, of at most `max_bytes` of data, but one at least if there is one.

        Followers that are level are sent the same tuple, so a transport can encode it once.
        """
        if first == self._sliced_from:
            return self._sliced
        start = first - self.offset - 1
        assert start >= 0, "asked for entries that are compacted"
        entries = self.entries[start : start + MAX_SLICE_ENTRIES]
        if data_bytes(entries) > max_bytes:
            size_bytes = 0
            for count, entry in enumerate(entries):
                size_bytes += len(entry.data)
                if size_bytes > max_bytes and count:
                    del entries[count:]
                    break
        self._sliced_from = first
        self._sliced = tuple(entries)
        return self._sliced

    def is_up_to_date(self, index: int, term: int) -> bool:
        """Whether a log that ends so is at least as complete as ours (Raft, section 5.4.1)."""
        last_term = self.last_term
        return term > last_term or (term == last_term and index >= self.last_index)

    def last_index_of_term_at_most(self, term: int, up_to: int) -> tuple[int, int | None]:
        """The highest index not above `up_to` whose term is not above `term`, and that entry's term.

        Leader and follower skip whole terms with it instead of stepping back one entry a message (Raft, end
        of section 5.3). If all entries here are of later terms, the answer is the place before the first
        one, with its term, or None if even that place's term is above.
        """
        up_to = min(up_to, self.last_index)
        if up_to < self.offset:
            return up_to, None
        position = bisect_right(self.entries, term, hi=up_to - self.offset, key=_TERM)
        index = self.offset + position
        found = self.term(index)
        if (
            found is not None and found > term
        ):  # only the entry at the offset can be: all others were searched
            return max(index - 1, 0), None
        return index, found

    # ------------------------------------------------------------------ growing
    def append(self, entries: list[Entry]) -> None:
        """Entries of a leader's own, behind all others."""
        self.entries += entries
        self.last_index += len(entries)
        self._sliced_from = 0

    def try_append(self, index: int, term: int, entries: Sequence[Entry]) -> int | None:
        """Entries of a leader that come after the entry (`index`, `term`), as AppendEntries does in figure 2.

        Only what conflicts is cut off: a late message with a part of what we have must not take the rest.

        Returns:
            The index of the last entry that now surely equals the leader's; None if ours doesn't have the
            entry before (the consistency check), or if this would replace a committed entry, which no
            leader can ask.
        """
        if self.term(index) != term:
            return None
        last_new = index + len(entries)
        if index != self.last_index:
            entries = entries[self._count_equal(index, entries) :]
            if not entries:
                return last_new
            if entries[0].index <= self.committed:
                return None
            self._truncate(entries[0].index - 1)
        self.entries += entries
        self.last_index = last_new
        self._sliced_from = 0
        return last_new

    def _count_equal(self, after: int, entries: Sequence[Entry]) -> int:
        """How many of the entries behind `after` we have already: same index and term are the same entry."""
        start = after - self.offset
        overlap = self.entries[start : start + len(entries)]
        if overlap and overlap[-1].term == entries[len(overlap) - 1].term:
            return len(overlap)  # Log matching: if the last of them is equal, all before are.
        for count, (ours, theirs) in enumerate(zip(overlap, entries, strict=False)):
            if ours.term != theirs.term:
                return count
        return len(overlap)

    def _truncate(self, last_index: int) -> None:
        assert last_index >= self.committed, "a committed entry must not go"
        del self.entries[last_index - self.offset :]
        self.last_index = min(self.last_index, last_index)
        self.stable = min(self.stable, last_index)
        self.writing = min(self.writing, last_index)

    # ------------------------------------------------------------------ progress of this member
    def commit_to(self, index: int) -> bool:
        """Move `committed` on; it never goes back."""
        if index <= self.committed:
            return False
        assert index <= self.last_index, "only what is here can be committed here"
        self.committed = index
        return True

    def written(self) -> None:
        """The caller's disk has what `unstable` gave, as far as it was not replaced since."""
        self.stable = max(self.stable, self.writing)
        self.writing = 0

    def applied_to(self, index: int) -> None:
        assert index <= self.committed, "only what is committed can be applied"
        self.applied = max(self.applied, index)

    def to_apply(self, limit: int) -> list[Entry]:
        """The next committed entries, behind a snapshot that is to be installed first if there is one."""
        after = self.offset if self.snapshot is not None and self.applied < self.offset else self.applied
        if after >= self.committed:
            return []
        return self.between(after, min(self.committed, after + limit))

    def unstable(self) -> list[Entry]:
        """The entries that the disk doesn't have yet, given to it now; `written` follows."""
        self.writing = self.last_index
        return self.entries[self.stable - self.offset :]

    def has_conf_change_to_apply(self) -> bool:
        """Whether a committed change of the members waits to be applied here."""
        after = max(self.applied, self.offset)
        return any(entry.kind == EntryKind.CONF_CHANGE for entry in self.between(after, self.committed))

    # ------------------------------------------------------------------ snapshots
    def restore(self, meta: SnapshotMeta) -> None:
        """A received state replaces the whole log (Raft, section 7)."""
        assert meta.index > self.committed, "a snapshot must not take committed entries back"
        self.entries = []
        self.offset, self.offset_term = meta.index, meta.term
        self.last_index = self.stable = self.committed = meta.index
        self.writing = 0
        self.snapshot = meta
        self._sliced_from = 0

    def installed(self, meta: SnapshotMeta) -> None:
        """The caller's state is that of the snapshot now."""
        self.applied = max(self.applied, meta.index)
        if self.snapshot == meta:
            self.snapshot = None

    def compact(self, index: int) -> None:
        """Forget the entries up to `index`, which is applied and in a durable snapshot."""
        if index <= self.offset:
            return
        assert index <= self.applied, "an entry that is not applied must not go"
        term = self.term(index)
        assert term is not None
        del self.entries[: index - self.offset]
        self.offset, self.offset_term = index, term
        self._sliced_from = 0


def are_consecutive(entries: Sequence[Entry], after: int, after_term: int) -> bool:
    """Whether the entries follow `after` without gap, with terms that never fall."""
    terms = [after_term, *map(_TERM, entries)]
    return [entry[0] for entry in entries] == list(
        range(after + 1, after + 1 + len(entries))
    ) and terms == sorted(terms)
