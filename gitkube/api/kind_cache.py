"""The objects of one kind in memory, and a ring of what happened to them lately.

A watcher is only a position in the ring: it costs no queue, any number of them share one event and its
encoded bytes, and one that lags by a whole ring is ended with 410.

Invariant: every event with a revision above `oldest` is in the ring, in order.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sortedcontainers import SortedDict

from gitkube.api.custom.views import KindView
from gitkube.api.errors import gone
from gitkube.api.settings import ApiSettings
from gitkube.api.watch_events import CacheEvent, Item, Key, Matcher, bookmark
from gitkube.objects.kinds import Kind
from gitkube.objects.meta import key_of
from gitkube.objects.types import Object

if TYPE_CHECKING:
    from gitkube.api.cache import WatchCache


@dataclass(frozen=True, slots=True)
class Position:
    """Where in a ring a watcher goes on."""

    number: int
    """Of the first event that it has not seen."""
    epoch: int
    """In which the number means anything: a cache that was read anew has not recorded what it missed."""


class KindCache:
    """The objects of one kind, and what happened to them lately."""

    def __init__(self, kind: Kind, settings: ApiSettings) -> None:
        self.kind = kind
        self.objects: SortedDict = SortedDict()
        """Key -> Object."""
        self.version = 0
        """Another one after every change: whoever keeps what follows from the objects compares it."""
        self.oldest = 0
        """Events after this revision are in the ring."""
        self._ring: deque[CacheEvent] = deque()
        self._settings = settings
        self._first = 0
        """Number of the ring's first event; numbers count from the start of the process."""
        self._changed = asyncio.Event()
        self._epoch = 0
        """Rises when the cache was read anew: watchers of an older epoch have missed something."""

    def get(self, name: str, namespace: str = "") -> Object | None:
        found: Object | None = self.objects.get(key_of(namespace, name))
        return found

    def has(self, name: str, namespace: str = "") -> bool:
        return key_of(namespace, name) in self.objects

    def select(self, namespace: str = "", after: Key = "") -> Iterator[tuple[Key, Object]]:
        """Objects of a namespace ("": all) in the order of their keys, those after a key only."""
        # "0" is the character after the slash: the first key that is not of the namespace any more.
        lower, upper = (f"{namespace}/", f"{namespace}0") if namespace else ("", None)
        for key in self.objects.irange(max(lower, after), upper, inclusive=(not after, False)):
            yield key, self.objects[key]

    def replace_all(self, objects: Mapping[Key, Object], revision: int) -> None:
        self.objects = SortedDict(objects)
        self._first += len(self._ring)
        self._ring.clear()
        self.oldest = revision
        self._epoch += 1
        self.version += 1
        self.wake()

    def record(self, event: CacheEvent) -> None:
        if event.is_delete:
            self.objects.pop(event.key, None)
        else:
            self.objects[event.key] = event.object
        self.version += 1
        self._ring.append(event)
        # Two at most for each that comes: the ring shrinks when a storm is over, and no write waits for it.
        for _ in range(2):
            if self._may_forget(event.came_s):
                self.oldest = self._ring.popleft().revision
                self._first += 1

    def _may_forget(self, now_s: float) -> bool:
        settings, kept = self._settings, len(self._ring)
        if kept <= settings.watch_ring_events:
            return False
        is_old = now_s - self._ring[0].came_s > settings.watch_ring_fresh_s
        return is_old or kept > settings.watch_ring_events_max

    def wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def position_after(self, revision: int) -> Position:
        """The place of the first event after a revision.

        Raises:
            StatusError: 410, the ring does not reach back so far.
        """
        if revision < self.oldest:
            raise gone(f"too old resource version: {revision} ({self.oldest})")
        newer = itertools.takewhile(lambda event: event.revision > revision, reversed(self._ring))
        return Position(self._first + len(self._ring) - sum(1 for _ in newer), self._epoch)

    async def follow(
        self,
        cache: WatchCache,
        start: Position,
        namespace: str,
        matches: Matcher | None,
        *,
        bookmarks: bool,
        timeout_s: float = 0.0,
        view: KindView | None = None,
    ) -> AsyncIterator[Item]:
        """Items from a position on, for ever, or until the kind is served no more.

        Args:
            timeout_s: a bookmark is sent a moment before this is over, so that the watcher comes back with a
                recent version; 0 for no such bookmark.

        Raises (while iterating):
            StatusError: 410, the watcher is too slow, or the cache had to be read anew.
        """
        position, epoch, tick = start.number, start.epoch, cache.bookmark_tick
        last_bookmark_s = cache.wake_before_end(self, timeout_s) if bookmarks and timeout_s else math.inf
        while True:
            changed = self._changed
            while position < self._first + len(self._ring):
                if position < self._first or epoch != self._epoch:
                    break
                event = self._ring[position - self._first]
                position += 1
                if namespace and event.namespace != namespace:
                    continue
                if view is not None:
                    event = event.known_to(view) or await view.see_event(event)
                item = event.item(matches)
                if item is not None:
                    yield item
            if position < self._first or epoch != self._epoch:
                raise gone(
                    "the watch is too old: it was too slow, or the server had to read anew; list again"
                )
            if view is not None and view.is_closed:
                return
            if bookmarks and tick != cache.bookmark_tick:
                tick = cache.bookmark_tick
                yield bookmark(self.kind if view is None else view.kind, cache.revision)
                continue
            if cache.monotonic() >= last_bookmark_s:
                last_bookmark_s = math.inf
                yield bookmark(self.kind if view is None else view.kind, cache.revision)
                continue
            if changed is self._changed:
                await changed.wait()
