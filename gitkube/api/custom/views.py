"""A definition's stored objects as one of its versions sees them.

Objects are stored once, with the apiVersion of the storage version; a reader of any version gets them with
his own, without fields that the schema of that version does not know and with its defaults, whenever they
were written. The cache keeps what is stored, and a view over it makes the seen object when somebody looks and
keeps it as long as what is stored stays; an event is seen once for all watchers of a version. Where nothing
differs the seen object is the stored one itself.

Invariant: a view shows exactly the objects of the cache below it, in the same order, with the same versions.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from gitkube.api.custom.conversion import ConversionNeeded
from gitkube.objects.custom.checking import same
from gitkube.objects.custom.definition import CustomKind
from gitkube.objects.custom.versions import from_stored, to_stored
from gitkube.objects.kinds import Kind
from gitkube.objects.types import Object

if TYPE_CHECKING:
    from gitkube.api.cache import WatchCache
    from gitkube.api.kind_cache import KindCache, Position
    from gitkube.api.watch_events import CacheEvent, Item, Matcher

_SPARE = 1000
"""Objects that are remembered beyond those that are there, before the memory is thinned."""


class KindView:
    """The `KindCache` of one version."""

    def __init__(self, cache: WatchCache, base: KindCache, kind: Kind, custom: CustomKind) -> None:
        self.kind = kind
        self._cache = cache
        self._base = base
        self._custom = custom
        self._seen: dict[str, tuple[Object, Object]] = {}
        """Key -> what is stored, and how it is seen."""
        self._asking = asyncio.Lock()
        """Held while the webhook is asked, so that no two readers ask about the same objects."""
        self.is_closed = False
        """Whether the version is served no more, or in another way: its watches end."""

    @property
    def version(self) -> int:
        return self._base.version

    @property
    def oldest(self) -> int:
        return self._base.oldest

    def get(self, name: str, namespace: str = "") -> Object | None:
        stored = self._base.get(name, namespace)
        return self._remembered(f"{namespace}/{name}" if namespace else name, stored) if stored else None

    def has(self, name: str, namespace: str = "") -> bool:
        return self._base.has(name, namespace)

    def select(self, namespace: str = "", after: str = "") -> Iterator[tuple[str, Object]]:
        for key, stored in self._base.select(namespace, after):
            yield key, self._remembered(key, stored)

    def position_after(self, revision: int) -> Position:
        return self._base.position_after(revision)

    def follow(
        self, cache: WatchCache, start: Position, namespace: str, matches: Matcher | None, **options: Any
    ) -> AsyncIterator[Item]:
        return self._base.follow(cache, start, namespace, matches, view=self, **options)

    def must_ask(self, stored: Object) -> bool:
        """Whether only a webhook knows how this version sees a stored object."""
        return self._custom.webhook is not None and stored.get("apiVersion") != self.kind.api_version

    async def prepare(self, items: Iterable[tuple[str, Object]]) -> None:
        """Have objects converted that this version has not seen yet, in one call for all of them.

        Raises:
            StatusError: 500, the webhook has no answer.
        """
        wanted = [(key, stored) for key, stored in items if self.must_ask(stored)]
        if not any(self._is_new(key, stored) for key, stored in wanted):
            return
        async with self._asking:
            wanted = [(key, stored) for key, stored in wanted if self._is_new(key, stored)]
            seen = await self.see_many([stored for _, stored in wanted])
            for (key, stored), one in zip(wanted, seen, strict=True):
                self._seen[key] = (stored, one)

    async def prepare_all(self, namespace: str) -> None:
        """As `prepare`, of all objects of a namespace ("": all)."""
        if self._custom.webhook is not None:
            await self.prepare(list(self._base.select(namespace)))

    async def see_many(self, stored: Sequence[Object]) -> list[Object]:
        """Stored objects as this version sees them, whoever has to be asked.

        Raises:
            StatusError: 500, the webhook has no answer.
        """
        asked = [one for one in stored if self.must_ask(one)]
        if not asked:
            return [self.see(one) for one in stored]
        # The webhook is given what its own version of the object looks like now, with its defaults.
        given = [from_stored(self._custom, str(one["apiVersion"]), one, is_own=True) for one in asked]
        answers = iter(await self._cache.convert(self._custom, given, self.kind.api_version))
        return [next(answers) if self.must_ask(one) else self.see(one) for one in stored]

    async def to_stored(self, obj: Object) -> Object:
        """An object of this version as it is to be stored.

        Raises:
            StatusError: 500, the webhook has no answer.
        """
        version = self._custom.stored_version
        if self._custom.webhook is None or version == self.kind.api_version:
            return to_stored(self._custom, self.kind.api_version, obj)
        (stored,) = await self._cache.convert(self._custom, [obj], version)
        return stored

    async def see_event(self, event: CacheEvent) -> CacheEvent:
        """An event as it is to watchers of this version; made once for all of them.

        Raises:
            StatusError: 500, the webhook has no answer.
        """
        if self._custom.webhook is None:
            return event.seen_by(self, self.see(event.object), self._before(event))
        async with self._asking:
            if (known := event.known_to(self)) is not None:
                return known
            both = [event.object, *([event.previous] if event.previous is not None else [])]
            seen = await self.see_many(both)
            return event.seen_by(self, seen[0], seen[1] if len(seen) > 1 else None)

    def _before(self, event: CacheEvent) -> Object | None:
        return self.see(event.previous) if event.previous is not None else None

    def _is_new(self, key: str, stored: Object) -> bool:
        known = self._seen.get(key)
        return known is None or known[0] is not stored

    def see(self, stored: Object) -> Object:
        """A stored object as this version sees it."""
        seen = from_stored(self._custom, self.kind.api_version, stored)
        return stored if same(seen, stored) else seen

    def is_stale(self, name: str, namespace: str) -> bool:
        """Whether an object is stored in another version than it would be now."""
        stored = self._base.get(name, namespace)
        return stored is not None and stored.get("apiVersion") != self._custom.stored_version

    def _remembered(self, key: str, stored: Object) -> Object:
        known = self._seen.get(key)
        if known is not None and known[0] is stored:
            return known[1]
        if len(self._seen) > len(self._base.objects) + _SPARE:
            self._seen = {key: pair for key, pair in self._seen.items() if key in self._base.objects}
        if self.must_ask(stored):
            raise ConversionNeeded(self, [(key, stored)])
        seen = self.see(stored)
        self._seen[key] = (stored, seen)
        return seen
