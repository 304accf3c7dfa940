"""A value of a custom resource as a rule sees it: typed as the schema says, with names that can be written.

JSON says less than a schema: a number may be whole by chance, a text may be a time. And a field whose name
is no identifier of CEL, or one of its words, goes by an escaped one. Most schemas have none of this, and then
the value itself is handed over.
Source: k8s.io/apiserver/pkg/cel (escaping.go, common/values.go).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from gitkube.clock import parse_rfc3339
from gitkube.objects.custom.schema import CustomSchema
from gitkube.objects.schema import Schema

_WORDS = frozenset(
    {
        "true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if",
        "import", "let", "loop", "package", "namespace", "return",
    }
)  # fmt: skip
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ESCAPED = {"__": "__underscores__", ".": "__dot__", "-": "__dash__", "/": "__slash__"}
_TO_ESCAPE = re.compile(r"__|\.|-|/")
_TYPED_FORMATS = frozenset({"date-time", "datetime", "date", "duration", "byte"})
_UNITS_S: Mapping[str, float] = {
    "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0,
    "d": 86400.0, "w": 604800.0,
}  # fmt: skip
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(ns|us|µs|μs|ms|s|m|h|d|w)")


def escaped(name: str) -> str:
    """A field's name as an expression writes it; of names that cannot be escaped, the name itself."""
    if name in _WORDS:
        return f"__{name}__"
    result = _TO_ESCAPE.sub(lambda found: _ESCAPED[found.group(0)], name)
    return result if _IDENTIFIER.fullmatch(result) else name


def to_cel(schema: Schema | None, value: Any) -> Any:
    """A value for an expression; the value itself where nothing has to be changed."""
    if not isinstance(schema, CustomSchema) or not _needs_typing(schema):
        return value
    if isinstance(value, dict):
        names = schema.properties
        return {
            escaped(field) if field in names else field: to_cel(schema.declared(field), item)
            for field, item in value.items()
        }
    if isinstance(value, list):
        return [to_cel(schema.items, item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value) if "number" in schema.types else value
    if isinstance(value, float) and schema.types == ("integer",):
        return int(value)
    if isinstance(value, str) and schema.format in _TYPED_FORMATS:
        return _typed(schema.format, value)
    return value


@lru_cache(maxsize=16384)
def _needs_typing(schema: CustomSchema) -> bool:
    if set(schema.types) & {"number", "integer"} or schema.format in _TYPED_FORMATS:
        return True
    if any(escaped(name) != name for name in schema.properties):
        return True
    below = [*schema.properties.values(), schema.items, schema.additional_properties]
    return any(isinstance(child, CustomSchema) and _needs_typing(child) for child in below)


def _typed(form: str, text: str) -> Any:
    """A text as what its format says; one that is none is left to the check of the format."""
    try:
        if form in ("date-time", "datetime"):
            return datetime.fromtimestamp(parse_rfc3339(text), UTC)
        if form == "date":
            return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
        if form == "byte":
            return base64.b64decode(text, validate=True)
        return _duration(text)
    except (ValueError, OverflowError, binascii.Error):
        return text


def _duration(text: str) -> timedelta:
    sign = -1 if text.startswith("-") else 1
    seconds = 0.0
    found = _DURATION.findall(text)
    if not found:
        raise ValueError(text)
    for number, unit in found:
        seconds += float(number) * _UNITS_S[unit]
    return timedelta(seconds=sign * seconds)
