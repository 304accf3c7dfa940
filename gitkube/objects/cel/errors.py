"""What may go wrong with an expression: in its text, in its run, or by its cost.

Messages are Kubernetes' own where clients see them, and never an exception of Python's.
"""

from __future__ import annotations

from collections.abc import Sequence


class CelError(Exception):
    """Anything wrong with an expression; `message` is for whoever wrote it."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class CelSyntaxError(CelError):
    """The text is no expression, or names what is not there; the message shows the place."""

    def __init__(self, why: str, source: str = "", offset: int = 0) -> None:
        """
        Args:
            source: the whole text.
            offset: characters before the place of the mistake.
        """
        line_start = source.rfind("\n", 0, offset) + 1
        line_number = source.count("\n", 0, offset) + 1
        line_end = source.find("\n", offset)
        line = source[line_start : len(source) if line_end < 0 else line_end]
        column = offset - line_start
        super().__init__(f"ERROR: <input>:{line_number}:{column + 1}: {why}\n | {line}\n | {'.' * column}^")
        self.why = why
        self.offset = offset


class CelEvaluationError(CelError):
    """The expression cannot be evaluated on these values."""


class CelBudgetExceeded(CelError):
    """The evaluation would cost more than it may."""

    def __init__(self) -> None:
        super().__init__("operation cancelled: actual cost limit exceeded")


def no_such_overload() -> CelEvaluationError:
    return CelEvaluationError("no such overload")


def no_such_key(key: object) -> CelEvaluationError:
    return CelEvaluationError(f"no such key: {key}")


def undeclared(name: str) -> str:
    """What is said of a name that nobody has declared."""
    return f"undeclared reference to '{name}' (in container '')"


def no_matching_overload(function: str, types: Sequence[str], *, is_method: bool = False) -> str:
    """What is said of a function that does not take what it is given.

    Args:
        types: of what it is given; of a method, what it is called on comes first.
    """
    given = f"{types[0]}.({', '.join(types[1:])})" if is_method else f"({', '.join(types)})"
    return f"found no matching overload for '{function}' applied to '{given}'"
