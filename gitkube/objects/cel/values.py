"""CEL's values as Python's, and what is the same for all of them: type names, equality, order, truth.

Objects of the API are taken as they are: dict, list, str, int, float, bool and None. Only what JSON lacks has
a
class here. Python's own `==` must never be used between values, for to it `1 == True`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from gitkube.objects.cel.budget import Budget
from gitkube.objects.cel.errors import CelEvaluationError, no_such_overload
from gitkube.objects.quantity import Quantity

MIN_INT, MAX_INT, MAX_UINT = -(2**63), 2**63 - 1, 2**64 - 1
_PLAIN = frozenset((str, int, bool, float, bytes, type(None), datetime, timedelta))


class Uint(int):
    """An unsigned number, which does not mix with signed ones in arithmetic."""

    __slots__ = ()


_NUMBERS: tuple[type, ...] = (int, Uint, float)


class Type:
    """What `type(x)` answers."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Type) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __str__(self) -> str:
        return self.name


class Optional:
    """A value or none, as `a.?b` makes it."""

    __slots__ = ("has_value", "value")

    def __init__(self, has_value: bool, value: Any = None) -> None:
        self.has_value = has_value
        self.value = value


NONE = Optional(False)


class HostObject:
    """A thing of the server's that expressions may ask, such as `authorizer`."""

    type_name = "dyn"

    def call(self, name: str, arguments: list[Any]) -> Any:
        """What `.name(…)` answers.

        Raises:
            CelEvaluationError: it has no such method, or not with these arguments.
        """
        raise no_such_overload()

    def field(self, name: str) -> Any:
        """What stands behind `.name`.

        Raises:
            CelEvaluationError: it has no such field.
        """
        raise no_such_overload()


_STATIC_NAMES = {"google.protobuf.Timestamp": "timestamp", "google.protobuf.Duration": "duration"}
TYPE_NAMES: dict[type, str] = {
    bool: "bool",
    int: "int",
    Uint: "uint",
    float: "double",
    str: "string",
    bytes: "bytes",
    list: "list",
    dict: "map",
    type(None): "null_type",
    Type: "type",
    datetime: "google.protobuf.Timestamp",
    timedelta: "google.protobuf.Duration",
    Optional: "optional_type",
    Quantity: "kubernetes.Quantity",
}


def type_name(value: Any) -> str:
    name = TYPE_NAMES.get(type(value))
    if name is not None:
        return name
    if isinstance(value, Mapping):
        return "map"
    if isinstance(value, Sequence):
        return "list"
    return str(getattr(value, "type_name", "dyn"))


def static_type_name(value: Any) -> str:
    """As `type_name`, by the names that types have in messages about an expression."""
    name = type_name(value)
    return _STATIC_NAMES.get(name, name)


def is_number(value: Any) -> bool:
    return type(value) in _NUMBERS


def equals(a: Any, b: Any, budget: Budget) -> bool:
    """CEL's `==`: numbers by value whatever their type, containers by content, other types never mix."""
    type_a, type_b = type(a), type(b)
    if type_a is type_b and type_a in _PLAIN:
        if type_a is str or type_a is bytes:
            budget.spend_text(min(len(a), len(b)))
        return bool(a == b)
    if type_a in _NUMBERS and type_b in _NUMBERS:
        return bool(a == b)
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        if len(a) != len(b):
            return False
        budget.spend(len(a))
        return all(key in b and equals(value, b[key], budget) for key, value in a.items())
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        if len(a) != len(b):
            return False
        budget.spend(len(a))
        return all(equals(x, y, budget) for x, y in zip(a, b, strict=True))
    if type_a is Optional and type_b is Optional:
        if a.has_value != b.has_value:
            return False
        return not a.has_value or equals(a.value, b.value, budget)
    return type_a is type_b and bool(a == b)


def compare(a: Any, b: Any, budget: Budget) -> int:
    """-1, 0 or 1.

    Raises:
        CelEvaluationError: they have no order.
    """
    type_a, type_b = type(a), type(b)
    if type_a is not type_b and not (type_a in _NUMBERS and type_b in _NUMBERS):
        raise no_such_overload()
    if type_a is str or type_a is bytes:
        budget.spend_text(min(len(a), len(b)))
    elif type_a not in _NUMBERS and type_a not in (bool, datetime, timedelta):
        if not hasattr(a, "__lt__") or type_a in (list, dict, type(None), Type, Optional):
            raise no_such_overload()
        if isinstance(a, Mapping | Sequence | HostObject):
            raise no_such_overload()
    try:
        return int(a > b) - int(a < b)
    except TypeError as error:
        raise no_such_overload() from error


def checked_int(value: int) -> int:
    if MIN_INT <= value <= MAX_INT:
        return value
    raise CelEvaluationError("integer overflow")


def checked_uint(value: int) -> Uint:
    if 0 <= value <= MAX_UINT:
        return Uint(value)
    raise CelEvaluationError("unsigned integer overflow")
