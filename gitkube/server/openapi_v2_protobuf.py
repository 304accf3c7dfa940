"""OpenAPI v2 as protobuf, the only form in which kubectl reads it: for `kind: List`, and to explain.

The messages are gnostic's `openapi.v2`; the tables below name, for each, the fields that our document uses,
with their numbers and what they hold. What JSON says by the names of keys (paths, properties, extensions) are
lists of name and value there. Source: OpenAPIv2.proto of github.com/google/gnostic-models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

MEDIA_TYPE = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
ASKED_AS = ("application/com.github.proto-openapi.spec.v2@v1.0+protobuf", MEDIA_TYPE)
"""Clients ask by the first, which is no media type by RFC 2045, and cannot read it in an answer."""
_VARINT, _BYTES = 0, 2
_EXTENSION = "x-"

Encoder = Callable[[Any], bytes]
Fields = Mapping[str, tuple[int, Encoder]]


def encode(document: Mapping[str, Any]) -> bytes:
    """The message `Document`."""
    return _message(_DOCUMENT, document, extensions=16)


# ---------------------------------------------------------------------- the wire format


def _varint(value: int) -> bytes:
    result = bytearray()
    while value > 0x7F:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    result.append(value)
    return bytes(result)


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(content)) + content


def _message(fields: Fields, value: Mapping[str, Any], *, extensions: int) -> bytes:
    parts: list[bytes] = []
    for key, item in value.items():
        if key.startswith(_EXTENSION):
            parts.append(_field(extensions, _named(key, _any(item))))
        elif key in fields:
            number, encoder = fields[key]
            if encoder is _flag:
                parts.append(_varint(number << 3 | _VARINT) + _varint(int(bool(item))))
            elif isinstance(item, list):
                parts.extend(_field(number, encoder(one)) for one in item)
            else:
                parts.append(_field(number, encoder(item)))
    return b"".join(parts)


def _named(name: str, value: bytes) -> bytes:
    return _field(1, name.encode()) + _field(2, value)


def _by_name(number: int, encoder: Encoder) -> Encoder:
    """A map, as a message that repeats pairs of name and value in one field."""

    def encoded(value: Any) -> bytes:
        return b"".join(_field(number, _named(name, encoder(item))) for name, item in value.items())

    return encoded


def _within(number: int, encoder: Encoder) -> Encoder:
    """A message that has only this field."""
    return lambda value: _field(number, encoder(value))


def _text(value: Any) -> bytes:
    return str(value).encode()


def _flag(value: Any) -> bytes:
    raise AssertionError("a flag is no bytes")


def _any(value: Any) -> bytes:
    return _field(2, orjson.dumps(value))  # as YAML, of which JSON is a part


# ---------------------------------------------------------------------- the messages


def _schema(value: Any) -> bytes:
    return _message(_SCHEMA, value, extensions=31)


def _types(value: Any) -> bytes:
    return b"".join(_field(1, _text(one)) for one in ([value] if isinstance(value, str) else value))


def _additional(value: Any) -> bytes:
    return _field(1, _schema(value)) if isinstance(value, Mapping) else _varint(2 << 3) + _varint(int(value))


def _parameter(value: Any) -> bytes:
    if value["in"] == "body":
        parameter = _field(1, _message(_BODY_PARAMETER, value, extensions=6))
    else:
        fields, number = _PARAMETERS[value["in"]]
        parameter = _field(2, _field(number, _message(fields, value, extensions=0)))
    return _field(1, parameter)


def _response(value: Any) -> bytes:
    return _field(1, _message(_RESPONSE, value, extensions=5))


def _operation(value: Any) -> bytes:
    return _message(_OPERATION, value, extensions=13)


def _path(value: Any) -> bytes:
    return _message(_PATH_ITEM, value, extensions=10)


def _info(value: Any) -> bytes:
    return _message({"title": (1, _text), "version": (2, _text)}, value, extensions=7)


_SCHEMA: Fields = {
    "$ref": (1, _text),
    "format": (2, _text),
    "title": (3, _text),
    "description": (4, _text),
    "default": (5, _any),
    "required": (19, _text),
    "enum": (20, _any),
    "additionalProperties": (21, _additional),
    "type": (22, _types),
    "items": (23, _within(1, _schema)),
    "properties": (25, _by_name(1, _schema)),
}
_NAMED: dict[str, tuple[int, Encoder]] = {
    "required": (1, _flag),
    "in": (2, _text),
    "name": (4, _text),
}
_PARAMETERS: Mapping[str, tuple[Fields, int]] = {
    "query": ({**_NAMED, "type": (6, _text)}, 3),
    "path": ({**_NAMED, "type": (5, _text)}, 4),
}
_BODY_PARAMETER: Fields = {
    "name": (2, _text),
    "in": (3, _text),
    "required": (4, _flag),
    "schema": (5, _schema),
}
_RESPONSE: Fields = {"description": (1, _text), "schema": (2, _within(1, _schema))}
_OPERATION: Fields = {
    "tags": (1, _text),
    "operationId": (5, _text),
    "produces": (6, _text),
    "consumes": (7, _text),
    "parameters": (8, _parameter),
    "responses": (9, _by_name(1, _response)),
    "schemes": (10, _text),
}
_PATH_ITEM: Fields = {
    "get": (2, _operation),
    "put": (3, _operation),
    "post": (4, _operation),
    "delete": (5, _operation),
    "patch": (8, _operation),
    "parameters": (9, _parameter),
}
_DOCUMENT: Fields = {
    "swagger": (1, _text),
    "info": (2, _info),
    "paths": (8, _by_name(2, _path)),
    "definitions": (9, _by_name(1, _schema)),
}
