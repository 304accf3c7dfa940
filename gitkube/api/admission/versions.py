"""One resource in several versions, for rules that name another one than the client.

A request's object is in the version of its kind: the stored one of a built-in kind, the one that the client
asked for of a custom kind. A rule may name any other that is served; it gets the object in that one.
"""

from __future__ import annotations

from collections.abc import Sequence

from gitkube.objects import conversion
from gitkube.objects.custom import versions as custom_versions
from gitkube.objects.kinds import SERVED, Kind, stored_kind
from gitkube.objects.registry import Registry
from gitkube.objects.types import Object

_BUILT_IN: dict[tuple[str, str], list[Kind]] = {}
for _kind in SERVED:
    _stored = stored_kind(_kind)
    _BUILT_IN.setdefault((_stored.api_version, _stored.kind), []).append(_kind)


class Versions:
    """What is served now."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    @property
    def version(self) -> int:
        """Another one after every change of what is served."""
        return self._registry.version

    def of(self, kind: Kind) -> Sequence[Kind]:
        """All kinds by which the same objects are reached."""
        if kind.custom is not None:
            return self._registry.of_definition(kind.custom.definition) or (kind,)
        return _BUILT_IN.get((kind.api_version, kind.kind), (kind,))

    def by_gvk(self, api_version: str, word: str) -> Kind | None:
        """The kind that an apiVersion and a word name, or None when it is not served."""
        return self._registry.by_gvk(api_version, word)


def can_show(kind: Kind) -> bool:
    """Whether an object of a request can be turned into other versions at once.

    Where a webhook converts, it cannot: then a rule that names another version gets the one that was asked
    for, so that nobody gets around it.
    """
    return kind.custom is None or kind.custom.webhook is None


def shown_as(kind: Kind, version: Kind, obj: Object) -> Object:
    """An object of a request's kind in another version."""
    if kind.custom is None or version.custom is None:
        return conversion.from_stored(version, obj)
    if version.api_version == kind.api_version:
        return obj
    stored = custom_versions.to_stored(kind.custom, kind.api_version, obj)
    return custom_versions.from_stored(version.custom, version.api_version, stored)


def taken_from(kind: Kind, version: Kind, obj: Object, before: Object) -> Object:
    """The way back: an object of another version as one of the request's kind.

    Args:
        before: what it was, in the request's version; what the other one cannot say stays as it is there.
    """
    if kind.custom is None or version.custom is None:
        return conversion.to_stored(version, obj, before)
    if version.api_version == kind.api_version:
        return obj
    stored = custom_versions.to_stored(version.custom, version.api_version, obj)
    return custom_versions.from_stored(kind.custom, kind.api_version, stored)
