"""The functions that expressions may call, found by name, form and the types of their arguments.

A library registers each overload with the Python types that it takes; the compiler looks a call up once, and
each evaluation picks the overload by the first argument's type. Functions get the budget first and spend what
their input and output cost before they make it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from gitkube.objects.cel.budget import Budget
from gitkube.objects.cel.errors import no_such_overload
from gitkube.objects.cel.values import TYPE_NAMES, HostObject

Implementation = Callable[..., Any]
_F = TypeVar("_F", bound=Implementation)

ANY = object
"""Any value, in the types of an overload."""
_STATIC: Mapping[type, str] = {**TYPE_NAMES, datetime: "timestamp", timedelta: "duration"}


@dataclass(frozen=True, slots=True)
class Overload:
    types: tuple[type, ...]
    run: Implementation
    result: str
    """The type of what it gives, `dyn` when that depends."""

    def accepts(self, types: Sequence[str]) -> bool:
        """Whether it may take arguments of these static types."""
        return all(
            given == "dyn" or wanted is ANY or static_name(wanted) == given
            for wanted, given in zip(self.types, types, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Function:
    """All overloads of one name in one form with one number of arguments."""

    name: str
    overloads: list[Overload]

    @property
    def result(self) -> str:
        results = {overload.result for overload in self.overloads}
        return results.pop() if len(results) == 1 else "dyn"

    def accepts(self, types: Sequence[str]) -> bool:
        """Whether an overload may take arguments of these static types."""
        return any(overload.accepts(types) for overload in self.overloads)

    def call(self, budget: Budget, arguments: list[Any]) -> Any:
        """Raises `CelEvaluationError` when no overload takes these."""
        for overload in self.overloads:
            for wanted, value in zip(overload.types, arguments, strict=True):
                if wanted is not ANY and _kind(value) is not wanted:
                    break
            else:
                return overload.run(budget, *arguments)
        if arguments and isinstance(arguments[0], HostObject):
            return arguments[0].call(self.name, arguments[1:])
        raise no_such_overload()


_FUNCTIONS: dict[tuple[str, bool, int], Function] = {}
_NAMES: set[str] = set()
_HOST_METHODS: set[str] = set()


def function(name: str, *types: type, result: str = "dyn") -> Callable[[_F], _F]:
    """Register an overload that is called as `name(…)`."""
    return _register(name, False, types, result)


def method(name: str, *types: type, result: str = "dyn") -> Callable[[_F], _F]:
    """Register an overload that is called as `receiver.name(…)`; the receiver's type comes first."""
    return _register(name, True, types, result)


def host_methods(names: Sequence[str]) -> None:
    """Names that `HostObject`s answer to, with whatever arguments."""
    _HOST_METHODS.update(names)


def _register(name: str, is_method: bool, types: tuple[type, ...], result: str) -> Callable[[_F], _F]:
    def keep(run: _F) -> _F:
        key = (name, is_method, len(types))
        known = _FUNCTIONS.setdefault(key, Function(name, []))
        known.overloads.append(Overload(types, run, result))
        _NAMES.add(name)
        return run

    return keep


def find(name: str, is_method: bool, argument_count: int) -> Function | None:
    return _FUNCTIONS.get((name, is_method, argument_count))


def is_known(name: str) -> bool:
    return name in _NAMES or name in _HOST_METHODS


def is_host_method(name: str) -> bool:
    return name in _HOST_METHODS


def static_name(python_type: type) -> str:
    return _STATIC.get(python_type) or str(getattr(python_type, "type_name", "dyn"))


def _kind(value: Any) -> type:
    kind = type(value)
    if kind in _STATIC:
        return kind
    if isinstance(value, Mapping):
        return dict
    if isinstance(value, tuple):
        return list
    return kind
