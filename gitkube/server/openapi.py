"""OpenAPI v3: what kubectl reads before it applies, diffs and explains.

A document for each group and version, made of the schemas that the API itself goes by, so that the two cannot
disagree. Paths are there for two reasons only: kubectl finds a kind behind a resource by them, and learns
from PATCH's parameters whether it may ask for `fieldValidation` and `dryRun`. Documents are made when first
asked for and kept, compressed; their names carry a hash, so clients keep them for ever.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from aiohttp import web

import gitkube
from gitkube.objects import schema as schemas
from gitkube.objects.kinds import Kind
from gitkube.server.answers import accepts_gzip, json_answer
from gitkube.server.paths import unknown_path

_LOCAL = "#/$defs/"
_COMPONENTS = "#/components/schemas/"
_GVK = "x-kubernetes-group-version-kind"
_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_ALWAYS = (_META + "DeleteOptions", _META + "Status", _META + "Patch")
_QUERY_OF_WRITES = ("dryRun", "fieldManager", "fieldValidation", "pretty")
_PATCH_TYPES = (
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
)


class OpenApi:
    """The documents of the kinds that are served."""

    def __init__(self, kinds: Sequence[Kind]) -> None:
        self._kinds: dict[str, list[Kind]] = {}
        for kind in kinds:
            self._kinds.setdefault(_path_of(kind), []).append(kind)
        self._documents: dict[str, tuple[bytes, bytes]] = {}

    def index(self, request: web.Request) -> web.Response:
        """The answer to `/openapi/v3`."""
        paths = {
            path: {"serverRelativeURL": f"/openapi/v3/{path}?hash={self._hash(path)}"} for path in self._kinds
        }
        return json_answer(request, {"paths": paths})

    def document(self, request: web.Request, path: str) -> web.Response:
        """The answer to `/openapi/v3/PATH`, such as `apis/apps/v1`.

        Raises:
            StatusError: 404, no such group and version.
        """
        if path not in self._kinds:
            raise unknown_path()
        tag = f'"{self._hash(path)}"'
        headers = {"ETag": tag, "Vary": "Accept-Encoding", "Content-Type": "application/json"}
        is_by_hash = request.query.get("hash") == self._hash(path)
        headers["Cache-Control"] = (
            "public, immutable, max-age=31536000" if is_by_hash else "no-cache, private"
        )
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers=headers)
        plain, compressed = self._made(path)
        if accepts_gzip(request):
            return web.Response(body=compressed, headers={**headers, "Content-Encoding": "gzip"})
        return web.Response(body=plain, headers=headers)

    def v2(self, request: web.Request) -> web.Response:
        """The answer to `/openapi/v2`: that there is nothing in it; kubectl goes by v3 then."""
        document = {
            "swagger": "2.0",
            "info": {"title": "Kubernetes", "version": _version()},
            "paths": {},
            "definitions": {},
        }
        return json_answer(request, document)

    def _hash(self, path: str) -> str:
        # What a document is made of is fixed by these, so it need not be made to know its hash.
        parts = (gitkube.__version__, schemas.SCHEMA_RELEASE, *(repr(kind) for kind in self._kinds[path]))
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32].upper()

    def _made(self, path: str) -> tuple[bytes, bytes]:
        if path not in self._documents:
            plain = orjson.dumps(document(self._kinds[path]))
            self._documents[path] = (plain, gzip.compress(plain, 6, mtime=0))
        return self._documents[path]


def document(kinds: Sequence[Kind]) -> dict[str, Any]:
    """The OpenAPI v3 document of kinds of one group and version."""
    definitions = schemas.definitions()
    wanted = [name for name in _ALWAYS if name in definitions]
    for kind in kinds:
        name = schemas.definition_name(kind)
        wanted += [name, *([name + "List"] if name + "List" in definitions else [])]
    if any("scale" in kind.subresources for kind in kinds):
        wanted.append("io.k8s.api.autoscaling.v1.Scale")
    if any("eviction" in kind.subresources for kind in kinds):
        wanted.append("io.k8s.api.policy.v1.Eviction")
    components: dict[str, Any] = {}
    while wanted:
        name = wanted.pop()
        if name not in components:
            components[name] = _converted(definitions[name], wanted)
    paths: dict[str, Any] = {}
    for kind in kinds:
        paths |= _paths(kind)
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": _version()},
        "paths": paths,
        "components": {"schemas": dict(sorted(components.items()))},
    }


def _path_of(kind: Kind) -> str:
    return f"apis/{kind.group}/{kind.version}" if kind.group else f"api/{kind.version}"


def _version() -> str:
    return schemas.SCHEMA_RELEASE.removesuffix("-local")


def _converted(raw: Mapping[str, Any], wanted: list[str]) -> dict[str, Any]:
    """A definition as OpenAPI writes it: one type, no null, references to components.

    Args:
        wanted: gets the names that it refers to.
    """
    result: dict[str, Any] = {}
    for key, value in raw.items():
        if key == "$ref":
            name = value.removeprefix(_LOCAL)
            wanted.append(name)
            # OpenAPI 3.0 ignores what stands beside a $ref, so it goes into an allOf, as Kubernetes does it.
            reference = {"$ref": _COMPONENTS + name}
            result |= {"allOf": [reference]} if len(raw) > 1 else reference
        elif key == "type":
            types = [word for word in ([value] if isinstance(value, str) else value) if word != "null"]
            result["type"] = types[0]
        elif key == "properties":
            result["properties"] = {name: _property(name, child, wanted) for name, child in value.items()}
        elif key in ("items", "additionalProperties", "not"):
            result[key] = _converted(value, wanted) if isinstance(value, Mapping) else value
        elif key in ("oneOf", "anyOf", "allOf"):
            result[key] = [_converted(child, wanted) for child in value]
        elif key == "enum":
            result["enum"] = [word for word in value if word is not None]
        else:
            result[key] = value
    if result.get("additionalProperties") is False:
        del result["additionalProperties"]  # the strict variant's way to say what `properties` says already
    return result


def _property(name: str, raw: Mapping[str, Any], wanted: list[str]) -> dict[str, Any]:
    converted = _converted(raw, wanted)
    if name in ("apiVersion", "kind"):
        converted.pop("enum", None)  # Kubernetes documents these as plain strings
    return converted


def _paths(kind: Kind) -> dict[str, Any]:
    root = f"/{_path_of(kind)}"
    collection = (
        f"{root}/namespaces/{{namespace}}/{kind.plural}" if kind.namespaced else f"{root}/{kind.plural}"
    )
    place = [_path_parameter("namespace")] if kind.namespaced else []
    of_one = [*place, _path_parameter("name")]
    paths: dict[str, Any] = {
        collection: {
            "get": _operation(kind, "list", ("labelSelector", "fieldSelector", "limit", "continue", "watch")),
            "post": _operation(kind, "post", _QUERY_OF_WRITES),
            "delete": _operation(kind, "deletecollection", ("labelSelector", "fieldSelector", "dryRun")),
            "parameters": place,
        },
        f"{collection}/{{name}}": {**_object_operations(kind), "parameters": of_one},
    }
    if kind.namespaced:
        paths[f"{root}/{kind.plural}"] = {"get": _operation(kind, "list", ("labelSelector", "fieldSelector"))}
    for subresource in ("status", "scale"):
        if subresource in kind.subresources:
            operations = {
                method: operation
                for method, operation in _object_operations(kind).items()
                if method != "delete"
            }
            paths[f"{collection}/{{name}}/{subresource}"] = {**operations, "parameters": of_one}
    return paths


def _object_operations(kind: Kind) -> dict[str, Any]:
    return {
        "get": _operation(kind, "get", ("pretty",)),
        "put": _operation(kind, "put", _QUERY_OF_WRITES),
        "patch": _operation(kind, "patch", (*_QUERY_OF_WRITES, "force")),
        "delete": _operation(kind, "delete", ("dryRun", "gracePeriodSeconds", "propagationPolicy")),
    }


def _operation(kind: Kind, action: str, query: Sequence[str]) -> dict[str, Any]:
    reference = {"$ref": _COMPONENTS + schemas.definition_name(kind)}
    operation: dict[str, Any] = {
        "operationId": f"{action}{kind.group.replace('.', '').title()}{kind.version.title()}{kind.kind}",
        "tags": [f"{kind.group or 'core'}_{kind.version}"],
        "parameters": [
            {"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": True}} for name in query
        ],
        "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": reference}}}},
        "x-kubernetes-action": action,
        _GVK: {"group": kind.group, "version": kind.version, "kind": kind.kind},
    }
    if action in ("post", "put"):
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": reference}}}
    elif action == "patch":
        free_form = {"schema": {"type": "object"}}
        operation["requestBody"] = {"required": True, "content": dict.fromkeys(_PATCH_TYPES, free_form)}
    return operation


def _path_parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "uniqueItems": True}}
