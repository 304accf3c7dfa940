"""An object against its kind's schema, in words for whoever wrote it: what is unknown, wrong or missing.

The API would say the same later, after the push. Here each mistake keeps its path as steps, so that a caller
can turn it into a line and a column, and every mistake of an object is found at once. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

from gitkube.gitops.problem import did_you_mean
from gitkube.objects.custom.pruning import unknown_paths
from gitkube.objects.custom.schema import CustomSchema
from gitkube.objects.quantity import Quantity
from gitkube.objects.schema import Schema
from gitkube.objects.validation.shape import is_of_type
from gitkube.objects.walk import Node, Steps, steps_of, walk

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

    steps: Steps
    path: str
    """The steps in words."""
    message: str
    hint: str = ""
    of_key: bool = False


def findings(obj: Mapping[str, Any], schema: Schema) -> list[Finding]:
    """What the schema refuses of an object, at most MAX_FINDINGS."""
    return list(islice((finding for node in walk(schema, obj) for finding in _of_node(node)), MAX_FINDINGS))


def unknown_findings(obj: Mapping[str, Any], schema: CustomSchema) -> list[Finding]:
    """Fields that a custom kind does not know; what else is wrong with it, its validation says."""
    found = []
    for path in islice(unknown_paths(schema, obj), MAX_FINDINGS):
        steps = steps_of(path)
        holder = schema.at(*("*" if isinstance(step, int) else step for step in steps[:-1]))
        known = holder.properties if holder is not None else {}
        hint = did_you_mean(str(steps[-1]), known) if steps else ""
        if not hint and known and len(known) <= 12:
            hint = "it has: " + ", ".join(known)
        found.append(Finding(steps, path, f"unknown field {path}", hint, of_key=True))
    return found


def _of_node(node: Node) -> Iterator[Finding]:
    schema, value = node.schema, node.value
    if schema is None:
        yield _unknown(node)
    elif value is None:
        if isinstance(node.step, int):
            yield _finding(node, f"{_path(node)} is empty")
    elif schema.preserve_unknown:
        return
    elif schema.is_quantity:
        yield from _quantity(node)
    elif schema.int_or_string:
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            yield _wrong(node, "a whole number or text")
    elif not is_of_type(schema, value):
        yield _wrong(node, " or ".join(_JSON_NAMES.get(wanted, wanted) for wanted in schema.types))
    elif schema.enum and value not in schema.enum:
        names = [str(one) for one in schema.enum if one is not None]
        hint = did_you_mean(str(value), names) or "one of: " + ", ".join(names)
        yield _finding(node, f"{_path(node)} cannot be {_shown(value)}", hint)
    else:
        for missing in node.missing():
            yield _finding(missing, f"{_path(missing)} is missing")


def _path(node: Node) -> str:
    """As in a file: `resources.limits.cpu`, where Kubernetes says `limits[cpu]`."""
    text = ""
    for step in node.steps:
        if isinstance(step, int) or "." in step or "/" in step:
            text += f"[{step}]"
        else:
            text += f".{step}" if text else step
    return text


def _finding(node: Node, message: str, hint: str = "") -> Finding:
    return Finding(node.steps, _path(node), message, hint)


def _unknown(node: Node) -> Finding:
    known = node.parent.schema.properties if node.parent is not None and node.parent.schema else {}
    hint = did_you_mean(str(node.step), known)
    if not hint and known and len(known) <= 12:
        hint = "it has: " + ", ".join(known)
    return Finding(node.steps, _path(node), f"unknown field {_path(node)}", hint, of_key=True)


def _quantity(node: Node) -> Iterator[Finding]:
    if isinstance(node.value, bool) or not isinstance(node.value, (str, int, float)):
        yield _wrong(node, "an amount such as 500m or 128Mi")
        return
    try:
        Quantity.parse(node.value)
    except ValueError:
        message = f"{_path(node)}: {_shown(node.value)} is no amount"
        yield _finding(node, message, "such as 500m, 2, 128Mi or 1Gi")


def _wrong(node: Node, wanted: str) -> Finding:
    value, hint = node.value, ""
    if wanted == "text" and isinstance(value, (int, float, bool)):
        hint = f'write "{_plain(value)}"'
    elif isinstance(value, str) and wanted in ("a whole number", "a number", "true or false"):
        unquoted = value.strip()
        if unquoted.lstrip("-").isdigit() or unquoted in ("true", "false"):
            hint = f"write {unquoted} without quotes"
    return _finding(node, f"{_path(node) or 'the object'} must be {wanted}, not {_shown(value)}", hint)


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
