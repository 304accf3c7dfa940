"""Which kinds an API serves at this moment: the built-in ones, and those that definitions have made.

Each API has one registry. The watch cache tells it of every definition in the order of the store, before
anything that comes later is looked at, so that all controllers of a cluster know a kind from the same
revision on. What depends on the kinds compares `version`, or asks to be told.

Invariants: no two kinds have the same group, version and plural; a built-in kind is never replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import structlog

from gitkube.objects import meta
from gitkube.objects.custom.definition import is_established, kinds_of, version_priority
from gitkube.objects.kinds import BUILT_IN, QUESTIONS, SERVED, Kind, stored_kind
from gitkube.objects.types import Object

log = structlog.get_logger(__name__)

Listener = Callable[[], None]


class Registry:
    """See the module's text."""

    def __init__(self, stored: Sequence[Kind] = BUILT_IN) -> None:
        self._built_in = tuple(stored)
        self._served = tuple(kind for kind in SERVED if stored_kind(kind) in stored or kind in QUESTIONS)
        self._custom: dict[str, tuple[Kind, ...]] = {}
        """Name of the definition -> the kinds it makes, the best version first."""
        self._sources: dict[str, tuple[Any, ...]] = {}
        """Name of the definition -> what its kinds were made of."""
        self._listeners: list[Listener] = []
        self._by_gvk = {(kind.api_version, kind.kind): kind for kind in self._served}
        self._by_resource = {(kind.group, kind.version, kind.plural): kind for kind in self._served}
        self.version = 0
        """Another one after every change."""

    @property
    def stored(self) -> tuple[Kind, ...]:
        """One kind for each resource that has objects: what must be looked through to see all of them."""
        return (*self._built_in, *(kinds[0] for kinds in self._custom.values()))

    @property
    def served(self) -> tuple[Kind, ...]:
        """All that clients may ask for. Of a group's versions the best comes first."""
        return (*self._served, *self.custom)

    @property
    def custom(self) -> tuple[Kind, ...]:
        """All kinds of definitions: group by group, in each the best version first."""
        kinds = [kind for made in self._custom.values() for kind in made]
        return tuple(
            sorted(kinds, key=lambda kind: (kind.group, version_priority(kind.version), kind.plural))
        )

    def by_gvk(self, api_version: str, kind: str) -> Kind | None:
        """The kind that a manifest's `apiVersion` and `kind` name, or None when it is not served."""
        return self._by_gvk.get((api_version, kind))

    def by_resource(self, group: str, version: str, plural: str) -> Kind | None:
        """The kind behind a path such as `/apis/example.org/v1/things`."""
        return self._by_resource.get((group, version, plural))

    def of_definition(self, name: str) -> tuple[Kind, ...]:
        """The kinds that a definition has made."""
        return self._custom.get(name, ())

    def define(self, definition: Object) -> tuple[Kind, ...]:
        """Serve what a definition says, instead of what it said before; the kinds it makes now.

        A change that says nothing new about the kinds, such as a condition, leaves them as they are.
        """
        name = meta.name(definition)
        source = _source_of(definition)
        if self._sources.get(name) == source:
            return self._custom.get(name, ())
        self._sources[name] = source
        try:
            made = kinds_of(definition)
        except (KeyError, TypeError, ValueError, AttributeError, StopIteration) as error:
            # Only what another program has written into the store past the API can be so.
            log.error("definition_unreadable", name=name, error=repr(error))
            made = ()
        taken = {(kind.group, kind.plural) for kind in self._built_in}
        return self._set(name, tuple(kind for kind in made if (kind.group, kind.plural) not in taken))

    def forget(self, name: str) -> None:
        """Serve a definition's kinds no more."""
        self._sources.pop(name, None)
        self._set(name, ())

    def on_change(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` after every change; returns what ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener) if listener in self._listeners else None

    def _set(self, name: str, made: tuple[Kind, ...]) -> tuple[Kind, ...]:
        before = self._custom.pop(name, ())
        for kind in before:
            self._by_gvk.pop((kind.api_version, kind.kind), None)
            self._by_resource.pop((kind.group, kind.version, kind.plural), None)
        if made:
            self._custom[name] = made
        for kind in made:
            self._by_gvk.setdefault((kind.api_version, kind.kind), kind)
            self._by_resource[kind.group, kind.version, kind.plural] = kind
        self.version += 1
        for listener in tuple(self._listeners):
            listener()
        return made


def _source_of(definition: Object) -> tuple[Any, ...]:
    """All of a definition that its kinds depend on."""
    accepted = (definition.get("status") or {}).get("acceptedNames")
    return meta.uid(definition), is_established(definition), definition.get("spec"), accepted
