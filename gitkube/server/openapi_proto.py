"""OpenAPI v2 as protobuf: what `kubectl explain --output=plaintext-openapiv2` and clients of before v3 read.

Written by hand for the messages of gnostic's `OpenAPIv2.proto` that carry what such clients look at: the
definitions with their extensions, and of the paths only PATCH, whose parameters say whether a kind may be
asked for a dry run. A message is a run of fields, each a number, a wire type and its bytes; so what is built
in is encoded once, and the whole is put together by joining.
Source: github.com/google/gnostic, openapiv2/OpenAPIv2.proto (field numbers).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import orjson

from gitkube.objects.kinds import Kind
from gitkube.server import openapi_v2
from gitkube.server.openapi_custom import custom_definitions

CONTENT_TYPES = (
    "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
    "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
)
"""Newer clients ask for the first, older ones for the second, which is no media type; both get the first."""
_VARINT, _DOUBLE, _BYTES = 0, 1, 2
_TEXTS = {"$ref": 1, "format": 2, "title": 3, "description": 4, "pattern": 13}
_DOUBLES = {"multipleOf": 6, "maximum": 7, "minimum": 9}
_FLAGS = {"exclusiveMaximum": 8, "exclusiveMinimum": 10, "uniqueItems": 16}
_COUNTS = {
    "maxLength": 11, "minLength": 12, "maxItems": 14, "minItems": 15, "maxProperties": 17,
    "minProperties": 18,
}  # fmt: skip


def document(kinds: Sequence[Kind], release: str) -> bytes:
    """The document of everything that is served; see `openapi_v2.document`."""
    info = _text(1, "Kubernetes") + _text(2, release)
    definitions = [_built_in_definitions()]
    paths: list[bytes] = []
    for kind in kinds:
        if kind.custom is None:
            paths.append(_built_in_patches(kind))
            continue
        paths.append(_patches(kind))
        for name, raw in custom_definitions(kind, is_v2=True).items():
            definitions.append(_message(1, _named_schema(name, openapi_v2.converted(raw))))
    return b"".join(
        (
            _text(1, "2.0"),
            _message(2, info),
            _message(8, b"".join(paths)),
            _message(9, b"".join(definitions)),
        )
    )


@cache
def _built_in_definitions() -> bytes:
    return b"".join(
        _message(1, _named_schema(name, raw)) for name, raw in openapi_v2.built_in_definitions().items()
    )


@cache
def _built_in_patches(kind: Kind) -> bytes:
    return _patches(kind)


def _named_schema(name: str, raw: Mapping[str, Any]) -> bytes:
    return _text(1, name) + _message(2, _schema(raw))


def _schema(raw: Mapping[str, Any]) -> bytes:
    parts: list[bytes] = []
    for word, value in raw.items():
        if word in _TEXTS:
            parts.append(_text(_TEXTS[word], str(value)))
        elif word in _DOUBLES:
            parts.append(_key(_DOUBLES[word], _DOUBLE) + struct.pack("<d", value))
        elif word in _FLAGS:
            parts.append(_key(_FLAGS[word], _VARINT) + _varint(int(bool(value))))
        elif word in _COUNTS:
            parts.append(_key(_COUNTS[word], _VARINT) + _varint(value))
        elif word == "default":
            parts.append(_message(5, _any(value)))
        elif word == "required":
            parts.extend(_text(19, name) for name in value)
        elif word == "enum":
            parts.extend(_message(20, _any(one)) for one in value)
        elif word == "additionalProperties" and isinstance(value, Mapping):
            parts.append(_message(21, _message(1, _schema(value))))
        elif word == "type":
            parts.append(_message(22, _text(1, value)))
        elif word == "items" and isinstance(value, Mapping):
            parts.append(_message(23, _message(1, _schema(value))))
        elif word == "properties":
            named = (_message(1, _named_schema(name, child)) for name, child in value.items())
            parts.append(_message(25, b"".join(named)))
        elif word.startswith("x-"):
            parts.append(_message(31, _text(1, word) + _message(2, _any(value))))
    return b"".join(parts)


def _patches(kind: Kind) -> bytes:
    """Of each path of a kind, the PATCH."""
    found: list[bytes] = []
    for path, methods in openapi_v2.paths_of(kind).items():
        operation = methods.get("patch")
        if operation is None:
            continue
        parts = [_text(5, operation["operationId"])]
        parts += [
            _message(8, _query_parameter(one["name"]))
            for one in operation["parameters"]
            if one["in"] == "query"
        ]
        parts += [
            _message(13, _text(1, word) + _message(2, _any(value)))
            for word, value in operation.items()
            if word.startswith("x-")
        ]
        found.append(_message(2, _text(1, path) + _message(2, _message(8, b"".join(parts)))))
    return b"".join(found)


def _query_parameter(name: str) -> bytes:
    """A ParametersItem that holds a Parameter, a NonBodyParameter and a QueryParameterSubSchema."""
    query = _text(2, "query") + _text(4, name) + _text(6, "string")
    return _message(1, _message(2, _message(3, query)))


def _any(value: Any) -> bytes:
    return _text(2, orjson.dumps(value).decode())  # as YAML, which JSON is


def _key(number: int, wire_type: int) -> bytes:
    return _varint(number << 3 | wire_type)


def _text(number: int, text: str) -> bytes:
    return _message(number, text.encode())


def _message(number: int, content: bytes) -> bytes:
    return _key(number, _BYTES) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    if value < 0:
        value += 1 << 64
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
