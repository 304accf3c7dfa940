"""The lists libraries: Kubernetes' (`isSorted`, `sum`, `min`, `max`, `indexOf`, `lastIndexOf`) and CEL's
extension (`slice`, `flatten`, `distinct`, `sort`, `reverse`, `lists.range`)."""

from __future__ import annotations

from datetime import timedelta
from functools import cmp_to_key
from itertools import pairwise
from typing import Any

from gitkube.objects.cel.budget import Budget
from gitkube.objects.cel.errors import CelEvaluationError, no_such_overload
from gitkube.objects.cel.operators import OPERATORS
from gitkube.objects.cel.registry import function, method
from gitkube.objects.cel.values import NONE, Optional, compare, equals, is_number

_add = OPERATORS["_+_"].apply


@method("isSorted", list, result="bool")
def _is_sorted(budget: Budget, items: list[Any]) -> bool:
    budget.spend(len(items))
    return all(compare(a, b, budget) <= 0 for a, b in pairwise(items))


@method("sum", list)
def _sum(budget: Budget, items: list[Any]) -> Any:
    budget.spend(len(items))
    if not items:
        return 0
    total = items[0]
    if not is_number(total) and not isinstance(total, timedelta):
        raise no_such_overload()
    for item in items[1:]:
        total = _add(budget, total, item)
    return total


@method("min", list)
def _min(budget: Budget, items: list[Any]) -> Any:
    return _extreme(budget, items, -1, "min")


@method("max", list)
def _max(budget: Budget, items: list[Any]) -> Any:
    return _extreme(budget, items, 1, "max")


def _extreme(budget: Budget, items: list[Any], sign: int, name: str) -> Any:
    if not items:
        raise CelEvaluationError(f"{name} called on empty list")
    budget.spend(len(items))
    best = items[0]
    for item in items[1:]:
        if compare(item, best, budget) == sign:
            best = item
    return best


@method("indexOf", list, object, result="int")
def _index_of(budget: Budget, items: list[Any], wanted: Any) -> int:
    budget.spend(len(items))
    return next((at for at, item in enumerate(items) if equals(item, wanted, budget)), -1)


@method("lastIndexOf", list, object, result="int")
def _last_index_of(budget: Budget, items: list[Any], wanted: Any) -> int:
    budget.spend(len(items))
    return next((at for at in reversed(range(len(items))) if equals(items[at], wanted, budget)), -1)


@method("slice", list, int, int, result="list")
def _slice(budget: Budget, items: list[Any], start: int, end: int) -> list[Any]:
    if start < 0 or end < 0:
        raise CelEvaluationError(f"cannot slice({start}, {end}), negative indexes not supported")
    if start > end:
        raise CelEvaluationError(
            f"cannot slice({start}, {end}), start index must be less than or equal to end index"
        )
    if end > len(items):
        raise CelEvaluationError(f"cannot slice({start}, {end}), list is length {len(items)}")
    budget.spend(end - start)
    return items[start:end]


@method("flatten", list, result="list")
def _flatten_once(budget: Budget, items: list[Any]) -> list[Any]:
    return _flatten(budget, items, 1)


@method("flatten", list, int, result="list")
def _flatten(budget: Budget, items: list[Any], depth: int) -> list[Any]:
    if depth < 0:
        raise CelEvaluationError("level must be non-negative")
    made = list(items)
    while depth and any(isinstance(item, list) for item in made):
        budget.spend(sum(len(item) if isinstance(item, list) else 1 for item in made))
        made = [part for item in made for part in (item if isinstance(item, list) else [item])]
        depth -= 1
    return made


@method("distinct", list, result="list")
def _distinct(budget: Budget, items: list[Any]) -> list[Any]:
    made: list[Any] = []
    for item in items:
        budget.spend(1 + len(made))
        if not any(equals(item, each, budget) for each in made):
            made.append(item)
    return made


@method("sort", list, result="list")
def _sort(budget: Budget, items: list[Any]) -> list[Any]:
    budget.spend(len(items) * max(1, len(items).bit_length()))
    return sorted(items, key=cmp_to_key(lambda a, b: compare(a, b, budget)))


@method("reverse", list, result="list")
def _reverse(budget: Budget, items: list[Any]) -> list[Any]:
    budget.spend(len(items))
    return items[::-1]


@method("first", list, result="optional_type")
def _first(budget: Budget, items: list[Any]) -> Any:
    return _element(items, 0)


@method("last", list, result="optional_type")
def _last(budget: Budget, items: list[Any]) -> Any:
    return _element(items, -1)


def _element(items: list[Any], at: int) -> Any:
    return Optional(True, items[at]) if items else NONE


@function("lists.range", int, result="list")
def _range(budget: Budget, count: int) -> list[int]:
    budget.spend(max(0, count))
    return list(range(count))
