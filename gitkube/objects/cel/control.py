"""Closures that decide what is evaluated: `&&` and `||`, `? :`, and those of optionals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from gitkube.objects.cel.errors import CelEvaluationError, no_such_overload
from gitkube.objects.cel.making import Code, Frame, Run
from gitkube.objects.cel.values import NONE, Optional


def decided(runs: Iterable[Run], frame: Frame, decisive: bool) -> bool:
    """The decisive value if one of these gives it, else the other.

    An error counts only when nothing decides.
    """
    failure: CelEvaluationError | None = None
    for run in runs:
        try:
            value = run(frame)
        except CelEvaluationError as error:
            failure = failure or error
            continue
        if value is decisive:
            return bool(value)
        if not isinstance(value, bool):
            failure = failure or no_such_overload()
    if failure is not None:
        raise failure
    return not decisive


def logical(codes: Sequence[Code], decisive: bool) -> Code:
    """`&&` (decided by false) or `||` (by true) of all of these.

    The decisive value wins over an error, wherever it stands.
    """
    runs = [code.run for code in codes]

    def decide(frame: Frame) -> bool:
        return decided(runs, frame, decisive)

    return Code(decide, sum(code.cost for code in codes), "bool")


def choice(condition: Code, yes: Code, no: Code) -> Code:
    """`condition ? yes : no`"""
    test, on_true, on_false = condition.run, yes.run, no.run

    def choose(frame: Frame) -> Any:
        value = test(frame)
        if value is True:
            return on_true(frame)
        if value is False:
            return on_false(frame)
        raise no_such_overload()

    result = yes.type if yes.type == no.type else "dyn"
    return Code(choose, condition.cost + max(yes.cost, no.cost), result)


def or_else(operand: Code, other: Code, *, is_value: bool) -> Code:
    """`operand.orValue(other)`, or `operand.or(other)`, whose other is an optional itself."""
    run, alternative = operand.run, other.run

    def take(frame: Frame) -> Any:
        value = run(frame)
        if not isinstance(value, Optional):
            raise no_such_overload()
        if not value.has_value:
            return alternative(frame)
        return value.value if is_value else value

    return Code(take, operand.cost + other.cost + 1, "dyn" if is_value else "optional_type")


def optional_map(operand: Code, slot: int, body: Code, *, is_flat: bool) -> Code:
    """`operand.optMap(x, body)`, or `optFlatMap`, whose body is an optional itself.

    Args:
        slot: of `x`.
    """
    run, then = operand.run, body.run

    def mapped(frame: Frame) -> Any:
        value = run(frame)
        if not isinstance(value, Optional):
            raise no_such_overload()
        if not value.has_value:
            return NONE
        frame[slot] = value.value
        made = then(frame)
        if not is_flat:
            return Optional(True, made)
        if not isinstance(made, Optional):
            raise no_such_overload()
        return made

    return Code(mapped, operand.cost + body.cost + 1, "optional_type")
