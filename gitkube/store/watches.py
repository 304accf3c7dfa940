"""Watches for tasks: waiting, around the hub that decides who has something (`watching.py`).

A watcher here is one task that iterates. It sleeps until the hub says that it has something, takes it, and
gives it on at its own pace. When another member's snapshot replaces the key space it goes on in the new one
from where it was, as long as that revision can still be read there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from gitkube.clock import Clock, set_within
from gitkube.store.mvcc import NOW, KeySpace
from gitkube.store.protocol import CompactedError, EventType, Revision, StoreError, WatchBatch
from gitkube.store.watching import Watcher, WatchHub

REVISIONS_PER_BATCH = 1000
"""At most so many in one batch: a long history is handed over in pieces."""


class Watches:
    """See the module's text.

    Args:
        on_dropped: told of each watch that compaction has overtaken.
    """

    def __init__(self, space: KeySpace, clock: Clock, *, on_dropped: Callable[[], None]) -> None:
        self._space = space
        self._clock = clock
        self._hub = WatchHub(space.versions)
        self._sleeping: dict[Watcher, asyncio.Event] = {}
        self._failure: StoreError | None = None
        self._on_dropped = on_dropped

    def __len__(self) -> int:
        return len(self._hub)

    def notify(self) -> None:
        """Commands were applied."""
        for watcher in self._hub.collect(self._space.revision):
            if (sleeping := self._sleeping.get(watcher)) is not None:
                sleeping.set()

    def replace(self, space: KeySpace) -> None:
        """Another key space is in force."""
        self._space, self._hub = space, WatchHub(space.versions)
        self._wake_all()

    def fail(self, error: StoreError) -> None:
        """Nothing will come any more."""
        self._failure = error
        self._wake_all()

    def _wake_all(self) -> None:
        for sleeping in self._sleeping.values():
            sleeping.set()

    async def watch(
        self,
        key: bytes,
        end: bytes | None,
        start_revision: Revision = NOW,
        *,
        previous: bool,
        without: frozenset[EventType],
        progress_s: float,
    ) -> AsyncIterator[WatchBatch]:
        """As `Store.watch`.

        Raises:
            CompactedError: what comes next is not known any more.
            StoreError: what `fail` was told.
        """

        def begin(at: Revision) -> Watcher:
            return self._hub.add(key, end, start_revision=at, previous=previous, without=without)

        hub, watcher = self._hub, begin(start_revision)
        sleeping = asyncio.Event()
        self._sleeping[watcher] = sleeping
        try:
            yield WatchBatch(watcher.seen)
            while True:
                sleeping.clear()
                has_slept_long = False
                if not watcher.has_something and hub is self._hub and self._failure is None:
                    has_slept_long = not await self._sleep(sleeping, progress_s)
                if self._failure is not None:
                    raise self._failure
                if hub is not self._hub:
                    del self._sleeping[watcher]
                    hub, watcher = self._hub, begin(Revision(watcher.seen + 1))
                    self._sleeping[watcher] = sleeping
                batch = watcher.take(REVISIONS_PER_BATCH)
                if batch.events or has_slept_long:
                    yield batch
        except CompactedError:
            self._on_dropped()
            raise
        finally:
            self._sleeping.pop(watcher, None)
            if hub is self._hub:
                hub.remove(watcher)

    async def _sleep(self, sleeping: asyncio.Event, progress_s: float) -> bool:
        """Until there is something, or it is time to say that there was nothing (False)."""
        if progress_s <= 0:
            await sleeping.wait()
            return True
        return await set_within(self._clock, sleeping, progress_s)
