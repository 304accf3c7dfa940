"""What the signs do: arithmetic within 64 bits, concatenation, comparison, `in`, `!`.

Arithmetic never mixes kinds of numbers; comparison does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from gitkube.objects.cel.budget import Budget
from gitkube.objects.cel.errors import CelEvaluationError, no_such_overload
from gitkube.objects.cel.values import Uint, checked_int, checked_uint, compare, equals

_NUMERIC = frozenset(("int", "uint", "double"))


@dataclass(frozen=True, slots=True)
class Operator:
    apply: Callable[..., Any]
    result_of: Callable[[Sequence[str]], str | None]
    """The static type of the result by those of the operands; None when they can never fit."""


def _add(budget: Budget, a: Any, b: Any) -> Any:
    kind = type(a)
    if kind is type(b):
        if kind is int:
            return checked_int(a + b)
        if kind is str or kind is bytes:
            budget.spend_text(len(a) + len(b))
            return a + b
        if kind is list:
            budget.spend(len(a) + len(b))
            return a + b
        if kind is float:
            return a + b
        if kind is Uint:
            return checked_uint(int(a) + int(b))
    try:
        if isinstance(a, timedelta) and isinstance(b, timedelta | datetime):
            return b + a
        if isinstance(a, datetime) and isinstance(b, timedelta):
            return a + b
    except OverflowError as error:
        raise CelEvaluationError("timestamp overflow") from error
    raise no_such_overload()


def _subtract(budget: Budget, a: Any, b: Any) -> Any:
    kind = type(a)
    if kind is type(b):
        if kind is int:
            return checked_int(a - b)
        if kind is float:
            return a - b
        if kind is Uint:
            return checked_uint(int(a) - int(b))
    try:
        if isinstance(a, timedelta) and isinstance(b, timedelta):
            return a - b
        if isinstance(a, datetime) and isinstance(b, datetime | timedelta):
            return a - b
    except OverflowError as error:
        raise CelEvaluationError("timestamp overflow") from error
    raise no_such_overload()


def _multiply(budget: Budget, a: Any, b: Any) -> Any:
    kind = type(a)
    if kind is type(b):
        if kind is int:
            return checked_int(a * b)
        if kind is float:
            return a * b
        if kind is Uint:
            return checked_uint(int(a) * int(b))
    raise no_such_overload()


def _divide(budget: Budget, a: Any, b: Any) -> Any:
    kind = type(a)
    if kind is not type(b):
        raise no_such_overload()
    if kind is float:
        if b:
            return a / b
        return math.nan if not a or math.isnan(a) else math.copysign(math.inf, a) * math.copysign(1.0, b)
    if kind is not int and kind is not Uint:
        raise no_such_overload()
    if not b:
        raise CelEvaluationError("division by zero")
    quotient = abs(int(a)) // abs(int(b))  # towards zero, as Go divides
    if kind is Uint:
        return Uint(quotient)
    return checked_int(quotient if (a < 0) == (b < 0) else -quotient)


def _modulo(budget: Budget, a: Any, b: Any) -> Any:
    kind = type(a)
    if kind is not type(b) or kind not in (int, Uint):
        raise no_such_overload()
    if not b:
        raise CelEvaluationError("modulus by zero")
    rest = abs(int(a)) % abs(int(b))
    return Uint(rest) if kind is Uint else (-rest if a < 0 else rest)


def _negate(budget: Budget, a: Any) -> Any:
    if type(a) is int:
        return checked_int(-a)
    if type(a) is float:
        return -a
    raise no_such_overload()


def _not(budget: Budget, a: Any) -> bool:
    if a is True:
        return False
    if a is False:
        return True
    raise no_such_overload()


def _equal(budget: Budget, a: Any, b: Any) -> bool:
    return equals(a, b, budget)


def _unequal(budget: Budget, a: Any, b: Any) -> bool:
    return not equals(a, b, budget)


def contains(budget: Budget, a: Any, b: Any) -> bool:
    """`a in b`."""
    if isinstance(b, Mapping):
        return isinstance(a, str | int | float) and a in b
    if isinstance(b, list | tuple):
        budget.spend(len(b))
        return any(equals(a, each, budget) for each in b)
    raise no_such_overload()


def _same_types(*allowed: str) -> Callable[[Sequence[str]], str | None]:
    def result(types: Sequence[str]) -> str | None:
        known = [each for each in types if each != "dyn"]
        if any(each not in allowed for each in known) or len(set(known)) > 1:
            return None
        return known[0] if known else "dyn"

    return result


def _sum(types: Sequence[str]) -> str | None:
    if {"timestamp", "duration"} & set(types):
        if "dyn" in types:
            return "dyn"
        return {
            ("timestamp", "duration"): "timestamp",
            ("duration", "timestamp"): "timestamp",
            ("duration", "duration"): "duration",
        }.get((types[0], types[1]))
    return _same_types("int", "uint", "double", "string", "bytes", "list")(types)


def _difference(types: Sequence[str]) -> str | None:
    if {"timestamp", "duration"} & set(types):
        if "dyn" in types:
            return "dyn"
        return {
            ("timestamp", "timestamp"): "duration",
            ("timestamp", "duration"): "timestamp",
            ("duration", "duration"): "duration",
        }.get((types[0], types[1]))
    return _same_types("int", "uint", "double")(types)


def _ordered(types: Sequence[str]) -> str | None:
    if "dyn" in types or types[0] == types[1] or set(types) <= _NUMERIC:
        unordered = {"list", "map", "null_type", "type", "optional_type"}
        return None if unordered & set(types) else "bool"
    return None


def _comparable(types: Sequence[str]) -> str | None:
    if "dyn" in types or types[0] == types[1] or set(types) <= _NUMERIC or "null_type" in types:
        return "bool"
    return None


def _membership(types: Sequence[str]) -> str | None:
    return "bool" if types[1] in ("dyn", "list", "map") else None


def _boolean(types: Sequence[str]) -> str | None:
    return "bool" if types[0] in ("dyn", "bool") else None


OPERATORS: Mapping[str, Operator] = {
    "_+_": Operator(_add, _sum),
    "_-_": Operator(_subtract, _difference),
    "_*_": Operator(_multiply, _same_types("int", "uint", "double")),
    "_/_": Operator(_divide, _same_types("int", "uint", "double")),
    "_%_": Operator(_modulo, _same_types("int", "uint")),
    "-_": Operator(_negate, _same_types("int", "double")),
    "!_": Operator(_not, _boolean),
    "_==_": Operator(_equal, _comparable),
    "_!=_": Operator(_unequal, _comparable),
    "_<_": Operator(lambda budget, a, b: compare(a, b, budget) < 0, _ordered),
    "_<=_": Operator(lambda budget, a, b: compare(a, b, budget) <= 0, _ordered),
    "_>_": Operator(lambda budget, a, b: compare(a, b, budget) > 0, _ordered),
    "_>=_": Operator(lambda budget, a, b: compare(a, b, budget) >= 0, _ordered),
    "@in": Operator(contains, _membership),
}
