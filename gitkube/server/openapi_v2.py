"""OpenAPI v2, for clients of before v3: all kinds in one document.

The definitions are the same as in v3, said in the older version's words: references point to `definitions`,
and a free choice of types is no type at all. What is built in is written once and kept as text, for the whole
is made anew whenever a definition changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import orjson

from gitkube.objects import schema as schemas
from gitkube.objects.kinds import Kind
from gitkube.server.openapi_custom import custom_definitions

_LOCAL = "#/$defs/"
_TARGET = "#/definitions/"
_GVK = "x-kubernetes-group-version-kind"
_ALTERNATIVES = ("oneOf", "anyOf", "allOf", "not")
_MEDIA = ["application/json", "application/yaml"]
_PATCHES = [
    "application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml",
    "application/strategic-merge-patch+json",
]  # fmt: skip


def document(kinds: Sequence[Kind], release: str) -> bytes:
    """The document of everything that is served.

    Args:
        release: of Kubernetes, such as `v1.37.0`.
    """
    definitions: dict[str, Any] = dict(_built_in_definitions())
    paths: dict[str, Any] = {}
    for kind in kinds:
        if kind.custom is None:
            paths |= _built_in_paths(kind)
            continue
        paths |= paths_of(kind)
        for name, raw in custom_definitions(kind, is_v2=True).items():
            definitions[name] = converted(raw)
    whole = {
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": release},
        "paths": paths,
        "definitions": dict(sorted(definitions.items())),
        "securityDefinitions": {
            "BearerToken": {
                "description": "Bearer Token authentication",
                "type": "apiKey",
                "name": "authorization",
                "in": "header",
            },
        },
        "security": [{"BearerToken": []}],
    }
    return orjson.dumps(whole)


@cache
def _built_in_definitions() -> Mapping[str, orjson.Fragment]:
    return {name: orjson.Fragment(orjson.dumps(raw)) for name, raw in built_in_definitions().items()}


def built_in_definitions() -> dict[str, Any]:
    """All definitions that are not of custom resources, by their names."""
    return {name: converted(raw) for name, raw in schemas.definitions().items()}


@cache
def _built_in_paths(kind: Kind) -> Mapping[str, orjson.Fragment]:
    return {path: orjson.Fragment(orjson.dumps(methods)) for path, methods in paths_of(kind).items()}


def converted(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A definition in the words of version 2."""
    result: dict[str, Any] = {}
    for key, value in raw.items():
        if key == "$ref":
            result["$ref"] = _TARGET + str(value).removeprefix(_LOCAL)
        elif key == "type":
            types = [word for word in ([value] if isinstance(value, str) else value) if word != "null"]
            if len(types) == 1:
                result["type"] = types[0]
        elif key == "properties":
            result["properties"] = {name: converted(child) for name, child in value.items()}
        elif key in ("items", "additionalProperties"):
            if isinstance(value, Mapping):
                result[key] = converted(value)
        elif key == "enum":
            result["enum"] = [word for word in value if word is not None]
        elif key not in _ALTERNATIVES:
            result[key] = value
    if any(key in raw for key in ("oneOf", "anyOf")) and "type" not in result and "$ref" not in result:
        result["type"] = "string"  # quantities, and numbers that may be texts: as Kubernetes declares them
    return result


def paths_of(kind: Kind) -> dict[str, Any]:
    """The paths of a kind, with their methods."""
    root = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
    place = f"{root}/namespaces/{{namespace}}/{kind.plural}" if kind.namespaced else f"{root}/{kind.plural}"
    inside = [_parameter("namespace")] if kind.namespaced else []
    one = [*inside, _parameter("name")]
    reference = {"$ref": _TARGET + schemas.definition_name(kind)}
    of_list = {"$ref": _TARGET + schemas.definition_name(kind) + "List"}
    verbs = set(kind.verbs)
    collection: dict[str, Any] = {}
    if "list" in verbs:
        collection["get"] = _operation(kind, "list", of_list)
    if "create" in verbs:
        collection["post"] = _operation(kind, "post", reference)
    if "deletecollection" in verbs:
        collection["delete"] = _operation(kind, "deletecollection", {})
    single: dict[str, Any] = {}
    for method, verb in (("get", "get"), ("put", "update"), ("patch", "patch"), ("delete", "delete")):
        if verb in verbs:
            single[method] = _operation(kind, method, {} if method == "delete" else reference)
    paths: dict[str, Any] = {place: {**collection, "parameters": inside}}
    if single:
        paths[f"{place}/{{name}}"] = {**single, "parameters": one}
    if kind.namespaced and "list" in verbs:
        paths[f"{root}/{kind.plural}"] = {"get": _operation(kind, "list", of_list), "parameters": []}
    for name in ("status", "scale"):
        if name in kind.subresources:
            target = {"$ref": _TARGET + "io.k8s.api.autoscaling.v1.Scale"} if name == "scale" else reference
            methods = {method: _operation(kind, method, target) for method in ("get", "patch", "put")}
            paths[f"{place}/{{name}}/{name}"] = {**methods, "parameters": one}
    return paths


def _operation(kind: Kind, action: str, answer: Mapping[str, Any]) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = []
    if action in ("post", "put", "patch"):
        body = answer if action != "patch" else {"type": "object"}
        parameters.append({"name": "body", "in": "body", "required": True, "schema": body})
        for name in ("dryRun", "fieldManager", "fieldValidation"):
            parameters.append({"name": name, "in": "query", "type": "string", "uniqueItems": True})
    return {
        "operationId": f"{action}{kind.group.replace('.', '').title()}{kind.version.title()}{kind.kind}",
        "tags": [f"{kind.group or 'core'}_{kind.version}"],
        "consumes": _patches(kind) if action == "patch" else ["*/*"],
        "produces": _MEDIA,
        "schemes": ["https"],
        "parameters": parameters,
        "responses": {"200": {"description": "OK", **({"schema": answer} if answer else {})}},
        "x-kubernetes-action": action,
        _GVK: {"group": kind.group, "version": kind.version, "kind": kind.kind},
    }


def _patches(kind: Kind) -> list[str]:
    return _PATCHES if kind.custom is None else _PATCHES[:-1]


def _parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "type": "string", "uniqueItems": True}
