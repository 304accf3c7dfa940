"""OpenAPI v3: what kubectl reads before it applies, diffs and explains.

A document for each group and version, made of the schemas that the API itself goes by, so that the two cannot
disagree. Paths are there for two reasons only: kubectl finds a kind behind a resource by them, and learns
from PATCH's parameters whether it may ask for `fieldValidation` and `dryRun`. Documents are made when first
asked for and kept, compressed; their names carry a hash, so clients keep them for ever.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson
from aiohttp import web

import gitkube
from gitkube.objects import schema as schemas
from gitkube.objects.kinds import Kind
from gitkube.objects.registry import Registry
from gitkube.server import openapi_proto, openapi_v2
from gitkube.server.answers import accepts_gzip, json_answer
from gitkube.server.negotiation import is_json, not_acceptable, parse_accept
from gitkube.server.openapi_custom import custom_definitions
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
"""The last only of built-in kinds."""


class OpenApi:
    """The documents of the kinds that are served."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._version = -1
        self._known: dict[str, list[Kind]] = {}
        self._hashes: dict[str, str] = {}
        self._documents: dict[str, tuple[str, bytes, bytes]] = {}
        """Path -> hash, document, and document compressed."""
        self._v2: dict[str, tuple[int, str, bytes, bytes]] = {}
        """Content type -> version of the registry, tag, document, and document compressed."""

    @property
    def _kinds(self) -> dict[str, list[Kind]]:
        """Path of each group and version -> its kinds."""
        if self._version != self._registry.version:
            self._version = self._registry.version
            self._known, self._hashes = {}, {}
            for kind in self._registry.served:
                self._known.setdefault(_path_of(kind), []).append(kind)
            self._documents = {path: made for path, made in self._documents.items() if path in self._known}
        return self._known

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
        """The answer to `/openapi/v2`, as protobuf for those who ask for that first, else as JSON.

        Raises:
            StatusError: 406.
        """
        for offer in parse_accept(request.headers.get("Accept", "*/*")):
            if is_json(offer.type):
                return self._answer_v2(request, "application/json", openapi_v2.document)
            if offer.type in openapi_proto.CONTENT_TYPES:
                return self._answer_v2(request, openapi_proto.CONTENT_TYPES[0], openapi_proto.document)
        raise not_acceptable()

    def _answer_v2(
        self, request: web.Request, content_type: str, make: Callable[[Sequence[Kind], str], bytes]
    ) -> web.Response:
        made = self._v2.get(content_type)
        if made is None or made[0] != self._registry.version:
            plain = make(self._registry.served, _version())
            tag = f'"{hashlib.sha256(plain).hexdigest()[:32].upper()}"'
            # Quickly rather than well: it is made while requests wait, and rarely read twice.
            made = (self._registry.version, tag, plain, gzip.compress(plain, 1, mtime=0))
            self._v2[content_type] = made
        _, tag, plain, compressed = made
        headers = {"ETag": tag, "Vary": "Accept, Accept-Encoding", "Content-Type": content_type}
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers=headers)
        if accepts_gzip(request):
            return web.Response(body=compressed, headers={**headers, "Content-Encoding": "gzip"})
        return web.Response(body=plain, headers=headers)

    def _hash(self, path: str) -> str:
        # What a document is made of is fixed by these, so it need not be made to know its hash.
        kinds = self._kinds[path]
        if path not in self._hashes:
            parts = [gitkube.__version__, schemas.SCHEMA_RELEASE]
            for kind in kinds:
                parts.append(repr(kind))
                if kind.custom is not None:
                    parts.append(orjson.dumps(kind.custom.raw_schema).decode())
            self._hashes[path] = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32].upper()
        return self._hashes[path]

    def _made(self, path: str) -> tuple[bytes, bytes]:
        tag = self._hash(path)
        made = self._documents.get(path)
        if made is None or made[0] != tag:
            plain = orjson.dumps(document(self._kinds[path]))
            made = self._documents[path] = (tag, plain, gzip.compress(plain, 6, mtime=0))
        return made[1], made[2]


def document(kinds: Sequence[Kind]) -> dict[str, Any]:
    """The OpenAPI v3 document of kinds of one group and version."""
    definitions: Mapping[str, Any] = schemas.definitions()
    for kind in kinds:
        if kind.custom is not None:
            definitions = {**definitions, **custom_definitions(kind)}
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
        types = _PATCH_TYPES if kind.custom is None else _PATCH_TYPES[:-1]
        operation["requestBody"] = {"required": True, "content": dict.fromkeys(types, free_form)}
    return operation


def _path_parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "uniqueItems": True}}
