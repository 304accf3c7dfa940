"""Fields that the schema does not know: named, suggested for, and dropped.

A field nobody knows is most often a typo (`replica:`) or a field at the wrong depth. The API warns or
refuses, and never stores it; whoever wrote it gets the name that was probably meant.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

from gitkube.objects.kinds import Kind
from gitkube.objects.nearest import nearest
from gitkube.objects.patch.copying import clone
from gitkube.objects.schema import Schema, schema_of
from gitkube.objects.types import Object
from gitkube.objects.walk import Node, Steps, walk

MAX_REPORTED = 100
"""Unknown fields that are named; an object with more is of another kind altogether."""


def unknown_fields(kind: Kind, obj: Object) -> list[str]:
    """Paths of all fields that the kind's schema does not know, such as `spec.containers[0].imagePullPolcy`.

    In the order and the form of Kubernetes' strict decoder (`unknown field "spec.foo"`).
    """
    schema = schema_of(kind)
    if _knows(schema, obj):
        return []
    return [
        node.path for node in islice((one for one in walk(schema, obj) if one.schema is None), MAX_REPORTED)
    ]


def prune(kind: Kind, obj: Object) -> Object:
    """A copy of an object without unknown fields."""
    schema = schema_of(kind)
    pruned = clone(obj) if _knows(schema, obj) else _prune(schema, obj)
    return pruned if isinstance(pruned, dict) else {}


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


def did_you_mean(node: Node) -> Steps:
    """Where the field that was probably meant stands; () where none is like it.

    Args:
        node: of a field that the schema does not know. First a like name at the same place is looked for,
            then the very name one level down or up, for what was indented wrongly.
    """
    name, parent = str(node.step), node.parent
    if parent is None or parent.schema is None:
        return ()
    if close := nearest(name, parent.schema.properties):
        return (*parent.steps, close)
    for field, child in parent.schema.properties.items():
        inner = child.items if child.is_list and child.items is not None else child
        if name in inner.properties:
            return (*parent.steps, field, *((0,) if child.is_list else ()), name)
    while (parent := parent.parent) is not None:
        if parent.schema is not None and name in parent.schema.properties:
            return (*parent.steps, name)
    return ()


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
