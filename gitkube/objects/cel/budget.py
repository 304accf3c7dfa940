"""What an evaluation may cost, in Kubernetes' unit: about one step of the evaluator, or ten characters of
text.

A budget belongs to one request and is passed from expression to expression, so that many cheap ones are
bounded as one dear one is. It is spent before the work, so that what cannot be paid is never begun."""

from __future__ import annotations

from gitkube.objects.cel.errors import CelBudgetExceeded

PER_CALL_UNITS = 1_000_000
"""One expression on one value, as in Kubernetes."""
PER_OBJECT_UNITS = 10_000_000
"""All expressions of one object or one request, as in Kubernetes."""
_CHARACTERS_PER_UNIT = 10


class Budget:
    """Units that are left; only `spend` changes it."""

    __slots__ = ("_within", "left_units")

    def __init__(self, units: int = PER_CALL_UNITS, within: Budget | None = None) -> None:
        """
        Args:
            within: a larger budget, of which this one is spent too.
        """
        self.left_units = units
        self._within = within

    def spend(self, units: int) -> None:
        """Raises `CelBudgetExceeded` when there are not so many left."""
        self.left_units -= units
        if self.left_units < 0:
            raise CelBudgetExceeded
        if self._within is not None:
            self._within.spend(units)

    def spend_text(self, characters: int) -> None:
        """For reading or making text of so many characters."""
        self.spend(1 + characters // _CHARACTERS_PER_UNIT)

    def part(self, units: int = PER_CALL_UNITS) -> Budget:
        """A budget for one evaluation; what it spends is spent of this one too."""
        return Budget(units, self)

    def settle(self, part: Budget) -> None:
        """After an evaluation with a part.

        Raises:
            CelBudgetExceeded: it has taken the last of the whole, so that nothing can follow.
        """
        if part._within is self and self.left_units < 0:
            raise CelBudgetExceeded
