"""The forms of an answer made from objects: lists, tables, and metadata alone.

What the columns of a kind are is known in `objects/tables.py`; here they are put into the envelopes that
clients read. Nothing here changes an object: they belong to the cache. Objects stand in the envelopes as the
JSON that they are already, so what comes out can be encoded, and is not meant to be looked into.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from gitkube.api.client import ObjectList
from gitkube.api.errors import bad_request
from gitkube.api.stored import document_of, metadata_document_of
from gitkube.clock import Clock
from gitkube.objects import tables
from gitkube.objects.kinds import Kind
from gitkube.objects.tables.workloads import SCALE_TABLE
from gitkube.objects.types import Object
from gitkube.server.negotiation import WHOLE, As, Form, not_acceptable
from gitkube.server.rows import row_document

_PARTIAL = b',"object":{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/%s","metadata":%s}'
_INCLUDES = ("", "None", "Metadata", "Object")


class Shaper:
    """Objects to answers. The clock is for columns such as AGE."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def one(self, kind: Kind, obj: Object, form: Form = WHOLE, include: str = "") -> Object:
        """A single object.

        Raises:
            StatusError: 400, 406.
        """
        if form.form is As.OBJECT:
            return obj
        if form.form is As.TABLE:
            version = str(obj["metadata"].get("resourceVersion", ""))
            return self._table(kind, [obj], form, include, {"resourceVersion": version})
        if form.form is As.PARTIAL:
            return self.partial(obj, form)
        raise not_acceptable()

    def scale(self, scale: Object, form: Form = WHOLE, include: str = "") -> Object:
        """A workload's Scale, which has columns of its own.

        Raises:
            StatusError: 400, 406.
        """
        if form.form is As.TABLE:
            version = str(scale["metadata"].get("resourceVersion", ""))
            cells = SCALE_TABLE.cells(scale, self._clock.now())
            row = orjson.dumps({"cells": cells})[:-1]
            metadata = {"resourceVersion": version}
            return self._filled(SCALE_TABLE.columns, [(scale, row)], form, include, metadata)
        if form.form is As.PARTIAL:
            return self.partial(scale, form)
        return scale

    def many(self, kind: Kind, found: ObjectList, form: Form = WHOLE, include: str = "") -> Object:
        """A list.

        Raises:
            StatusError: 400, 406.
        """
        metadata: dict[str, Any] = {"resourceVersion": found.resource_version}
        if found.continue_token or (kind.custom is not None and form.form is As.OBJECT):
            metadata["continue"] = found.continue_token
        if found.remaining is not None:
            metadata["remainingItemCount"] = found.remaining
        if form.form is As.TABLE:
            return self._table(kind, found.items, form, include, metadata)
        if form.form is As.PARTIAL_LIST:
            return {
                "kind": "PartialObjectMetadataList",
                "apiVersion": f"meta.k8s.io/{form.version}",
                "metadata": metadata,
                "items": [self.partial(obj, form) for obj in found.items],
            }
        if form.form is As.PARTIAL:
            raise not_acceptable()
        return {
            "kind": kind.list_kind,
            "apiVersion": kind.api_version,
            "metadata": metadata,
            "items": [orjson.Fragment(document_of(obj)) for obj in found.items],
        }

    def table_event(
        self, kind: Kind, obj: Object, form: Form, include: str, *, is_bookmark: bool, with_columns: bool
    ) -> Object:
        """The object of a watch event as a table of one row; a bookmark's has none."""
        metadata = {"resourceVersion": str(obj["metadata"].get("resourceVersion", ""))}
        if is_bookmark:
            metadata = {**obj["metadata"]}
        table = self._table(kind, [] if is_bookmark else [obj], form, include, metadata)
        if not with_columns:
            table["columnDefinitions"] = None
        return table

    def partial(self, obj: Object, form: Form) -> Object:
        """Only the metadata of an object."""
        return {
            "kind": "PartialObjectMetadata",
            "apiVersion": f"meta.k8s.io/{form.version or 'v1'}",
            "metadata": orjson.Fragment(metadata_document_of(obj)),
        }

    def _table(
        self, kind: Kind, objects: list[Object], form: Form, include: str, metadata: dict[str, Any]
    ) -> Object:
        now = self._clock.now()
        rows = [(obj, row_document(kind, obj, now)) for obj in objects]
        return self._filled(tables.columns(kind), rows, form, include, metadata)

    def _filled(
        self,
        columns: Sequence[tables.Column],
        cells: list[tuple[Object, bytes]],
        form: Form,
        include: str,
        metadata: dict[str, Any],
    ) -> Object:
        check_include(include)
        rows = []
        for obj, row in cells:
            if include == "Object":
                row += b',"object":' + document_of(obj)
            elif include != "None":
                version = form.version.encode() or b"v1"
                row += _PARTIAL % (version, metadata_document_of(obj))
            rows.append(orjson.Fragment(row + b"}"))
        return {
            "kind": "Table",
            "apiVersion": f"meta.k8s.io/{form.version or 'v1'}",
            "metadata": metadata,
            "columnDefinitions": [
                {
                    "name": column.name,
                    "type": column.type,
                    "format": column.format,
                    "description": column.description,
                    "priority": column.priority,
                }
                for column in columns
            ],
            "rows": rows,
        }


def check_include(include: str) -> None:
    """Whether the `includeObject` of a table is one that there is.

    Raises:
        StatusError: 400.
    """
    if include not in _INCLUDES:
        raise bad_request(f'unrecognized includeObject value: "{include}"')
