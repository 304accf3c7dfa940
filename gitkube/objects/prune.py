"""A value without the fields that its built-in schema does not know.

The part of pruning that needs no kind: `unknown.py` does it for whole objects, `custom/pruning.py` for the
metadata in custom resources.
"""

from __future__ import annotations

from typing import Any

from gitkube.objects.patch.copying import clone
from gitkube.objects.schema import Schema


def prune_value(schema: Schema, value: Any) -> Any:
    """As `prune`, for any value of a built-in schema."""
    return clone(value) if knows(schema, value) else _prune(schema, value)


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


def knows(schema: Schema, value: Any) -> bool:
    """Whether there is no unknown field: nearly always so, and the answer that most callers need."""
    if isinstance(value, dict):
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
            if (kind is dict or kind is list) and not knows(child, item):
                return False
    elif type(value) is list and not schema.preserve_unknown:
        items = schema.items
        if items is not None and not items.is_scalar:
            return all(knows(items, item) for item in value)
    return True
