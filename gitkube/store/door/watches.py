"""etcd's Watch service: one stream carries many watches, made and cancelled by the client as it goes.

```
 requests ─▶ reader ─▶ a task a watch, each on its own `Store.watch` ─▶ outbox ─▶ writer ─▶ responses
```
The outbox is short. When a client does not read, the writer waits for it, then the outbox is full, then this
stream's watches stand still. They are cursors on the store's log: nothing else is kept for them, and no other
stream notices. When compaction overtakes such a watch it is cancelled with the revision to read again from.
One writer, because gRPC takes one message of a stream at a time, and a watch may be cancelled at any.

An event is encoded once, however many watches it goes to: a response is a header, a watch id and bytes that
are shared (`EventCache`).

A client may ask for *progress*: "all up to R was sent on this stream". etcd answers at once, and before
3.4.25 it could be wrong; we answer when it is true. A watch that had nothing to send since its last event
does not know how far it is, so another one from there on is asked whether there is something.

Invariant: the responses of a watch come into the outbox in the order of revisions, and `_Watch.seen` is moved
on only after that.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, cast

from gitkube.store.door.headers import Headers
from gitkube.store.etcd import convert, errors
from gitkube.store.etcd.wire import grpc, rpc
from gitkube.store.protocol import (
    CompactedError,
    Event,
    EventType,
    Revision,
    Store,
    WatchBatch,
)

OUTBOX_RESPONSES = 16
"""Each of at most about MAX_RESPONSE_BYTES: what a client that does not read costs."""
MAX_WATCHES = 10_000
"""Of one stream: a watch costs a task, and a client that wants more has lost count."""
MAX_RESPONSE_BYTES = 3 * 1024 * 1024 // 2
"""etcd's own limit. What is more is sent as several responses, divided between revisions; within one only if
the client has said that it understands fragments."""
PROGRESS_S = 600.0
"""How often a watch without events is told the revision, if it asked for that; as etcd."""
CACHE_BYTES = 16 * 1024 * 1024

_FILTERS = {0: EventType.PUT, 1: EventType.DELETE}
"""By etcd's numbers; others are left out, as etcd does."""
_NO_WATCH = -1
_NEVER = Revision(0)
_REMEMBERED_BATCHES = 8
_PROBE_S = 0.001
_PROBES_AT_ONCE = 100
_UNSIGNED = 2**64 - 1  # how protobuf writes a negative number
# Fields of a WatchResponse: 11 and 1 have a length, 2 is a number.
_EVENTS_TAG, _HEADER_TAG, _WATCH_ID_TAG = b"\x5a", b"\x0a", b"\x10"


Piece = tuple[Revision, bytes, bool]
"""Events as they stand in one response: its revision, their bytes, whether more of the revision follows."""


class EventCache:
    """Encoded events, for all streams. Bounded: when it is full it begins anew."""

    def __init__(self, size_bytes: int = CACHE_BYTES) -> None:
        self._limit_bytes = size_bytes
        self._size_bytes = 0
        self._encoded: dict[tuple[Revision, bytes, EventType, Revision], bytes] = {}
        self._pieces: dict[tuple[int, Revision, bool], tuple[Sequence[Event], list[Piece]]] = {}

    def pieces(self, events: Sequence[Event], last: Revision, *, may_fragment: bool) -> list[Piece]:
        """The events as responses of a bearable size.

        A store gives watches of one range the same list of events; its pieces are remembered with it.

        Args:
            last: the revision of the last response: all up to it was seen.
        """
        name = (id(events), last, may_fragment)
        found = self._pieces.get(name)
        if found is not None:
            return found[1]
        pieces = list(self._cut(events, last, may_fragment=may_fragment))
        if len(self._pieces) >= _REMEMBERED_BATCHES:
            del self._pieces[next(iter(self._pieces))]
        self._pieces[name] = (events, pieces)  # with the events, so that their id stays theirs
        return pieces

    def _cut(self, events: Iterable[Event], last: Revision, *, may_fragment: bool) -> Iterator[Piece]:
        piece: list[bytes] = []
        size_bytes, at = 0, _NEVER
        for event in events:
            encoded = self._event(event)
            revision = event.kv.mod_revision
            if piece and size_bytes + len(encoded) > MAX_RESPONSE_BYTES and (may_fragment or revision != at):
                yield at, b"".join(piece), may_fragment
                piece, size_bytes = [], 0
            piece.append(encoded)
            size_bytes += len(encoded)
            at = revision
        yield last, b"".join(piece), False

    def _event(self, event: Event) -> bytes:
        # A transaction may put and delete one key, in a revision: so the kind and what was before belong to
        # the name of an event.
        before = event.previous.mod_revision if event.previous is not None else _NEVER
        name = (event.kv.mod_revision, event.kv.key, event.type, before)
        found = self._encoded.get(name)
        if found is None:
            body = convert.event_message(event).SerializeToString()
            found = _EVENTS_TAG + _varint(len(body)) + body
            if self._size_bytes + len(found) > self._limit_bytes:
                self._encoded.clear()
                self._size_bytes = 0
            self._encoded[name] = found
            self._size_bytes += len(found)
        return found


@dataclass(slots=True)
class _Watch:
    id: int
    encoded_id: bytes
    request: Any
    start_revision: Revision
    seen: Revision = _NEVER
    """All up to it is in the outbox or was sent."""
    told: Revision = _NEVER
    """Of the last response: a progress that says nothing new is not sent."""
    moved: asyncio.Event = field(default_factory=asyncio.Event)
    """Set and replaced when `seen` has moved, or the watch has ended."""
    task: asyncio.Task[None] | None = None

    def move(self, seen: Revision) -> None:
        self.seen = max(self.seen, seen)
        moved, self.moved = self.moved, asyncio.Event()
        moved.set()


class WatchStream:
    """One stream of one client; `serve` it until it ends."""

    def __init__(
        self,
        store: Store,
        headers: Headers,
        events: EventCache,
        context: Any,
        *,
        progress_s: float = PROGRESS_S,
    ) -> None:
        self._store = store
        self._headers = headers
        self._events = events
        self._context = context
        self._outbox: asyncio.Queue[bytes] = asyncio.Queue(OUTBOX_RESPONSES)
        self._progress_s = progress_s
        self._watches: dict[int, _Watch] = {}
        self._next_id = 0
        self._progress: asyncio.Task[None] | None = None
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def serve(self) -> None:
        """Until the client goes, or the store fails.

        Raises:
            StoreError: the store failed; the client should look for another member.
        """
        reader = asyncio.create_task(self._read(), name="door-watch-reader")
        writer = asyncio.create_task(self._write(), name="door-watch-writer")
        try:
            # A client that has said its last word still listens: the reader's end is not the stream's.
            await self._failed
        finally:
            tasks = [reader, writer, *(each.task for each in self._watches.values() if each.task)]
            if self._progress is not None:
                tasks.append(self._progress)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._failed.cancel()

    async def _read(self) -> None:
        try:
            while (data := await self._context.read()) is not grpc.aio.EOF:
                request = rpc.WatchRequest.FromString(data)
                match request.WhichOneof("request_union"):
                    case "create_request":
                        await self._create(request.create_request)
                    case "cancel_request":
                        await self._cancel(request.cancel_request.watch_id)
                    case "progress_request":
                        self._start_progress()
        except Exception as error:
            self._fail(error)

    async def _write(self) -> None:
        try:
            while True:
                await self._context.write(await self._outbox.get())
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if not self._failed.done():
            self._failed.set_exception(error)

    # ------------------------------------------------------------------ requests

    async def _create(self, request: Any) -> None:
        if not request.key:
            request.key = convert.ALL
        if request.range_end not in (b"", convert.ALL) and request.key >= request.range_end:
            await self._refuse(errors.EMPTY_WATCH_RANGE)
            return
        if request.watch_id in self._watches and request.watch_id != 0:
            await self._refuse(errors.DUPLICATE_WATCH_ID)
            return
        if len(self._watches) >= MAX_WATCHES:
            await self._refuse(f"etcdserver: {MAX_WATCHES} watches on one stream; the limit is reached")
            return
        watch_id = request.watch_id or self._free_id()
        encoded_id = _WATCH_ID_TAG + _varint(watch_id & _UNSIGNED)
        watch = _Watch(watch_id, encoded_id, request, Revision(max(0, request.start_revision)))
        self._watches[watch.id] = watch
        now = await self._headers.revision()
        # A start in the future is etcd's way to say "wait": what comes before it is left out on the way.
        start = watch.start_revision if watch.start_revision <= now else Revision(0)
        batches = self._watch_of(request, start, self._progress_s if request.progress_notify else 0.0)
        try:
            first = await anext(batches)
        except CompactedError as error:
            await self._outbox.put(self._response(now, watch.id, created=True))
            await self._end_compacted(watch, error)
            return
        watch.seen = first.revision
        await self._outbox.put(self._response(max(now, first.revision), watch.id, created=True))
        watch.task = asyncio.create_task(self._follow(watch, first, batches), name="door-watch")

    def _free_id(self) -> int:
        while self._next_id in self._watches:
            self._next_id += 1
        self._next_id += 1
        return self._next_id - 1

    async def _refuse(self, reason: str) -> None:
        now = await self._headers.revision()
        await self._outbox.put(
            self._response(now, _NO_WATCH, created=True, canceled=True, cancel_reason=reason)
        )

    async def _cancel(self, watch_id: int) -> None:
        watch = self._watches.pop(watch_id, None)
        if watch is None:
            return  # as etcd: it has ended by itself meanwhile, and the client was told so
        watch.move(watch.seen)
        if watch.task is not None:
            watch.task.cancel()
            await asyncio.gather(watch.task, return_exceptions=True)
        now = await self._headers.revision()
        await self._outbox.put(self._response(now, watch_id, canceled=True))

    def _start_progress(self) -> None:
        """If an answer is under way already, it does for both: the client waits for one that is new enough,
        and asks again.
        """
        if self._progress is None or self._progress.done():
            self._progress = asyncio.create_task(self._tell_progress(), name="door-watch-progress")

    def _watch_of(self, request: Any, start: Revision, progress_s: float) -> AsyncIterator[WatchBatch]:
        return self._store.watch(
            request.key,
            request.range_end or None,
            start_revision=start,
            previous=request.prev_kv,
            without=frozenset(_FILTERS[each] for each in request.filters if each in _FILTERS),
            progress_s=progress_s,
        )

    # ------------------------------------------------------------------ progress

    async def _tell_progress(self) -> None:
        try:
            due = await self._headers.revision()
            waiting = [watch for watch in self._watches.values() if watch.seen < due]
            for start in range(0, len(waiting), _PROBES_AT_ONCE):
                probed = waiting[start : start + _PROBES_AT_ONCE]
                await asyncio.gather(*(self._caught_up(watch, due) for watch in probed))
            await self._outbox.put(self._response(due, _NO_WATCH))
        except Exception as error:
            self._fail(error)

    async def _caught_up(self, watch: _Watch, due: Revision) -> None:
        """Return when all events up to `due` were sent to the watch, or it has ended."""
        while watch.seen < due and self._watches.get(watch.id) is watch:
            seen, moved = watch.seen, watch.moved
            if await self._has_nothing_until(watch, due):
                if watch.seen == seen:
                    watch.seen = due
            else:
                await moved.wait()

    async def _has_nothing_until(self, watch: _Watch, due: Revision) -> bool:
        batches = self._watch_of(watch.request, Revision(watch.seen + 1), _PROBE_S)
        try:
            async with aclosing(cast(Any, batches)):
                async for batch in batches:
                    if batch.events:
                        return False
                    if batch.revision >= due:
                        return True
        except CompactedError:
            pass  # the watch itself is told so, too, and ends
        return False

    # ------------------------------------------------------------------ one watch

    async def _follow(self, watch: _Watch, first: WatchBatch, batches: AsyncIterator[WatchBatch]) -> None:
        try:
            async with aclosing(cast(Any, batches)):
                await self._send(watch, first)
                async for batch in batches:
                    await self._send(watch, batch)
                    watch.move(batch.revision)
        except CompactedError as error:
            await self._end_compacted(watch, error)
        except Exception as error:  # whatever it is, a watch that stands still without a word is worse
            self._fail(error)

    async def _send(self, watch: _Watch, batch: WatchBatch) -> None:
        events: Sequence[Event] = batch.events
        if watch.start_revision > watch.seen + 1:
            events = [event for event in events if event.kv.mod_revision >= watch.start_revision]
        if not events:
            if watch.request.progress_notify and batch.revision > watch.told:
                watch.told = batch.revision
                await self._outbox.put(self._response(batch.revision, watch.id))
            return
        watch.told = batch.revision
        pieces = self._events.pieces(events, batch.revision, may_fragment=watch.request.fragment)
        for revision, encoded, is_fragment in pieces:
            if is_fragment:
                response = self._response(revision, watch.id, fragment=True)
            else:
                response = self._headers_encoded(revision) + watch.encoded_id
            await self._outbox.put(response + encoded)

    def _headers_encoded(self, revision: Revision) -> bytes:
        """The field of the header, as it stands in each response at a revision."""
        header = self._headers.encoded_at(revision)
        return _HEADER_TAG + _varint(len(header)) + header

    async def _end_compacted(self, watch: _Watch, error: CompactedError) -> None:
        self._watches.pop(watch.id, None)
        await self._outbox.put(
            self._response(Revision(0), watch.id, canceled=True, compact_revision=error.compact_revision)
        )
        watch.move(watch.seen)

    def _response(self, revision: Revision, watch_id: int, **fields: Any) -> bytes:
        response = rpc.WatchResponse(header=self._headers.at(revision), watch_id=watch_id, **fields)
        return cast(bytes, response.SerializeToString())


def _varint(number: int) -> bytes:
    """Protobuf's encoding of an unsigned number: seven bits a byte, the lowest first."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
