"""An object side by side with its schema: the one walk that all checks of an object's shape are made of.

Each step is a `Node`: a value, the schema for it (None where the schema knows no such field) and the node
above. A check looks at one node at a time and need not know how it was reached; paths are put together only
for the nodes about which there is something to say. The walk goes below a value only where the value has the
form that its schema says, so whoever finds a wrong type finds nothing below it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gitkube.objects.schema import Schema

MAX_DEPTH = 64
"""Of nesting. The deepest schema, a pod's affinity inside a Job, needs 20."""

Steps = tuple[str | int, ...]
"""A path inside an object: names of fields, keys of maps, indices of lists."""


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """A value and what its schema says of it."""

    schema: Schema | None
    """None: the schema of the object around it has no such field."""
    value: Any
    step: str | int = ""
    parent: Node | None = None
    depth: int = 0

    @property
    def steps(self) -> Steps:
        steps: list[str | int] = []
        node = self
        while node.parent is not None:
            steps.append(node.step)
            node = node.parent
        return tuple(reversed(steps))

    @property
    def is_of_map(self) -> bool:
        """Whether the step is a key that somebody chose, such as a label's, and no field's name."""
        above = self.parent.schema if self.parent is not None else None
        return isinstance(self.step, str) and above is not None and above.additional_properties is not None

    @property
    def path(self) -> str:
        """As people know it: `spec.containers[0].image`, `metadata.labels[app]`."""
        words: list[str] = []
        node = self
        while node.parent is not None:
            is_field = isinstance(node.step, str) and not node.is_of_map
            words.append(f".{node.step}" if is_field else f"[{node.step}]")
            node = node.parent
        return "".join(reversed(words)).removeprefix(".")

    def missing(self) -> Iterator[Node]:
        """Of an object: a node for each field that its schema requires and that it has not."""
        if self.schema is not None and isinstance(self.value, dict) and not self.schema.preserve_unknown:
            for field in sorted(self.schema.required):
                if self.value.get(field) is None:
                    yield Node(self.schema.child(field), None, field, self, self.depth + 1)


def walk(schema: Schema, value: Any) -> Iterator[Node]:
    """Every value of an object, in the object's order, each before what is in it.

    What is deeper than MAX_DEPTH is not visited; the first node beyond it is, for whoever wants to complain.
    """
    waiting = [Node(schema, value)]
    while waiting:
        node = waiting.pop()
        yield node
        if node.depth <= MAX_DEPTH:
            waiting.extend(reversed(list(_below(node))))


def steps_of(path: str) -> Steps:
    """The steps of a path in words, such as `metadata.labels[a.b/c]` or `spec.containers[0].image`."""
    steps: list[str | int] = []
    word = ""
    position = 0
    while position < len(path):
        character = path[position]
        if character == "[":
            end = path.find("]", position)
            end = len(path) if end < 0 else end
            inside = path[position + 1 : end].strip("\"'")
            if word:
                steps.append(word)
                word = ""
            steps.append(int(inside) if inside.isdecimal() else inside)
            position = end
        elif character == ".":
            if word:
                steps.append(word)
            word = ""
        else:
            word += character
        position += 1
    if word:
        steps.append(word)
    return tuple(steps)


def _below(node: Node) -> Iterator[Node]:
    schema, value, depth = node.schema, node.value, node.depth + 1
    if schema is None or schema.preserve_unknown:
        return
    if isinstance(value, dict) and schema.is_object:
        properties, additional = schema.properties, schema.additional_properties
        for field, item in value.items():
            yield Node(properties.get(field, additional), item, field, node, depth)
    elif isinstance(value, list) and schema.is_list and schema.items is not None:
        items = schema.items
        for index, item in enumerate(value):
            yield Node(items, item, index, node, depth)
