"""What a schema may say of how its lists and maps are merged.

Source: k8s.io/apiextensions-apiserver, pkg/apis/apiextensions/validation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gitkube.objects.validation.causes import Causes

Raw = Mapping[str, Any]
LIST_TYPE, MAP_KEYS, MAP_TYPE = (
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type",
)


def check_map_type(causes: Causes, schema: Raw, path: str) -> None:
    """`x-kubernetes-map-type`."""
    word = schema.get(MAP_TYPE)
    if not word:
        return
    if schema.get("type") != "object":
        _wrong_type(causes, schema, path, f"must be object if {MAP_TYPE} is specified")
    if word not in ("atomic", "granular"):
        causes.not_supported(f"{path}.{MAP_TYPE}", word, ("atomic", "granular"))


def check_list_type(causes: Causes, schema: Raw, path: str) -> None:
    """`x-kubernetes-list-type` and the keys of a map."""
    word, keys = schema.get(LIST_TYPE), schema.get(MAP_KEYS) or []
    if keys and word != "map":
        if word:
            causes.invalid(f"{path}.{LIST_TYPE}", word, f"must be map if {MAP_KEYS} is non-empty")
        else:
            causes.required(f"{path}.{LIST_TYPE}", f"must be map if {MAP_KEYS} is non-empty")
    if not word:
        return
    if schema.get("type") != "array":
        _wrong_type(causes, schema, path, f"must be array if {LIST_TYPE} is specified")
        return
    items = schema.get("items")
    if word not in ("atomic", "set", "map"):
        causes.not_supported(f"{path}.{LIST_TYPE}", word, ("atomic", "set", "map"))
    elif not isinstance(items, Mapping):
        return  # what a list without items is, is said elsewhere
    elif word == "set":
        _check_set(causes, items, f"{path}.items")
    elif word == "map":
        _check_map(causes, items, keys, path)


def _wrong_type(causes: Causes, schema: Raw, path: str, text: str) -> None:
    if kind := schema.get("type"):
        causes.invalid(f"{path}.type", kind, text)
    else:
        causes.required(f"{path}.type", text)


def _check_set(causes: Causes, items: Raw, path: str) -> None:
    if items.get("nullable"):
        causes.forbidden(f"{path}.nullable", f"cannot be nullable when {LIST_TYPE} is set")
    if items.get("type") == "object" and items.get(MAP_TYPE) != "atomic":
        given = items.get(MAP_TYPE) or "null"
        causes.invalid(f"{path}.{MAP_TYPE}", given, f"must be atomic as item of a list with {LIST_TYPE}=set")
    if items.get("type") == "array" and items.get(LIST_TYPE) not in (None, "atomic"):
        text = f"must be atomic as item of a list with {LIST_TYPE}=set"
        causes.invalid(f"{path}.{LIST_TYPE}", items[LIST_TYPE], text)


def _check_map(causes: Causes, items: Raw, keys: list[str], path: str) -> None:
    if items.get("type") != "object":
        text = f"must be object if parent array's {LIST_TYPE} is map"
        _wrong_type(causes, items, f"{path}.items", text)
        return
    if items.get("nullable"):
        causes.forbidden(f"{path}.items.nullable", f"cannot be nullable when {LIST_TYPE} is map")
    if not keys:
        causes.required(f"{path}.{MAP_KEYS}", f"must not be empty if {LIST_TYPE} is map")
        return
    properties, required = items.get("properties") or {}, items.get("required") or ()
    for key in keys:
        place, field = f"{path}.items.properties[{key}]", properties.get(key)
        if field is None:
            causes.invalid(f"{path}.{MAP_KEYS}", keys, "entries must all be names of item properties")
            continue
        if field.get("type") in ("array", "object"):
            text = f"must be a scalar type if parent array's {LIST_TYPE} is map"
            causes.invalid(f"{place}.type", field["type"], text)
        if field.get("nullable"):
            causes.forbidden(f"{place}.nullable", f"this property is in {MAP_KEYS}, so it cannot be nullable")
        if field.get("default") is None and key not in required:
            text = f"this property is in {MAP_KEYS}, so it must have a default or be a required property"
            causes.required(f"{place}.default", text)
    if len(set(keys)) < len(keys):
        causes.invalid(f"{path}.{MAP_KEYS}", keys, "must not contain duplicate entries")
