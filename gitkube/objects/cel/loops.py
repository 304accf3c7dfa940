"""The macros over lists and maps. Each turn is paid for before it is run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from gitkube.objects.cel.control import decided
from gitkube.objects.cel.errors import CelEvaluationError, no_such_overload
from gitkube.objects.cel.making import Frame, Run
from gitkube.objects.cel.syntax import LoopKind


def _turns(frame: Frame, over: Any, slots: list[int], turn_cost: int) -> Iterable[Any]:
    """Bind the names for each turn, and yield the first of them."""
    spend = frame[0].spend
    if isinstance(over, Mapping):
        if len(slots) == 1:
            slot = slots[0]
            for key in over:
                spend(turn_cost)
                frame[slot] = key
                yield key
            return
        for key, value in over.items():
            spend(turn_cost)
            frame[slots[0]], frame[slots[1]] = key, value
            yield key
        return
    if not isinstance(over, list | tuple):
        raise no_such_overload()
    if len(slots) == 1:
        slot = slots[0]
        for item in over:
            spend(turn_cost)
            frame[slot] = item
            yield item
        return
    for position, item in enumerate(over):
        spend(turn_cost)
        frame[slots[0]], frame[slots[1]] = position, item
        yield position


def _quantifier(decisive: bool) -> Callable[[Run, list[int], Run, Run | None, int], Run]:
    """`all` is decided by false, `exists` by true; an error counts only when nothing decides."""

    def make(over: Run, slots: list[int], body: Run, condition: Run | None, turn_cost: int) -> Run:
        def quantify(frame: Frame) -> bool:
            turns = _turns(frame, over(frame), slots, turn_cost)
            return decided((body for _ in turns), frame, decisive)

        return quantify

    return make


def _exists_one(over: Run, slots: list[int], body: Run, condition: Run | None, turn_cost: int) -> Run:
    def exists_one(frame: Frame) -> bool:
        count = 0
        for _ in _turns(frame, over(frame), slots, turn_cost):
            count += _truth(body(frame))
        return count == 1

    return exists_one


def _filter(over: Run, slots: list[int], body: Run, condition: Run | None, turn_cost: int) -> Run:
    def filtered(frame: Frame) -> list[Any]:
        return [item for item in _turns(frame, over(frame), slots, turn_cost) if _truth(body(frame))]

    return filtered


def _map(over: Run, slots: list[int], body: Run, condition: Run | None, turn_cost: int) -> Run:
    def mapped(frame: Frame) -> list[Any]:
        turns = _turns(frame, over(frame), slots, turn_cost)
        return [body(frame) for _ in turns if condition is None or _truth(condition(frame))]

    return mapped


def _transform_map(over: Run, slots: list[int], body: Run, condition: Run | None, turn_cost: int) -> Run:
    def transformed(frame: Frame) -> dict[Any, Any]:
        turns = _turns(frame, over(frame), slots, turn_cost)
        return {key: body(frame) for key in turns if condition is None or _truth(condition(frame))}

    return transformed


def _transform_entries(over: Run, slots: list[int], body: Run, condition: Run | None, turn_cost: int) -> Run:
    def transformed(frame: Frame) -> dict[Any, Any]:
        made: dict[Any, Any] = {}
        for _ in _turns(frame, over(frame), slots, turn_cost):
            if condition is not None and not _truth(condition(frame)):
                continue
            entries = body(frame)
            if not isinstance(entries, Mapping):
                raise no_such_overload()
            frame[0].spend(len(entries))
            for key, value in entries.items():
                if key in made:
                    raise CelEvaluationError(f"insert failed: key {key} already exists")
                made[key] = value
        return made

    return transformed


def _truth(value: Any) -> bool:
    if value is True or value is False:
        return bool(value)
    raise no_such_overload()


LOOPS: Mapping[LoopKind, Callable[[Run, list[int], Run, Run | None, int], Run]] = {
    LoopKind.ALL: _quantifier(False),
    LoopKind.EXISTS: _quantifier(True),
    LoopKind.EXISTS_ONE: _exists_one,
    LoopKind.FILTER: _filter,
    LoopKind.MAP: _map,
    LoopKind.TRANSFORM_LIST: _map,
    LoopKind.TRANSFORM_MAP: _transform_map,
    LoopKind.TRANSFORM_MAP_ENTRY: _transform_entries,
}
