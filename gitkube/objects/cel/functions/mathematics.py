"""The math extension: `math.greatest`, `math.least`, rounding, signs and bits."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from gitkube.objects.cel.budget import Budget
from gitkube.objects.cel.errors import CelEvaluationError, no_such_overload
from gitkube.objects.cel.registry import ANY, function
from gitkube.objects.cel.values import Uint, checked_int, compare, is_number

_MAX_OPERANDS = 8


def _extreme(sign: int) -> Callable[..., Any]:
    def extreme(budget: Budget, *values: Any) -> Any:
        operands = values[0] if len(values) == 1 and isinstance(values[0], list) else values
        budget.spend(len(operands))
        if not operands or not all(is_number(each) for each in operands):
            raise no_such_overload()
        best = operands[0]
        for each in operands[1:]:
            if compare(each, best, budget) == sign:
                best = each
        return best

    return extreme


for _count in range(1, _MAX_OPERANDS + 1):
    function("math.greatest", *[ANY] * _count)(_extreme(1))
    function("math.least", *[ANY] * _count)(_extreme(-1))


def _rounding(name: str, apply: Callable[[float], float]) -> None:
    @function(name, float, result="double")
    def rounded(budget: Budget, value: float) -> float:
        return float(apply(value)) if math.isfinite(value) else value


_rounding("math.ceil", math.ceil)
_rounding("math.floor", math.floor)
_rounding("math.trunc", math.trunc)
_rounding("math.round", lambda value: math.copysign(math.floor(abs(value) + 0.5), value))


@function("math.abs", int, result="int")
@function("math.abs", float, result="double")
@function("math.abs", Uint, result="uint")
def _abs(budget: Budget, value: Any) -> Any:
    return (
        checked_int(abs(value)) if type(value) is int else abs(value) if isinstance(value, float) else value
    )


@function("math.sign", int, result="int")
@function("math.sign", float, result="double")
@function("math.sign", Uint, result="uint")
def _sign(budget: Budget, value: Any) -> Any:
    return type(value)((value > 0) - (value < 0))


@function("math.isNaN", float, result="bool")
def _is_nan(budget: Budget, value: float) -> bool:
    return math.isnan(value)


@function("math.isInf", float, result="bool")
def _is_inf(budget: Budget, value: float) -> bool:
    return math.isinf(value)


@function("math.isFinite", float, result="bool")
def _is_finite(budget: Budget, value: float) -> bool:
    return math.isfinite(value)


@function("math.sqrt", float, result="double")
@function("math.sqrt", int, result="double")
@function("math.sqrt", Uint, result="double")
def _sqrt(budget: Budget, value: float) -> float:
    return math.sqrt(value) if value >= 0 else math.nan


def _bits(name: str, apply: Callable[[int, int], int]) -> None:
    @function(name, int, int, result="int")
    def signed(budget: Budget, a: int, b: int) -> int:
        return _signed(apply(a, b))

    @function(name, Uint, Uint, result="uint")
    def unsigned(budget: Budget, a: int, b: int) -> Uint:
        return Uint(apply(int(a), int(b)) & (2**64 - 1))


def _signed(value: int) -> int:
    return (value + 2**63) % 2**64 - 2**63


def _distance(bits: int) -> int:
    if bits < 0:
        raise CelEvaluationError(f"math.bitShift() negative offset: {bits}")
    return min(bits, 64)


_bits("math.bitAnd", lambda a, b: a & b)
_bits("math.bitOr", lambda a, b: a | b)
_bits("math.bitXor", lambda a, b: a ^ b)


@function("math.bitShiftLeft", int, int, result="int")
def _left(budget: Budget, value: int, bits: int) -> int:
    return _signed(value << _distance(bits))


@function("math.bitShiftRight", int, int, result="int")
def _right(budget: Budget, value: int, bits: int) -> int:
    return _signed((value % 2**64) >> _distance(bits))
