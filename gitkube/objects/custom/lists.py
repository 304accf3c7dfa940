"""Lists of type set and map in a custom resource: no element twice, and no key.

Source: k8s.io/apiextensions-apiserver, pkg/apiserver/schema/listtype.
"""

from __future__ import annotations

import json
from typing import Any

from gitkube.objects.custom.schema import CustomSchema
from gitkube.objects.schema import Schema
from gitkube.objects.validation.causes import Causes


def check_lists(causes: Causes, schema: Schema | None, value: Any, path: str = "") -> None:
    """Add a cause for each element that is there a second time; one that is there more often is named
    once."""
    if not isinstance(schema, CustomSchema):
        return
    if isinstance(value, dict):
        for field, item in value.items():
            if isinstance(item, dict | list):
                check_lists(causes, schema.declared(field), item, f"{path}.{field}" if path else field)
    elif isinstance(value, list):
        if schema.list_type in ("set", "map"):
            _check_twice(causes, schema, value, path)
        if schema.items is not None and not schema.items.is_scalar:
            for index, item in enumerate(value):
                check_lists(causes, schema.items, item, f"{path}[{index}]")


def _check_twice(causes: Causes, schema: CustomSchema, value: list[Any], path: str) -> None:
    seen: dict[str, int] = {}
    for index, item in enumerate(value):
        identity = item
        if schema.list_type == "map":
            if not isinstance(item, dict):
                continue
            identity = {key: item[key] for key in schema.list_map_keys if key in item}
        text = json.dumps(identity, sort_keys=True)
        seen[text] = seen.get(text, 0) + 1
        if seen[text] == 2:
            causes.duplicate(f"{path}[{index}]", identity)
