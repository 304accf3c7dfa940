"""One rule of a Role: what it allows, and whether it covers another.

A rule is either about resources (verbs, API groups, resources, perhaps names) or about paths that are none.
All matching is of whole words; the only patterns are `*`, `*/SUBRESOURCE`, and a path that ends in `*`, as
Kubernetes documents in "Using RBAC Authorization". Invariant: a rule that names objects allows nothing where
the request names none (list, watch, create, deletecollection).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gitkube.api.authorization import Attributes
from gitkube.objects.types import Object

ALL = "*"
Words = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """A `PolicyRule`, with its lists as they were written."""

    verbs: Words = ()
    groups: Words = ()
    resources: Words = ()
    names: Words = ()
    paths: Words = ()

    def to_object(self) -> dict[str, list[str]]:
        """As Kubernetes' reviews show it."""
        written = {
            "verbs": self.verbs,
            "apiGroups": self.groups,
            "resources": self.resources,
            "resourceNames": self.names,
            "nonResourceURLs": self.paths,
        }
        return {field: list(words) for field, words in written.items() if words}

    def __str__(self) -> str:
        """As Kubernetes writes it in refusals."""
        parts = [
            f"{field}:[{' '.join(quoted(word) for word in words)}]"
            for field, words in (
                ("APIGroups", self.groups),
                ("Resources", self.resources),
                ("ResourceNames", self.names),
                ("NonResourceURLs", self.paths),
                ("Verbs", self.verbs),
            )
            if words
        ]
        return "{" + ", ".join(parts) + "}"


EVERYTHING = (Rule((ALL,), (ALL,), (ALL,)), Rule((ALL,), paths=(ALL,)))
"""What `cluster-admin` and the masters may."""


def quoted(text: str) -> str:
    """In double quotes, with what would end or hide them escaped."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def rules_of(role: Object) -> tuple[Rule, ...]:
    """The rules that a Role or ClusterRole holds."""
    return tuple(rule_of(written) for written in role.get("rules") or ())


def rule_of(written: dict[str, Any]) -> Rule:
    def words(field: str) -> Words:
        return tuple(str(word) for word in written.get(field) or ())

    return Rule(
        words("verbs"),
        words("apiGroups"),
        words("resources"),
        words("resourceNames"),
        words("nonResourceURLs"),
    )


# ------------------------------------------------------------------ what a rule allows


def allows(rule: Rule, asked: Attributes) -> bool:
    """Whether the rule allows what is asked."""
    if asked.verb not in rule.verbs and ALL not in rule.verbs:
        return False
    if asked.path:
        return any(_is_path(pattern, asked.path) for pattern in rule.paths)
    return (
        (asked.group in rule.groups or ALL in rule.groups)
        and _has_resource(rule.resources, asked.resource, asked.subresource)
        and (not rule.names or asked.name in rule.names)
    )


def _has_resource(resources: Words, resource: str, subresource: str) -> bool:
    if ALL in resources:
        return True
    if not subresource:
        return resource in resources
    return f"{resource}/{subresource}" in resources or f"*/{subresource}" in resources


def _is_path(pattern: str, path: str) -> bool:
    if pattern in (path, ALL):
        return True
    return pattern.endswith("*") and path.startswith(pattern.rstrip("*"))


# ------------------------------------------------------------------ what rules cover


def uncovered(held: Sequence[Rule], wanted: Iterable[Rule]) -> list[Rule]:
    """The parts of the wanted rules that no held rule covers, each as small as a rule can be.

    As Kubernetes: a part must be covered by one rule alone, so that two rules that do so only together do not
    count.
    """
    return [
        part
        for rule in wanted
        for part in _parts(rule)
        if not any(_covers(holding, part) for holding in held)
    ]


def _parts(rule: Rule) -> Iterable[Rule]:
    for group, resource, verb in itertools.product(rule.groups, rule.resources, rule.verbs):
        if not rule.names:
            yield Rule((verb,), (group,), (resource,))
        for name in rule.names:
            yield Rule((verb,), (group,), (resource,), (name,))
    for path, verb in itertools.product(rule.paths, rule.verbs):
        yield Rule((verb,), paths=(path,))


def _covers(held: Rule, part: Rule) -> bool:
    if not _has_all(held.verbs, part.verbs):
        return False
    if part.paths:
        return all(any(_is_path(pattern, path) for pattern in held.paths) for path in part.paths)
    return (
        _has_all(held.groups, part.groups)
        and all(_covers_resource(held.resources, resource) for resource in part.resources)
        and (not held.names or (bool(part.names) and set(part.names) <= set(held.names)))
    )


def _has_all(held: Words, wanted: Words) -> bool:
    return ALL in held or set(wanted) <= set(held)


def _covers_resource(held: Words, wanted: str) -> bool:
    if ALL in held or wanted in held:
        return True
    _, slash, subresource = wanted.partition("/")
    return bool(slash) and f"*/{subresource}" in held


def compact(parts: Sequence[Rule]) -> list[Rule]:
    """Fewer rules that say the same: parts that differ in their verbs only become one."""
    joined: dict[Rule, list[str]] = {}
    for part in parts:
        key = part if part.paths else replace(part, verbs=())
        joined.setdefault(key, []).extend(verb for verb in part.verbs if verb not in joined.get(key, ()))
    return [replace(key, verbs=tuple(verbs)) for key, verbs in joined.items()]
