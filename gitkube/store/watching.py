"""Who is told what: many watchers on one key space, with little work for each write.

The member calls `collect` after it applied commands; it gets the watchers that now have something, wakes
whoever waits for them, and each takes its events by `take` when it has time. Nothing is queued for a watcher:
it has a cursor, the last revision that it has seen, and reads on from there.

Watchers of one range with the same wishes are a *group*, and events are matched and made once for a group.
A group is found by its key, by its prefix (one lookup for each length of prefix that is watched), or, if its
range is neither, by trying those whose range begins at or before the key.

Two ways lead to a watcher's events, and it takes the better one by itself:

- The group keeps the revisions that matched (`_Group.matched`) until all of its watchers have taken them,
  MAX_MATCHED of them at most. All that matched after `_Group.floor` is there, so a watcher whose cursor has
  reached the floor needs to look at nothing else, though thousands of revisions went by that are not its own.
- One that is further back (it began in the past, or is slow) reads the key space's own log from its cursor
  on. If the compaction has overtaken it, it is told so, and must read anew.

Invariant: for each watcher, all events up to its cursor were taken, each once, in the order of revisions.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from operator import itemgetter

from sortedcontainers import SortedDict

from gitkube.store.protocol import (
    CompactedError,
    Event,
    EventType,
    KeyValue,
    Revision,
    WatchBatch,
)
from gitkube.store.ranges import covers, prefix_of
from gitkube.store.versions import Versions

MAX_MATCHED = 512
"""Revisions that a group keeps for its slowest watcher; a slower one reads the log."""
_FROM_NOW = Revision(0)
_NO_TYPES: frozenset[EventType] = frozenset()

_Matched = tuple[Revision, list[Event]]
_Wishes = tuple[bytes, bytes | None, bool, frozenset[EventType]]
_revision = itemgetter(0)


class Watcher:
    """One watch. Made by `WatchHub.add`."""

    __slots__ = ("_group", "_hub", "seen")

    def __init__(self, hub: WatchHub, group: _Group, seen: Revision) -> None:
        self._hub = hub
        self._group = group
        self.seen = seen
        """The cursor: all events up to this revision were taken. May lie in the future."""

    @property
    def has_something(self) -> bool:
        """Whether `take` would give events, or may have to look for some."""
        return self in self._group.waiting

    @property
    def progress(self) -> Revision:
        """Up to which revision all was seen; nothing is waiting up to there."""
        return self.seen if self.has_something else Revision(max(self.seen, self._hub.revision))

    def take(self, limit_revisions: int) -> WatchBatch:
        """The next events: whole revisions, at most so many. Without events it says that there were none.

        Raises:
            CompactedError: the events that come next are not known any more. It stays so.
        """
        return self._group.take(self, limit_revisions)


class _Group:
    """The watchers of one range with the same wishes."""

    def __init__(self, hub: WatchHub, wishes: _Wishes) -> None:
        self.key, self.end, self._with_previous, self._without = self.wishes = wishes
        self._hub = hub
        self.idle: dict[Watcher, None] = {}
        """Watchers that have nothing to take: they have seen all, or begin in the future."""
        self.waiting: dict[Watcher, None] = {}
        """Those that have something to take, or are not known to have nothing."""
        self.matched: list[_Matched] = []
        self.floor = hub.revision
        """All revisions after this one that matched are in `matched`."""
        self._shared: tuple[tuple[Revision, int, Revision], WatchBatch] | None = None
        """The last batch made, and from where on: the next watcher most likely wants the same."""

    def match(self, revision: Revision, versions: list[KeyValue]) -> list[Watcher]:
        """Take note of a revision that changed something in the range; who has something because of it."""
        events = self._events(versions)
        if not events:
            return []
        # Whoever is idle has seen all that matched before this revision.
        before = Revision(revision - 1)
        woken = [each for each in self.idle if each.seen < revision]
        for watcher in woken:
            watcher.seen = before
        self._wake(woken)
        if not self.waiting:
            self.floor = revision
            return woken
        self.matched.append((revision, events))
        if len(self.matched) > MAX_MATCHED:
            dropped = len(self.matched) // 2
            self.floor = self.matched[dropped - 1][0]
            del self.matched[:dropped]
        return woken

    def lose(self, matched: Revision, oldest: Revision) -> list[Watcher]:
        """What happened after `matched` and before `oldest` is unknown; who must read anew because of it."""
        for watcher in self.idle:
            watcher.seen = Revision(max(watcher.seen, matched))
        self.matched.clear()
        self.floor = Revision(oldest - 1)
        return self._wake([each for each in self.idle if each.seen < self.floor])

    def _wake(self, woken: list[Watcher]) -> list[Watcher]:
        for watcher in woken:
            self.waiting[watcher] = None
        if len(woken) == len(self.idle):
            self.idle.clear()
        else:
            for watcher in woken:
                del self.idle[watcher]
        return woken

    def _events(self, versions: Iterable[KeyValue]) -> list[Event]:
        make = self._hub.versions.event
        events = [
            make(kv, with_previous=self._with_previous)
            for kv in versions
            if covers(self.key, self.end, kv.key)
        ]
        if self._without:
            return [event for event in events if event.type not in self._without]
        return events

    def take(self, watcher: Watcher, limit: int) -> WatchBatch:
        if watcher not in self.waiting:
            return WatchBatch(watcher.progress)
        wanted = (watcher.seen, limit, self._hub.revision)
        if self._shared is not None and self._shared[0] == wanted:
            batch = self._shared[1]
        else:
            batch = self._batch(watcher.seen, limit)
            self._shared = (wanted, batch)
        watcher.seen = batch.revision
        if batch.revision >= self._hub.revision:
            del self.waiting[watcher]
            self.idle[watcher] = None
            self._forget_taken()
        return batch

    def _forget_taken(self) -> None:
        if not self.waiting:
            # Each of the others has seen all of it, or begins later.
            self.matched.clear()
            self.floor = self._hub.revision
            self._shared = None

    def _batch(self, seen: Revision, limit: int) -> WatchBatch:
        if seen >= self.floor:
            start = bisect_right(self.matched, seen, key=_revision)
            chosen = self.matched[start : start + limit]
            is_all = start + limit >= len(self.matched)
            last = self._hub.revision if is_all else chosen[-1][0]
            return WatchBatch(last, [event for _, events in chosen for event in events])
        return self._batch_of_log(seen, limit)

    def _batch_of_log(self, seen: Revision, limit: int) -> WatchBatch:
        versions = self._hub.versions
        if seen + 1 < versions.compacted:
            raise CompactedError(Revision(versions.compacted))
        start = max(seen + 1, versions.oldest_change)
        last = min(start + limit - 1, self._hub.revision)
        events: list[Event] = []
        for revision in range(start, last + 1):
            events += self._events(versions.changes_of(revision))
        return WatchBatch(Revision(max(seen, last)), events)

    def remove(self, watcher: Watcher) -> None:
        self.idle.pop(watcher, None)
        self.waiting.pop(watcher, None)
        self._forget_taken()

    def __len__(self) -> int:
        return len(self.idle) + len(self.waiting)


class WatchHub:
    """See the module's text."""

    def __init__(self, versions: Versions) -> None:
        self.versions = versions
        self.revision = versions.revision
        """Up to where changes were matched."""
        self._groups: dict[_Wishes, _Group] = {}
        self._by_key: dict[bytes, list[_Group]] = {}
        self._by_prefix: dict[bytes, list[_Group]] = {}
        self._prefix_lengths: Counter[int] = Counter()
        self._by_start: SortedDict[bytes, list[_Group]] = SortedDict()

    def __len__(self) -> int:
        """How many watchers there are."""
        return sum(len(group) for group in self._groups.values())

    def add(
        self,
        key: bytes,
        end: bytes | None = None,
        *,
        start_revision: Revision = _FROM_NOW,
        previous: bool = False,
        without: frozenset[EventType] = _NO_TYPES,
    ) -> Watcher:
        """A watcher of a range, from `start_revision` on; 0 is from the next change, and one in the future
        waits for it.

        Raises:
            CompactedError: what happened then is not known any more.
        """
        if start_revision > 0 and start_revision < self.versions.compacted:
            raise CompactedError(Revision(self.versions.compacted))
        wishes = (key, end or None, previous, without)
        group = self._groups.get(wishes)
        if group is None:
            group = self._groups[wishes] = _Group(self, wishes)
            self._index(group)
        seen = Revision(start_revision - 1) if start_revision > 0 else self.versions.revision
        watcher = Watcher(self, group, seen)
        (group.waiting if seen < self.revision else group.idle)[watcher] = None
        return watcher

    def remove(self, watcher: Watcher) -> None:
        """End a watch. One that is not there is fine."""
        group = watcher._group
        group.remove(watcher)
        if not len(group) and self._groups.get(group.wishes) is group:
            del self._groups[group.wishes]
            self._unindex(group)

    def collect(self, new_revision: Revision) -> list[Watcher]:
        """Match what was applied since the last call; the watchers that have something and had nothing.

        To be called after each few commands: a compaction must not overtake the hub itself, or it can only
        tell everybody to read anew.
        """
        woken: list[Watcher] = []
        if not self._groups:
            self.revision = max(self.revision, new_revision)
            return woken
        oldest = self.versions.oldest_known_change
        if self.revision + 1 < oldest:
            for group in self._groups.values():
                woken += group.lose(self.revision, oldest)
        for at in range(max(self.revision + 1, oldest), new_revision + 1):
            revision = Revision(at)
            self.revision = revision
            changes = self.versions.changes_of(revision)
            if len(changes) == 1:
                groups: Iterable[_Group] = self._groups_of(changes[0].key)
            else:
                # A dictionary, as a set would wake them in another order each time.
                groups = dict.fromkeys(group for kv in changes for group in self._groups_of(kv.key))
            for group in groups:
                woken += group.match(revision, changes)
        self.revision = max(self.revision, new_revision)
        return woken

    # ------------------------------------------------------------------ the index

    def _groups_of(self, key: bytes) -> Iterator[_Group]:
        yield from self._by_key.get(key, ())
        for length in self._prefix_lengths:
            yield from self._by_prefix.get(key[:length], ()) if length <= len(key) else ()
        if self._by_start:
            for groups in islice(self._by_start.values(), self._by_start.bisect_right(key)):
                yield from (group for group in groups if covers(group.key, group.end, key))

    def _index(self, group: _Group) -> None:
        prefix = prefix_of(group.key, group.end)
        if prefix is not None:
            self._by_prefix.setdefault(prefix, []).append(group)
            self._prefix_lengths[len(prefix)] += 1
        else:
            self._table_of(group).setdefault(group.key, []).append(group)

    def _unindex(self, group: _Group) -> None:
        prefix = prefix_of(group.key, group.end)
        if prefix is not None:
            _discard(self._by_prefix, prefix, group)
            self._prefix_lengths[len(prefix)] -= 1
            if not self._prefix_lengths[len(prefix)]:
                del self._prefix_lengths[len(prefix)]
        else:
            _discard(self._table_of(group), group.key, group)

    def _table_of(self, group: _Group) -> dict[bytes, list[_Group]]:
        return self._by_key if group.end is None else self._by_start


def _discard(table: dict[bytes, list[_Group]], key: bytes, group: _Group) -> None:
    groups = table[key]
    groups.remove(group)
    if not groups:
        del table[key]
