"""`matchConditions`: expressions that say whether a webhook or a policy is to be asked at all.

All must be true. One that cannot be evaluated decides nothing: when none is false, the request is refused or
the webhook is passed over, as its `failurePolicy` says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from gitkube.objects.cel import Budget, CelError, Program, compile_expression
from gitkube.objects.validation.expressions import CONDITION_VARIABLES

REQUEST_UNITS = 2_500_000
"""For all expressions of one webhook or policy about one request: about a second of a slow core."""
_CACHED_PROGRAMS = 4096


class ConditionError(Exception):
    """No condition is false, and at least one cannot be evaluated."""


@lru_cache(maxsize=_CACHED_PROGRAMS)
def program(source: str, variables: frozenset[str], constructors: frozenset[str] = frozenset()) -> Program:
    """As `compile_expression`, remembered.

    Raises:
        CelSyntaxError: see there.
    """
    return compile_expression(source, variables, constructors=constructors)


class Conditions:
    def __init__(
        self, conditions: Sequence[Mapping[str, Any]], variables: frozenset[str] = CONDITION_VARIABLES
    ) -> None:
        self._conditions = [(str(each.get("name")), str(each.get("expression"))) for each in conditions]
        self._variables = variables

    def __bool__(self) -> bool:
        return bool(self._conditions)

    def hold(self, bindings: Mapping[str, object], budget: Budget) -> bool:
        """Whether all are true.

        Raises:
            ConditionError: that cannot be said.
        """
        wrong: list[str] = []
        for name, source in self._conditions:
            try:
                value = program(source, self._variables).evaluate(bindings, budget)
            except CelError as error:
                wrong.append(f"match condition '{name}' failed: {error.message}")
                continue
            if value is False:
                return False
            if value is not True:
                wrong.append(f"match condition '{name}' must evaluate to bool")
        if wrong:
            raise ConditionError(wrong[0] if len(wrong) == 1 else f"[{', '.join(wrong)}]")
        return True
