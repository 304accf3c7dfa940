"""A definition's stored objects as one of its versions sees them.

Objects are stored once, with the apiVersion of the storage version; a reader of any version gets them with
his own, without fields that the schema of that version does not know and with its defaults, whenever they
were written. The cache keeps what is stored, and a view over it makes the seen object when somebody looks and
keeps it as long as what is stored stays; an event is seen once for all watchers of a version. Where nothing
differs the seen object is the stored one itself.

Invariant: a view shows exactly the objects of the cache below it, in the same order, with the same versions.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from gitkube.objects.custom.checking import same
from gitkube.objects.custom.definition import CustomKind
from gitkube.objects.custom.versions import from_stored
from gitkube.objects.kinds import Kind
from gitkube.objects.types import Object

if TYPE_CHECKING:
    from gitkube.api.cache import Item, KindCache, Matcher, WatchCache

_SPARE = 1000
"""Objects that are remembered beyond those that are there, before the memory is thinned."""


class KindView:
    """The `KindCache` of one version."""

    def __init__(self, base: KindCache, kind: Kind, custom: CustomKind) -> None:
        self.kind = kind
        self._base = base
        self._custom = custom
        self._seen: dict[str, tuple[Object, Object]] = {}
        """Key -> what is stored, and how it is seen."""
        self.is_closed = False
        """Whether the version is served no more, or in another way: its watches end."""

    @property
    def version(self) -> tuple[int, int]:
        return self._base.version

    @property
    def oldest(self) -> int:
        return self._base.oldest

    def get(self, name: str, namespace: str = "") -> Object | None:
        stored = self._base.get(name, namespace)
        return self._remembered(f"{namespace}/{name}" if namespace else name, stored) if stored else None

    def select(self, namespace: str = "", after: str = "") -> Iterator[tuple[str, Object]]:
        for key, stored in self._base.select(namespace, after):
            yield key, self._remembered(key, stored)

    def position_after(self, revision: int) -> int:
        return self._base.position_after(revision)

    def follow(
        self, cache: WatchCache, position: int, namespace: str, matches: Matcher | None, **options: Any
    ) -> AsyncIterator[Item]:
        return self._base.follow(cache, position, namespace, matches, view=self, **options)

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
        seen = self.see(stored)
        self._seen[key] = (stored, seen)
        return seen
