"""An inventory's file as a tree in which every value knows its line and column, so that any later error can.

`gitkube.yaml` reads it: plain data only, one document, and neither deep nor large. A mistake never repeats a
value, for a value may be a password.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gitkube import yaml
from gitkube.fleet.hosts import InventoryError, Place, printable

MAX_FILE_BYTES = 8 * 1024 * 1024
MAX_DEPTH = 24


@dataclass(frozen=True, slots=True)
class Value:
    """A scalar, list or mapping with its place. Mappings keep the place of each key too."""

    data: str | int | float | bool | list[Value] | dict[str, Value] | None
    place: Place
    key_places: dict[str, Place] | None = None
    plain_text: str | None = None
    """A scalar as it is written, for readers with another idea of `yes`."""

    def plain(self) -> Any:
        """The value without places."""
        if isinstance(self.data, dict):
            return {key: value.plain() for key, value in self.data.items()}
        if isinstance(self.data, list):
            return [value.plain() for value in self.data]
        return self.data


def read_document(path: Path) -> Value:
    """The one document in a file.

    Raises:
        InventoryError: it cannot be read, is not YAML, or holds something that is refused.
    """
    start = Place(str(path), 1, 1)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InventoryError([(start, f"cannot be read: {error.strerror or error}")]) from error
    if len(raw) > MAX_FILE_BYTES:
        raise InventoryError([(start, f"is {len(raw)} bytes; the limit is {MAX_FILE_BYTES}")])
    try:
        text = yaml.decode(raw)
    except yaml.YamlError as error:
        raise _mistake(error, str(path)) from error
    return parse_document(text, str(path))


def parse_document(text: str, file: str) -> Value:
    """The one document in `text`; `file` is for the places.

    Raises:
        InventoryError: as `read_document`.
    """
    try:
        documents = yaml.parse(text, max_bytes=MAX_FILE_BYTES, max_documents=1)
    except yaml.YamlError as error:
        raise _mistake(error, file) from error
    if not documents:
        raise InventoryError([(Place(file, 1, 1), "is empty; an inventory needs at least one host")])
    (document,) = documents
    top = yaml.Mark(document.line, document.column, document.line, document.column)
    return _Located(file, document).value(document.data, top, 0)


class _Located:
    """Puts data and marks of a document together."""

    def __init__(self, file: str, document: yaml.Document) -> None:
        self._file = file
        self._document = document

    def value(self, data: Any, mark: yaml.Mark, depth: int) -> Value:
        place = Place(self._file, mark.line, mark.column)
        if depth > MAX_DEPTH:
            raise InventoryError([(place, f"is nested deeper than {MAX_DEPTH} levels")])
        if not isinstance(data, dict | list):
            return Value(data, place, plain_text=mark.written)
        marks = self._document.marks[id(data)]
        if isinstance(data, list):
            return Value(
                [self.value(item, marks[index], depth + 1) for index, item in enumerate(data)], place
            )
        return Value(
            {key: self.value(item, marks[key], depth + 1) for key, item in data.items()},
            place,
            {key: Place(self._file, marks[key].key_line, marks[key].key_column) for key in data},
        )


def _mistake(error: yaml.YamlError, file: str) -> InventoryError:
    if isinstance(error, yaml.UnknownTagError):
        sentence = _tag_sentence(error.tag)
    else:
        sentence = f"not YAML that is read here: {'; '.join(filter(None, (error.bare, error.bare_hint)))}"
    return InventoryError([(Place(file, error.line, error.column), printable(sentence))])


def _tag_sentence(tag: str) -> str:
    if tag.startswith("!vault"):
        return "!vault is not read: gitkube decrypts nothing here; log in with a key instead of a password"
    return f"the tag {tag!r} is refused: an inventory is plain data, and a tag could run code here"
