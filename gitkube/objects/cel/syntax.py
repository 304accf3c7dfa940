"""The tree of an expression, as the parser makes it: macros are loops here, and names are not yet looked
up."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

RESERVED = frozenset(
    [
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ]
)
"""Words that are no names in an expression."""


@dataclass(frozen=True, slots=True)
class Node:
    at: int
    """Characters before its sign or name, for messages."""


@dataclass(frozen=True, slots=True)
class Literal(Node):
    value: Any


@dataclass(frozen=True, slots=True)
class Name(Node):
    name: str


@dataclass(frozen=True, slots=True)
class Select(Node):
    operand: Node
    field: str
    is_optional: bool = False


@dataclass(frozen=True, slots=True)
class Has(Node):
    """`has(operand.field)`."""

    operand: Node
    field: str


@dataclass(frozen=True, slots=True)
class Index(Node):
    operand: Node
    index: Node
    is_optional: bool = False


@dataclass(frozen=True, slots=True)
class Call(Node):
    """A function, or a method when it has a target. Operators are calls too: `_+_`, `!_` and so on."""

    function: str
    target: Node | None
    arguments: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class All(Node):
    """`a && b && …`"""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Any_(Node):
    """`a || b || …`"""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Choice(Node):
    """`condition ? yes : no`"""

    condition: Node
    yes: Node
    no: Node


@dataclass(frozen=True, slots=True)
class ListOf(Node):
    items: tuple[tuple[Node, bool], ...]
    """Each with whether it is `?optional`."""


@dataclass(frozen=True, slots=True)
class MapOf(Node):
    entries: tuple[tuple[Node, Node, bool], ...]


@dataclass(frozen=True, slots=True)
class Message(Node):
    """`Object.spec{replicas: 3}`"""

    type: str
    fields: tuple[tuple[str, Node, bool], ...]
    places: tuple[int, ...]
    """Where the colon of each field stands, by which a mistake in it is shown."""


class LoopKind(enum.Enum):
    ALL = "all"
    EXISTS = "exists"
    EXISTS_ONE = "exists_one"
    MAP = "map"
    FILTER = "filter"
    TRANSFORM_LIST = "transformList"
    TRANSFORM_MAP = "transformMap"
    TRANSFORM_MAP_ENTRY = "transformMapEntry"


TESTS = frozenset((LoopKind.ALL, LoopKind.EXISTS, LoopKind.EXISTS_ONE, LoopKind.FILTER))
"""Macros whose body says yes or no."""


@dataclass(frozen=True, slots=True)
class Loop(Node):
    """A macro over the elements of a list or the keys of a map."""

    kind: LoopKind
    range: Node
    variables: tuple[str, ...]
    """One: the element or key. Two: index and element, or key and value."""
    body: Node
    condition: Node | None = None
    """Of `map(x, condition, body)`."""


@dataclass(frozen=True, slots=True)
class Bind(Node):
    """`cel.bind(name, value, body)`"""

    name: str
    value: Node
    body: Node


@dataclass(frozen=True, slots=True)
class OptionalMap(Node):
    """`operand.optMap(name, body)`; `is_flat` when the body is an optional itself."""

    operand: Node
    name: str
    body: Node
    is_flat: bool


def namespaced(node: Node, is_variable: Callable[[str], bool]) -> str:
    """`sets` or `google.protobuf` of a chain of names of which the first is no variable; else ""."""
    if isinstance(node, Name):
        return "" if is_variable(node.name) else node.name
    if isinstance(node, Select) and not node.is_optional:
        head = namespaced(node.operand, is_variable)
        return f"{head}.{node.field}" if head else ""
    return ""
