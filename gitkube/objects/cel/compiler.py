"""From a tree to closures: each node becomes a function of the frame, and is called, not interpreted.

A frame is a list: the budget first, then a slot for each variable, then one for each name that a macro binds.
What a straight piece of code costs is known when it is compiled, so it is paid at once: for the whole
expression at its start, for the body of a macro at each turn. Only what depends on values is paid in between.

Types are inferred as far as literals and functions tell (`dyn` is what is not known), which finds the
mistakes that Kubernetes finds without a schema: unknown names and functions, and operands that can never fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gitkube.objects.cel import functions, operators, registry
from gitkube.objects.cel.control import choice, logical, optional_map, or_else
from gitkube.objects.cel.errors import CelSyntaxError, no_matching_overload, no_such_overload, undeclared
from gitkube.objects.cel.fields import has_field, index_value, select_field, unescaped
from gitkube.objects.cel.loops import LOOPS
from gitkube.objects.cel.making import Code, Frame, Run, list_of, map_of, message_of
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
from gitkube.objects.cel.types import TYPE_NAMES
from gitkube.objects.cel.values import NONE, HostObject, Optional, Type, static_type_name

MAX_TREE_DEPTH = 150
"""Nodes within nodes, each of which is a Python frame when it is evaluated."""
_LIBRARIES = functions.LOADED


@dataclass(frozen=True, slots=True)
class Compiled:
    run: Run
    cost: int
    type: str
    slots: int
    """Length of a frame."""
    used: tuple[tuple[str, int], ...]
    """Variables that the expression names, and their slots."""
    loop_depth: int
    """Macros within macros."""


def compile_tree(
    source: str, tree: Node, variables: frozenset[str], constructors: frozenset[str]
) -> Compiled:
    """
    Args:
        variables: names that will be bound.
        constructors: first names of the messages that it may make, such as `Object`.

    Raises:
        CelSyntaxError: it names what is not there, or cannot be evaluated whatever the values are.
    """
    compiler = _Compiler(source, variables, constructors)
    code = compiler.node(tree)
    used = tuple(sorted(compiler.used.items()))
    return Compiled(code.run, code.cost, code.type, compiler.slots, used, compiler.deepest_loop)


class _Compiler:
    def __init__(self, source: str, variables: frozenset[str], constructors: frozenset[str]) -> None:
        self._source = source
        self._variables = variables
        self._constructors = constructors
        self._local: dict[str, tuple[int, str]] = {}
        self._depth = 0
        self._loop_depth = 0
        self.used: dict[str, int] = {}
        self.slots = 1
        self.deepest_loop = 0

    def node(self, node: Node) -> Code:
        self._depth += 1
        if self._depth > MAX_TREE_DEPTH:
            raise self._mistake(f"expression recursion limit exceeded: {MAX_TREE_DEPTH}", node)
        try:
            return self._dispatch(node)
        finally:
            self._depth -= 1

    def _dispatch(self, node: Node) -> Code:
        match node:
            case Literal():
                return self._literal(node)
            case Name():
                return self._name(node)
            case Select():
                return self._select(node)
            case Has():
                return self._has(node)
            case Index():
                return self._index(node)
            case Call():
                return self._call(node)
            case All():
                return self._logical(node.parts, False, "_&&_")
            case Any_():
                return self._logical(node.parts, True, "_||_")
            case Choice():
                return self._choice(node)
            case ListOf():
                return self._list(node)
            case MapOf():
                return self._map(node)
            case Message():
                return self._message(node)
            case Loop():
                return self._loop(node)
            case Bind():
                return self._bind(node)
            case OptionalMap():
                return self._optional_map(node)
        raise self._mistake("unsupported expression", node)

    # ------------------------------------------------------------------ names and fields

    def _literal(self, node: Literal) -> Code:
        value = node.value
        return Code(lambda frame: value, 0, static_type_name(value))

    def _name(self, node: Name) -> Code:
        name = node.name
        if name in self._local:
            slot, type = self._local[name]
        elif name in self._variables:
            slot, type = self._slot_of(name), "dyn"
        elif name in TYPE_NAMES:
            value = Type(name)
            return Code(lambda frame: value, 0, "type")
        else:
            raise self._undeclared(name, node)
        return Code(lambda frame: frame[slot], 1, type)

    def _slot_of(self, variable: str) -> int:
        slot = self.used.get(variable)
        if slot is None:
            slot = self.used[variable] = self._new_slot()
        return slot

    def _new_slot(self) -> int:
        self.slots += 1
        return self.slots - 1

    def _is_variable(self, name: str) -> bool:
        return name in self._local or name in self._variables

    def _select(self, node: Select) -> Code:
        if (dotted := namespaced(node, self._is_variable)) in TYPE_NAMES:
            value = Type(dotted)
            return Code(lambda frame: value, 0, "type")
        operand = self.node(node.operand)
        self._check_selectable(operand, node)
        run, field, plain = operand.run, node.field, unescaped(node.field)
        if node.is_optional:

            def optional(frame: Frame) -> Any:
                value = run(frame)
                if isinstance(value, Optional):
                    if not value.has_value:
                        return NONE
                    value = value.value
                if not has_field(value, field, plain):
                    return NONE
                return Optional(True, select_field(value, field, plain))

            return Code(optional, operand.cost + 1, "optional_type")

        def select(frame: Frame) -> Any:
            value = run(frame)
            if isinstance(value, dict) and field in value:
                return value[field]
            return select_field(value, field, plain)

        return Code(select, operand.cost + 1)

    def _check_selectable(self, operand: Code, node: Node) -> None:
        if operand.type in ("int", "uint", "double", "bool", "string", "bytes", "list", "null_type"):
            raise self._mistake(f"type '{operand.type}' does not support field selection", node)

    def _has(self, node: Has) -> Code:
        operand = self.node(node.operand)
        self._check_selectable(operand, node)
        run, field, plain = operand.run, node.field, unescaped(node.field)
        return Code(lambda frame: has_field(run(frame), field, plain), operand.cost + 1, "bool")

    def _index(self, node: Index) -> Code:
        operand, index = self.node(node.operand), self.node(node.index)
        if operand.type not in ("dyn", "list", "map", "optional_type"):
            raise self._no_overload("_[_]", (operand, index), node)
        run, key, is_optional = operand.run, index.run, node.is_optional
        result = "optional_type" if is_optional else "dyn"
        return Code(
            lambda frame: index_value(run(frame), key(frame), is_optional),
            operand.cost + index.cost + 1,
            result,
        )

    # ------------------------------------------------------------------ calls

    def _call(self, node: Call) -> Code:
        if node.target is None:
            if (operator := operators.OPERATORS.get(node.function)) is not None:
                return self._operator(node, operator)
            return self._function(node, node.function, node.arguments, is_method=False)
        namespace = namespaced(node.target, self._is_variable)
        if namespace and registry.find(f"{namespace}.{node.function}", False, len(node.arguments)):
            return self._function(node, f"{namespace}.{node.function}", node.arguments, is_method=False)
        if node.function in ("or", "orValue") and len(node.arguments) == 1:
            return self._or_else(node, node.target)
        return self._function(node, node.function, (node.target, *node.arguments), is_method=True)

    def _operator(self, node: Call, operator: operators.Operator) -> Code:
        operands = [self.node(each) for each in node.arguments]
        types = [operand.type for operand in operands]
        result = operator.result_of(types)
        if result is None:
            raise self._no_overload(node.function, operands, node)
        cost = sum(operand.cost for operand in operands) + 1
        apply = operator.apply
        first = operands[0].run
        if len(operands) == 1:
            return Code(lambda frame: apply(frame[0], first(frame)), cost, result)
        second = operands[1].run
        return Code(lambda frame: apply(frame[0], first(frame), second(frame)), cost, result)

    def _function(self, node: Call, name: str, arguments: tuple[Node, ...], *, is_method: bool) -> Code:
        found = registry.find(name, is_method, len(arguments))
        if found is None and not (is_method and registry.is_host_method(name)):
            if not registry.is_known(name):
                raise self._undeclared(name, node)
            codes = [self.node(each) for each in arguments]
            raise self._no_overload(name, codes, node, is_method=is_method)
        codes = [self.node(each) for each in arguments]
        if found is not None and not found.accepts([code.type for code in codes]):
            raise self._no_overload(name, codes, node, is_method=is_method)
        runs = [code.run for code in codes]
        cost = sum(code.cost for code in codes) + 1
        if found is None:

            def ask(frame: Frame) -> Any:
                receiver, *values = [run(frame) for run in runs]
                if not isinstance(receiver, HostObject):
                    raise no_such_overload()
                return receiver.call(name, values)

            return Code(ask, cost)
        call = found.call
        result = "dyn" if registry.is_host_method(name) else found.result
        return Code(lambda frame: call(frame[0], [run(frame) for run in runs]), cost, result)

    def _or_else(self, node: Call, target: Node) -> Code:
        operand, other = self.node(target), self.node(node.arguments[0])
        if operand.type not in ("dyn", "optional_type"):
            raise self._no_overload(node.function, (operand, other), node, is_method=True)
        return or_else(operand, other, is_value=node.function == "orValue")

    # ------------------------------------------------------------------ logic

    def _logical(self, parts: tuple[Node, ...], decisive: bool, sign: str) -> Code:
        codes = [self.node(part) for part in parts]
        if any(code.type not in ("bool", "dyn") for code in codes):
            raise self._no_overload(sign, codes[:2], parts[0])
        return logical(codes, decisive)

    def _choice(self, node: Choice) -> Code:
        condition, yes, no = self.node(node.condition), self.node(node.yes), self.node(node.no)
        if condition.type not in ("bool", "dyn"):
            raise self._no_overload("_?_:_", (condition, yes, no), node)
        if yes.type != no.type and "dyn" not in (yes.type, no.type):
            raise self._no_overload("_?_:_", (condition, yes, no), node)
        return choice(condition, yes, no)

    # ------------------------------------------------------------------ making things

    def _list(self, node: ListOf) -> Code:
        return list_of([(self.node(item), is_optional) for item, is_optional in node.items])

    def _map(self, node: MapOf) -> Code:
        return map_of(
            [(self.node(key), self.node(value), is_optional) for key, value, is_optional in node.entries]
        )

    def _message(self, node: Message) -> Code:
        root = node.type.split(".", 1)[0]
        if root not in self._constructors:
            raise self._undeclared(node.type, node)
        fields = [(unescaped(name), self.node(value), optional) for name, value, optional in node.fields]
        return message_of(root, fields)

    # ------------------------------------------------------------------ binding names

    def _loop(self, node: Loop) -> Code:
        over = self.node(node.range)
        if over.type not in ("dyn", "list", "map"):
            why = (
                f"expression of type '{over.type}' cannot be range of a comprehension "
                "(must be list, map, or dynamic)"
            )
            raise self._mistake(why, node)
        self._loop_depth += 1
        self.deepest_loop = max(self.deepest_loop, self._loop_depth)
        slots = [self._new_slot() for _ in node.variables]
        with _Binding(self._local, dict(zip(node.variables, slots, strict=True))):
            condition = self.node(node.condition) if node.condition is not None else None
            body = self.node(node.body)
        self._loop_depth -= 1
        for part in (condition, body if node.kind in TESTS else None):
            if part is not None and part.type not in ("bool", "dyn"):
                why = f"expected type 'bool' but found '{part.type}'"
                raise self._mistake(why, node.body)
        turn_cost = body.cost + (condition.cost if condition else 0) + 2
        run = LOOPS[node.kind](over.run, slots, body.run, condition.run if condition else None, turn_cost)
        return Code(run, over.cost + 1, _LOOP_RESULTS[node.kind])

    def _bind(self, node: Bind) -> Code:
        value = self.node(node.value)
        slot = self._new_slot()
        with _Binding(self._local, {node.name: slot}, value.type):
            body = self.node(node.body)
        run, then = value.run, body.run

        def bind(frame: Frame) -> Any:
            frame[slot] = run(frame)
            return then(frame)

        return Code(bind, value.cost + body.cost + 1, body.type)

    def _optional_map(self, node: OptionalMap) -> Code:
        operand = self.node(node.operand)
        slot = self._new_slot()
        with _Binding(self._local, {node.name: slot}):
            body = self.node(node.body)
        return optional_map(operand, slot, body, is_flat=node.is_flat)

    # ------------------------------------------------------------------ mistakes

    def _mistake(self, why: str, node: Node) -> CelSyntaxError:
        return CelSyntaxError(why, self._source, node.at)

    def _undeclared(self, name: str, node: Node) -> CelSyntaxError:
        return self._mistake(undeclared(name), node)

    def _no_overload(
        self, function: str, operands: list[Code] | tuple[Code, ...], node: Node, *, is_method: bool = False
    ) -> CelSyntaxError:
        types = [operand.type for operand in operands]
        return self._mistake(no_matching_overload(function, types, is_method=is_method), node)


_LOOP_RESULTS = {
    LoopKind.ALL: "bool",
    LoopKind.EXISTS: "bool",
    LoopKind.EXISTS_ONE: "bool",
    LoopKind.MAP: "list",
    LoopKind.FILTER: "list",
    LoopKind.TRANSFORM_LIST: "list",
    LoopKind.TRANSFORM_MAP: "map",
    LoopKind.TRANSFORM_MAP_ENTRY: "map",
}


class _Binding:
    """Names that are bound while a body is compiled; what they hid comes back after it."""

    def __init__(self, local: dict[str, tuple[int, str]], names: dict[str, int], type: str = "dyn") -> None:
        self._local = local
        self._names = names
        self._type = type
        self._hidden: dict[str, tuple[int, str]] = {}

    def __enter__(self) -> None:
        for name, slot in self._names.items():
            if name in self._local:
                self._hidden[name] = self._local[name]
            self._local[name] = (slot, self._type)

    def __exit__(self, *_: object) -> None:
        for name in self._names:
            del self._local[name]
        self._local.update(self._hidden)
