"""Which level and flow a request belongs to: the FlowSchemas of the cluster, put to it in order.

Schemas and levels are objects that people may change, so what is known of them is made anew when one of the
two kinds has changed. A request that no schema matches, or whose level is not there, is of `catch-all`.
Source of the rules: k8s.io/api/flowcontrol/v1.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from gitkube.api.authorization import Attributes, User
from gitkube.api.cache import WatchCache
from gitkube.objects import meta
from gitkube.objects.kinds import FLOW_SCHEMA, PRIORITY_LEVEL_CONFIGURATION
from gitkube.objects.types import Object
from gitkube.server.fairness import Level

_ACCOUNT_PREFIX = "system:serviceaccount:"
_CATCH_ALL = "catch-all"
_MAX_KNOWN = 4096
"""Answers kept; when there are more they are made anew, for a client can choose namespaces freely."""


class Place(NamedTuple):
    """Where a request belongs."""

    level: Level
    distinguisher: str
    """"ByUser", "ByNamespace" or "": what tells the flows of the schema apart."""
    schema: str
    schema_uid: str
    level_uid: str


_NO_OBJECTS = Place(Level(_CATCH_ALL, may_queue=False), "ByUser", "", "", "")


class FlowSchemas:
    def __init__(self, cache: WatchCache) -> None:
        self._schema_cache = cache.of(FLOW_SCHEMA)
        self._level_cache = cache.of(PRIORITY_LEVEL_CONFIGURATION)
        self._version: Any = None
        self._schemas: list[Object] = []
        self._levels: dict[str, tuple[Level, str]] = {}
        self._known: dict[tuple[Any, ...], Place] = {}

    def place(self, asked: Attributes) -> Place:
        """The first schema, by precedence, that matches."""
        version = (self._schema_cache.version, self._level_cache.version)
        if version != self._version:
            self._read()
            self._version = version
        user = asked.user
        key = (
            user.name, user.groups, asked.verb, asked.group, asked.resource, asked.subresource, asked.path,
            asked.namespace,
        )  # fmt: skip
        place = self._known.get(key)
        if place is None:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            place = self._known[key] = self._find(asked)
        return place

    def flow(self, place: Place, asked: Attributes) -> str:
        """The name of the request's flow in its level.

        What is exempt has flows by user whatever its schema says, for nobody is to be in the way of others.
        """
        if place.level.is_exempt:
            return asked.user.name
        if place.distinguisher == "ByUser":
            return f"{place.schema}/{asked.user.name}"
        if place.distinguisher == "ByNamespace":
            return f"{place.schema}/{asked.namespace}"
        return place.schema

    def _read(self) -> None:
        self._known.clear()
        self._levels = {}
        for _, obj in self._level_cache.select():
            self._levels[meta.name(obj)] = (_level(obj), meta.uid(obj))
        self._schemas = sorted(
            (schema for _, schema in self._schema_cache.select()),
            key=lambda schema: (schema["spec"].get("matchingPrecedence") or 0, meta.name(schema)),
        )

    def _find(self, asked: Attributes) -> Place:
        last: Place | None = None
        for schema in self._schemas:
            place = self._place_of(schema)
            if place is None:
                continue
            if any(_matches(rule, asked) for rule in schema["spec"].get("rules") or ()):
                return place
            if meta.name(schema) == _CATCH_ALL:
                last = place
        return last or _NO_OBJECTS

    def _place_of(self, schema: Object) -> Place | None:
        spec = schema["spec"]
        found = self._levels.get((spec.get("priorityLevelConfiguration") or {}).get("name") or "")
        if found is None:
            return None
        by = (spec.get("distinguisherMethod") or {}).get("type") or ""
        return Place(found[0], by, meta.name(schema), meta.uid(schema), found[1])


def _level(obj: Object) -> Level:
    spec = obj["spec"]
    if spec.get("type") == "Exempt":
        return Level(meta.name(obj), is_exempt=True)
    limited = spec.get("limited") or {}
    may_queue = (limited.get("limitResponse") or {}).get("type") != "Reject"
    return Level(meta.name(obj), limited.get("nominalConcurrencyShares") or 0, may_queue=may_queue)


def _matches(rule: Object, asked: Attributes) -> bool:
    if not any(_is_subject(subject, asked.user) for subject in rule.get("subjects") or ()):
        return False
    if asked.path:
        return any(_is_path(each, asked) for each in rule.get("nonResourceRules") or ())
    return any(_is_resource(each, asked) for each in rule.get("resourceRules") or ())


def _is_subject(subject: Object, user: User) -> bool:
    match subject.get("kind"):
        case "User":
            name = (subject.get("user") or {}).get("name")
            return name in ("*", user.name)
        case "Group":
            name = (subject.get("group") or {}).get("name")
            return name == "*" or name in user.groups
        case "ServiceAccount":
            account = subject.get("serviceAccount") or {}
            if not user.name.startswith(_ACCOUNT_PREFIX):
                return False
            namespace, _, name = user.name.removeprefix(_ACCOUNT_PREFIX).partition(":")
            return namespace == account.get("namespace") and account.get("name") in ("*", name)
    return False


def _is_resource(rule: Object, asked: Attributes) -> bool:
    resource = f"{asked.resource}/{asked.subresource}" if asked.subresource else asked.resource
    if not (
        _has(rule.get("verbs"), asked.verb)
        and _has(rule.get("apiGroups"), asked.group)
        and _has(rule.get("resources"), resource)
    ):
        return False
    if not asked.namespace:
        return bool(rule.get("clusterScope"))
    return _has(rule.get("namespaces"), asked.namespace)


def _is_path(rule: Object, asked: Attributes) -> bool:
    if not _has(rule.get("verbs"), asked.verb):
        return False
    return any(
        url == "*" or url == asked.path or (url.endswith("/*") and asked.path.startswith(url[:-1]))
        for url in rule.get("nonResourceURLs") or ()
    )


def _has(words: Iterable[str] | None, word: str) -> bool:
    words = tuple(words or ())
    return "*" in words or word in words
