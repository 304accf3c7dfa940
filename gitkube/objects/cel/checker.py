"""Judges an expression by the types of what it names, before it is ever evaluated.

The walk gives each node a type. A field that a struct does not have, a name that nobody declared, a function
that takes none of what it is given: each is a mistake, all are said at once, as Kubernetes says them, and the
walk goes on with `dyn` in its place, so that one mistake is one sentence. What is not known fits everywhere:
an expression that could be right for some value is not refused. `compiler` needs none of this; it makes what
is evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gitkube.objects.cel import registry
from gitkube.objects.cel.compiler import MAX_TREE_DEPTH
from gitkube.objects.cel.errors import CelSyntaxError, no_matching_overload, undeclared
from gitkube.objects.cel.operators import OPERATORS
from gitkube.objects.cel.parser import parse
from gitkube.objects.cel.signatures import function_result, index_result, message_type, operator_result
from gitkube.objects.cel.syntax import (
    TESTS,
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
from gitkube.objects.cel.types import (
    BOOL,
    DYN,
    FREE,
    INT,
    TYPE_NAMES,
    CelType,
    joined,
    list_of,
    map_of,
    named,
    optional_of,
)
from gitkube.objects.cel.values import static_type_name

_MAX_MISTAKES = 20


@dataclass(frozen=True, slots=True)
class Checked:
    """What is known of an expression."""

    tree: Node
    type: CelType
    """Of its value."""
    mistakes: tuple[str, ...]
    """As Kubernetes writes them, each with its place, in the order of the text."""
    types: Mapping[int, CelType]
    """`id` of a node of the tree -> its type."""


def check_types(
    source: str, variables: Mapping[str, CelType], constructors: frozenset[str] = frozenset()
) -> Checked:
    """
    Args:
        variables: names that an evaluation will bind, and the types of what they hold.
        constructors: first names of messages that the expression may make.

    Raises:
        CelSyntaxError: it is no expression.
    """
    tree = parse(source)
    checker = _Checker(source, variables, constructors)
    type = checker.node(tree)
    placed = sorted(checker.mistakes, key=lambda mistake: mistake.offset)[:_MAX_MISTAKES]
    return Checked(tree, type, tuple(mistake.message for mistake in placed), checker.types)


class _Checker:
    def __init__(self, source: str, variables: Mapping[str, CelType], constructors: frozenset[str]) -> None:
        self._source = source
        self._scope: dict[str, CelType] = dict(variables)
        self._constructors = constructors
        self._depth = 0
        self.mistakes: list[CelSyntaxError] = []
        self.types: dict[int, CelType] = {}

    def node(self, node: Node) -> CelType:
        self._depth += 1
        try:
            if self._depth > MAX_TREE_DEPTH:
                return self._mistake(f"expression recursion limit exceeded: {MAX_TREE_DEPTH}", node)
            type = self._type_of(node)
        finally:
            self._depth -= 1
        self.types[id(node)] = type
        return type

    def _type_of(self, node: Node) -> CelType:
        match node:
            case Literal():
                return CelType(static_type_name(node.value))
            case Name():
                return self._name(node)
            case Select():
                return self._select(node)
            case Has():
                self._field(self.node(node.operand), node.field, node)
                return BOOL
            case Index():
                return self._index(node)
            case Call():
                return self._call(node)
            case All():
                return self._logical(node.parts, "_&&_", node)
            case Any_():
                return self._logical(node.parts, "_||_", node)
            case Choice():
                return self._choice(node)
            case ListOf():
                return list_of(self._common([self._part(*item) for item in node.items]))
            case MapOf():
                return self._map(node)
            case Message():
                return self._message(node)
            case Loop():
                return self._loop(node)
            case Bind():
                return self._with({node.name: self.node(node.value)}, node.body)
            case OptionalMap():
                return self._optional_map(node)
        return DYN

    # ------------------------------------------------------------------ names and fields

    def _name(self, node: Name) -> CelType:
        if (found := self._scope.get(node.name)) is not None:
            return found
        if node.name in TYPE_NAMES:
            return named("type")
        return self._undeclared(node.name, node)

    def _select(self, node: Select) -> CelType:
        if namespaced(node, self._scope.__contains__) in TYPE_NAMES:
            return named("type")
        found = self._field(self.node(node.operand), node.field, node)
        if not node.is_optional:
            return found
        return found if found.name == "optional_type" else optional_of(found)

    def _field(self, operand: CelType, field: str, node: Node) -> CelType:
        """The type of a field; of an optional's, an optional."""
        if operand.name == "optional_type":
            return optional_of(self._field(operand.parameter(0), field, node))
        if operand.is_dyn:
            return DYN
        if operand.name == "map":
            return operand.parameter(1)
        if operand.find_field is None:
            return self._mistake(f"type '{operand}' does not support field selection", node)
        found = operand.find_field(field)
        return self._mistake(f"undefined field '{field}'", node) if found is None else found

    def _index(self, node: Index) -> CelType:
        operand, index = self.node(node.operand), self.node(node.index)
        result = index_result(operand, index)
        if result is None:
            return self._no_overload("_[_]", (operand, index), node)
        if node.is_optional and result.name != "optional_type":
            return optional_of(result)
        return result

    # ------------------------------------------------------------------ calls

    def _call(self, node: Call) -> CelType:
        if node.target is None:
            if node.function in OPERATORS:
                operands = [self.node(argument) for argument in node.arguments]
                found = operator_result(node.function, operands)
                return found or self._no_overload(node.function, operands, node)
            return self._function(node, node.function, node.arguments, is_method=False)
        namespace = namespaced(node.target, self._scope.__contains__)
        if namespace and registry.find(f"{namespace}.{node.function}", False, len(node.arguments)):
            return self._function(node, f"{namespace}.{node.function}", node.arguments, is_method=False)
        if node.function in ("or", "orValue") and len(node.arguments) == 1:
            return self._or_else(node, node.target)
        return self._function(node, node.function, (node.target, *node.arguments), is_method=True)

    def _function(self, node: Call, name: str, arguments: Sequence[Node], *, is_method: bool) -> CelType:
        is_of_host = is_method and registry.is_host_method(name)
        if not registry.is_known(name):
            for argument in arguments:
                self.node(argument)
            return self._undeclared(name, node)
        types = [self.node(argument) for argument in arguments]
        found = function_result(name, is_method=is_method, arguments=types)
        if found is not None:
            return found
        if is_of_host and types[0].is_dyn:
            return DYN
        return self._no_overload(name, types, node, is_method=is_method)

    def _or_else(self, node: Call, target: Node) -> CelType:
        operand, other = self.node(target), self.node(node.arguments[0])
        if operand.is_dyn:
            return DYN
        if operand.name != "optional_type":
            return self._no_overload(node.function, (operand, other), node, is_method=True)
        inner = operand if node.function == "or" else operand.parameter(0)
        result = joined(inner, other)
        if result is None:
            return self._no_overload(node.function, (operand, other), node, is_method=True)
        return result

    # ------------------------------------------------------------------ logic

    def _logical(self, parts: Sequence[Node], sign: str, node: Node) -> CelType:
        types = [self.node(part) for part in parts]
        for position, type in enumerate(types):
            if type.name not in ("bool", "dyn"):
                operands = (BOOL, type) if position else (type, types[1])
                self._no_overload(sign, operands, node)
        return BOOL

    def _choice(self, node: Choice) -> CelType:
        condition, yes, no = self.node(node.condition), self.node(node.yes), self.node(node.no)
        result = joined(yes, no)
        if condition.name not in ("bool", "dyn") or result is None:
            return self._no_overload("_?_:_", (condition, yes, no), node)
        return result

    # ------------------------------------------------------------------ making things

    def _part(self, node: Node, is_optional: bool) -> CelType:
        type = self.node(node)
        return type.parameter(0) if is_optional and type.name == "optional_type" else type

    def _common(self, types: Sequence[CelType]) -> CelType:
        """The type of what may be any of these."""
        if not types:
            return FREE
        result: CelType | None = types[0]
        for type in types[1:]:
            result = joined(result, type) if result is not None else None
        return result or DYN

    def _map(self, node: MapOf) -> CelType:
        keys = [self.node(key) for key, _, _ in node.entries]
        values = [self._part(value, is_optional) for _, value, is_optional in node.entries]
        return map_of(self._common(keys), self._common(values))

    def _message(self, node: Message) -> CelType:
        root = node.type.split(".", 1)[0]
        given = [(name, self._part(value, is_optional)) for name, value, is_optional in node.fields]
        made = message_type(node.type) if root in self._constructors else None
        if made is None or made.find_field is None:
            return self._undeclared(node.type, node)
        for (name, type), at in zip(given, node.places, strict=True):
            wanted = made.find_field(name)
            if wanted is None:
                self._mistake_at(f"undefined field '{name}'", at)
            elif joined(wanted, type) is None:
                why = f"expected type of field '{name}' is '{wanted}' but provided type is '{type}'"
                self._mistake_at(why, at)
        return made

    # ------------------------------------------------------------------ binding names

    def _with(self, names: Mapping[str, CelType], body: Node) -> CelType:
        """The type of a body in which these names are bound."""
        before = self._scope
        self._scope = {**before, **names}
        try:
            return self.node(body)
        finally:
            self._scope = before

    def _loop(self, node: Loop) -> CelType:
        over = self.node(node.range)
        if over.name not in ("list", "map", "dyn"):
            why = f"expression of type '{over}' cannot be range of a comprehension "
            self._mistake(f"{why}(must be list, map, or dynamic)", node.range)
            over = DYN
        names = dict(zip(node.variables, _turn(over, len(node.variables)), strict=True))
        if node.condition is not None:
            self._truth(self._with(names, node.condition), node.condition)
        body = self._with(names, node.body)
        if node.kind in TESTS:
            self._truth(body, node.body)
        return _result(node.kind, over, body, names[node.variables[0]])

    def _truth(self, type: CelType, node: Node) -> None:
        if type.name not in ("bool", "dyn"):
            self._mistake(f"expected type 'bool' but found '{type}'", node)

    def _optional_map(self, node: OptionalMap) -> CelType:
        operand = self.node(node.operand)
        inner = operand.parameter(0) if operand.name == "optional_type" else DYN
        body = self._with({node.name: inner}, node.body)
        if node.is_flat:
            return body if body.name == "optional_type" else optional_of(DYN)
        return optional_of(body)

    # ------------------------------------------------------------------ mistakes

    def _mistake(self, why: str, node: Node) -> CelType:
        self._mistake_at(why, node.at)
        return DYN

    def _mistake_at(self, why: str, at: int) -> None:
        self.mistakes.append(CelSyntaxError(why, self._source, at))

    def _undeclared(self, name: str, node: Node) -> CelType:
        return self._mistake(undeclared(name), node)

    def _no_overload(
        self, function: str, types: Sequence[CelType], node: Node, *, is_method: bool = False
    ) -> CelType:
        return self._mistake(
            no_matching_overload(function, [str(type) for type in types], is_method=is_method), node
        )


def _turn(over: CelType, count: int) -> tuple[CelType, ...]:
    """Types of the names that a macro binds at each turn."""
    if over.name == "list":
        return (over.parameter(0),) if count == 1 else (INT, over.parameter(0))
    if over.name == "map":
        return (over.parameter(0), over.parameter(1))[:count]
    return (DYN,) * count


def _result(kind: LoopKind, over: CelType, body: CelType, first: CelType) -> CelType:
    if kind in (LoopKind.ALL, LoopKind.EXISTS, LoopKind.EXISTS_ONE):
        return BOOL
    if kind is LoopKind.FILTER:
        return list_of(first, over.most)
    if kind in (LoopKind.MAP, LoopKind.TRANSFORM_LIST):
        return list_of(body, over.most)
    if kind is LoopKind.TRANSFORM_MAP:
        return map_of(first if over.name != "list" else INT, body, over.most)
    return body if body.name == "map" else map_of(DYN, DYN)
