"""YAML with places: every value knows its line and column, so that any later error can name it.

Read with libyaml (people's files hold trailing tabs that stricter readers refuse) into a tree of our own.
Only plain data comes out: a tag that would build something (`!vault`, `!!python/…`, `!include`) is refused,
and so are duplicate keys, a second document, and trees too deep or too large (aliases count as often as they
are used, so a YAML bomb meets the cap). Scalars follow YAML 1.2's core schema.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml.cyaml import CSafeLoader
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode

from gitkube.fleet.hosts import InventoryError, Place

MAX_FILE_BYTES = 8 * 1024 * 1024
MAX_VALUES = 200_000
MAX_DEPTH = 24

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_TRUE, _FALSE = ("true", "True", "TRUE"), ("false", "False", "FALSE")
_NULL = ("", "~", "null", "Null", "NULL")
_PLAIN_TAGS = tuple(
    "tag:yaml.org,2002:" + name for name in ("map", "seq", "str", "int", "float", "bool", "null")
)
# What YAML 1.1 resolves on its own without being asked; read as text, like YAML 1.2 does.
_IMPLICIT_TAGS = tuple("tag:yaml.org,2002:" + name for name in ("timestamp", "binary", "value", "merge"))


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
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise InventoryError([(Place(str(path), line, 1), "is not UTF-8 text")]) from error
    return parse_document(text, str(path))


def parse_document(text: str, file: str) -> Value:
    """The one document in `text`; `file` is for the places.

    Raises:
        InventoryError: as `read_document`.
    """
    start = Place(file, 1, 1)
    try:
        node = CSafeLoader(text).get_single_node()
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(file, mark.line + 1, mark.column + 1) if mark else start
        raise InventoryError([(place, f"not YAML: {error.problem or error.context}")]) from error
    except YAMLError as error:
        raise InventoryError(
            [(_place_in_text(text, file, error), f"not YAML: {_first_line(error)}")]
        ) from error
    except RecursionError as error:
        raise InventoryError([(start, f"is nested deeper than {MAX_DEPTH} levels")]) from error
    if node is None:
        raise InventoryError([(start, "is empty; an inventory needs at least one host")])
    return _Builder(file).build(node, 0)


class _Builder:
    def __init__(self, file: str) -> None:
        self._file = file
        self._count = 0

    def build(self, node: Any, depth: int) -> Value:
        place = Place(self._file, node.start_mark.line + 1, node.start_mark.column + 1)
        self._count += 1
        if depth > MAX_DEPTH:
            raise InventoryError([(place, f"is nested deeper than {MAX_DEPTH} levels")])
        if self._count > MAX_VALUES:
            raise InventoryError(
                [(place, f"the file has more than {MAX_VALUES} values (aliases count each time)")]
            )
        tag = str(node.tag)
        if tag not in _PLAIN_TAGS and not (tag in _IMPLICIT_TAGS and isinstance(node, ScalarNode)):
            raise InventoryError([(place, _tag_sentence(tag))])
        if isinstance(node, MappingNode):
            return self._mapping(node, place, depth)
        if isinstance(node, SequenceNode):
            return Value([self.build(child, depth + 1) for child in node.value], place)
        return _scalar(node, tag, place)

    def _mapping(self, node: Any, place: Place, depth: int) -> Value:
        entries: dict[str, Value] = {}
        key_places: dict[str, Place] = {}
        merged: list[Value] = []
        for key_node, value_node in node.value:
            key = self.build(key_node, depth + 1)
            value = self.build(value_node, depth + 1)
            if str(key_node.tag) == "tag:yaml.org,2002:merge":
                merged += value.data if isinstance(value.data, list) else [value]
                continue
            if not isinstance(key.data, str):
                # A host may be called 10.0.0.5 or 1; only text can be meant, so the text is taken.
                key = Value(key.plain_text, key.place)
            if not isinstance(key.data, str):
                raise InventoryError([(key.place, "a key must be text")])
            if key.data in entries:
                first = key_places[key.data]
                sentence = f"{key.data!r} is written twice (first at line {first.line}); keep one"
                raise InventoryError([(key.place, sentence)])
            entries[key.data] = value
            key_places[key.data] = key.place
        for source in merged:
            if not isinstance(source.data, dict):
                raise InventoryError([(source.place, "'<<' merges mappings only")])
            for name, value in source.data.items():
                if name not in entries:
                    entries[name] = value
                    key_places[name] = (source.key_places or {})[name]
        return Value(entries, place, key_places)


def _scalar(node: Any, tag: str, place: Place) -> Value:
    text: str = node.value
    if node.style not in (None, "") or tag in _IMPLICIT_TAGS or tag == "tag:yaml.org,2002:str":
        return Value(text, place, plain_text=text)
    return Value(_resolve(text), place, plain_text=text)


def _resolve(text: str) -> str | int | float | bool | None:
    """YAML 1.2 core schema, section 10.3.2."""
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _INT.fullmatch(text) and len(text) < 20:
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if _FLOAT.fullmatch(text) and len(text) < 40:
        return float(text)
    return text


def _tag_sentence(tag: str) -> str:
    if tag.startswith("!vault"):
        return "!vault is not read: gitkube decrypts nothing here; log in with a key instead of a password"
    shown = tag.replace("tag:yaml.org,2002:", "!!")
    return f"the tag {shown!r} is refused: an inventory is plain data, and a tag could run code here"


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def _place_in_text(text: str, file: str, error: Exception) -> Place:
    position = getattr(error, "position", 0)
    before = text[: position if isinstance(position, int) else 0]
    return Place(file, before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)
