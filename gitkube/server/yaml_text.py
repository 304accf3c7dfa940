"""Plain values as YAML, in the form that Kubernetes' clients print it: block style, keys sorted.

Every YAML parser must read the same from it that JSON would say, those of YAML 1.1 included, for which `no`
is false and `1_0` is ten. So a text is written plain only when no parser can take it for anything else; one
of several lines is a literal block when nothing in it needs escapes; every other is quoted as JSON, which is
YAML.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import orjson

_SPECIAL = r"\x00-\x08\x0b-\x1f\x7f-\xa0\ud800-\udfff\ufeff\u2028\u2029"
_PLAIN = re.compile(rf"[A-Za-z/_(](?:[^\t\n{_SPECIAL}:#]|:(?=\S)|(?<=\S)#)*")
_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan", "inf", "infinity"})
_UNWRITABLE = re.compile(f"[{_SPECIAL}]")
"""JSON may hold these as they are, YAML may not."""
_LITERAL_LINE = re.compile(rf"[^{_SPECIAL}]*")


def to_yaml(value: Any) -> bytes:
    """One document."""
    if isinstance(value, (dict, list)) and value:
        return ("\n".join(_block(value, 0)) + "\n").encode()
    return (_scalar(value) + "\n").encode()


def _block(value: dict[str, Any] | list[Any], indent: int) -> Iterator[str]:
    space = " " * indent
    if isinstance(value, dict):
        for key in sorted(value):
            yield from _entry(f"{space}{_text(key)}:", value[key], indent)
        return
    for item in value:
        if isinstance(item, (dict, list)) and item:
            first, *others = _block(item, indent + 2)
            yield f"{space}- {first[indent + 2 :]}"
            yield from others
        else:
            yield from _entry(f"{space}-", item, indent)


def _entry(head: str, value: Any, indent: int) -> Iterator[str]:
    if isinstance(value, dict) and value:
        yield head
        yield from _block(value, indent + 2)
    elif isinstance(value, list) and value:
        yield head
        yield from _block(value, indent)  # as Kubernetes prints lists: at the column of their key
    elif isinstance(value, str) and "\n" in value and _is_literal(value):
        lines = value.split("\n")
        ends = {True: "", False: "-"}[value.endswith("\n")]
        if value.endswith("\n\n"):
            ends = "+"
        yield f"{head} |{ends}"
        for line in lines[:-1] if value.endswith("\n") else lines:
            yield f"{' ' * (indent + 2)}{line}" if line else ""
    else:
        yield f"{head} {_scalar(value)}"


def _is_literal(text: str) -> bool:
    lines = text.split("\n")
    # The first line gives the block's indentation, so it must be one, and must not begin with a space.
    return bool(lines[0]) and lines[0][0] not in " \t" and all(map(_LITERAL_LINE.fullmatch, lines))


def _scalar(value: Any) -> str:
    return _text(value) if isinstance(value, str) else orjson.dumps(value).decode()


def _text(text: str) -> str:
    if _PLAIN.fullmatch(text) and text[-1] not in " :" and text.lower() not in _WORDS:
        return text
    return _UNWRITABLE.sub(lambda match: f"\\u{ord(match.group()):04x}", orjson.dumps(text).decode())
