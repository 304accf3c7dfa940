"""Does an object have the shape of its schema: the right JSON types everywhere, and what is required.

What is asked of each node of the walk. All later checks rely on it: they run only on objects whose types
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
from gitkube.objects.validation.fitting import RANGES, fits, is_base64, is_time, lacks_nothing
from gitkube.objects.walk import MAX_DEPTH, Node, walk

_WORDS = {
    "string": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "object": "a map",
    "array": "a list",
}
_GO_WORDS = {str: "string", bool: "bool", int: "number", float: "number", dict: "object", list: "array"}
_JSON_TYPES = {str: "string", bool: "boolean", float: "number", dict: "object", list: "array"}
_GO_TYPES = {"string": "string", "boolean": "bool", "number": "float64"}


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A value that its schema does not allow."""

    node: Node
    value: Any
    """As it may be shown."""
    why: str
    go_text: str
    """The sentence of Kubernetes' decoder."""


def mismatches(kind: Kind, obj: Object) -> Iterator[Mismatch]:
    """Every value of a wrong type, in the order of the object."""
    if kind.custom is not None:
        return  # of those the schema's own check speaks
    if fits(schema_of(kind), obj):
        return
    for node in walk(schema_of(kind), obj):
        if node.schema is not None and node.value is not None and (found := _mismatch(node, node.schema)):
            yield found


def check_types(causes: Causes, kind: Kind, obj: Object) -> None:
    """Add a cause for every value of a wrong type."""
    for mismatch in mismatches(kind, obj):
        causes.wrong_type(mismatch.node.path, mismatch.value, mismatch.why)


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
        for node in walk(child, spec):
            for missing in node.missing():
                causes.required(f"spec.{missing.path}")


def _mismatch(node: Node, schema: Schema) -> Mismatch | None:
    value = node.value
    if schema.preserve_unknown:
        return None
    if node.depth > MAX_DEPTH:
        why = f"must not be nested deeper than {MAX_DEPTH} levels"
        return Mismatch(node, "...", why, "exceeded max depth")
    if schema.is_quantity:
        try:
            Quantity.parse(value)
        except QuantityError as error:
            why = f"must be a quantity such as 100m, 1.5 or 64Mi: {error}"
            return Mismatch(node, value, why, str(error))
        return None
    if schema.int_or_string:
        if type(value) is int or type(value) is str:
            return None
        word = _GO_WORDS.get(type(value), "object")
        text = f"json: cannot unmarshal {word} into Go value of type int32"
        return Mismatch(node, value, f"must be an integer or a string, not {_name(value)}", text)
    if not is_of_type(schema, value):
        return _wrong_type(node, schema)
    return _format(node, schema) if schema.format else None


def is_of_type(schema: Schema, value: Any) -> bool:
    """Whether a value has one of the JSON types that its schema names. (1.0 is no integer: as Kubernetes.)"""
    types, kind = schema.types, type(value)
    if not types:
        return True
    if kind is int:
        return "integer" in types or "number" in types
    return _JSON_TYPES.get(kind, "") in types


def _format(node: Node, schema: Schema) -> Mismatch | None:
    value = node.value
    if schema.format in RANGES and isinstance(value, int):
        low, high = RANGES[schema.format]
        if not low <= value <= high:
            text = _go_text(f"number {value}", node, schema.format)
            return Mismatch(node, value, f"must be between {low} and {high}", text)
    elif schema.format == "date-time" and isinstance(value, str):
        if not is_time(value):
            text = f'parsing time "{value}" as "2006-01-02T15:04:05Z07:00": cannot parse "{value}" as "2006"'
            return Mismatch(node, value, "must be a time such as 2026-01-31T09:30:00Z (RFC 3339)", text)
    elif schema.format == "byte" and isinstance(value, str) and not is_base64(value):
        # The value is not repeated: it may be a secret.
        return Mismatch(node, "<hidden>", "must be base64", "illegal base64 data at input byte 0")
    return None


def _wrong_type(node: Node, schema: Schema) -> Mismatch:
    value = node.value
    expected = " or ".join(_WORDS[word] for word in schema.types) or "something else"
    shown = value if not isinstance(value, dict | list) else type(value)()
    if isinstance(value, float) and "integer" in schema.types:
        go_value = f"number {value}"
    else:
        go_value = _GO_WORDS.get(type(value), "object")
    go_text = _go_text(go_value, node, _go_type(schema))
    return Mismatch(node, shown, f"must be {expected}, not {_name(value)}", go_text)


def _go_text(value: str, node: Node, go_type: str) -> str:
    """Go names the innermost struct and the fields from the top; keys of maps and indices do not count."""
    struct, fields = "", ""
    at = node
    while at.parent is not None and at.parent.schema is not None:
        if isinstance(at.step, str) and not at.is_of_map:
            struct = struct or at.parent.schema.name
            fields = f".{at.step}{fields}"
        at = at.parent
    struct = struct or (at.schema.name if at.schema is not None else "")
    name = struct.rpartition(".")[2]
    return f"json: cannot unmarshal {value} into Go struct field {name}{fields} of type {go_type}"


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
