"""JSONPath as definitions use it: for printer columns, scale paths and selectable fields.

The part of kubectl's JSONPath that makes sense for one value: fields, quoted or with escaped dots, indices,
slices, wildcards, recursive descent and filters of one comparison
(`.status.conditions[?(@.type=="Ready")].status`). A path is parsed once and asked many times; what it finds
is bounded.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

MAX_PATH = 4096
"""Characters of a path."""
MAX_FOUND = 1000
"""Values that a path may lead to; the first is what counts nearly always."""
MAX_DEPTH = 100
"""Levels that recursive descent goes down."""

Step = Callable[[Any], Iterator[Any]]
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}


class JsonPathError(ValueError):
    """The text is no JSONPath."""


@dataclass(frozen=True, slots=True)
class JsonPath:
    text: str
    steps: tuple[Step, ...]

    def find(self, document: Any) -> list[Any]:
        """What the path leads to; nothing where it leads nowhere."""
        found = [document]
        for step in self.steps:
            reached: list[Any] = []
            for value in found:
                for item in step(value):
                    reached.append(item)
                    if len(reached) >= MAX_FOUND:
                        break
            found = reached
        return found

    def first(self, document: Any) -> Any:
        """The first value, or None."""
        found = self.find(document)
        return found[0] if found else None


@lru_cache(maxsize=4096)
def parse(text: str) -> JsonPath:
    """The path that a text such as `.spec.replicas` means.

    Raises:
        JsonPathError: it is none.
    """
    if len(text) > MAX_PATH:
        raise JsonPathError(f"a path may have {MAX_PATH} characters, this has {len(text)}")
    return JsonPath(text, tuple(_Parser(text).steps()))


def simple_fields(text: str) -> tuple[str, ...] | None:
    """The names in a path of plain fields, `.spec.replicas`; None when it is another sort of path."""
    if not text.startswith(".") or "[" in text or "*" in text or ".." in text:
        return None
    fields: list[str] = []
    word, characters = "", iter(text[1:])
    for character in characters:
        if character == "\\":
            word += next(characters, "")
        elif character == ".":
            fields.append(word)
            word = ""
        else:
            word += character
    fields.append(word)
    return tuple(fields) if all(fields) else None


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def steps(self) -> Iterator[Step]:
        text = self._text
        while self._at < len(text):
            if text.startswith("..", self._at):
                self._at += 2
                yield _descend
                yield from self._field()
            elif text[self._at] == ".":
                self._at += 1
                yield from self._field()
            elif text[self._at] == "[":
                yield self._bracket()
            elif self._at == 0:
                yield from self._field()
            else:
                raise JsonPathError(f"unexpected {text[self._at]!r} at character {self._at} of {text!r}")

    def _field(self) -> Iterator[Step]:
        word = ""
        while self._at < len(self._text) and self._text[self._at] not in ".[":
            if self._text[self._at] == "\\":
                self._at += 1
            word += self._text[self._at : self._at + 1]
            self._at += 1
        if word == "*":
            yield _every
        elif word:
            yield _field(word)

    def _bracket(self) -> Step:
        end = _closing(self._text, self._at)
        inside = self._text[self._at + 1 : end].strip()
        self._at = end + 1
        if inside == "*":
            return _every
        if inside.startswith("?(") and inside.endswith(")"):
            return _filter(inside[2:-1].strip())
        if inside[:1] in ("'", '"') and inside[-1:] == inside[:1] and len(inside) > 1:
            return _field(inside[1:-1])
        try:
            if ":" in inside:
                bounds = [int(part) if part.strip() else None for part in inside.split(":")]
                if len(bounds) > 3:
                    raise ValueError
                return _slice(slice(*bounds))
            return _index(int(inside))
        except ValueError:
            raise JsonPathError(f"[{inside}] is neither an index nor a slice nor a filter") from None


def _closing(text: str, start: int) -> int:
    quote = ""
    depth = 0
    for position in range(start, len(text)):
        character = text[position]
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character == "[":
            depth += 1
        elif character == "]":
            depth -= 1
            if not depth:
                return position
    raise JsonPathError(f"unterminated array in {text!r}")


def _field(name: str) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, dict) and name in value:
            yield value[name]

    return step


def _index(index: int) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, list) and -len(value) <= index < len(value):
            yield value[index]

    return step


def _slice(part: slice) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, list) and part.step != 0:
            yield from value[part]

    return step


def _every(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        yield from value
    elif isinstance(value, dict):
        yield from value.values()


def _descend(value: Any) -> Iterator[Any]:
    waiting = [(value, 0)]
    while waiting:
        item, depth = waiting.pop()
        yield item
        if depth < MAX_DEPTH:
            waiting.extend((child, depth + 1) for child in reversed(list(_every(item))))


def _filter(text: str) -> Step:
    for word, compare in _COMPARISONS.items():
        left, found, right = text.partition(word)
        if found:
            return _comparison(_operand(left), _operand(right), compare)
    wanted = _operand(text)
    return lambda value: (item for item in _every(value) if wanted(item) is not _MISSING)


_MISSING = object()


def _operand(text: str) -> Callable[[Any], Any]:
    text = text.strip()
    if text.startswith("@"):
        path = JsonPath(text, tuple(_Parser(text[1:]).steps()))

        def read(item: Any) -> Any:
            found = path.find(item)
            return found[0] if found else _MISSING

        return read
    constant = _constant(text)
    return lambda item: constant


def _constant(text: str) -> Any:
    if text[:1] in ("'", '"') and text[-1:] == text[:1] and len(text) > 1:
        return text[1:-1]
    if text in ("true", "false"):
        return text == "true"
    try:
        return int(text) if text.lstrip("-").isdigit() else float(text)
    except ValueError:
        raise JsonPathError(f"{text!r} is neither a path below @ nor a constant") from None


def _comparison(
    left: Callable[[Any], Any], right: Callable[[Any], Any], compare: Callable[[Any, Any], bool]
) -> Step:
    def holds(item: Any) -> bool:
        one, other = left(item), right(item)
        if one is _MISSING or other is _MISSING:
            return False
        try:
            return compare(one, other)
        except TypeError:
            return False  # a text is neither less nor more than a number

    return lambda value: (item for item in _every(value) if holds(item))
