"""What an expression may cost at most, before it is ever evaluated, by the bounds that its types have.

The unit and the prices are Kubernetes': one for a step, a tenth for a character of text that is read, more
for what is made, times the elements of a list for a macro over it. What is not known (the size of what a
function makes, the price of a function that nobody has set) is taken as small, so that the estimate is never
above Kubernetes'. Evaluation has a budget of its own (`budget`), which holds whatever is said here.
Source: github.com/google/cel-go, checker/cost.go.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from gitkube.objects.cel.checker import Checked
from gitkube.objects.cel.syntax import (
    All,
    Any_,
    Bind,
    Call,
    Choice,
    Has,
    Index,
    ListOf,
    Literal,
    Loop,
    LoopKind,
    MapOf,
    Message,
    Name,
    Node,
    OptionalMap,
    Select,
)

MOST_UNITS = 2**64 - 1
"""Sums and products stop here, as Kubernetes' do."""
_TEXT_FACTOR = 0.1
"""Units for each character that is read."""
_PATTERN_FACTOR = 0.25
"""Parts of a regular expression for each of its characters."""
_LIST_UNITS, _MAP_UNITS, _MESSAGE_UNITS = 10, 30, 40
_WHOLE_LIST = frozenset(("sum", "min", "max", "isSorted", "indexOf", "lastIndexOf"))
_SIZED = frozenset(("string", "bytes", "list", "map"))


@dataclass(frozen=True, slots=True)
class Estimate:
    units: int
    size: int
    """The most elements or characters of the value."""


def most_units(checked: Checked) -> int:
    """Units that one evaluation of a checked expression may cost at most."""
    return _Estimator(checked).node(checked.tree).units


class _Estimator:
    def __init__(self, checked: Checked) -> None:
        self._types = checked.types

    def node(self, node: Node) -> Estimate:
        match node:
            case Literal():
                return Estimate(0, len(node.value) if isinstance(node.value, str | bytes) else 1)
            case Name():
                return Estimate(1, self._declared_size(node))
            case Select():
                return Estimate(_sum(self.node(node.operand).units, 1), self._declared_size(node))
            case Has():
                return Estimate(self.node(node.operand).units, 1)
            case Index():
                units = _sum(self.node(node.operand).units, self.node(node.index).units, 1)
                return Estimate(units, self._declared_size(node))
            case Call():
                return self._call(node)
            case All() | Any_():
                return Estimate(_sum(*(self.node(part).units for part in node.parts)), 1)
            case Choice():
                yes, no = self.node(node.yes), self.node(node.no)
                units = _sum(self.node(node.condition).units, max(yes.units, no.units))
                return Estimate(units, max(yes.size, no.size))
            case ListOf():
                units = _sum(_LIST_UNITS, *(self.node(item).units for item, _ in node.items))
                return Estimate(units, len(node.items))
            case MapOf():
                parts = [part for key, value, _ in node.entries for part in (key, value)]
                units = _sum(_MAP_UNITS, *(self.node(part).units for part in parts))
                return Estimate(units, len(node.entries))
            case Message():
                units = _sum(_MESSAGE_UNITS, *(self.node(value).units for _, value, _ in node.fields))
                return Estimate(units, 1)
            case Loop():
                return self._loop(node)
            case Bind():
                value, body = self.node(node.value), self.node(node.body)
                return Estimate(_sum(value.units, body.units), body.size)
            case OptionalMap():
                operand, body = self.node(node.operand), self.node(node.body)
                return Estimate(_sum(operand.units, body.units, 1), body.size)
        return Estimate(1, 1)

    def _declared_size(self, node: Node) -> int:
        """Of what a name or a field holds; what has no length is read for nothing."""
        type = self._types.get(id(node))
        if type is None or type.name not in _SIZED:
            return 0
        return 1 if type.most is None else type.most

    # ------------------------------------------------------------------ calls

    def _call(self, node: Call) -> Estimate:
        parts = node.arguments if node.target is None else (node.target, *node.arguments)
        given = [self.node(part) for part in parts]
        before = _sum(*(each.units for each in given))
        units, size = self._price(node, given)
        return Estimate(_sum(before, units), size)

    def _price(self, node: Call, given: list[Estimate]) -> tuple[int, int]:
        """Units of the call itself, and the size of what it gives."""
        sizes = [each.size for each in given]
        match node.function, len(given):
            case "matches", 2:
                return _product(_times(sizes[0] + 1, _TEXT_FACTOR), _times(sizes[1], _PATTERN_FACTOR)), 1
            case "contains", 2:
                return _product(_times(sizes[0], _TEXT_FACTOR), _times(sizes[1], _TEXT_FACTOR)), 1
            case (("startsWith" | "endsWith"), 2):
                return _times(sizes[1], _TEXT_FACTOR), 1
            case (("_==_" | "_!=_" | "_<_" | "_<=_" | "_>_" | "_>=_"), 2):
                return _times(min(sizes), _TEXT_FACTOR), 1
            case "@in", 2:
                is_list = self._kind(node.arguments[1]) == "list"
                return (sizes[1] if is_list else 1), 1
            case "_+_", 2:
                kind, size = self._kind(node), _sum(*sizes)
                if kind == "list":
                    return 1, size
                return (_times(size, _TEXT_FACTOR), size) if kind in ("string", "bytes") else (1, 0)
        if node.function in _WHOLE_LIST and given:
            return max(1, sizes[0]), 1
        return 1, max(sizes, default=1)

    def _kind(self, node: Node) -> str:
        type = self._types.get(id(node))
        return "" if type is None else type.name

    # ------------------------------------------------------------------ macros

    def _loop(self, node: Loop) -> Estimate:
        over, body = self.node(node.range), self.node(node.body)
        condition = self.node(node.condition).units if node.condition is not None else 0
        start, turn = _TURNS[node.kind]
        each = _sum(body.units, condition, turn)
        units = _sum(over.units, start, _product(over.size, each))
        return Estimate(units, over.size if node.kind in _MAKERS else 1)


_APPEND = _LIST_UNITS + 2
_TURNS: Mapping[LoopKind, tuple[int, int]] = {
    LoopKind.ALL: (1, 3),
    LoopKind.EXISTS: (1, 4),
    LoopKind.EXISTS_ONE: (2, 2),
    LoopKind.MAP: (_LIST_UNITS + 1, _APPEND),
    LoopKind.FILTER: (_LIST_UNITS + 1, _APPEND + 1),
    LoopKind.TRANSFORM_LIST: (_LIST_UNITS + 1, _APPEND),
    LoopKind.TRANSFORM_MAP: (_MAP_UNITS + 1, 2),
    LoopKind.TRANSFORM_MAP_ENTRY: (_MAP_UNITS + 1, 2),
}
"""Units of a macro itself: once, and at each turn."""
_MAKERS = frozenset(_TURNS) - {LoopKind.ALL, LoopKind.EXISTS, LoopKind.EXISTS_ONE}


def _sum(*parts: int) -> int:
    return min(sum(parts), MOST_UNITS)


def _product(a: int, b: int) -> int:
    return min(a * b, MOST_UNITS)


def _times(size: int, factor: float) -> int:
    return min(math.ceil(size * factor), MOST_UNITS)
