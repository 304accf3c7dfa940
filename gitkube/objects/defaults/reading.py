"""Steps into an object that may be malformed: what is not of the right type is not there.

Defaults run before validation has spoken, so that each must stand any JSON. A step that leads nowhere gives
an empty, detached value; what is written into it is lost, which is right: there is nothing to default.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def part(obj: Any, field: str) -> dict[str, Any]:
    """The map in a field; a detached one when there is none."""
    value = obj.get(field) if isinstance(obj, dict) else None
    return value if isinstance(value, dict) else {}


def made_part(obj: dict[str, Any], field: str) -> dict[str, Any]:
    """The map in a field, made when the field is missing."""
    if field not in obj:
        obj[field] = {}
    return part(obj, field)


def parts(obj: Any, field: str) -> Iterator[dict[str, Any]]:
    """The maps in a list."""
    value = obj.get(field) if isinstance(obj, dict) else None
    for item in value if isinstance(value, list) else ():
        if isinstance(item, dict):
            yield item


def fill(obj: dict[str, Any], **defaults: Any) -> None:
    """Set fields that are missing."""
    for field, value in defaults.items():
        if obj.get(field) is None:
            obj[field] = value


def fill_zero(obj: dict[str, Any], **defaults: Any) -> None:
    """Set fields that are missing or empty: where Kubernetes cannot tell 0 or "" from nothing."""
    for field, value in defaults.items():
        if obj.get(field) in (None, "", 0) and obj.get(field) is not False:
            obj[field] = value
