"""One spelling for what means the same, so that a hash or a diff sees only real differences.

As Kubernetes' decoder does when it reads an object into its types and writes it out again: quantities and
times get their canonical text, a null field vanishes, a null among a map's or a list's values becomes the
value type's zero, an empty value that may be left out is left out, and a struct that is always written is
there. Fields that the schema does not know stay as they are (`unknown.py` finds and prunes them), and so do
values of a wrong type (validation names them).

Invariant: `normalise(normalise(x)) == normalise(x)`, and nothing of `x` is changed or shared.
"""

from __future__ import annotations

from typing import Any

from gitkube.objects.kinds import Kind
from gitkube.objects.patch.copying import clone
from gitkube.objects.quantity import NANO, Quantity, QuantityError
from gitkube.objects.schema import Schema, schema_of
from gitkube.objects.times import canonical_time
from gitkube.objects.types import Object

_ZEROS: dict[str, Any] = {"string": "", "integer": 0, "number": 0, "boolean": False}


def normalise(kind: Kind, obj: Object) -> Object:
    """A copy of an object in canonical spelling."""
    result = _normalise_object(schema_of(kind), obj)
    return result if isinstance(result, dict) else clone(obj)


def normalise_value(schema: Schema, value: Any) -> Any:
    """As `normalise`, for any value of a built-in schema."""
    return _normalise(schema, value)


def without_empties(schema: Schema, value: Any) -> Any:
    """A value without the empty lists and maps that `normalise` leaves out, otherwise as it is written."""
    if isinstance(value, list):
        items = schema.items
        return value if items is None else [without_empties(items, item) for item in value]
    if not isinstance(value, dict) or schema.preserve_unknown:
        return value
    result: dict[str, Any] = {}
    for field, item in value.items():
        child = schema.child(field)
        kept = item if child is None else without_empties(child, item)
        if child is None or field not in schema.properties or not _is_left_out(schema, field, child, kept):
            result[field] = kept
    return result


def _normalise(schema: Schema, value: Any) -> Any:
    if isinstance(value, dict):
        return clone(value) if schema.preserve_unknown else _normalise_object(schema, value)
    if isinstance(value, list):
        items = schema.items
        if items is None or schema.preserve_unknown:
            return clone(value)
        return [_normalise(items, _zero(items) if item is None else item) for item in value]
    if schema.is_quantity and value is not None:
        try:
            return str(Quantity.parse(value))
        except QuantityError:
            return value  # validation says what is wrong with it
    if schema.is_respelled and isinstance(value, str):
        return canonical_time(value, is_micro=schema.is_micro_time)
    return value


def _normalise_object(schema: Schema, obj: dict[str, Any]) -> dict[str, Any]:
    properties = schema.properties
    additional = schema.additional_properties
    if additional is not None and not properties and additional.is_scalar and not additional.is_respelled:
        zero = _zero(additional)
        return {
            field: zero if value is None else clone(value) if isinstance(value, (dict, list)) else value
            for field, value in obj.items()
        }
    result: dict[str, Any] = {}
    for field, value in obj.items():
        child = properties.get(field)
        if child is None:
            if additional is None:
                result[field] = clone(value)
            else:
                normal = _normalise(additional, _zero(additional) if value is None else value)
                result[field] = _in_milli(normal) if additional.is_quantity else normal
            continue
        if value is None:
            continue
        if field in schema.drops and (value == "" or value is False or value == 0):
            continue
        if not isinstance(value, (dict, list)) and not child.is_respelled:
            result[field] = value
            continue
        normal = _normalise(child, value)
        if _is_left_out(schema, field, child, normal):
            continue
        result[field] = normal
    for field, empty in schema.writes.items():
        if field not in result:
            result[field] = _normalise(properties[field], empty)
    return result


def _in_milli(amount: Any) -> Any:
    """An amount of a resource list, rounded up to thousandths: as Kubernetes' `SetDefaults_ResourceList`."""
    if not isinstance(amount, str) or not (amount.endswith(("n", "u")) or "e-" in amount):
        return amount  # canonical text has no other way to say less than a thousandth
    try:
        exact = Quantity.parse(amount)
    except QuantityError:
        return amount
    return str(Quantity(exact.milli * (NANO // 1000), exact.notation))


def _is_left_out(schema: Schema, field: str, child: Schema, value: Any) -> bool:
    is_written = field in schema.required or field in schema.writes
    return value in ([], {}) and not is_written and not _says_something(child)


def _says_something(schema: Schema) -> bool:
    """Whether {} is other than nothing: in an object with named fields (`emptyDir: {}`), or as any JSON."""
    return schema.preserve_unknown or (schema.is_object and schema.additional_properties is None)


def _zero(schema: Schema) -> Any:
    if schema.is_object:
        return {}
    if schema.is_list:
        return []
    if schema.is_quantity:
        return "0"
    return _ZEROS.get(schema.types[0]) if schema.types else None
