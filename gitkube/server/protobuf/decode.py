"""Protobuf wire format to dicts, by the table of messages in `fields.json`.

A body is the magic `k8s\\0`, then an envelope (apimachinery's `runtime.Unknown`) that names apiVersion and
kind and holds the object. Go's generated encoders write every field that is not a pointer, set or not; so
an empty value of a field that JSON would omit is omitted here too, while `replicas: 0`, which is a pointer,
stays.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from gitkube.clock import rfc3339, rfc3339_micro

MAGIC = b"k8s\x00"
MAX_DEPTH = 60
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_EMPTY_TIME_S = -62135596800
"""Go's zero time, the year 1."""


class ProtobufError(Exception):
    """The bytes are not what they claim to be."""


class UnknownKindError(ProtobufError):
    """The envelope names a kind whose messages we have no numbers of."""


class Field(NamedTuple):
    """How one field of a message is written, in protobuf and in JSON."""

    name: str
    """In JSON; "" is a message whose fields belong to the one around it."""
    type: str
    """A message such as `core/v1.Container`, or one of `string bytes bool int double time microtime quantity
    int-or-string json`."""
    shape: str
    """"one", "list" or "map"."""
    keeps_empty: bool
    """Whether an empty value means something: the field is a pointer, or JSON has it always."""


def decode(body: bytes) -> dict[str, Any]:
    """The object in a protobuf body, with apiVersion and kind.

    Raises:
        ProtobufError: it is none.
        UnknownKindError: it is of a kind that cannot be read.
    """
    if not body.startswith(MAGIC):
        raise ProtobufError("a protobuf body begins with the four bytes k8s\\0")
    envelope = _last_fields(memoryview(body)[len(MAGIC) :])
    meta = _last_fields(_as_bytes(envelope.get(1, b"")))
    api_version, kind = _text(meta.get(1, b"")), _text(meta.get(2, b""))
    name = message_name(api_version, kind)
    if name not in _messages():
        raise UnknownKindError(f"{api_version} {kind}")
    obj = _message(name, _as_bytes(envelope.get(2, b"")), 0)
    return {"apiVersion": api_version, "kind": kind, **obj}


def message_name(api_version: str, kind: str) -> str:
    """The message of a kind, such as `apps/v1.Deployment`."""
    if kind == "DeleteOptions":  # it travels under the group of whatever is deleted
        return "meta/v1.DeleteOptions"
    if api_version == "policy/v1beta1" and kind == "Eviction":
        api_version = "policy/v1"  # they are the same
    group, _, version = api_version.rpartition("/")
    return f"{group.split('.')[0] or 'core'}/{version}.{kind}"


@cache
def _messages() -> Mapping[str, Mapping[int, Field]]:
    table = orjson.loads((Path(__file__).parent / "fields.json").read_bytes())
    return {
        name: {int(number): Field(*field) for number, field in fields.items()}
        for name, fields in table.items()
    }


def _message(name: str, data: memoryview, depth: int) -> dict[str, Any]:
    if depth > MAX_DEPTH:
        raise ProtobufError(f"messages are nested deeper than {MAX_DEPTH}")
    known = _messages()[name]
    result: dict[str, Any] = {}
    for number, raw in _fields(data):
        field = known.get(number)
        if field is None:
            continue  # newer than our table: as unknown fields of JSON under fieldValidation=Ignore
        if field.shape == "map":
            entry = _last_fields(_as_bytes(raw))
            value = _value(field.type, entry.get(2, b"" if field.type not in ("int", "bool") else 0), depth)
            result.setdefault(field.name, {})[_text(entry.get(1, b""))] = value
        elif field.shape == "list":
            items = result.setdefault(field.name, [])
            if field.type in ("int", "bool") and isinstance(raw, memoryview):
                items.extend(_value(field.type, number, depth) for number in _packed(raw))
            else:
                items.append(_value(field.type, raw, depth))
        else:
            value = _value(field.type, raw, depth)
            if not field.name:
                result.update(value)
            elif value or (field.keeps_empty and value is not None):
                result[field.name] = value
    return result


def _value(type: str, raw: int | memoryview | bytes, depth: int) -> Any:
    reader = _READERS.get(type)
    if reader is not None:
        return reader(raw)
    return _message(type, _as_bytes(raw), depth + 1)


# ---------------------------------------------------------------------- types with a form of their own


def _text(raw: Any) -> str:
    try:
        return bytes(_as_bytes(raw)).decode()
    except UnicodeDecodeError as error:
        raise ProtobufError("a text is not UTF-8") from error


def _integer(raw: Any) -> int:
    if not isinstance(raw, int):
        raise ProtobufError("a number is expected")
    return raw - (1 << 64) if raw >> 63 else raw


def _boolean(raw: Any) -> bool:
    return bool(_integer(raw))


def _double(raw: Any) -> float:
    data = _as_bytes(raw)
    if len(data) != 8:
        raise ProtobufError("a floating point number has eight bytes")
    value: float = struct.unpack("<d", data)[0]
    return value


def _base64(raw: Any) -> str:
    return base64.b64encode(_as_bytes(raw)).decode()


def _seconds(raw: Any) -> tuple[int, int]:
    fields = _last_fields(_as_bytes(raw))
    return _integer(fields.get(1, 0)), _integer(fields.get(2, 0))


def _time(raw: Any) -> str | None:
    seconds, _ = _seconds(raw)
    return _formatted(rfc3339, seconds)


def _micro_time(raw: Any) -> str | None:
    seconds, nanoseconds = _seconds(raw)
    return _formatted(rfc3339_micro, seconds, nanoseconds / 1e9)


def _formatted(write: Any, seconds: int, fraction: float = 0.0) -> str | None:
    if seconds in (0, _EMPTY_TIME_S):
        return None
    try:
        text: str = write(seconds + fraction)
    except (ValueError, OverflowError, OSError) as error:
        raise ProtobufError(f"{seconds} s is no time that can be written") from error
    return text


def _quantity(raw: Any) -> str:
    return _text(_last_fields(_as_bytes(raw)).get(1, b""))


def _int_or_string(raw: Any) -> int | str:
    fields = _last_fields(_as_bytes(raw))
    return _text(fields.get(3, b"")) if fields.get(1) else _integer(fields.get(2, 0))


def _json(raw: Any) -> Any:
    data = bytes(_as_bytes(_last_fields(_as_bytes(raw)).get(1, b"")))
    try:
        return orjson.loads(data) if data else None
    except ValueError as error:
        raise ProtobufError(f"a field that holds JSON does not: {error}") from error


_READERS: Mapping[str, Any] = {
    "string": _text,
    "bytes": _base64,
    "bool": _boolean,
    "int": _integer,
    "double": _double,
    "time": _time,
    "microtime": _micro_time,
    "quantity": _quantity,
    "int-or-string": _int_or_string,
    "json": _json,
}

# ---------------------------------------------------------------------- the wire format


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Field numbers and values, in order."""
    at, end = 0, len(data)
    while at < end:
        tag, at = _varint(data, at)
        wire_type = tag & 7
        if tag < 8:
            raise ProtobufError("there is no field of number 0")
        if wire_type == _VARINT:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        if wire_type == _BYTES:
            length, at = _varint(data, at)
        elif wire_type in (_FIXED64, _FIXED32):
            length = 8 if wire_type == _FIXED64 else 4
        else:
            raise ProtobufError(f"there is no wire type {wire_type}")
        if at + length > end:
            raise ProtobufError("the body is cut off")
        yield tag >> 3, data[at : at + length]
        at += length


def _last_fields(data: memoryview) -> dict[int, int | memoryview]:
    return dict(_fields(data))


def _packed(data: memoryview) -> Iterator[int]:
    at = 0
    while at < len(data):
        value, at = _varint(data, at)
        yield value


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        if at >= len(data):
            raise ProtobufError("the body is cut off")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (1 << 64) - 1, at
        shift += 7
    raise ProtobufError("a number has more than ten bytes")


def _as_bytes(raw: Any) -> memoryview:
    if isinstance(raw, int):
        raise ProtobufError("a number stands where a message or text is expected")
    return memoryview(raw)
