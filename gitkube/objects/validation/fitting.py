"""Does a value fit its schema? Only yes or no, fast: nearly every object is right.

Each schema node is turned once into a closure that knows its children's closures; what a request costs is
then calls and lookups, no decisions. Who hears "no" asks `shape.py`, which walks again and finds the words.
The two must agree: what fits has no mismatch, and what does not fit has one (a test holds them together).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from gitkube.clock import parse_rfc3339
from gitkube.objects.quantity import Quantity, QuantityError
from gitkube.objects.schema import Schema
from gitkube.objects.walk import MAX_DEPTH

RANGES = {"int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1)}

Check = Callable[[Any, int], bool]
"""Of a value and the depth left below it. A value is never None: that fits everywhere."""

_checks: dict[Schema, Check] = {}
_requirements: dict[Schema, Check | None] = {}
_TEXT_OR_NOTHING = frozenset({str, type(None)})
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)


def fits(schema: Schema, value: Any) -> bool:
    """Whether every value has a type that its schema allows; unknown fields fit."""
    return value is None or _check_of(schema)(value, MAX_DEPTH)


def lacks_nothing(schema: Schema, value: Any) -> bool:
    """Whether everything that the schema requires is there, all the way down."""
    requirement = _requirement_of(schema)
    return requirement is None or requirement(value, MAX_DEPTH)


def is_time(text: str) -> bool:
    """Whether a text is an RFC 3339 time as Kubernetes takes it."""
    return _TIME.fullmatch(text) is not None and _is_moment(text)


@lru_cache(maxsize=256)
def _is_moment(text: str) -> bool:
    """Whether there is such a day and hour. What was written in the same second says the same."""
    try:
        parse_rfc3339(text)
    except ValueError:
        return False
    return True


def is_base64(text: str) -> bool:
    """Whether a text is base64; line breaks in it are allowed."""
    try:
        base64.b64decode(text.replace("\n", "").replace("\r", ""), validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _check_of(schema: Schema) -> Check:
    found = _checks.get(schema)
    if found is None:
        found = _checks[schema] = _make_check(schema)
    return found


def _make_check(schema: Schema) -> Check:
    if schema.preserve_unknown:
        return lambda value, depth: True
    if schema.is_quantity:
        return _is_quantity
    if schema.int_or_string:
        return lambda value, depth: type(value) is int or type(value) is str
    if schema.is_list:
        return _list_check(schema)
    if schema.is_object:
        return _object_check(schema)
    return _scalar_check(schema)


def _object_check(schema: Schema) -> Check:
    # Children are compiled when they are first met, for schemas may contain themselves.
    children: dict[str, Check | None] = {}
    additional = schema.additional_properties

    def check(value: Any, depth: int) -> bool:
        if type(value) is not dict or depth == 0:
            return False
        for field, item in value.items():
            if item is None:
                continue
            try:
                child = children[field]
            except KeyError:
                known = schema.properties.get(field)
                child = _check_of(known) if known is not None else None
                if known is not None:  # unknown names are not kept: a client could send any number
                    children[field] = child
            if child is not None and not child(item, depth - 1):
                return False
        return True

    if additional is None:
        return check

    if additional.types == ("string",) and not additional.format and additional.is_scalar:
        return _is_map_of_texts

    def check_map(value: Any, depth: int) -> bool:
        if type(value) is not dict or depth == 0:
            return False
        child = _check_of(additional)
        return all(item is None or child(item, depth - 1) for item in value.values())

    return check_map


def _list_check(schema: Schema) -> Check:
    items = schema.items

    def check(value: Any, depth: int) -> bool:
        if type(value) is not list or depth == 0:
            return False
        if items is None:
            return True
        child = _check_of(items)
        return all(item is None or child(item, depth - 1) for item in value)

    return check


def _scalar_check(schema: Schema) -> Check:
    match schema.types:
        case ("string",) if schema.format == "date-time":
            return lambda value, depth: type(value) is str and is_time(value)
        case ("string",) if schema.format == "byte":
            return lambda value, depth: type(value) is str and is_base64(value)
        case ("string",):
            return lambda value, depth: type(value) is str
        case ("boolean",):
            return lambda value, depth: type(value) is bool
        case ("integer",):
            low, high = RANGES.get(schema.format, RANGES["int64"])
            return lambda value, depth: type(value) is int and low <= value <= high
        case ("number",):
            return lambda value, depth: type(value) is int or type(value) is float
        case ():
            return lambda value, depth: True
    # More than one scalar type: only a foreign schema has that. The careful walk decides.
    allowed = {"string": str, "boolean": bool, "integer": int, "number": float}
    types = {allowed[word] for word in schema.types if word in allowed}
    return lambda value, depth: type(value) in types


def _is_map_of_texts(value: Any, depth: int) -> bool:
    """As of labels, and of what a ConfigMap holds: most of what is in objects."""
    return type(value) is dict and depth > 0 and _TEXT_OR_NOTHING.issuperset(map(type, value.values()))


def _is_quantity(value: Any, depth: int) -> bool:
    try:
        Quantity.parse(value)
    except QuantityError:
        return False
    return True


def _requirement_of(schema: Schema) -> Check | None:
    """The check for what is required below a node; None when nothing is, so that nobody walks there."""
    if schema not in _requirements:
        _requirements[schema] = None  # for a schema that contains itself
        _requirements[schema] = _make_requirement(schema)
    return _requirements[schema]


def _make_requirement(schema: Schema) -> Check | None:
    if schema.preserve_unknown or schema.is_scalar:
        return None
    if schema.is_list:
        below = _requirement_of(schema.items) if schema.items is not None else None
        if below is None:
            return None
        return lambda value, depth: all(item is None or below(item, depth - 1) for item in value)
    if (additional := schema.additional_properties) is not None:
        below_values = _requirement_of(additional)
        if below_values is None:
            return None
        return lambda value, depth: all(
            item is None or below_values(item, depth - 1) for item in value.values()
        )
    required = tuple(schema.required)
    children = {
        field: requirement
        for field, child in schema.properties.items()
        if (requirement := _requirement_of(child)) is not None
    }
    if not required and not children:
        return None

    def check(value: Any, depth: int) -> bool:
        for field in required:
            if value.get(field) is None:
                return False
        for field, item in value.items():
            if item is not None and field in children and not children[field](item, depth - 1):
                return False
        return True

    return check
