"""Fields that the schema does not know: named, suggested for, and dropped.

A field nobody knows is most often a typo (`replica:`) or a field at the wrong depth. The API warns or
refuses, and never stores it; whoever wrote it gets the name that was probably meant.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Any

from gitkube.objects.kinds import Kind
from gitkube.objects.patch.copying import clone
from gitkube.objects.schema import Schema, schema_of
from gitkube.objects.types import Object

MAX_REPORTED = 100
"""Unknown fields that are named; an object with more is of another kind altogether."""
MAX_DEPTH = 64
_LIKENESS = 0.6
"""How alike two names must be (of 1.0) for one to be suggested for the other."""


def unknown_fields(kind: Kind, obj: Object) -> list[str]:
    """Paths of all fields that the kind's schema does not know, such as `spec.containers[0].imagePullPolcy`.

    In the order and the form of Kubernetes' strict decoder (`unknown field "spec.foo"`).
    """
    return unknown_below(schema_of(kind), obj)


def unknown_below(schema: Schema, value: Any) -> list[str]:
    """As `unknown_fields`, for any part of an object and the schema of that part."""
    if _knows(schema, value):
        return []
    found: list[str] = []
    for path in _walk(schema, value, "", 0):
        found.append(path)
        if len(found) == MAX_REPORTED:
            break
    return found


def prune(kind: Kind, obj: Object) -> Object:
    """A copy of an object without unknown fields."""
    pruned = prune_value(schema_of(kind), obj)
    return pruned if isinstance(pruned, dict) else {}


def prune_value(schema: Schema, value: Any) -> Any:
    """As `prune`, for any part of an object and the schema of that part."""
    return clone(value) if _knows(schema, value) else _prune(schema, value)


def _prune(schema: Schema, value: Any) -> Any:
    if schema.preserve_unknown or not isinstance(value, dict | list):
        return clone(value)
    if isinstance(value, list):
        items = schema.items
        return clone(value) if items is None else [_prune(items, item) for item in value]
    properties, additional = schema.properties, schema.additional_properties
    result: dict[str, Any] = {}
    for field, item in value.items():
        child = properties.get(field, additional)
        if child is not None:
            result[field] = _prune(child, item) if isinstance(item, dict | list) else item
    return result


def did_you_mean(kind: Kind, path: str) -> str:
    """The path that was probably meant by an unknown one, or "".

    Args:
        path: as `unknown_fields` gives it. First a like name at the same place is looked for, then the very
            name one level up or down, for what was indented wrongly.
    """
    *parents, name = _steps(path)
    node = _node(schema_of(kind), parents)
    if node is None:
        return ""
    prefix = path.removesuffix(name)
    if close := nearest(name, node.properties):
        return f"{prefix}{close}"
    for field, child in node.properties.items():
        inner = child.items if child.is_list and child.items is not None else child
        if name in inner.properties:
            return f"{prefix}{field}{'[]' if child.is_list else ''}.{name}"
    for depth in range(len(parents) - 1, -1, -1):
        above = _node(schema_of(kind), parents[:depth])
        if above is not None and name in above.properties:
            return _join([*parents[:depth], name])
    return ""


def nearest(name: str, candidates: Iterable[str]) -> str:
    """The candidate most like a name, or "" when none is like it. Case counts for little."""
    by_lower = {candidate.lower(): candidate for candidate in candidates}
    if name.lower() in by_lower:
        return by_lower[name.lower()]
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=_LIKENESS)
    return by_lower[close[0]] if close else ""


def _knows(schema: Schema, value: Any) -> bool:
    """Whether there is no unknown field: nearly always so, and the answer that most callers need."""
    if type(value) is dict:
        if schema.preserve_unknown:
            return True
        properties, additional = schema.properties, schema.additional_properties
        if additional is not None and additional.is_scalar:
            return True
        for field, item in value.items():
            child = properties.get(field, additional)
            if child is None:
                return False
            kind = type(item)
            if (kind is dict or kind is list) and not _knows(child, item):
                return False
    elif type(value) is list and not schema.preserve_unknown:
        items = schema.items
        if items is not None and not items.is_scalar:
            return all(_knows(items, item) for item in value)
    return True


def _walk(schema: Schema, value: Any, path: str, depth: int) -> Iterator[str]:
    if schema.preserve_unknown or depth > MAX_DEPTH:
        return
    if isinstance(value, list):
        items = schema.items
        if items is not None:
            for index, item in enumerate(value):
                if isinstance(item, dict | list):
                    yield from _walk(items, item, f"{path}[{index}]", depth + 1)
        return
    if not isinstance(value, dict):
        return
    properties, additional = schema.properties, schema.additional_properties
    for field, item in value.items():
        child = properties.get(field, additional)
        below = f"{path}.{field}" if path else field
        if child is None:
            yield below
        elif isinstance(item, dict | list):
            yield from _walk(child, item, below, depth + 1)


def _steps(path: str) -> list[str]:
    """`spec.containers[0].image` as its field names and indices."""
    return path.replace("[", ".[").split(".")


def _join(steps: list[str]) -> str:
    return ".".join(steps).replace(".[", "[")


def _node(schema: Schema, steps: list[str]) -> Schema | None:
    node: Schema | None = schema
    for step in steps:
        if node is None:
            return None
        node = node.items if step.startswith("[") else node.child(step)
    return node
