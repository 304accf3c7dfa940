"""Rows of tables as JSON. A list of thousands of pods is mostly cells that have not changed since the last.

Of all columns only the age changes by itself, in nearly every table. Where that is so, an object of the cache
keeps its other cells as JSON, and a row is those with the age between them. Whether it is so is found out by
looking: the cells are made for two times, and kept only if nothing but the age differs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from gitkube.api.stored import StoredObject
from gitkube.objects import meta, tables
from gitkube.objects.kinds import Kind
from gitkube.objects.tables import human_duration
from gitkube.objects.tables.columns import AGE
from gitkube.objects.types import Object

_ANOTHER_TIME_S = 4e9


class _KeptRow(NamedTuple):
    columns: Any
    """Of which the cells are; another table has other ones."""
    created_s: float
    before: bytes
    """The row's JSON up to the age."""
    after: bytes


def row_document(kind: Kind, obj: Object, now_s: float) -> bytes:
    """The JSON of a row, its last brace left out so that more can be added."""
    columns = tables.columns(kind)
    if isinstance(obj, StoredObject):
        kept = obj.row
        if kept is None:
            kept = obj.row = _keep(kind, obj, columns, now_s)
        if kept and kept.columns is columns:
            return b"%s%s%s" % (kept.before, human_duration(now_s - kept.created_s).encode(), kept.after)
    return _document(kind, obj, tables.row(kind, obj, now_s))


def _document(kind: Kind, obj: Object, cells: list[Any]) -> bytes:
    row: dict[str, Any] = {"cells": cells}
    if conditions := tables.row_conditions(kind, obj):
        row["conditions"] = conditions
    return orjson.dumps(row)[:-1]


def _keep(kind: Kind, obj: Object, columns: Any, now_s: float) -> _KeptRow | tuple[()]:
    """What is to be kept; nothing, if more than the age changes with time."""
    created = meta.metadata(obj).get("creationTimestamp")
    place = next((index for index, column in enumerate(columns) if column is AGE), -1)
    if not created or place < 0:
        return ()
    created_s = meta.time_s(created)
    cells, later = (list(tables.row(kind, obj, time_s)) for time_s in (now_s, now_s + _ANOTHER_TIME_S))
    if cells[place] != human_duration(now_s - created_s):
        return ()
    cells[place] = later[place] = "\x00"  # a text that no cell has, and that JSON spells in one way
    if cells != later:
        return ()
    before, separator, after = _document(kind, obj, cells).partition(b"\\u0000")
    return _KeptRow(columns, created_s, before, after) if separator and b"\\u0000" not in after else ()
