"""Closures that make lists, maps and messages of their parts, leaving out what an empty `?optional` stands
for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gitkube.objects.cel.errors import CelEvaluationError, no_such_overload
from gitkube.objects.cel.values import Optional, type_name

Frame = list[Any]
"""The budget first, then a slot for each variable and for each name that a macro binds."""
Run = Callable[[Frame], Any]


@dataclass(frozen=True, slots=True)
class Code:
    """A compiled piece of an expression."""

    run: Run
    cost: int
    """Units of one run, without what its loops and functions add."""
    type: str = "dyn"


def list_of(items: Sequence[tuple[Code, bool]]) -> Code:
    """A list of these, each with whether it is `?optional`."""
    cost = sum(code.cost for code, _ in items) + len(items) + 1
    if not any(is_optional for _, is_optional in items):
        runs = [code.run for code, _ in items]
        return Code(lambda frame: [run(frame) for run in runs], cost, "list")
    pairs = [(code.run, is_optional) for code, is_optional in items]

    def make(frame: Frame) -> list[Any]:
        made: list[Any] = []
        for run, is_optional in pairs:
            _keep(run(frame), is_optional, made.append)
        return made

    return Code(make, cost, "list")


def map_of(entries: Sequence[tuple[Code, Code, bool]]) -> Code:
    """A map of these keys and values."""
    cost = sum(key.cost + value.cost for key, value, _ in entries) + len(entries) + 1
    parts = [(key.run, value.run, is_optional) for key, value, is_optional in entries]

    def make(frame: Frame) -> dict[Any, Any]:
        made: dict[Any, Any] = {}
        for key_run, value_run, is_optional in parts:
            key = key_run(frame)
            if not isinstance(key, str | int):
                raise CelEvaluationError(f"unsupported key type: {type_name(key)}")
            if key in made:
                raise CelEvaluationError(f"duplicate key in map literal: {key}")

            def put(value: Any, key: Any = key) -> None:
                made[key] = value

            _keep(value_run(frame), is_optional, put)
        return made

    return Code(make, cost, "map")


def message_of(type: str, fields: Sequence[tuple[str, Code, bool]]) -> Code:
    """A message with these fields, which is a map with a static type of its own."""
    cost = sum(value.cost for _, value, _ in fields) + len(fields) + 1
    parts = [(name, value.run, is_optional) for name, value, is_optional in fields]

    def make(frame: Frame) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for name, run, is_optional in parts:

            def put(value: Any, name: str = name) -> None:
                made[name] = value

            _keep(run(frame), is_optional, put)
        return made

    return Code(make, cost, type)


def _keep(value: Any, is_optional: bool, keep: Callable[[Any], None]) -> None:
    if not is_optional:
        keep(value)
    elif not isinstance(value, Optional):
        raise no_such_overload()
    elif value.has_value:
        keep(value.value)
