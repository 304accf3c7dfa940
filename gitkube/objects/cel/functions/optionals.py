"""The optionals library: `optional.of` and what may be asked of an optional. `or`, `orValue`, `optMap` and
the marks `?` are the compiler's, since they do not evaluate what is not needed."""

from __future__ import annotations

from typing import Any

from gitkube.objects.cel.budget import Budget
from gitkube.objects.cel.errors import CelEvaluationError
from gitkube.objects.cel.registry import ANY, function, method
from gitkube.objects.cel.values import NONE, Optional

_ZEROS = (0, 0.0, "", b"", False, None)


@function("optional.of", ANY, result="optional_type")
def _of(budget: Budget, value: Any) -> Optional:
    return Optional(True, value)


@function("optional.ofNonZeroValue", ANY, result="optional_type")
def _of_non_zero(budget: Budget, value: Any) -> Optional:
    is_zero = (
        not value
        if isinstance(value, list | dict)
        else any(value is zero or value == zero for zero in _ZEROS)
    )
    return NONE if is_zero else Optional(True, value)


@function("optional.none", result="optional_type")
def _none(budget: Budget) -> Optional:
    return NONE


@method("hasValue", Optional, result="bool")
def _has_value(budget: Budget, optional: Optional) -> bool:
    return optional.has_value


@method("value", Optional)
def _value(budget: Budget, optional: Optional) -> Any:
    if not optional.has_value:
        raise CelEvaluationError("optional.none() dereference")
    return optional.value


@function("optional.unwrap", list, result="list")
def _unwrap(budget: Budget, items: list[Any]) -> list[Any]:
    budget.spend(len(items))
    return [item.value for item in items if isinstance(item, Optional) and item.has_value]


method("unwrapOpt", list, result="list")(_unwrap)
