"""Fields that a custom resource's schema does not know: named and dropped.

Kubernetes' pruning: a field that no node declares vanishes, unless the node above keeps unknown fields or
has `additionalProperties`; inside kept fields, declared ones are pruned again. apiVersion, kind and metadata
belong to the root and to embedded resources. A null where the schema allows none, and has no default, is
nothing and vanishes as well.
Source: k8s.io/apiextensions-apiserver, pkg/apiserver/schema/{pruning,defaulting}.

Invariant: pruning what is pruned changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gitkube.objects.custom.schema import CustomSchema
from gitkube.objects.patch.copying import clone
from gitkube.objects.prune import prune_value
from gitkube.objects.schema import Schema
from gitkube.objects.walk import walk


def pruned(schema: Schema, value: Any) -> Any:
    """A copy of a value without what its schema does not know."""
    if not isinstance(schema, CustomSchema):
        return prune_value(schema, value)
    if isinstance(value, dict):
        result: dict[str, Any] = {}
        keeps = schema.keeps_all
        for field, item in value.items():
            child = schema.declared(field)
            if child is not None:
                result[field] = pruned(child, item) if isinstance(item, dict | list) else item
            elif keeps:
                result[field] = clone(item)
        return result
    if isinstance(value, list):
        items = schema.items
        return [pruned(items, item) for item in value] if items is not None else clone(value)
    return value


def unknown_paths(schema: Schema, value: Any, path: str = "") -> Iterator[str]:
    """Paths of what `pruned` would drop, in the order of the object."""
    if not isinstance(schema, CustomSchema):
        for node in walk(schema, value):
            if node.schema is None:
                yield f"{path}.{node.path}" if path else node.path
        return
    if isinstance(value, dict):
        keeps = schema.keeps_all
        for field, item in value.items():
            child = schema.declared(field)
            place = f"{path}.{field}" if path else field
            if child is None:
                if not keeps:
                    yield place
            elif isinstance(item, dict | list):
                yield from unknown_paths(child, item, place)
    elif isinstance(value, list) and schema.items is not None:
        for index, item in enumerate(value):
            yield from unknown_paths(schema.items, item, f"{path}[{index}]")


def drop_nulls(schema: Schema, value: Any) -> None:
    """Drop, in place, nulls that the schema does not allow; run after the defaults are in."""
    if not isinstance(schema, CustomSchema):
        return
    if isinstance(value, dict):
        for field in list(value):
            child = schema.declared(field)
            if not isinstance(child, CustomSchema):
                continue
            if value[field] is None:
                if not child.nullable:
                    del value[field]
            else:
                drop_nulls(child, value[field])
    elif isinstance(value, list) and schema.items is not None:
        for item in value:
            drop_nulls(schema.items, item)
