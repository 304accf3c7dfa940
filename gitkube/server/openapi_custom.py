"""The definitions of custom resources in OpenAPI: of each kind its schema, and that of its list.

They are written as the definitions of built-in kinds are, so that `openapi.py` treats them alike. In version
2, which knows less than version 3, what it cannot say is left out, as Kubernetes does it: a schema there may
say too little, and must never refuse what the server takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gitkube.objects.custom.schema import EMBEDDED, OBJECT_META, PRESERVE
from gitkube.objects.kinds import Kind

_GVK = "x-kubernetes-group-version-kind"
_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_CONVENTIONS = "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md"
_TYPE_META: Mapping[str, Any] = {
    "apiVersion": {
        "type": "string",
        "description": "APIVersion defines the versioned schema of this representation of an object. Servers "
        "should convert recognized schemas to the latest internal value, and may reject unrecognized values. "
        f"More info: {_CONVENTIONS}#resources",
    },
    "kind": {
        "type": "string",
        "description": "Kind is a string value representing the REST resource this object represents. "
        "Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In "
        "CamelCase. "
        f"More info: {_CONVENTIONS}#types-kinds",
    },
}
_METADATA: Mapping[str, Any] = {
    "$ref": f"#/$defs/{OBJECT_META}",
    "description": f"Standard object's metadata. More info: {_CONVENTIONS}#metadata",
}
_NOT_IN_V2 = frozenset({"oneOf", "anyOf", "allOf", "not", "nullable", "x-kubernetes-validations"})


def custom_definitions(kind: Kind, *, is_v2: bool = False) -> dict[str, Any]:
    """Name -> schema, of the objects and the lists of a custom kind."""
    assert kind.custom is not None
    name, raw = kind.custom.definition_name, dict(kind.custom.raw_schema)
    if is_v2 and kind.custom.schema.keeps_unknown:
        # With any field declared, clients would take all others for unknown.
        raw = {"type": "object"}
    else:
        raw = for_v2(raw) if is_v2 else raw
        properties = {key: _embedded(value) for key, value in (raw.get("properties") or {}).items()}
        raw["properties"] = {**_TYPE_META, **properties, **_described(properties), "metadata": _METADATA}
    raw[_GVK] = [{"group": kind.group, "version": kind.version, "kind": kind.kind}]
    listed = {
        "description": f"{kind.list_kind} is a list of {kind.kind}",
        "type": "object",
        "required": ["items"],
        "properties": {
            **_TYPE_META,
            "items": {
                "description": f"List of {kind.plural}. More info: {_CONVENTIONS}",
                "type": "array",
                "items": {"$ref": f"#/$defs/{name}"},
            },
            "metadata": {
                "$ref": f"#/$defs/{_META}ListMeta",
                "description": f"Standard list metadata. More info: {_CONVENTIONS}#types-kinds",
            },
        },
        _GVK: [{"group": kind.group, "version": kind.version, "kind": kind.list_kind}],
    }
    return {name: raw, f"{name}List": listed}


def _described(properties: Mapping[str, Any]) -> dict[str, Any]:
    """apiVersion and kind, with whatever else a definition demands of them."""
    return {field: {**_TYPE_META[field], **(properties.get(field) or {})} for field in _TYPE_META}


def _embedded(raw: Any) -> Any:
    """A schema in which embedded resources have what every object has."""
    if not isinstance(raw, Mapping):
        return raw
    result = dict(raw)
    if isinstance(raw.get("properties"), Mapping):
        result["properties"] = {key: _embedded(value) for key, value in raw["properties"].items()}
    for key in ("items", "additionalProperties"):
        if key in raw:
            result[key] = _embedded(raw[key])
    if raw.get(EMBEDDED):
        result["properties"] = {**(result.get("properties") or {}), **_TYPE_META, "metadata": _METADATA}
    return result


def for_v2(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A schema without what OpenAPI 2 cannot say."""
    result = {key: value for key, value in raw.items() if key not in _NOT_IN_V2}
    if raw.get("nullable") or raw.get("x-kubernetes-int-or-string"):
        # null, or two types: version 2 has no words for either, so nothing is said of the type.
        for key in ("type", "items", "properties", "additionalProperties", "format", "required"):
            result.pop(key, None)
        return result
    if raw.get(PRESERVE):
        # Of a type with nothing declared, older kubectls take every field for unknown; so of these as well.
        for key in ("type", "items", "properties", "additionalProperties", "required"):
            result.pop(key, None)
        return result
    if isinstance(raw.get("properties"), Mapping):
        result["properties"] = {key: for_v2(value) for key, value in raw["properties"].items()}
        may_be_null = {key for key, value in raw["properties"].items() if value.get("nullable")}
        if may_be_null & set(raw.get("required") or ()):
            # null is there and says nothing, which older kubectls do not understand.
            result["required"] = [name for name in raw["required"] if name not in may_be_null]
    for key in ("items", "additionalProperties"):
        if isinstance(raw.get(key), Mapping):
            result[key] = for_v2(raw[key])
    return result
