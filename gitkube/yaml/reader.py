"""A stream of YAML to documents: libyaml's C parser gives events, a builder makes dicts, lists and scalars.

It refuses what JSON cannot say or what a hostile file could do: duplicate keys, unknown tags, depth, alias
bombs, size. The stream is always read to its end, so a mistake in the last line is seen.
"""

from __future__ import annotations

import re
from typing import Any

from yaml._yaml import CParser  # type: ignore[import-untyped]
from yaml.error import MarkedYAMLError, YAMLError  # type: ignore[import-untyped]
from yaml.events import (  # type: ignore[import-untyped]
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

from gitkube.yaml.document import TAG, Document, Doubt, Mark, UnknownTagError, YamlError

MAX_DEPTH = 100
"""Kubernetes' deepest real schema needs about 25; libyaml is quadratic in depth."""
MAX_BYTES = 4 * 1024 * 1024
"""Of one file; an object larger than 1.5 MB would not fit into the store."""
MAX_NODES = 200_000
"""Of one file, with every alias counted as what it stands for: the cap of an alias bomb."""
MAX_DOCUMENTS = 5_000
"""Of one file."""
MAX_INT_DIGITS = 64
"""Longer ones are refused before they are converted, which takes quadratic time."""

_INT = re.compile(r"[-+]?[0-9]+\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_NOT_JSON = re.compile(r"([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))\Z")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+\Z")
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")
_WORDS: dict[str, Any] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_QUOTE = "quote it if it is text"
_TOO_LONG = "the number does not fit into 64 bits"
_FIRST = frozenset("0123456789-+.~nNtTfF")
_TYPES_OF_TAG: dict[str, tuple[type, ...]] = {
    TAG + "int": (int,),
    TAG + "float": (int, float),
    TAG + "bool": (bool,),
    TAG + "null": (type(None),),
}


def parse(text: str, *, max_bytes: int = MAX_BYTES, max_documents: int = MAX_DOCUMENTS) -> list[Document]:
    """All documents of a YAML stream that hold something.

    Raises:
        YamlError: with the line and column of the first mistake.
    """
    if len(text) > max_bytes:
        raise YamlError(f"the file is larger than {max_bytes // 1024 // 1024} MiB", 1, 1)
    if text.startswith("\ufeff"):
        text = text[1:]
    forbidden = _FORBIDDEN.search(text)
    if forbidden:
        line = text.count("\n", 0, forbidden.start()) + 1
        column = forbidden.start() - (text.rfind("\n", 0, forbidden.start()) + 1) + 1
        code = ord(forbidden.group())
        raise YamlError(f"the character U+{code:04X} is not allowed in YAML", line, column)
    try:
        return _Builder(CParser(text), max_documents).stream()
    except MarkedYAMLError as error:
        raise _explained(error, text) from error
    except YAMLError as error:
        raise YamlError(f"not YAML: {error}", 1, 1) from error


def decode(data: bytes) -> str:
    """The text of a file's bytes.

    Raises:
        YamlError: they are not UTF-8; the line is given.
    """
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        start = data.rfind(b"\n", 0, error.start) + 1
        column = len(data[start : error.start].decode("utf-8", "replace")) + 1
        raise YamlError("the file is not UTF-8 text", line, column) from error


class _Builder:
    """Events in, documents out. One instance reads one stream."""

    def __init__(self, parser: CParser, max_documents: int) -> None:
        self._parser = parser
        self._max_documents = max_documents
        self._nodes = 0
        self._anchors: dict[str, tuple[Any, int, str | None]] = {}
        """Name -> value, its number of nodes, and how it is written if it is a scalar."""
        self._open_anchors: set[str] = set()
        self._document = Document(None, 1, 1)

    def stream(self) -> list[Document]:
        documents: list[Document] = []
        while True:
            event = self._parser.get_event()
            if isinstance(event, StreamEndEvent):
                return documents
            if not isinstance(event, DocumentStartEvent):
                continue
            if len(documents) >= self._max_documents:
                limit = "one document" if self._max_documents == 1 else f"{self._max_documents} documents"
                raise _at(event, f"more than {limit} in one file")
            self._anchors.clear()
            event = self._parser.get_event()
            self._document = Document(None, event.start_mark.line + 1, event.start_mark.column + 1)
            self._document.data = self._node(event, 0)
            if self._document.data is not None:
                documents.append(self._document)

    def _node(self, event: Any, depth: int) -> Any:
        if isinstance(event, AliasEvent):
            return self._alias(event)
        self._count(event, 1)
        anchor = event.anchor
        if isinstance(event, ScalarEvent):
            value = self._scalar(event)
            if anchor is not None:
                self._anchors[anchor] = (value, 1, event.value)
            return value
        if depth >= MAX_DEPTH:
            raise _at(event, f"nested deeper than {MAX_DEPTH} levels")
        before = self._nodes
        if anchor is not None:
            self._open_anchors.add(anchor)
        if isinstance(event, MappingStartEvent):
            value = self._mapping(event, depth)
        else:
            value = self._sequence(event, depth)
        if anchor is not None:
            self._open_anchors.discard(anchor)
            self._anchors[anchor] = (value, self._nodes - before + 1, None)
        return value

    def _written(self, event: Any) -> str | None:
        if isinstance(event, ScalarEvent):
            text: str = event.value
            return text
        return self._anchors[event.anchor][2] if isinstance(event, AliasEvent) else None

    def _count(self, event: Any, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise _at(event, f"more than {MAX_NODES:,} values once its aliases are expanded")

    def _alias(self, event: AliasEvent) -> Any:
        if event.anchor in self._open_anchors:
            message = f"the alias *{event.anchor} stands inside of what it names"
            raise _at(event, message, bare="an alias stands inside of what it names")
        if event.anchor not in self._anchors:
            message = f"the alias *{event.anchor} names nothing before it"
            bare = "an alias names nothing before it"
            raise _at(event, message, width=len(event.anchor) + 1, bare=bare)
        value, nodes, _ = self._anchors[event.anchor]
        self._count(event, nodes)
        return value

    def _mapping(self, event: MappingStartEvent, depth: int) -> dict[str, Any]:
        if event.tag not in (None, TAG + "map", "!"):
            raise _unknown_tag(event)
        result: dict[str, Any] = {}
        marks: dict[str | int, Mark] = {}
        merges: list[tuple[Any, Any]] = []
        next_event = self._parser.get_event
        while True:
            key_event = next_event()
            if isinstance(key_event, MappingEndEvent):
                break
            if not isinstance(key_event, ScalarEvent):
                raise _at(key_event, "a key must be a plain word, not a list, a map or an alias")
            self._count(key_event, 1)
            key = key_event.value
            mark = key_event.start_mark
            value_event = next_event()
            value_mark = value_event.start_mark
            if key == "<<" and not key_event.style:
                merges.append((key_event, self._node(value_event, depth + 1)))
                continue
            if key in result:
                first = marks[key]
                raise YamlError(
                    f'the key "{key}" stands here twice',
                    mark.line + 1,
                    mark.column + 1,
                    hint=f"first in line {first.key_line}",
                    width=len(key),
                )
            if not key and not key_event.style:
                raise _at(key_event, "a key is missing before the colon")
            result[key] = self._node(value_event, depth + 1)
            marks[key] = Mark(
                mark.line + 1,
                mark.column + 1,
                value_mark.line + 1,
                value_mark.column + 1,
                self._written(value_event),
            )
        for merge_event, value in merges:
            self._merge(merge_event, value, result, marks)
        self._document.marks[id(result)] = marks
        self._document.keep.append(result)
        return result

    def _merge(self, event: Any, value: Any, result: dict[str, Any], marks: dict[str | int, Mark]) -> None:
        """`<<`: not YAML 1.2, but manifests that people have use it, and kubectl reads it."""
        sources = value if isinstance(value, list) else [value]
        for source in sources:
            if not isinstance(source, dict):
                raise _at(event, "<< needs a map, or a list of maps", width=2)
            for key, item in source.items():
                if key not in result:
                    result[key] = item
                    marks[key] = self._document.marks[id(source)][key]

    def _sequence(self, event: SequenceStartEvent, depth: int) -> list[Any]:
        if event.tag not in (None, TAG + "seq", "!"):
            raise _unknown_tag(event)
        result: list[Any] = []
        marks: dict[str | int, Mark] = {}
        while True:
            item = self._parser.get_event()
            if isinstance(item, SequenceEndEvent):
                break
            line, column = item.start_mark.line + 1, item.start_mark.column + 1
            result.append(self._node(item, depth + 1))
            marks[len(result) - 1] = Mark(line, column, line, column, self._written(item))
        self._document.marks[id(result)] = marks
        self._document.keep.append(result)
        return result

    def _scalar(self, event: ScalarEvent) -> Any:
        text: str = event.value
        tag = event.tag
        if tag is None or tag == "!":
            if event.style or tag == "!":
                return text
            if text and text[0] not in _FIRST:
                return text
            return self._plain(text, event)
        if tag == TAG + "str":
            return text
        if tag in _TYPES_OF_TAG:
            value = self._plain(text, event)
            if type(value) not in _TYPES_OF_TAG[tag]:
                raise _at(event, f'"{text}" is no {tag[len(TAG) :]}', bare=f"it is no {tag[len(TAG) :]}")
            return float(value) if tag == TAG + "float" else value
        raise _unknown_tag(event)

    def _plain(self, text: str, event: Any) -> Any:
        """YAML 1.2.2 section 10.3.2, the core schema."""
        if text in _WORDS:
            return _WORDS[text]
        if _INT.match(text):
            if len(text) > MAX_INT_DIGITS:
                raise _at(event, _TOO_LONG, hint=_QUOTE)
            if _LEADING_ZERO.match(text):
                self._doubt_leading_zero(text, event)
            return _json_int(int(text), event)
        if text.startswith("0o") and re.fullmatch(r"0o[0-7]{1,64}", text):
            return _json_int(int(text[2:], 8), event)
        if text.startswith("0x") and re.fullmatch(r"0x[0-9a-fA-F]{1,64}", text):
            return _json_int(int(text[2:], 16), event)
        if _FLOAT.match(text):
            value = float(text)
            if value in (float("inf"), float("-inf")):
                raise _at(
                    event,
                    f"{text} is too large for a number",
                    hint=_QUOTE,
                    bare="it is too large for a number",
                )
            return value
        if _NOT_JSON.match(text):
            bare = "it has no form in JSON"
            raise _at(event, f"{text} has no form in JSON", hint=_QUOTE, width=len(text), bare=bare)
        return text

    def _doubt_leading_zero(self, text: str, event: Any) -> None:
        octal = re.fullmatch(r"[-+]?0[0-7]+", text)
        meant = f"0o{text.lstrip('+-')[1:]}, or {int(text, 8)}" if octal else f'"{text}"'
        mark = event.start_mark
        self._document.doubts.append(
            Doubt(
                f"{text} is {int(text)} in YAML 1.2 and something else to other tools",
                mark.line + 1,
                mark.column + 1,
                len(text),
                f"write {meant}, or {int(text)}",
                "a number that starts with 0 is something else to other tools",
                _QUOTE,
            )
        )


def _json_int(value: int, event: Any) -> int:
    if not -(2**63) <= value < 2**63:
        raise _at(event, f"{event.value} does not fit into 64 bits", hint=_QUOTE, bare=_TOO_LONG)
    return value


def _at(event: Any, message: str, *, hint: str = "", width: int = 1, bare: str = "") -> YamlError:
    mark = event.start_mark
    return YamlError(message, mark.line + 1, mark.column + 1, hint=hint, width=width, bare=bare)


def _unknown_tag(event: Any) -> UnknownTagError:
    mark = event.start_mark
    return UnknownTagError(str(event.tag), mark.line + 1, mark.column + 1)


def _explained(error: MarkedYAMLError, text: str) -> YamlError:
    """libyaml's words, made into a sentence with the usual cause."""
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    lines = text.split("\n")
    while line > 1 and (line > len(lines) or (not lines[line - 1].strip() and column == 1)):
        line -= 1  # "unexpected end of stream" points behind the last line, where there is nothing to see
        column = len(lines[line - 1]) + 1
    problem = str(error.problem or "not YAML")
    started = error.context_mark
    character = lines[line - 1][column - 1 : column] if line <= len(lines) else ""
    hint = ""
    if "cannot start any token" in problem and character == "\t":
        problem, hint = "a tab cannot indent YAML", "use spaces"
    elif "cannot start any token" in problem:
        problem, hint = f'"{character}" cannot start a value', "quote the value"
    elif "mapping values are not allowed" in problem:
        problem = "a colon that starts a value is not allowed here"
        hint = "check the indentation, or quote the value"
    elif "could not find expected ':'" in problem:
        hint = "is a colon missing?"
    elif "maximum nesting depth" in problem:
        problem = f"nested deeper than {MAX_DEPTH} levels"
    elif "did not find expected key" in problem or "did not find expected '-'" in problem:
        hint = "check the indentation"
    if started is not None and started.line + 1 != line:
        context = str(error.context or "").removeprefix("while ")
        hint = f"{hint}; {context}, which starts in line {started.line + 1}".removeprefix("; ")
    return YamlError(problem, line, column, hint=hint)
