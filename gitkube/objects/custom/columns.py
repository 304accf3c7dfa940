"""The columns of a custom resource's table, as its definition describes them.

Source: k8s.io/apiextensions-apiserver, pkg/registry/customresource/tableconvertor. A cell is the first value
that its path finds; a value that is not of the column's type is shown as nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from gitkube.clock import parse_rfc3339
from gitkube.objects import meta
from gitkube.objects.custom.jsonpath import JsonPath, JsonPathError, parse
from gitkube.objects.tables.columns import Cells, Column, Table
from gitkube.objects.tables.durations import UNKNOWN, human_duration
from gitkube.objects.types import Object

_CREATED = (
    "CreationTimestamp is a timestamp representing the server time when this object was created. It is not "
    "guaranteed to be set in happens-before order across separate operations. Clients may not set this "
    "value. It is represented in RFC3339 form and is in UTC."
)
_DEFAULT = (
    {"name": "Age", "type": "date", "description": _CREATED, "jsonPath": ".metadata.creationTimestamp"},
)
_NO_VALUE = "<no value>"
"""Of a null, as Go prints it."""
NAME = Column(
    "Name",
    description="Name must be unique within a namespace. Is required when creating resources, although some "
    "resources may allow a client to request the generation of an appropriate name automatically.",
    format="name",
)


def table_of(described: Sequence[Mapping[str, Any]] | None) -> Table:
    """The table of a version's `additionalPrinterColumns`; Name and Age without any, or with a wrong path."""
    try:
        return _table(described or _DEFAULT)
    except JsonPathError:
        return _table(_DEFAULT)


def _table(described: Sequence[Mapping[str, Any]]) -> Table:
    paths = [(str(one.get("type") or "string"), parse(str(one["jsonPath"]))) for one in described]
    columns = tuple(
        Column(
            str(one.get("name") or ""),
            str(one.get("type") or "string"),
            str(
                one.get("description")
                or f"Custom resource definition column (in JSONPath format): {one['jsonPath']}"
            ),
            int(one.get("priority") or 0),
            str(one.get("format") or ""),
        )
        for one in described
    )

    def cells(obj: Object, now_s: float) -> Cells:
        return [meta.name(obj), *(_cell(kind, path, obj, now_s) for kind, path in paths)]

    return Table((NAME, *columns), cells)


def _cell(kind: str, path: JsonPath, obj: Object, now_s: float) -> Any:
    found = path.find(obj)
    if not found:
        return None
    value = found[0]
    if value is None:
        return _NO_VALUE if kind == "string" else None
    if kind == "string":
        if isinstance(value, bool):
            return "true" if value else "false"
        return (
            value
            if isinstance(value, str)
            else json.dumps(value, separators=(",", ":"), ensure_ascii=False, sort_keys=True)
        )
    if kind == "date":
        return _age(value, now_s) if isinstance(value, str) else None
    if kind == "boolean":
        return value if isinstance(value, bool) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if kind == "integer" else value


def _age(text: str, now_s: float) -> str:
    if not text:
        return UNKNOWN
    try:
        return human_duration(now_s - parse_rfc3339(text))
    except ValueError:
        return "<invalid>"
