"""What happened to one object, and what of it each watcher is told.

A change is one `CacheEvent` however many watch: each sees it as ADDED, MODIFIED or DELETED by its selector,
and each such `Item` is encoded once, for all who see it so. Of a custom kind each version has its own sight
of an event, made once too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gitkube.api.keys import Place
from gitkube.api.stored import document_of
from gitkube.objects.kinds import Kind
from gitkube.objects.meta import key_of, split_key
from gitkube.objects.types import Object

if TYPE_CHECKING:
    from gitkube.api.custom.views import KindView

Key = str
"""`namespace/name`, or `name` for cluster-scoped kinds: as the keys of the store, so that both sort alike."""
Matcher = Callable[[Object], bool]


class Item:
    """A `WatchItem`: what one event is to those who watch it as one type."""

    __slots__ = ("_encoded", "_forms", "object", "type")

    def __init__(self, type: str, object: Object) -> None:
        self.type = type
        self.object = object
        self._encoded: bytes | None = None
        self._forms: dict[Any, bytes] | None = None

    @property
    def forms(self) -> dict[Any, bytes]:
        if self._forms is None:
            self._forms = {}
        return self._forms

    @property
    def encoded(self) -> bytes:
        if self._encoded is None:
            self._encoded = b'{"type":"%s","object":%s}\n' % (self.type.encode(), document_of(self.object))
        return self._encoded


class CacheEvent:
    """A change of one object: PUT of `object` over `previous`, or, with `is_delete`, its end."""

    __slots__ = (
        "_items",
        "_seen",
        "came_s",
        "is_delete",
        "key",
        "namespace",
        "object",
        "previous",
        "revision",
    )

    def __init__(
        self,
        place: Place,
        object: Object,
        previous: Object | None,
        revision: int,
        is_delete: bool,
        came_s: float,
    ) -> None:
        self.key: Key = key_of(place.namespace, place.name)
        self.namespace = place.namespace
        self.object = object
        """For a delete: as it was last, with the revision of the delete."""
        self.previous = previous
        self.revision = revision
        self.is_delete = is_delete
        self.came_s = came_s
        """When it came into the cache, on its monotonic clock."""
        self._items: dict[str, Item] = {}
        self._seen: dict[KindView, CacheEvent] = {}

    def item(self, matches: Matcher | None) -> Item | None:
        """What a watcher with this selector sees of the event, or None.

        An object that comes to match is ADDED to this watcher, one that ceases to is DELETED.
        """
        if matches is None:
            before, after = self.previous is not None, not self.is_delete
        else:
            before = self.previous is not None and matches(self.previous)
            after = not self.is_delete and matches(self.object)
        if after:
            return self._as("MODIFIED" if before else "ADDED")
        return self._as("DELETED") if before else None

    def known_to(self, view: KindView) -> CacheEvent | None:
        """The event as watchers of one version of a custom resource see it, if it was shown to one."""
        return self._seen.get(view)

    def seen_by(self, view: KindView, object: Object, previous: Object | None) -> CacheEvent:
        """The event with the objects as one version sees them; kept for all watchers of it."""
        namespace, name = split_key(self.key)
        place = Place(view.kind.group, view.kind.plural, namespace, name)
        found = CacheEvent(place, object, previous, self.revision, self.is_delete, self.came_s)
        self._seen[view] = found
        return found

    def _as(self, type: str) -> Item:
        item = self._items.get(type)
        if item is None:
            item = self._items[type] = Item(type, self._seen_as(type))
        return item

    def _seen_as(self, type: str) -> Object:
        if type == "DELETED" and not self.is_delete and self.previous is not None:
            # It left the watcher's selection: as the watcher knew it, with the version of the change.
            return with_version(self.previous, self.revision)
        return self.object


def bookmark(kind: Kind, revision: int, *, ends_initial_events: bool = False) -> Item:
    """An event that only says: you have seen everything up to this version."""
    metadata: Object = {"resourceVersion": str(revision), "creationTimestamp": None}
    if ends_initial_events:
        metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
    return Item("BOOKMARK", {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": metadata})


def with_version(obj: Object, revision: int) -> Object:
    return {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(revision)}}
