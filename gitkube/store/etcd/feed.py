"""All watches of a store on one watch of etcd.

Readers of our `Store` are told that time goes on even where nothing of theirs changed (an API's cache answers
a read "as of revision R" only when it has seen R). etcd's own progress messages cannot be used for that:
before 3.4.25 and 3.5.8 one could overtake the events it speaks of. So the feed watches the whole key space:
each revision then has an event, and having seen revision R means just that. It is one stream however many
readers there are, and each event crosses the wire once. It keeps the last `KEPT_REVISIONS`; a reader that
starts earlier, or falls behind them, reads a stream of its own until it has caught up.

A stream that breaks is opened again, at another endpoint if need be, from the revision after the last one
that was seen. etcd never splits a revision (we do not ask for fragments), so none is seen twice or in part.

Invariant: `_revisions` holds consecutive revisions, the last of which is `_seen`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from itertools import groupby, islice

import structlog

from gitkube.clock import Clock, set_within
from gitkube.store.etcd import convert
from gitkube.store.etcd.connection import RETRY_PAUSE_S, Connection
from gitkube.store.etcd.wire import rpc
from gitkube.store.protocol import CompactedError, Event, Revision, StoreError, UnavailableError

log = structlog.get_logger()

KEPT_REVISIONS = 10_000
REVISIONS_PER_BATCH = 1000

Changes = tuple[Revision, Sequence[Event]]
"""One revision and its events."""


class Feed:
    """See the module's text. `close` it."""

    def __init__(self, connection: Connection, *, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock
        self._revisions: deque[Changes] = deque(maxlen=KEPT_REVISIONS)
        self._seen = Revision(0)
        self._failure: StoreError | None = None
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def changes(
        self, start: Revision, now: Revision, *, idle_s: float = 0.0
    ) -> AsyncGenerator[list[Changes], None]:
        """All revisions from `start` on, in order, without gap, for ever.

        Args:
            now: a revision that the store is known to have reached.
            idle_s: give an empty list when nothing came for so long; 0 is never.

        Raises:
            CompactedError: `start` was compacted.
            UnavailableError: the store was closed.
        """
        self._follow(now)
        at = start
        while True:
            while at <= self._seen and self._holds(at):
                offset = at - self._revisions[0][0]
                found = list(islice(self._revisions, offset, offset + REVISIONS_PER_BATCH))
                at = Revision(found[-1][0] + 1)
                yield found
            if at <= self._seen:
                async with aclosing(self._history(at, self._seen)) as history:
                    async for missed in history:
                        at = Revision(missed[-1][0] + 1)
                        yield missed
                continue
            self._check()
            if not await self._wait(idle_s):
                yield []

    async def _wait(self, idle_s: float) -> bool:
        """For a change; False when there was none for so long."""
        if idle_s <= 0:
            await self._changed.wait()
            return True
        return await set_within(self._clock, self._changed, idle_s)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._failure = UnavailableError("the store was closed")
        self._notify()

    # ------------------------------------------------------------------ the one watch

    def _follow(self, now: Revision) -> None:
        """Start the feed from `now`, if it is not running."""
        if self._task is not None and not self._task.done():
            return
        self._check_closed()
        self._failure = None
        self._revisions.clear()
        self._seen = now
        self._task = asyncio.create_task(self._run(now), name="etcd-feed")

    async def _run(self, now: Revision) -> None:
        try:
            async with aclosing(self._stream(Revision(now + 1))) as stream:
                async for found in stream:
                    self._revisions.extend(found)
                    self._seen = found[-1][0]
                    self._notify()
        except StoreError as error:
            log.warning("etcd_feed_ended", error=str(error), revision=self._seen)
            self._failure = error
        except Exception as error:  # whatever it is: a watch that stands still without a word is worse
            log.error("etcd_feed_failed", exc_info=error, revision=self._seen)
            self._failure = StoreError(f"the watch of etcd failed: {error!r}")
        self._notify()

    def _holds(self, revision: Revision) -> bool:
        return bool(self._revisions) and self._revisions[0][0] <= revision

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _check_closed(self) -> None:
        if isinstance(self._failure, UnavailableError):
            raise self._failure

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    # ------------------------------------------------------------------ streams

    async def _history(self, start: Revision, until: Revision) -> AsyncGenerator[list[Changes], None]:
        async with aclosing(self._stream(start)) as stream:
            async for found in stream:
                yield found
                if found[-1][0] >= until:
                    return

    async def _stream(self, start: Revision) -> AsyncGenerator[list[Changes], None]:
        """All revisions from `start` on; over as many connections as it takes."""
        at = start
        while True:
            try:
                async with aclosing(self._one_stream(at)) as stream:
                    async for found in stream:
                        at = Revision(found[-1][0] + 1)
                        yield found
            except UnavailableError as error:
                if self._connection.is_closed:
                    raise
                log.warning("etcd_watch_interrupted", error=str(error), resumes_from=at)
                await self._clock.sleep(RETRY_PAUSE_S)

    async def _one_stream(self, start: Revision) -> AsyncGenerator[list[Changes], None]:
        request = rpc.WatchCreateRequest(
            key=convert.ALL, range_end=convert.ALL, start_revision=start, prev_kv=True
        )
        async with self._connection.stream("Watch", "Watch") as stream:
            await stream.write(rpc.WatchRequest(create_request=request))
            while True:
                answer = await stream.read()
                if answer.compact_revision:
                    raise CompactedError(Revision(answer.compact_revision))
                if answer.canceled:
                    raise UnavailableError(f"etcd cancelled a watch: {answer.cancel_reason}")
                if answer.events:
                    yield by_revision([convert.event(each) for each in answer.events])


def by_revision(events: Sequence[Event]) -> list[Changes]:
    """The events of each revision together; they come in the order of their revisions."""
    return [(revision, list(group)) for revision, group in groupby(events, lambda each: each.kv.mod_revision)]
