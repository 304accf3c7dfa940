"""The sets extension: lists as sets."""

from __future__ import annotations

from typing import Any

from gitkube.objects.cel.budget import Budget
from gitkube.objects.cel.registry import function
from gitkube.objects.cel.values import equals


def _contains(budget: Budget, items: list[Any], wanted: list[Any]) -> bool:
    budget.spend(1 + len(items) * len(wanted))
    return all(any(equals(item, each, budget) for item in items) for each in wanted)


@function("sets.contains", list, list, result="bool")
def _contains_all(budget: Budget, items: list[Any], wanted: list[Any]) -> bool:
    return _contains(budget, items, wanted)


@function("sets.equivalent", list, list, result="bool")
def _equivalent(budget: Budget, a: list[Any], b: list[Any]) -> bool:
    return _contains(budget, a, b) and _contains(budget, b, a)


@function("sets.intersects", list, list, result="bool")
def _intersects(budget: Budget, a: list[Any], b: list[Any]) -> bool:
    budget.spend(1 + len(a) * len(b))
    return any(equals(x, y, budget) for x in a for y in b)
