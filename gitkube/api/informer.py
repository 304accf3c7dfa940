"""A local copy of one kind, kept by list and watch.

A loop reads from here instead of asking the API, and is told through handlers that something may have
changed. The copy lags behind the API by a moment and never runs ahead of it, so whoever acts on it must be
safe against acting on what is a little old (preconditions, expectations).

Flow: list once, hand out the differences, then watch from the list's version for ever. A watch that ends is
opened again where it stopped; one that is too old (410) leads to a new list, of which again only the
differences are handed out. An object that was replaced by another of the same name is shown as a deletion
and a creation. Failures are retried with growing, jittered pauses and said in the log.

Invariant: after the first list, `get`, `list` and `by_index` agree with each other at every moment, and
handlers run after the copy has changed, in the order of the changes of each object.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable

import structlog

from gitkube.api.client import Client, WatchEvent
from gitkube.api.errors import StatusError, is_gone
from gitkube.clock import Clock
from gitkube.objects.kinds import Kind
from gitkube.objects.types import Object

Handler = Callable[[Object | None, Object | None], None]
"""Gets (before, after); before is None for a creation, after for a deletion."""
IndexFunction = Callable[[Object], Iterable[str]]
Key = tuple[str, str]
"""Namespace and name."""
Objects = list[Object]

FIRST_BACKOFF_S = 0.1
MAX_BACKOFF_S = 15.0
MIN_WATCH_S = 1.0
"""A watch that lived shorter than this counts as a failure, or a broken server would be asked in a spin."""
TRY_AGAIN_CODES = (429, 503, 504)
"""Answers after which the watch may go on where it stopped."""

log = structlog.get_logger(__name__)


class Informer:
    """See the module's text. `run` must run in exactly one task."""

    def __init__(
        self,
        client: Client,
        kind: Kind,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        clock: Clock,
        rng: random.Random | None = None,
    ) -> None:
        self.kind = kind
        self._client = client
        self._namespace = namespace
        self._label_selector = label_selector
        self._field_selector = field_selector
        self._clock = clock
        self._rng = rng or random.Random()
        self._namespaces: dict[str, dict[str, Object]] = {}
        self._index_functions: dict[str, IndexFunction] = {}
        self._indexes: dict[str, dict[str, dict[Key, Object]]] = {}
        self._handlers: list[Handler] = []
        self._synced = asyncio.Event()
        self._revision = ""
        """Where the next watch goes on; "" means that a list is needed."""

    @property
    def has_synced(self) -> bool:
        """Whether the first list is in."""
        return self._synced.is_set()

    async def wait_synced(self) -> None:
        await self._synced.wait()

    def get(self, name: str, namespace: str = "") -> Object | None:
        return self._namespaces.get(namespace, {}).get(name)

    def list(self, namespace: str = "") -> Objects:
        """All objects of a namespace; "" is all of all namespaces."""
        if namespace:
            return list(self._namespaces.get(namespace, {}).values())
        return [obj for objects in self._namespaces.values() for obj in objects.values()]

    def add_handler(self, handler: Handler) -> None:
        """Call `handler` on each change. One that is added late is told of all that is there already."""
        self._handlers.append(handler)
        for obj in self.list():
            self._call(handler, None, obj)

    def add_index(self, name: str, function: IndexFunction) -> None:
        """Keep `by_index(name, value)` for the values that `function` gives for each object."""
        if name in self._index_functions:
            return
        self._index_functions[name] = function
        self._indexes[name] = {}
        for obj in self.list():
            self._index_one(name, None, obj)

    def by_index(self, name: str, value: str) -> Objects:
        return list(self._indexes[name].get(value, {}).values())

    async def run(self) -> None:
        """Keep the copy for ever."""
        backoff_s = FIRST_BACKOFF_S
        while True:
            started = self._clock.monotonic()
            try:
                await self._list_and_watch()
                error: Exception | None = None
            except (StatusError, OSError, TimeoutError) as failure:
                error = failure
                if isinstance(failure, StatusError) and failure.code not in TRY_AGAIN_CODES:
                    self._revision = ""  # too old (410), or a server that was restored to before it
            lived_s = self._clock.monotonic() - started
            if lived_s >= MIN_WATCH_S:
                backoff_s = FIRST_BACKOFF_S
                if error is None or is_gone(error):
                    continue
            pause_s = backoff_s * (0.5 + self._rng.random())
            log.warning(
                "watch_interrupted",
                kind=str(self.kind),
                error=str(error) if error is not None else "the server ended the watch at once",
                next_try_in_s=round(pause_s, 3),
            )
            await self._clock.sleep(pause_s)
            backoff_s = min(backoff_s * 2, MAX_BACKOFF_S)

    async def _list_and_watch(self) -> None:
        if not self._revision:
            listing = await self._client.list(
                self.kind,
                self._namespace,
                label_selector=self._label_selector,
                field_selector=self._field_selector,
            )
            self._replace(listing.items)
            self._revision = listing.resource_version
            self._synced.set()
        events = self._client.watch(
            self.kind,
            self._namespace,
            resource_version=self._revision,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
        )
        try:
            async for event in events:
                self._take(event)
        finally:
            close = getattr(events, "aclose", None)
            if close is not None:
                await close()

    def _take(self, event: WatchEvent) -> None:
        metadata = event.object["metadata"]
        if event.type == "DELETED":
            self._set((metadata.get("namespace", ""), metadata["name"]), None, last_seen=event.object)
        elif event.type != "BOOKMARK":
            self._set((metadata.get("namespace", ""), metadata["name"]), event.object)
        self._revision = metadata["resourceVersion"]

    def _replace(self, items: Iterable[Object]) -> None:
        fresh = {(obj["metadata"].get("namespace", ""), obj["metadata"]["name"]): obj for obj in items}
        for obj in self.list():
            key = (obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
            if key not in fresh:
                self._set(key, None)
        for key, obj in fresh.items():
            self._set(key, obj)

    def _set(self, key: Key, after: Object | None, last_seen: Object | None = None) -> None:
        """Change the copy at one key, and tell the handlers."""
        namespace, name = key
        before = self._namespaces.get(namespace, {}).get(name)
        if before is not None and after is not None:
            if before["metadata"].get("uid") != after["metadata"].get("uid"):
                self._set(key, None)
                before = None
            elif before["metadata"].get("resourceVersion") == after["metadata"].get("resourceVersion"):
                return
        if before is None and after is None:
            return
        if after is not None:
            self._namespaces.setdefault(namespace, {})[name] = after
        else:
            del self._namespaces[namespace][name]
            if not self._namespaces[namespace]:
                del self._namespaces[namespace]
        for index in self._index_functions:
            self._index_one(index, before, after)
        if after is None and last_seen is not None:
            before = last_seen  # the object as it was at its end says more than our last copy
        for handler in self._handlers:
            self._call(handler, before, after)

    def _index_one(self, index: str, before: Object | None, after: Object | None) -> None:
        function, values = self._index_functions[index], self._indexes[index]
        if before is not None:
            key = (before["metadata"].get("namespace", ""), before["metadata"]["name"])
            for value in function(before):
                bucket = values.get(value)
                if bucket is not None:
                    bucket.pop(key, None)
                    if not bucket:
                        del values[value]
        if after is not None:
            key = (after["metadata"].get("namespace", ""), after["metadata"]["name"])
            for value in function(after):
                values.setdefault(value, {})[key] = after

    def _call(self, handler: Handler, before: Object | None, after: Object | None) -> None:
        try:
            handler(before, after)
        except Exception as error:
            # One loop's mistake must not blind all others that share this copy.
            log.exception(
                "informer_handler_failed",
                kind=str(self.kind),
                handler=getattr(handler, "__qualname__", repr(handler)),
                error=str(error),
            )
