"""An object against its kind's schema: unknown fields, wrong types, missing fields, each with its path.

The API would say the same, later and with a dotted path; here the path is kept as steps, so that the caller
can turn it into a line and a column, and every mistake of an object is found at once. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from gitkube.gitops.problem import did_you_mean
from gitkube.objects.quantity import Quantity
from gitkube.objects.schema import Schema

Steps = tuple[str | int, ...]

MAX_FINDINGS = 50
"""Of one object."""
_JSON_NAMES = {
    "object": "a map",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
}


class Finding(NamedTuple):
    """One mistake, at a path inside the object."""

    path: Steps
    message: str
    hint: str = ""
    of_key: bool = False


def dotted(path: Steps) -> str:
    """`spec.containers[0].image`, as Kubernetes writes paths; keys with dots or slashes in brackets."""
    text = ""
    for step in path:
        if isinstance(step, int) or "." in step or "/" in step:
            text += f"[{step}]"
        else:
            text += f".{step}" if text else step
    return text


def steps_of(field: str) -> Steps:
    """The steps of a path that the API wrote in a cause, such as `metadata.labels[a.b/c]`."""
    steps: list[str | int] = []
    word = ""
    position = 0
    while position < len(field):
        character = field[position]
        if character == "[":
            end = field.find("]", position)
            end = len(field) if end < 0 else end
            inside = field[position + 1 : end].strip("\"'")
            if word:
                steps.append(word)
                word = ""
            steps.append(int(inside) if inside.isdigit() else inside)
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


def findings(obj: Mapping[str, Any], schema: Schema) -> list[Finding]:
    """What the schema refuses of an object, at most MAX_FINDINGS."""
    found: list[Finding] = []
    for finding in _walk(obj, schema, ()):
        found.append(finding)
        if len(found) >= MAX_FINDINGS:
            break
    return found


def _walk(value: Any, schema: Schema, path: Steps) -> Iterator[Finding]:
    if value is None or schema.preserve_unknown:
        return
    if schema.is_quantity:
        yield from _quantity(value, path)
    elif schema.int_or_string:
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            yield _wrong(value, path, "a whole number or text")
    elif isinstance(value, dict) and schema.is_object:
        yield from _object(value, schema, path)
    elif isinstance(value, list) and schema.is_list:
        for index, item in enumerate(value):
            if schema.items is not None:
                if item is None:
                    yield Finding((*path, index), f"{dotted((*path, index))} is empty")
                yield from _walk(item, schema.items, (*path, index))
    else:
        yield from _scalar(value, schema, path)


def _object(value: dict[str, Any], schema: Schema, path: Steps) -> Iterator[Finding]:
    for key, item in value.items():
        child = schema.child(key)
        if child is None:
            hint = did_you_mean(key, schema.properties)
            if not hint and schema.properties and len(schema.properties) <= 12:
                hint = "it has: " + ", ".join(schema.properties)
            yield Finding((*path, key), f"unknown field {dotted((*path, key))}", hint, of_key=True)
        else:
            yield from _walk(item, child, (*path, key))
    for key in sorted(schema.required):
        if value.get(key) is None:
            yield Finding((*path, key), f"{dotted((*path, key))} is missing")


def _scalar(value: Any, schema: Schema, path: Steps) -> Iterator[Finding]:
    if not schema.types:
        return
    for wanted in schema.types:
        if _is_of(value, wanted):
            if schema.enum and value not in schema.enum:
                names = [str(one) for one in schema.enum if one is not None]
                hint = did_you_mean(str(value), names) or "one of: " + ", ".join(names)
                yield Finding(path, f"{dotted(path)} cannot be {_shown(value)}", hint)
            return
    yield _wrong(value, path, " or ".join(_JSON_NAMES.get(wanted, wanted) for wanted in schema.types))


def _is_of(value: Any, wanted: str) -> bool:
    match wanted:
        case "string":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "number":
            return isinstance(value, (int, float)) and not isinstance(value, bool)
        case "object":
            return isinstance(value, dict)
        case _:
            return isinstance(value, list)


def _quantity(value: Any, path: Steps) -> Iterator[Finding]:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        yield _wrong(value, path, "an amount such as 500m or 128Mi")
        return
    try:
        Quantity.parse(value)
    except ValueError:
        yield Finding(path, f"{dotted(path)}: {_shown(value)} is no amount", "such as 500m, 2, 128Mi or 1Gi")


def _wrong(value: Any, path: Steps, wanted: str) -> Finding:
    hint = ""
    if wanted == "text" and isinstance(value, (int, float, bool)):
        hint = f'write "{_plain(value)}"'
    elif isinstance(value, str) and wanted in ("a whole number", "a number", "true or false"):
        unquoted = value.strip()
        if unquoted.lstrip("-").isdigit() or unquoted in ("true", "false"):
            hint = f"write {unquoted} without quotes"
    return Finding(path, f"{dotted(path) or 'the object'} must be {wanted}, not {_shown(value)}", hint)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "a map"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, str):
        return f'"{value[:60]}"'
    return _plain(value)


def _plain(value: Any) -> str:
    return "true" if value is True else "false" if value is False else str(value)
