"""Every version of every key since the last compaction: four structures, and what binds them.

- `_newest`: key -> its newest version, for keys that exist; `_keys` has the same keys in order. Reads of
  "now" need nothing else.
- `_past`: key -> its older versions, oldest first, a deletion being one with `version` 0. Only keys that
  were changed since the compaction have an entry.
- `_log`: what each revision changed, in the order of its operations: entry `r - _log_base` is of revision r,
  without gaps. A watch is a cursor on it, so a slow watcher costs nothing and loses nothing until the
  compaction overtakes it.

A key's state at revision r is its last version with `mod_revision` <= r. What differs between r and now is
in the log after r, so a read of the past is a read of now with those keys taken back; it costs as much as
happened since, not as much as there is.

Compaction is at once for whoever asks, and its work is done bit by bit: `sweep` walks the log up to the
compacted revision and drops what nobody can read any more. The entry of the compacted revision itself stays,
as etcd lets a watch begin there.

A transaction is a few calls of `put` and `delete` and one of `commit`; reads between them see what they did.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter

from sortedcontainers import SortedList

from gitkube.store.protocol import (
    NO_LEASE,
    CompactedError,
    CorruptError,
    Event,
    EventType,
    FutureRevisionError,
    KeyValue,
    LeaseId,
    Revision,
)
from gitkube.store.ranges import NO_END, covers

VERSION_OVERHEAD_BYTES = 300
"""What a version costs in memory beside the bytes of key and value: measured, see bench/keyspace.py."""
FIRST_REVISION = Revision(1)
"""Of an empty store, as in etcd; the first change makes revision 2."""
NEVER_COMPACTED = -1

_DEAD_CHANGES = 4096
"""The log is cut in pieces of this many entries, as each cut moves all that is behind it."""

_mod_revision = attrgetter("mod_revision")
Change = KeyValue | list[KeyValue]
"""What a revision changed; nearly all change one key, and a list for each would be most of the log."""


def versions_of(change: Change) -> list[KeyValue]:
    """The versions that a revision made, in the order of its operations."""
    return [change] if isinstance(change, KeyValue) else change


class Versions:
    """See the module's text."""

    def __init__(self) -> None:
        self.revision = FIRST_REVISION
        self.compacted = NEVER_COMPACTED
        """The revision of the last compaction. etcd takes one at 0, once, so "never" is below."""
        self.live_bytes = 0
        """Of keys and values of all versions that are kept, and VERSION_OVERHEAD_BYTES for each.

        A key costs its bytes with each version, though they share them: the sum errs to the safe side.
        What is compacted counts until it is swept.
        """
        self._next = Revision(FIRST_REVISION + 1)
        self._newest: dict[bytes, KeyValue] = {}
        self._keys: SortedList[bytes] = SortedList()
        self._past: dict[bytes, list[KeyValue]] = {}
        self._log: list[Change] = []
        self._log_base = self._next
        self._swept = NEVER_COMPACTED
        self._changes: list[KeyValue] = []

    def __len__(self) -> int:
        return len(self._newest)

    @property
    def latest(self) -> Revision:
        """The revision that a read of now sees; inside a transaction that has changed something the next."""
        return self._next if self._changes else self.revision

    # ------------------------------------------------------------------ reading

    def get(self, key: bytes) -> KeyValue | None:
        """The key as it is now."""
        return self._newest.get(key)

    def check_readable(self, revision: int) -> None:
        """Raises:
        FutureRevisionError, CompactedError: there is nothing to be read at this revision.
        """
        if revision > self.revision:
            raise FutureRevisionError(
                f"revision {revision} is in the future; the store is at {self.revision}"
            )
        if revision < self.compacted:
            raise CompactedError(Revision(self.compacted))

    def find(self, key: bytes, end: bytes | None, revision: int, limit: int) -> tuple[int, list[KeyValue]]:
        """How many keys a range has, and the first of them.

        Args:
            revision: readable, or `latest`.
            limit: how many to give at most; 0 gives none, below 0 is all.
        """
        if not end:
            kv = self.at(key, revision)
            if kv is None:
                return 0, []
            return 1, [kv] if limit else []
        first = self._keys.bisect_left(key)
        last = len(self._keys) if end == NO_END else self._keys.bisect_left(end)
        if revision < self.latest:
            return self._find_past(key, end, revision, limit, first, max(first, last))
        count = max(0, last - first)
        if count == 0 or limit == 0:
            return count, []
        stop = last if limit < 0 else min(last, first + limit)
        return count, list(map(self._newest.__getitem__, self._keys.islice(first, stop)))

    def _find_past(
        self, key: bytes, end: bytes, revision: int, limit: int, first: int, last: int
    ) -> tuple[int, list[KeyValue]]:
        changed = {each.key for each in self._changes_after(revision) if covers(key, end, each.key)}
        restored = [kv for kv in (self.at(each, revision) for each in sorted(changed)) if kv is not None]
        count = last - first + len(restored) - sum(each in self._newest for each in changed)
        found: list[KeyValue] = []
        if limit == 0:
            return count, found
        wanted = count if limit < 0 else min(limit, count)
        at = 0
        for each in self._keys.islice(first, last):
            if len(found) >= wanted:
                break
            if each in changed:
                continue
            while at < len(restored) and restored[at].key < each and len(found) < wanted:
                found.append(restored[at])
                at += 1
            if len(found) < wanted:
                found.append(self._newest[each])
        found.extend(restored[at : at + wanted - len(found)])
        return count, found

    def at(self, key: bytes, revision: int) -> KeyValue | None:
        """The key as it was at a revision."""
        newest = self._newest.get(key)
        if newest is not None and newest.mod_revision <= revision:
            return newest
        return last_version(self._past.get(key), revision)

    def state_at(self, revision: int) -> list[KeyValue]:
        """All that can be read at a revision, in the order of the keys."""
        return self.find(NO_END, NO_END, revision, -1)[1]

    # ------------------------------------------------------------------ what happened

    def changes_of(self, revision: int) -> list[KeyValue]:
        """The versions that a revision made, in the order of its operations.

        Args:
            revision: from `oldest_known_change` to `revision`.
        """
        return versions_of(self._log[revision - self._log_base])

    @property
    def oldest_change(self) -> Revision:
        """The first revision that a watch can begin at."""
        return Revision(max(FIRST_REVISION + 1, self.compacted))

    @property
    def oldest_known_change(self) -> Revision:
        """The first revision of which `changes_of` knows; may be compacted already."""
        return self._log_base

    def event(self, version: KeyValue, *, with_previous: bool) -> Event:
        """The event that made this version.

        The previous version is what could be read at the revision before, so one that a compaction took is
        left out, and of two changes of a key in one revision both have the same: as in etcd.
        """
        kind = EventType.PUT if version.version else EventType.DELETE
        if not with_previous or version.version == 1:
            return Event(kind, version)
        before = version.mod_revision - 1
        return Event(kind, version, None if before < self.compacted else self.at(version.key, before))

    def _changes_after(self, revision: int) -> Iterator[KeyValue]:
        for change in self._log[max(0, revision + 1 - self._log_base) :]:
            yield from versions_of(change)
        yield from self._changes

    # ------------------------------------------------------------------ changing

    def put(self, key: bytes, value: bytes, lease: LeaseId) -> KeyValue | None:
        """Put a key in the revision under way; what was there before."""
        revision = self._next
        previous = self._newest.get(key)
        if previous is None:
            kv = KeyValue(key, value, revision, revision, 1, lease)
            self._keys.add(key)
        else:
            key = previous.key  # one object for all versions: the bytes are kept once
            kv = KeyValue(key, value, previous.create_revision, revision, previous.version + 1, lease)
            self._supersede(previous)
        self._newest[key] = kv
        self._changes.append(kv)
        self.live_bytes += len(key) + len(value) + VERSION_OVERHEAD_BYTES
        return previous

    def delete(self, kvs: Sequence[KeyValue]) -> None:
        """Delete a range of keys in the revision under way.

        Args:
            kvs: all keys of the range as they are now, in their order.
        """
        if not kvs:
            return
        first = self._keys.bisect_left(kvs[0].key)
        del self._keys[first : first + len(kvs)]
        for previous in kvs:
            key = previous.key
            del self._newest[key]
            tombstone = KeyValue(key, b"", Revision(0), self._next, 0, NO_LEASE)
            self._supersede(previous).append(tombstone)
            self._changes.append(tombstone)
            self.live_bytes += len(key) + VERSION_OVERHEAD_BYTES

    def _supersede(self, previous: KeyValue) -> list[KeyValue]:
        past = self._past.get(previous.key)
        if past is None:
            past = self._past[previous.key] = []
        past.append(previous)
        return past

    def commit(self) -> list[KeyValue]:
        """End the transaction: what it changed is a revision of its own, if it changed anything."""
        changes = self._changes
        if changes:
            self.revision = self._next
            self._next = Revision(self._next + 1)
            self._log.append(changes[0] if len(changes) == 1 else changes)
            self._changes = []
        return changes

    # ------------------------------------------------------------------ forgetting

    def compact(self, revision: int) -> None:
        """Make everything before `revision` unreadable; `sweep` then frees it.

        Raises:
            CompactedError: that was done already.
            FutureRevisionError: there is no such revision yet.
        """
        if revision <= self.compacted:
            raise CompactedError(Revision(self.compacted))
        if revision > self.revision:
            raise FutureRevisionError(f"cannot compact at {revision}; the store is at {self.revision}")
        self.compacted = revision

    @property
    def is_swept(self) -> bool:
        return self._swept >= self.compacted

    def sweep(self, revisions: int) -> None:
        """Free what at most so many revisions left behind that is compacted."""
        start = max(self._swept + 1, self._log_base)
        stop = max(start, min(start + revisions, self.compacted + 1))
        for change in self._log[start - self._log_base : stop - self._log_base]:
            for version in versions_of(change):
                self._forget_past(version.key)
        self._swept = stop - 1
        dead = min(self._swept + 1, self.oldest_change) - self._log_base
        if dead >= _DEAD_CHANGES or (dead > 0 and self.is_swept):
            del self._log[:dead]
            self._log_base = Revision(self._log_base + dead)

    def _forget_past(self, key: bytes) -> None:
        past = self._past.get(key)
        if past is None:
            return
        # The last version up to the compaction can still be read there, unless it says "deleted".
        readable = bisect_right(past, self.compacted, key=_mod_revision)
        newest = self._newest.get(key)
        if readable < len(past) or newest is None or newest.mod_revision > self.compacted:
            readable -= 1
        if readable >= 0 and readable < len(past) and past[readable].version == 0:
            readable += 1
        if readable <= 0:
            return
        for version in past[:readable]:
            self.live_bytes -= len(key) + len(version.value) + VERSION_OVERHEAD_BYTES
        if readable == len(past):
            del self._past[key]
        else:
            # A new list: a dump that is being written still reads the old one.
            self._past[key] = past[readable:]

    def move_on(self, revisions: int) -> None:
        """Count on as if so many revisions had happened and been compacted.

        After a restore nobody knows what came after the backup: so no revision that a client may have seen is
        given out again, and every watch is told to read anew.
        """
        self.revision = Revision(self.revision + revisions)
        self._next = Revision(self.revision + 1)
        self.compacted = self._swept = self.revision
        self._past = {}
        self._log = [[]]
        self._log_base = self.revision
        self.live_bytes = sum(
            len(kv.key) + len(kv.value) + VERSION_OVERHEAD_BYTES for kv in self._newest.values()
        )

    def leased(self) -> Iterator[tuple[LeaseId, bytes]]:
        """The keys that hang on a lease."""
        for kv in self._newest.values():
            if kv.lease:
                yield kv.lease, kv.key

    # ------------------------------------------------------------------ snapshots

    def copy(self) -> VersionsCopy:
        """What a dump needs, unmoved by later changes. Copies references only."""
        return VersionsCopy(self)

    def load_start(self, revision: int, compacted: int) -> None:
        """Begin to take in a dump: the state at its compacted revision comes first, then the changes."""
        self.compacted = self._swept = compacted
        # Without a compaction the state before the first change is the empty one.
        self.revision = Revision(max(FIRST_REVISION, compacted))
        self._next = Revision(self.revision + 1)
        self._log_base = self._next

    def load_base(self, kvs: Iterable[KeyValue]) -> None:
        """Versions that can be read at the compacted revision, in the order of the keys."""
        for kv in kvs:
            self._newest[kv.key] = kv
            self.live_bytes += len(kv.key) + len(kv.value) + VERSION_OVERHEAD_BYTES

    def load_first(self, changes: list[KeyValue]) -> None:
        """What the compacted revision itself changed."""
        # The base has most of them already: keep one object of each.
        same = [kv if self._newest.get(kv.key) != kv else self._newest[kv.key] for kv in changes]
        self._log = [same[0] if len(same) == 1 else same]
        self._log_base = self.revision

    def load_keys(self) -> None:
        """The base is complete.

        Raises:
            CorruptError: what the compacted revision changed is missing.
        """
        if self._log_base != self.oldest_change:
            raise CorruptError(f"the snapshot does not say what revision {self.compacted} changed")
        self._keys = SortedList(self._newest)


class VersionsCopy:
    """The key space as it was when this was made.

    The lists of older versions are shared: they are only ever added to, and what is added later was
    superseded later, so it doesn't change what could be read at the compacted revision.
    """

    def __init__(self, versions: Versions) -> None:
        self._compacted = versions.compacted
        self._keys = list(versions._keys)
        self._newest = versions._newest.copy()
        self._past = versions._past.copy()
        log = versions._log
        start = versions.compacted + 1 - versions._log_base if versions.compacted >= 0 else 0
        self.changes_from = max(versions.compacted + 1, FIRST_REVISION + 1)
        self.changes: Sequence[Change] = log[max(0, start) :]
        """What each revision from `changes_from` on changed."""
        self.first = versions.changes_of(versions.compacted) if 0 < start <= len(log) else None

    def base(self) -> Iterator[KeyValue]:
        """What can be read at the compacted revision, in the order of the keys."""
        if self._compacted < FIRST_REVISION:
            return
        deleted = [key for key in self._past if key not in self._newest]
        for key in sorted(self._keys + deleted) if deleted else self._keys:
            kv: KeyValue | None = self._newest.get(key)
            if kv is None or kv.mod_revision > self._compacted:
                kv = last_version(self._past.get(key), self._compacted)
            if kv is not None:
                yield kv


def last_version(past: list[KeyValue] | None, revision: int) -> KeyValue | None:
    """The last of a key's versions at or before a revision, unless that one is a deletion."""
    if not past:
        return None
    index = bisect_right(past, revision, key=_mod_revision)
    if index == 0 or past[index - 1].version == 0:
        return None
    return past[index - 1]
