"""OpenAPI v2 in protobuf: the only form in which kubectl reads that document.

kubectl validates a `kind: List` and a typed list by the OpenAPI v2 document, and asks for it as the message
`openapi.v2.Document` of gnostic (its OpenAPIv2.proto has the numbers of the fields). Only what its readers
look at is written: the definitions, and for older kubectls the queries that PATCH takes. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

MEDIA_TYPE = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
"""What a client asks for."""
ANSWERED_TYPE = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
"""What Kubernetes calls its answer, which is not quite the same."""
_BYTES = 2
_EXTENSION_PREFIX = "x-"
_METHODS = {"get": 2, "put": 3, "post": 4, "delete": 5, "patch": 8}


def encode(document: Mapping[str, Any]) -> bytes:
    """The document, which is OpenAPI v2 as JSON has it, as a message."""
    info = document.get("info") or {}
    return b"".join(
        (
            _text(1, str(document.get("swagger", "2.0"))),
            _message(2, _text(1, str(info.get("title", ""))) + _text(2, str(info.get("version", "")))),
            _message(8, _named(2, ((path, _path_item(item)) for path, item in _items(document, "paths")))),
            _message(9, _named(1, ((name, _schema(raw)) for name, raw in _items(document, "definitions")))),
        )
    )


def _items(raw: Mapping[str, Any], key: str) -> Iterable[tuple[str, Mapping[str, Any]]]:
    return (raw.get(key) or {}).items()


def _schema(raw: Mapping[str, Any]) -> bytes:
    parts = [_text(1, raw["$ref"]) if "$ref" in raw else b""]
    parts += [_text(number, raw[key]) for number, key in ((2, "format"), (3, "title")) if raw.get(key)]
    if raw.get("description"):
        parts.append(_text(4, raw["description"]))
    parts += [_text(19, name) for name in raw.get("required") or ()]
    if isinstance(raw.get("additionalProperties"), Mapping):
        parts.append(_message(21, _message(1, _schema(raw["additionalProperties"]))))
    if isinstance(raw.get("type"), str):
        parts.append(_message(22, _text(1, raw["type"])))
    if isinstance(raw.get("items"), Mapping):
        parts.append(_message(23, _message(1, _schema(raw["items"]))))
    if raw.get("properties"):
        named = _named(1, ((name, _schema(child)) for name, child in raw["properties"].items()))
        parts.append(_message(25, named))
    parts.append(_extensions(31, raw))
    return b"".join(parts)


def _path_item(raw: Mapping[str, Any]) -> bytes:
    return b"".join(
        _message(_METHODS[method], _operation(operation))
        for method, operation in raw.items()
        if method in _METHODS
    )


def _operation(raw: Mapping[str, Any]) -> bytes:
    queries = (one for one in raw.get("parameters") or () if one.get("in") == "query")
    return b"".join(
        (
            _text(5, str(raw.get("operationId", ""))),
            *(_message(8, _message(1, _message(2, _message(3, _query(one))))) for one in queries),
            _extensions(13, raw),
        )
    )


def _query(raw: Mapping[str, Any]) -> bytes:
    return _text(2, "query") + _text(4, str(raw.get("name", ""))) + _text(6, str(raw.get("type", "string")))


def _extensions(number: int, raw: Mapping[str, Any]) -> bytes:
    """What begins with x-: its value is YAML, of which JSON is a part."""
    return b"".join(
        _message(number, _text(1, key) + _message(2, _bytes(2, orjson.dumps(value))))
        for key, value in raw.items()
        if key.startswith(_EXTENSION_PREFIX)
    )


def _named(number: int, members: Iterable[tuple[str, bytes]]) -> bytes:
    return b"".join(_message(number, _text(1, name) + _message(2, value)) for name, value in members)


def _message(number: int, body: bytes) -> bytes:
    return _bytes(number, body)


def _text(number: int, value: str) -> bytes:
    return _bytes(number, value.encode())


def _bytes(number: int, body: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(body)) + body


def _varint(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)
