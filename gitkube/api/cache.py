"""All objects in memory, kept by one watch on the store.

The store is read once at the start and watched from that revision on; every read of the API and every watch
is served from here, kind by kind (`kind_cache.py`). Which custom kinds there are is learned on the way, from
their definitions.

Invariants: `revision` never goes back; every change of the store up to `revision` is in the kinds' maps, and
no later one.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Iterable, Sequence

import structlog

from gitkube.api.custom.conversion import Conversion
from gitkube.api.custom.views import KindView
from gitkube.api.errors import StatusError, unavailable
from gitkube.api.keys import RANGES_PREFIX, REGISTRY_PREFIX, RING_KEY, Place, parse_key
from gitkube.api.kind_cache import KindCache
from gitkube.api.sealing import MissingKeyError, SealError, Sealing
from gitkube.api.settings import ApiSettings
from gitkube.api.stored import StoredObject, decode
from gitkube.api.watch_events import CacheEvent, Key, with_version
from gitkube.clock import Clock
from gitkube.objects.custom.definition import CustomKind, is_established, with_storage
from gitkube.objects.kinds import CUSTOM_RESOURCE_DEFINITION as _DEFINITIONS
from gitkube.objects.kinds import Kind
from gitkube.objects.meta import key_of
from gitkube.objects.registry import Registry
from gitkube.objects.types import Object
from gitkube.store.protocol import (
    EVERYTHING,
    CompactedError,
    Event,
    EventType,
    KeyValue,
    Revision,
    Store,
    StoreError,
    UnavailableError,
    prefix_end,
)

log = structlog.get_logger()

_LOAD_PAGE = 1000
"""Keys read at once at the start: bounds the size of one answer of the store."""
_RETRY_S = 0.2
_SAY_AGAIN_S = 30.0
LAST_BOOKMARK_BEFORE_S = 2.0
"""As Kubernetes: so long before its end a watch gets a last bookmark."""
_ENDS_EVERY_S = 0.5


class WatchCache:
    """See the module's text. `run` must be running for anything to be answered."""

    def __init__(
        self,
        store: Store,
        kinds: Iterable[Kind],
        *,
        clock: Clock,
        settings: ApiSettings,
        registry: Registry | None = None,
        sealing: Sealing | None = None,
    ) -> None:
        """
        Args:
            registry: is told of every definition of a kind; None makes one of its own.
        """
        self._store = store
        self.sealing = sealing
        """How Secrets lie in the store; None leaves them open."""
        self.registry = registry if registry is not None else Registry()
        self.conversion: Conversion | None = None
        """Asks the conversion webhooks of definitions; set by whoever can call webhooks."""
        self._views: dict[tuple[str, str, str], KindView] = {}
        """Group, version and plural of a custom kind -> its objects."""
        self._defined: dict[str, tuple[Kind, ...]] = {}
        """Name of a definition -> kinds with a view: what it serves, and the version that it stores."""
        self._clock = clock
        self._settings = settings
        self._kinds = {(kind.group, kind.plural): KindCache(kind, settings) for kind in kinds}
        self.revision = 0
        self.bookmark_tick = 0
        self.allocations: dict[str, set[str]] = {}
        """Range (such as `serviceips`) -> what is taken of it."""
        self._synced = asyncio.Event()
        self._waiters: list[tuple[int, int, asyncio.Future[None]]] = []
        self._waiter_count = itertools.count()
        self._ends: list[tuple[float, int, KindCache]] = []
        """When watchers are to have their last bookmark, soonest first; the number only breaks ties."""
        self._question = asyncio.Lock()
        self._asked = 0
        self._answered = 0
        self._answer = 0

    def of(self, kind: Kind) -> KindCache | KindView:
        """The objects of a kind.

        Raises:
            StatusError: 404, it is a custom kind that is not served any more.
        """
        if kind.custom is None:
            return self._kinds[(kind.group, kind.plural)]
        view = self._views.get((kind.group, kind.version, kind.plural))
        if view is None:
            raise StatusError(404, "NotFound", "the server could not find the requested resource", details={})
        return view

    async def convert(self, custom: CustomKind, objects: Sequence[Object], version: str) -> list[Object]:
        """Objects in another version, as the webhook of their definition says.

        Raises:
            StatusError: 500, it has no answer.
        """
        if self.conversion is None:
            raise StatusError(500, "InternalError", "conversion webhooks are not called here")
        return await self.conversion.convert(custom, objects, version)

    @property
    def has_synced(self) -> bool:
        return self._synced.is_set()

    async def wait_synced(self) -> None:
        await self._synced.wait()

    async def run(self) -> None:
        """Follow the store until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_store(), name="cache-follow")
            tasks.create_task(self._tick(), name="cache-bookmarks")
            tasks.create_task(self._wake_at_ends(), name="cache-last-bookmarks")

    async def wait_for(self, revision: int) -> None:
        """Return when everything up to `revision` is in the cache.

        Raises:
            StatusError: 504 when that takes too long.
        """
        if revision <= self.revision and self.has_synced:
            return
        try:
            async with asyncio.timeout(self._settings.store_timeout_s):
                await self.reached(revision)
        except TimeoutError as error:
            raise self.is_late(revision) from error

    async def reached(self, revision: int) -> None:
        """As `wait_for`, however long it takes."""
        if revision <= self.revision and self.has_synced:
            return
        reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiters, (revision, next(self._waiter_count), reached))
        await reached

    def is_late(self, revision: int) -> StatusError:
        """What to say when a revision is not reached in time."""
        text = f"the server's cache is at revision {self.revision} and has not reached {revision}"
        return StatusError(504, "Timeout", text, retry_after_s=1)

    async def reach_current(self) -> None:
        """Return when the cache has all that was written before this call (a linearizable read)."""
        await self.wait_for(await self._current_revision())

    async def _current_revision(self) -> int:
        # Only a question that was sent after we came tells of everything written before we came. Those who
        # come while one is on its way wait, and share the next.
        came = self._asked
        async with self._question:
            if self._answered <= came:
                self._asked += 1
                number = self._asked
                try:
                    async with asyncio.timeout(self._settings.store_timeout_s):
                        result = await self._store.range(REGISTRY_PREFIX, count_only=True)
                except TimeoutError as error:
                    raise StatusError(504, "Timeout", "the store does not answer", retry_after_s=1) from error
                except UnavailableError as error:
                    raise unavailable(str(error)) from error
                self._answered, self._answer = number, result.revision
            return self._answer

    # ------------------------------------------------------------------ following the store

    async def _follow_store(self) -> None:
        must_load = True
        told, told_at_s = "", 0.0
        while True:
            try:
                if must_load:
                    await self._load()
                    must_load = False
                await self._watch()
            except CompactedError:
                log.warning("cache_fell_behind", revision=self.revision)
                must_load = True
            except UnavailableError as error:
                # Without a quorum each try fails with the same words, and that may be so for days.
                now_s = self._clock.monotonic()
                if str(error) != told or now_s - told_at_s >= _SAY_AGAIN_S:
                    log.warning("cache_lost_store", error=str(error), retry_s=_RETRY_S)
                    told, told_at_s = str(error), now_s
                await self._clock.sleep(_RETRY_S)
            except StoreError as error:
                log.error("cache_watch_failed", error=str(error), retry_s=_RETRY_S)
                must_load = True
                await self._clock.sleep(_RETRY_S)

    async def _load(self) -> None:
        if self.sealing is not None:
            await self.sealing.load(self._store)
        loaded: dict[tuple[str, str], dict[Key, Object]] = {}
        # Of custom kinds nothing is known before their definitions have been read.
        unread: list[tuple[Place, KeyValue]] = []
        self.allocations = {}
        start, end, revision, count = REGISTRY_PREFIX, prefix_end(REGISTRY_PREFIX), 0, 0
        while True:
            page = await self._store.range(start, end, limit=_LOAD_PAGE, revision=Revision(revision))
            revision = revision or page.revision
            for kv in page.kvs:
                count += 1
                if kv.key.startswith(RANGES_PREFIX):
                    self._record_allocation(kv.key, is_delete=False)
                    continue
                place = parse_key(kv.key)
                if place is None:
                    continue
                if (place.group, place.plural) in self._kinds:
                    self._keep(loaded, place, kv)
                else:
                    unread.append((place, kv))
            if not page.more:
                break
            start = page.kvs[-1].key + b"\x00"
        definitions = loaded.get((_DEFINITIONS.group, _DEFINITIONS.plural), {})
        for name in [one for one in self._defined if one not in definitions]:
            self._define(name, None)
        for key, definition in definitions.items():
            self._define(key, definition)
        for place, kv in unread:
            if (place.group, place.plural) in self._kinds:
                self._keep(loaded, place, kv)
        for place_of_kind, cache in self._kinds.items():
            cache.replace_all(loaded.get(place_of_kind, {}), revision)
        self._advance(revision)
        self._synced.set()
        log.info("cache_loaded", revision=revision, keys=count)

    def _keep(self, loaded: dict[tuple[str, str], dict[Key, Object]], place: Place, kv: KeyValue) -> None:
        if (obj := self._decoded(kv)) is not None:
            objects = loaded.setdefault((place.group, place.plural), {})
            objects[key_of(place.namespace, place.name)] = obj

    async def _watch(self) -> None:
        # Of all keys, although only objects matter: a read waits until the cache has reached the store's
        # revision, and that may be one at which something else was written.
        watch = self._store.watch(*EVERYTHING, start_revision=Revision(self.revision + 1))
        async for batch in watch:
            touched = {cache for event in batch.events if (cache := self._ingest(event)) is not None}
            self._advance(batch.revision)
            for cache in touched:
                cache.wake()

    def _ingest(self, event: Event) -> KindCache | None:
        kv = event.kv
        if not kv.key.startswith(REGISTRY_PREFIX):
            return None
        is_delete = event.type is EventType.DELETE
        if kv.key == RING_KEY and self.sealing is not None and not is_delete:
            self.sealing.take_ring(kv)
            return None
        if kv.key.startswith(RANGES_PREFIX):
            self._record_allocation(kv.key, is_delete=is_delete)
            return None
        place = parse_key(kv.key)
        cache = self._kinds.get((place.group, place.plural)) if place is not None else None
        if cache is None or place is None:
            return None
        previous = cache.get(place.name, place.namespace)
        now_s = self._clock.monotonic()
        obj = None if is_delete else self._decoded(kv)
        if cache.kind is _DEFINITIONS:
            self._define(place.name, obj, kv.mod_revision)
        if not is_delete:
            if obj is None:
                return None
            cache.record(CacheEvent(place, obj, previous, kv.mod_revision, False, now_s))
        elif previous is not None:
            last = with_version(previous, kv.mod_revision)
            cache.record(CacheEvent(place, last, previous, kv.mod_revision, True, now_s))
        return cache

    def _define(self, name: str, definition: Object | None, revision: int = 0) -> None:
        """Serve what a definition says from now on; with None, nothing of it any more."""
        made: tuple[Kind, ...] = ()
        if definition is None:
            self.registry.forget(name)
        else:
            version = self.registry.version
            made = self.registry.define(definition)
            if self.registry.version == version:
                return  # nothing new: its watches go on
            if is_established(definition):
                made = with_storage(made, definition)
        before = self._defined.pop(name, ())
        if made:
            self._defined[name] = made
        for kind in before:
            if (view := self._views.pop((kind.group, kind.version, kind.plural), None)) is not None:
                view.is_closed = True
        for kind in made:
            base = self._kinds.get((kind.group, kind.plural))
            if base is None:
                base = self._kinds[kind.group, kind.plural] = KindCache(kind, self._settings)
                base.oldest = revision
            if kind.custom is not None:
                self._views[kind.group, kind.version, kind.plural] = KindView(self, base, kind, kind.custom)
        for kind in before:
            if (base := self._kinds.get((kind.group, kind.plural))) is not None:
                base.wake()
                if not made:
                    del self._kinds[kind.group, kind.plural]

    def decode(self, kv: KeyValue) -> StoredObject:
        """The object of a stored value; its version is the revision that wrote it.

        Raises:
            SealError: it is sealed and cannot be opened.
        """
        value = kv.value if self.sealing is None else self.sealing.open(kv.key, kv.value)
        return decode(value, kv.mod_revision)

    def _decoded(self, kv: KeyValue) -> StoredObject | None:
        """As `decode`; a record that somebody has changed or moved is said and left out, so that it stops
        nothing but itself. A key that is missing stops us: all Secrets would be gone at once."""
        try:
            return self.decode(kv)
        except MissingKeyError:
            raise
        except SealError as error:
            log.error("sealed_record_refused", key=kv.key.decode(errors="replace"), error=str(error))
            return None

    def _record_allocation(self, key: bytes, *, is_delete: bool) -> None:
        range_name, _, item = key[len(RANGES_PREFIX) :].decode().partition("/")
        taken = self.allocations.setdefault(range_name, set())
        if is_delete:
            taken.discard(item)
        else:
            taken.add(item)

    def _advance(self, revision: int) -> None:
        self.revision = max(self.revision, revision)
        while self._waiters and self._waiters[0][0] <= self.revision:
            _, _, reached = heapq.heappop(self._waiters)
            if not reached.done():
                reached.set_result(None)

    def monotonic(self) -> float:
        return self._clock.monotonic()

    def wake_before_end(self, cache: KindCache, timeout_s: float) -> float:
        """See that the watchers of a kind are woken a moment before `timeout_s` is over; the time of it."""
        due_s = self._clock.monotonic() + max(0.0, timeout_s - LAST_BOOKMARK_BEFORE_S)
        heapq.heappush(self._ends, (due_s, next(self._waiter_count), cache))
        return due_s

    async def _wake_at_ends(self) -> None:
        while True:
            await self._clock.sleep(_ENDS_EVERY_S)
            now_s = self._clock.monotonic()
            while self._ends and self._ends[0][0] <= now_s:
                heapq.heappop(self._ends)[2].wake()

    async def _tick(self) -> None:
        while True:
            await self._clock.sleep(self._settings.bookmark_interval_s)
            self.bookmark_tick += 1
            for cache in list(self._kinds.values()):
                cache.wake()
