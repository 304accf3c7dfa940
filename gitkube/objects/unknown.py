"""Fields that the schema does not know: named, suggested for, and dropped.

A field nobody knows is most often a typo (`replica:`) or a field at the wrong depth. The API warns or
refuses, and never stores it; whoever wrote it gets the name that was probably meant.
"""

from __future__ import annotations

from itertools import islice

from gitkube.objects.custom import pruning
from gitkube.objects.kinds import Kind
from gitkube.objects.nearest import nearest
from gitkube.objects.prune import knows, prune_value
from gitkube.objects.schema import schema_of
from gitkube.objects.types import Object
from gitkube.objects.walk import Node, Steps, walk

MAX_REPORTED = 100
"""Unknown fields that are named; an object with more is of another kind altogether."""


def unknown_fields(kind: Kind, obj: Object) -> list[str]:
    """Paths of all fields that the kind's schema does not know, such as `spec.containers[0].imagePullPolcy`.

    In the order and the form of Kubernetes' strict decoder (`unknown field "spec.foo"`).
    """
    if kind.custom is not None:
        return list(islice(pruning.unknown_paths(kind.custom.schema, obj), MAX_REPORTED))
    schema = schema_of(kind)
    if knows(schema, obj):
        return []
    return [
        node.path for node in islice((one for one in walk(schema, obj) if one.schema is None), MAX_REPORTED)
    ]


def prune(kind: Kind, obj: Object) -> Object:
    """A copy of an object without unknown fields."""
    if kind.custom is not None:
        kept: Object = pruning.pruned(kind.custom.schema, obj)
        return kept
    pruned = prune_value(schema_of(kind), obj)
    return pruned if isinstance(pruned, dict) else {}


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
