"""Does an object have the shape of its schema: the right JSON types everywhere, and what is required.

A walk of object and schema side by side. All later checks rely on it: they run only on objects whose types
are right. Kubernetes finds wrong types while it decodes (a 400 with one sentence) and not while it validates
(a 422 with causes); here both come from the same walk.

null is right everywhere, for it means that the field is not there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gitkube.objects.kinds import Kind
from gitkube.objects.quantity import Quantity, QuantityError
from gitkube.objects.schema import Schema, schema_of
from gitkube.objects.types import Object
from gitkube.objects.validation.causes import Causes
from gitkube.objects.validation.fitting import MAX_DEPTH, RANGES, fits, is_base64, is_time, lacks_nothing

_WORDS = {
    "string": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "object": "a map",
    "array": "a list",
}
_GO_WORDS = {str: "string", bool: "bool", int: "number", float: "number", dict: "object", list: "array"}
_GO_TYPES = {"string": "string", "boolean": "bool", "number": "float64"}


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A value that its schema does not allow."""

    path: str
    """With indices, for people: `spec.containers[0].image`."""
    value: Any
    why: str
    go_text: str
    """The sentence of Kubernetes' decoder."""


def mismatches(kind: Kind, obj: Object) -> Iterator[Mismatch]:
    """Every value of a wrong type, in the order of the object."""
    if fits(schema_of(kind), obj):
        return
    yield from _walk(schema_of(kind), obj, "", "", schema_of(kind), 0)


def check_types(causes: Causes, kind: Kind, obj: Object) -> None:
    """Add a cause for every value of a wrong type."""
    for mismatch in mismatches(kind, obj):
        causes.wrong_type(mismatch.path, mismatch.value, mismatch.why)


def decode_error(kind: Kind, obj: Object) -> str:
    """What a Kubernetes server answers (400) when it cannot read the object; "" when it can."""
    mismatch = next(mismatches(kind, obj), None)
    if mismatch is None:
        return ""
    return f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: {mismatch.go_text}'


def check_required(causes: Causes, kind: Kind, obj: Object) -> None:
    """Add a cause for everything that the schema requires of the spec and that is not there.

    The status is left out: its writers are components, and Kubernetes does not check it either.
    """
    schema = schema_of(kind)
    spec = obj.get("spec")
    if not isinstance(spec, dict) or (child := schema.properties.get("spec")) is None:
        return
    if not lacks_nothing(child, spec):
        _require(causes, child, spec, "spec")


def _require(causes: Causes, schema: Schema, value: Any, path: str) -> None:
    if isinstance(value, dict):
        if schema.preserve_unknown:
            return
        for field in sorted(schema.required):
            if value.get(field) is None:
                causes.required(f"{path}.{field}")
        for field, item in value.items():
            if isinstance(item, dict | list) and (child := schema.child(field)) is not None:
                _require(causes, child, item, f"{path}.{field}")
    elif isinstance(value, list) and (items := schema.items) is not None and not items.is_scalar:
        for index, item in enumerate(value):
            _require(causes, items, item, f"{path}[{index}]")


def _walk(
    schema: Schema, value: Any, path: str, go_path: str, struct: Schema, depth: int
) -> Iterator[Mismatch]:
    if value is None or schema.preserve_unknown:
        return
    if depth > MAX_DEPTH:
        yield Mismatch(
            path, "...", f"must not be nested deeper than {MAX_DEPTH} levels", "exceeded max depth"
        )
        return
    if schema.is_quantity or schema.int_or_string or not schema.types or schema.is_scalar:
        yield from _scalar(schema, value, path, go_path, struct)
    elif isinstance(value, dict) and schema.is_object:
        properties = schema.properties
        additional = schema.additional_properties
        inner = struct if additional is not None else schema
        for field, item in value.items():
            child = properties.get(field, additional)
            if child is None or item is None:
                continue
            below = f"{path}.{field}" if path else field
            if additional is not None:
                yield from _walk(child, item, f"{path}[{field}]", go_path, inner, depth + 1)
            else:
                yield from _walk(child, item, below, f"{go_path}.{field}", inner, depth + 1)
    elif isinstance(value, list) and schema.is_list:
        items = schema.items
        if items is not None:
            for index, item in enumerate(value):
                yield from _walk(items, item, f"{path}[{index}]", go_path, struct, depth + 1)
    else:
        yield _wrong_type(schema, value, path, go_path, struct)


def _scalar(schema: Schema, value: Any, path: str, go_path: str, struct: Schema) -> Iterator[Mismatch]:
    if schema.is_quantity:
        try:
            Quantity.parse(value)
        except QuantityError as error:
            yield Mismatch(path, value, f"must be a quantity such as 100m, 1.5 or 64Mi: {error}", str(error))
        return
    kind = type(value)
    if schema.int_or_string:
        if kind is not int and kind is not str:
            word = _GO_WORDS.get(kind, "object")
            text = f"json: cannot unmarshal {word} into Go value of type int32"
            yield Mismatch(path, value, f"must be an integer or a string, not {_name(value)}", text)
        return
    types = schema.types
    if kind is str:
        is_right = "string" in types or not types
    elif kind is bool:
        is_right = "boolean" in types or not types
    elif kind is int:
        is_right = "integer" in types or "number" in types or not types
    elif kind is float:
        is_right = "number" in types or not types
        if not is_right and "integer" in types and value.is_integer():
            is_right = False  # Kubernetes refuses 1.0 for an integer, too
    else:
        is_right = not types
    if not is_right:
        yield _wrong_type(schema, value, path, go_path, struct)
    elif schema.format:
        yield from _format(schema, value, path, go_path, struct)


def _format(schema: Schema, value: Any, path: str, go_path: str, struct: Schema) -> Iterator[Mismatch]:
    if schema.format in RANGES and isinstance(value, int):
        low, high = RANGES[schema.format]
        if not low <= value <= high:
            text = _go_text(f"number {value}", go_path, struct, schema.format)
            yield Mismatch(path, value, f"must be between {low} and {high}", text)
    elif schema.format == "date-time" and isinstance(value, str):
        if not is_time(value):
            text = f'parsing time "{value}" as "2006-01-02T15:04:05Z07:00": cannot parse "{value}" as "2006"'
            yield Mismatch(path, value, "must be a time such as 2026-01-31T09:30:00Z (RFC 3339)", text)
    elif schema.format == "byte" and isinstance(value, str) and not is_base64(value):
        # The value is not repeated: it may be a secret.
        yield Mismatch(path, "<hidden>", "must be base64", "illegal base64 data at input byte 0")


def _wrong_type(schema: Schema, value: Any, path: str, go_path: str, struct: Schema) -> Mismatch:
    expected = " or ".join(_WORDS[word] for word in schema.types) or "something else"
    shown = value if not isinstance(value, dict | list) else type(value)()
    if isinstance(value, float) and "integer" in schema.types:
        go_value = f"number {value}"
    else:
        go_value = _GO_WORDS.get(type(value), "object")
    return Mismatch(
        path,
        shown,
        f"must be {expected}, not {_name(value)}",
        _go_text(go_value, go_path, struct, _go_type(schema)),
    )


def _go_text(value: str, go_path: str, struct: Schema, go_type: str) -> str:
    name = struct.name.rpartition(".")[2]
    return f"json: cannot unmarshal {value} into Go struct field {name}{go_path} of type {go_type}"


def _go_type(schema: Schema) -> str:
    if schema.is_list:
        return f"[]{_go_type(schema.items)}" if schema.items is not None else "[]interface {}"
    if schema.is_object:
        if schema.additional_properties is not None:
            return f"map[string]{_go_type(schema.additional_properties)}"
        package, _, name = schema.name.rpartition(".")
        return f"{package.rpartition('.')[2]}.{name}" if name else "struct"
    if "integer" in schema.types:
        return schema.format or "int64"
    return _GO_TYPES.get(schema.types[0] if schema.types else "", "interface {}")


def _name(value: Any) -> str:
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, float):
        return "a fraction"
    return {str: "a string", int: "a number", dict: "a map", list: "a list"}.get(type(value), "this")
