"""An expression that is ready to be evaluated, any number of times and on any values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gitkube.objects.cel.budget import Budget
from gitkube.objects.cel.compiler import Compiled, compile_tree
from gitkube.objects.cel.errors import CelBudgetExceeded, CelEvaluationError
from gitkube.objects.cel.parser import parse


class Program:
    """A compiled expression. It keeps nothing between evaluations, so that all may share it."""

    __slots__ = ("_compiled", "source")

    def __init__(self, source: str, compiled: Compiled) -> None:
        self.source = source
        self._compiled = compiled

    @property
    def result_type(self) -> str:
        """CEL's name of the result's type as far as the text tells, else `dyn`."""
        return self._compiled.type

    @property
    def loop_depth(self) -> int:
        """Macros within macros: with lists of n elements it takes n to this power turns."""
        return self._compiled.loop_depth

    @property
    def variables(self) -> frozenset[str]:
        """Those that it reads."""
        return frozenset(name for name, _ in self._compiled.used)

    def evaluate(self, bindings: Mapping[str, object], budget: Budget) -> Any:
        """The value for these variables; a part of them may be shared with it, so it must not be changed.

        Raises:
            CelEvaluationError: it has none.
            CelBudgetExceeded: it would cost too much.
        """
        compiled = self._compiled
        budget.spend(compiled.cost)
        frame: list[Any] = [None] * compiled.slots
        frame[0] = budget
        for name, slot in compiled.used:
            if name not in bindings:
                raise CelEvaluationError(f"no such attribute(s): {name}")
            frame[slot] = bindings[name]
        try:
            return compiled.run(frame)
        except RecursionError as error:  # values of thousands of levels, where their depth costs stack
            raise CelBudgetExceeded from error


def compile_expression(
    source: str, variables: frozenset[str], *, constructors: frozenset[str] = frozenset()
) -> Program:
    """Read an expression once, for many evaluations.

    Args:
        variables: names that an evaluation will bind.
        constructors: first names of messages that it may make (`Object{…}` becomes a dict).

    Raises:
        CelSyntaxError: it is too long, no expression, or names what is not there.
    """
    return Program(source, compile_tree(source, parse(source), variables, constructors))
