"""What rendering gives: objects that know their place in git.

A `Manifest` joins an object with the document it was read from and with the map from that document to git
(the identity for a plain file, the template's line map for a rendered one), so anything downstream that
finds fault with `spec.replicas` can name the file, line and column that wrote it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gitkube.gitops.problem import Place, Problem
from gitkube.objects.types import Object
from gitkube.yaml import Document, Path

_SECRET = re.compile(r"""kind["']?\s*:\s*["']?Secret\b""")

PlaceOf = Callable[[int, int], Place]
"""From a line and column of a rendered text to its place in git."""


@dataclass(frozen=True, slots=True)
class Text:
    """A text that was parsed, and how to find its source."""

    place_of: PlaceOf
    sources: Mapping[str, str]
    """Path -> text, of every file that the map may name."""
    via: tuple[Place, ...] = ()
    """The file that asked for a template, when it was one."""

    def problem(
        self,
        message: str,
        line: int,
        column: int,
        *,
        hint: str = "",
        width: int = 1,
        word: str = "",
        is_quoted: bool = True,
    ) -> Problem:
        """A problem at a position of the text, with its source line.

        Args:
            word: what stands there; underlined, and looked for in the line when the column is not known.
            is_quoted: False leaves the source line out, since it may hold a secret.
        """
        place = self.place_of(line, column)
        source = self.sources.get(place.path, "")
        if word:
            place, width = _refine(place, word, source, width)
        problem = Problem(place, message, hint=hint, width=width, via=self.via)
        return problem.with_excerpt(source) if is_quoted else problem


def holds_secret(text: str) -> bool:
    """Whether a text speaks of a Secret, so that what it holds may not be repeated to anybody.

    Asked of texts that could not be read, too, so it looks at the words and not at their structure.
    """
    return _SECRET.search(text) is not None


@dataclass(frozen=True, slots=True)
class Manifest:
    """One object that a commit renders to."""

    object: Object
    document: Document
    text: Text
    root: tuple[str | int, ...] = ()
    """Where in the document it stands: `("items", 2)` for an item of a List."""

    @property
    def api_version(self) -> str:
        return _text(self.object.get("apiVersion"))

    @property
    def kind(self) -> str:
        return _text(self.object.get("kind"))

    @property
    def name(self) -> str:
        return _text(_metadata(self.object).get("name"))

    @property
    def namespace(self) -> str:
        return _text(_metadata(self.object).get("namespace"))

    @property
    def place(self) -> Place:
        """Where the object starts; for one made from a template, the file that asked for it."""
        if self.text.via:
            return self.text.via[0]
        place = self.text.place_of(*self.document.position(self.root))
        return Place(place.path, place.line, place.column or 1)

    @property
    def subject(self) -> str:
        """Such as "Deployment shop/web"."""
        name = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.kind or 'object'} {name}".strip()

    def origin(self, path: Path = (), *, of_key: bool = False) -> Place:
        """The place of a value, or of the nearest thing around it that the file has."""
        return self.text.place_of(*self.document.position((*self.root, *path), of_key=of_key))

    def place_of(self, path: Path) -> Place:
        """The line that wrote a field; where the object starts when the file has no such field."""
        full = (*self.root, *path)
        if self.text.via or not self.document.has(full):
            return self.place
        return self.text.place_of(*self.document.position(full))

    def problem(
        self, message: str, path: Path = (), *, of_key: bool = False, hint: str = "", is_error: bool = True
    ) -> Problem:
        """A problem at the value (or key) of a path of this object."""
        full = (*self.root, *path)
        while len(full) > len(self.root) and not self.document.has(full):
            full, path, of_key = full[:-1], path[:-1], True  # what is missing is missing in what is around it
        line, column = self.document.position(full, of_key=of_key)
        word = ""
        if path:
            word = str(path[-1]) if of_key else _scalar(_value(self.object, path))
        problem = self.text.problem(message, line, column, hint=hint, word=word)
        # A whole object may stand in one line, and a line of JSON may hold a list of them.
        excerpt = "" if self.kind == "Secret" or holds_secret(problem.excerpt) else problem.excerpt
        return Problem(
            problem.place, message, self.subject, hint, is_error, excerpt, problem.width, problem.via
        )


@dataclass(frozen=True)
class Rendered:
    """A whole commit, rendered."""

    manifests: tuple[Manifest, ...]
    problems: tuple[Problem, ...]
    files: int
    """How many files objects came from."""
    rendered_files: int = 0
    """How many of them were not in the cache."""
    by_file: Mapping[str, int] = field(default_factory=dict)
    """File -> number of objects."""


def _refine(place: Place, word: str, source: str, width: int) -> tuple[Place, int]:
    lines = source.split("\n", place.line) if place.line else []
    if not place.line or len(lines) < place.line:
        return place, width
    line = lines[place.line - 1]
    if place.column:
        expression = re.compile(r"\{\{.*?\}\}").match(line, place.column - 1)
        if expression is not None:
            return place, len(expression.group())
        quoted = line[place.column - 1 : place.column] in ("'", '"')
        starts = line.startswith(word, place.column - 1 + quoted)
        return place, len(word) + 2 * quoted if starts else width
    found = re.search(rf"(?<!\w){re.escape(word)}(?!\w)", line)
    if found is None:
        return place, width
    return Place(place.path, place.line, found.start() + 1), len(word)


def _value(node: Any, path: Path) -> Any:
    for step in path:
        node = node[step]
    return node


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (str, int, float)) and "\n" not in str(value) else ""


def _metadata(obj: Object) -> dict[str, Any]:
    metadata = obj.get("metadata")
    return metadata if isinstance(metadata, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
