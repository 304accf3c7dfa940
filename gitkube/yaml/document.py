"""What reading YAML gives: plain data, the place of each part of it, and what is wrong or doubtful.

Invariant: a `Document` holds a reference to each container that its marks describe, so identity (`id`) names
a container for as long as the document lives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

TAG = "tag:yaml.org,2002:"
"""What `!!` stands for."""

Path = Sequence[str | int]


class Mark(NamedTuple):
    """Where a key and its value start (for an item of a list both are the same). Lines, columns from 1."""

    key_line: int
    key_column: int
    line: int
    column: int
    written: str | None = None
    """A plain or quoted scalar as it stands in the file; None for a map or a list."""


class YamlError(Exception):
    """The text is not YAML that gitkube takes."""

    def __init__(
        self, message: str, line: int, column: int, *, hint: str = "", width: int = 1, bare: str = ""
    ) -> None:
        """
        Args:
            bare: the message for a file whose values must not be repeated, where `message` quotes one.
        """
        super().__init__(message)
        self.message, self.line, self.column, self.hint, self.width = message, line, column, hint, width
        self.bare, self.bare_hint = bare or message, hint


class UnknownTagError(YamlError):
    """A tag that would have to build something, or that nobody knows here."""

    def __init__(self, tag: str, line: int, column: int) -> None:
        shown = tag.replace(TAG, "!!")
        super().__init__(
            f"the tag {shown} is not known here", line, column,
            hint="remove it", width=len(shown), bare="this tag is not known here",
        )  # fmt: skip
        self.tag = shown


class Doubt(NamedTuple):
    """A value that other tools read otherwise, so that a person must say what is meant."""

    message: str
    line: int
    column: int
    width: int
    hint: str
    bare: str
    """The message without the value, for a file whose values must not be repeated."""
    bare_hint: str


@dataclass(slots=True)
class Document:
    """One document of a stream."""

    data: Any
    line: int
    """Where its first node stands."""
    column: int
    marks: dict[int, dict[str | int, Mark]] = field(default_factory=dict)
    """id of a container -> its keys or indexes -> where they stand."""
    doubts: list[Doubt] = field(default_factory=list)
    keep: list[Any] = field(default_factory=list)
    """Every container that `marks` names, so that no id is ever used twice."""

    def position(self, path: Path, *, of_key: bool = False) -> tuple[int, int]:
        """Line and column of the value (or key) at a path, or of the nearest thing above it that exists."""
        node, line, column = self.data, self.line, self.column
        for step in path:
            mark = self.marks.get(id(node), {}).get(step)
            if mark is None:
                break
            line, column = (mark.key_line, mark.key_column) if of_key else (mark.line, mark.column)
            node = node[step]
        return line, column

    def has(self, path: Path) -> bool:
        """Whether the path exists in the document."""
        node = self.data
        for step in path:
            if step not in self.marks.get(id(node), {}):
                return False
            node = node[step]
        return True
