"""The quantity library: amounts of resources, exactly as everywhere in the API (`objects/quantity.py`)."""

from __future__ import annotations

from typing import Any

from gitkube.objects.cel.budget import Budget
from gitkube.objects.cel.errors import CelEvaluationError
from gitkube.objects.cel.registry import function, method
from gitkube.objects.cel.values import MAX_INT, MIN_INT
from gitkube.objects.quantity import NANO, Quantity, QuantityError


@function("quantity", str, result="kubernetes.Quantity")
def _quantity(budget: Budget, text: str) -> Quantity:
    try:
        return Quantity.parse(text)
    except QuantityError as error:
        raise CelEvaluationError(str(error)) from error


@function("isQuantity", str, result="bool")
def _is_quantity(budget: Budget, text: str) -> bool:
    try:
        Quantity.parse(text)
    except QuantityError:
        return False
    return True


@function("string", Quantity, result="string")
def _text(budget: Budget, amount: Quantity) -> str:
    return str(amount)


@method("isInteger", Quantity, result="bool")
def _is_integer(budget: Budget, amount: Quantity) -> bool:
    return amount.is_integer and MIN_INT <= amount.value <= MAX_INT


@method("asInteger", Quantity, result="int")
def _as_integer(budget: Budget, amount: Quantity) -> int:
    if not _is_integer(budget, amount):
        raise CelEvaluationError("cannot convert value to integer")
    return amount.value


@method("asApproximateFloat", Quantity, result="double")
def _as_float(budget: Budget, amount: Quantity) -> float:
    return amount.nanos / NANO


@method("sign", Quantity, result="int")
def _sign(budget: Budget, amount: Quantity) -> int:
    return (amount.nanos > 0) - (amount.nanos < 0)


@method("isGreaterThan", Quantity, Quantity, result="bool")
def _is_greater(budget: Budget, a: Quantity, b: Quantity) -> bool:
    return a.nanos > b.nanos


@method("isLessThan", Quantity, Quantity, result="bool")
def _is_less(budget: Budget, a: Quantity, b: Quantity) -> bool:
    return a.nanos < b.nanos


@method("compareTo", Quantity, Quantity, result="int")
def _compare_to(budget: Budget, a: Quantity, b: Quantity) -> int:
    return (a.nanos > b.nanos) - (a.nanos < b.nanos)


@method("add", Quantity, Quantity, result="kubernetes.Quantity")
@method("add", Quantity, int, result="kubernetes.Quantity")
def _add(budget: Budget, a: Quantity, b: Any) -> Quantity:
    return a + (b if isinstance(b, Quantity) else Quantity.of(b))


@method("sub", Quantity, Quantity, result="kubernetes.Quantity")
@method("sub", Quantity, int, result="kubernetes.Quantity")
def _sub(budget: Budget, a: Quantity, b: Any) -> Quantity:
    return a - (b if isinstance(b, Quantity) else Quantity.of(b))
