"""What a custom resource gets that its author left out, as the defaults in its schema say.

A field that is absent, or null where null is not allowed, gets its default; then the defaults below it are
filled in. Nothing is made for the sake of a default deeper down: where the parent is absent, so is the field.
Source: k8s.io/apiextensions-apiserver, pkg/apiserver/schema/defaulting.

Invariant: filling in what is filled in changes nothing.
"""

from __future__ import annotations

from typing import Any

from gitkube.objects.custom.pruning import drop_nulls
from gitkube.objects.custom.schema import OBJECT_META, CustomSchema
from gitkube.objects.normalise import normalise_value
from gitkube.objects.patch.copying import clone
from gitkube.objects.schema import Schema, named_schema
from gitkube.objects.types import Object


def with_defaults(schema: CustomSchema, obj: Object) -> Object:
    """A copy of an object with its defaults, without nulls that are none, and with metadata in one
    spelling."""
    result: Object = clone(obj)
    fill_in(schema, result)
    metadata = result.get("metadata")
    if isinstance(metadata, dict):
        result["metadata"] = normalise_value(named_schema(OBJECT_META), metadata)
    return result


def fill_in(schema: CustomSchema, obj: Object) -> None:
    """As `with_defaults`, in place, and nothing of the metadata."""
    if schema.has_defaults:
        _fill(schema, obj)
    drop_nulls(schema, obj)


def _fill(schema: Schema, value: Any) -> None:
    if not isinstance(schema, CustomSchema) or not schema.has_defaults:
        return
    if isinstance(value, dict):
        for field, child in schema.properties.items():
            if child.default is not None and _is_unset(child, value, field):
                value[field] = clone(child.default)
        additional = schema.additional_properties
        for field, item in value.items():
            below = schema.properties.get(field, additional)
            if below is None:
                continue
            if item is None and below.default is not None and _is_unset(below, value, field):
                value[field] = clone(below.default)
            _fill(below, value[field])
    elif isinstance(value, list) and (items := schema.items) is not None:
        for index, item in enumerate(value):
            if item is None and items.default is not None and not getattr(items, "nullable", False):
                value[index] = clone(items.default)
            _fill(items, value[index])


def _is_unset(schema: Schema, holder: dict[str, Any], field: str) -> bool:
    if field not in holder:
        return True
    return holder[field] is None and isinstance(schema, CustomSchema) and not schema.nullable
