"""What an expression may cost at most, before it is ever evaluated, by the bounds that its types have.

The unit and the prices are Kubernetes': one for a step, more for what is made, times the elements of a list
for a macro over it; what calls cost is in `prices`. The size of a value is reckoned when it is written there
or made of such; of what stands in the object it is looked up by its path, from `self` on: `@items` are the
elements of a list, `@values` and `@keys` those of a map. A path that begins elsewhere is looked up in the
same way, as Kubernetes does, and of what has neither the size is unknown. Evaluation has a budget of its own
(`budget`), which holds whatever is said here.
Source: github.com/google/cel-go, checker/cost.go; k8s.io/apiextensions-apiserver,
pkg/apiserver/schema/cel/compilation.go.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from gitkube.objects.cel.checker import Checked
from gitkube.objects.cel.prices import MOST_UNITS, ONE, UNKNOWN, Given, Size, price_of, product, total
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
    namespaced,
)
from gitkube.objects.cel.types import DYN, CelType

__all__ = ["MOST_UNITS", "most_units"]

_LIST_UNITS, _MAP_UNITS, _MESSAGE_UNITS = 10, 30, 40
_SCALARS = frozenset(("bool", "double", "duration", "int", "timestamp", "uint"))
_STRUCTS = frozenset(("map", "object"))

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Estimate:
    units: int
    size: Size
    entry: Size | None = None
    """Of each element or value, when it is known otherwise than by the path."""
    path: Path = ()
    """The way to it, from a variable on; empty for what was made."""


def most_units(checked: Checked, root: CelType = DYN) -> int:
    """Units that one evaluation of a checked expression may cost at most.

    Args:
        root: the type of `self`, by which the sizes of its parts are known.
    """
    return _Estimator(checked, root).node(checked.tree).units


class _Estimator:
    def __init__(self, checked: Checked, root: CelType) -> None:
        self._types = checked.types
        self._root = root
        self._local: dict[str, Estimate] = {}
        """Names that macros have bound."""

    def node(self, node: Node) -> Estimate:
        match node:
            case Literal():
                length = len(node.value) if isinstance(node.value, str | bytes) else 1
                return Estimate(0, Size(length, length))
            case Name():
                return self._name(node)
            case Select():
                return self._select(node)
            case Has():
                return Estimate(self.node(node.operand).units, ONE)
            case Index():
                return self._index(node)
            case Call():
                return self._call(node)
            case All() | Any_():
                return Estimate(total(*(self.node(part).units for part in node.parts)), ONE)
            case Choice():
                return self._choice(node)
            case ListOf():
                items = [self.node(item) for item, _ in node.items]
                return self._made(_LIST_UNITS, items, items)
            case MapOf():
                keys = [self.node(key) for key, _, _ in node.entries]
                values = [self.node(value) for _, value, _ in node.entries]
                return self._made(_MAP_UNITS, [*keys, *values], values)
            case Message():
                units = total(_MESSAGE_UNITS, *(self.node(value).units for _, value, _ in node.fields))
                return Estimate(units, UNKNOWN)
            case Loop():
                return self._loop(node)
            case Bind():
                return self._bind(node)
            case OptionalMap():
                return self._optional_map(node)
        return Estimate(1, UNKNOWN)

    # ------------------------------------------------------------------ sizes

    def _size(self, node: Node, path: Path, otherwise: Size = UNKNOWN) -> Size:
        """Of what no call has made: by its path, or its type."""
        declared = self._declared(path) if path else None
        if declared is not None:
            return Size(0, declared.most or 0)
        return ONE if self._is_scalar(self._type(node)) else otherwise

    def _declared(self, path: Path) -> CelType | None:
        """The type at the end of a path, whatever its first step is; None when it leads nowhere."""
        current = self._root
        for step in path[1:]:
            found: CelType | None = None
            if step in ("@items", "@values"):
                found = current.parameters[-1] if current.parameters else None
            elif step == "@keys":
                found = current.parameters[0] if current.name == "map" else None
            elif current.find_field is not None:
                found = current.find_field(step)
            if found is None:
                return None
            current = found
        return current

    def _is_scalar(self, type: CelType) -> bool:
        if type.name == "optional_type":
            return self._is_scalar(type.parameter(0))
        return type.name in _SCALARS

    def _type(self, node: Node) -> CelType:
        return self._types.get(id(node), DYN)

    # ------------------------------------------------------------------ names and fields

    def _name(self, node: Name) -> Estimate:
        local = self._local.get(node.name)
        if local is None:
            return Estimate(1, self._size(node, (node.name,)), None, (node.name,))
        return Estimate(1, self._size(node, local.path, local.size), local.entry, local.path)

    def _select(self, node: Select) -> Estimate:
        operand = self.node(node.operand)
        if node.is_optional:
            return Estimate(total(operand.units, 1), self._size(node, ()))
        step = 1 if self._type(node.operand).kind in _STRUCTS else 0
        path = (*operand.path, node.field)
        return Estimate(total(operand.units, step), self._size(node, path), None, path)

    def _index(self, node: Index) -> Estimate:
        operand, index = self.node(node.operand), self.node(node.index)
        units = total(operand.units, index.units, 1)
        kind = self._type(node.operand).name
        if node.is_optional or kind not in ("list", "map"):
            return Estimate(units, self._size(node, ()))
        path = (*operand.path, "@items" if kind == "list" else "@values")
        return Estimate(units, operand.entry or self._size(node, path), None, path)

    # ------------------------------------------------------------------ calls

    def _call(self, node: Call) -> Estimate:
        name, parts = node.function, node.arguments
        if node.target is not None:
            if id(node.target) not in self._types:  # no value, but the first part of the function's name
                name = f"{namespaced(node.target, self._local.__contains__)}.{name}"
            else:
                parts = (node.target, *parts)
        given = [self.node(part) for part in parts]
        before = total(*(each.units for each in given))
        if name == "dyn" and given:
            return Estimate(total(before, 1), given[0].size, given[0].entry)
        price = price_of(name, self._given(parts, given))
        size = price.size if price.size is not None else self._size(node, ())
        entry = None
        if name == "_+_" and given[0].entry is not None and given[1].entry is not None:
            entry = given[0].entry.joined(given[1].entry)
        return Estimate(total(before, price.units), size, entry)

    def _given(self, parts: tuple[Node, ...], estimates: list[Estimate]) -> Given:
        types = [self._type(part) for part in parts]
        last = parts[-1] if parts else None
        number = last.value if isinstance(last, Literal) and type(last.value) is int else None
        element: Size | None = None
        if types and types[0].name == "list" and types[0].parameter(0).name in ("string", "bytes"):
            path = estimates[0].path
            declared = self._declared((*path, "@items")) if path else None
            element = UNKNOWN if declared is None else Size(0, declared.most or 0)
        return Given([each.size for each in estimates], [each.name for each in types], element, number)

    def _choice(self, node: Choice) -> Estimate:
        condition, yes, no = self.node(node.condition), self.node(node.yes), self.node(node.no)
        units = total(condition.units, max(yes.units, no.units))
        entry = yes.entry.joined(no.entry) if yes.entry is not None and no.entry is not None else None
        return Estimate(units, yes.size.joined(no.size), entry)

    # ------------------------------------------------------------------ making things

    def _made(self, units: int, parts: list[Estimate], values: list[Estimate]) -> Estimate:
        """A list or map that is written out."""
        entry = values[0].size if values else Size(0, 0)
        for value in values[1:]:
            entry = entry.joined(value.size)
        size = Size(len(values), len(values))
        return Estimate(total(units, *(part.units for part in parts)), size, entry)

    # ------------------------------------------------------------------ macros

    @contextmanager
    def _bound(self, names: Mapping[str, Estimate]) -> Iterator[None]:
        before = self._local
        self._local = {**before, **names}
        try:
            yield
        finally:
            self._local = before

    def _loop(self, node: Loop) -> Estimate:
        over = self.node(node.range)
        is_list = self._type(node.range).name == "list"
        first, second = ("@indices", "@items") if is_list else ("@keys", "@values")
        steps = (first, second) if len(node.variables) > 1 else ("@items" if is_list else "@keys",)
        names = {
            name: Estimate(0, UNKNOWN, None, (*over.path, step))
            for name, step in zip(node.variables, steps, strict=True)
        }
        with self._bound(names):
            body = self.node(node.body)
            condition = self.node(node.condition).units if node.condition is not None else 0
        start, turn = _TURNS[node.kind]
        each = total(body.units, condition, turn)
        units = total(over.units, start, product(over.size.most, each))
        if node.kind not in _MAKERS:
            return Estimate(units, ONE)
        if node.kind is LoopKind.FILTER:
            with self._bound(names):
                element = self.node(Name(node.at, node.variables[0])).size
        else:
            element = body.size if node.kind in _OF_BODIES else UNKNOWN
        return Estimate(units, over.size, Size(0, element.most))

    def _bind(self, node: Bind) -> Estimate:
        value = self.node(node.value)
        with self._bound({node.name: value}):
            body = self.node(node.body)
        return Estimate(total(_LIST_UNITS, value.units, body.units), body.size, body.entry)

    def _optional_map(self, node: OptionalMap) -> Estimate:
        """As `x.hasValue() ? optional.of(cel.bind(name, x.value(), body)) : optional.none()`."""
        operand = self.node(node.operand)
        with self._bound({node.name: Estimate(0, UNKNOWN)}):
            body = self.node(node.body)
        asked, made = total(operand.units, 1), total(operand.units, 1, _LIST_UNITS, body.units)
        return Estimate(total(asked, made, 0 if node.is_flat else 1), self._size(node, ()))


_APPEND = _LIST_UNITS + 2
_TURNS: Mapping[LoopKind, tuple[int, int]] = {
    LoopKind.ALL: (1, 3),
    LoopKind.EXISTS: (1, 4),
    LoopKind.EXISTS_ONE: (2, 2),
    LoopKind.MAP: (_LIST_UNITS + 1, _APPEND),
    LoopKind.FILTER: (_LIST_UNITS + 1, _APPEND + 1),
    LoopKind.TRANSFORM_LIST: (_LIST_UNITS + 1, _APPEND),
    LoopKind.TRANSFORM_MAP: (_MAP_UNITS + 1, 3),
    LoopKind.TRANSFORM_MAP_ENTRY: (_MAP_UNITS + 1, 2),
}
"""Units of a macro itself: once, and at each turn."""
_MAKERS = frozenset(_TURNS) - {LoopKind.ALL, LoopKind.EXISTS, LoopKind.EXISTS_ONE}
_OF_BODIES = frozenset((LoopKind.MAP, LoopKind.TRANSFORM_LIST))
