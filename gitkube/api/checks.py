"""Fields that a kind's schema does not know: found, and taken out."""

from __future__ import annotations

from typing import Any

from gitkube.objects.kinds import Kind
from gitkube.objects.schema import Schema, schema_of
from gitkube.objects.types import Object


def unknown_fields(kind: Kind, obj: Object) -> list[str]:
    found: list[str] = []
    _walk(schema_of(kind), obj, "", found)
    return found


def prune(kind: Kind, obj: Object) -> Object:
    result: Object = _pruned(schema_of(kind), obj)
    return result


def _walk(schema: Schema | None, value: Any, path: str, found: list[str]) -> None:
    if schema is None or schema.preserve_unknown:
        return
    if isinstance(value, dict):
        for key, item in value.items():
            here = f"{path}.{key}" if path else key
            child = schema.child(key)
            if child is None:
                found.append(here)
            else:
                _walk(child, item, here, found)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _walk(schema.items, item, f"{path}[{index}]", found)


def _pruned(schema: Schema | None, value: Any) -> Any:
    if schema is None or schema.preserve_unknown:
        return value
    if isinstance(value, dict):
        return {
            key: _pruned(child, item)
            for key, item in value.items()
            if (child := schema.child(key)) is not None
        }
    if isinstance(value, list):
        return [_pruned(schema.items, item) for item in value]
    return value
