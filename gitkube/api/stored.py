"""An object of the watch cache: a plain dict that also knows its own JSON.

The store keeps objects as JSON and everybody reads them as JSON, so the bytes that come from the store go
out again as they are, with the version put in, and are shared by all that read or watch the object: lists
join them, events embed them. `encode` writes the three keys of every object first, so that the place of the
version is known without reading.

Invariant: a `StoredObject` is never changed, so its bytes and its keys always say the same. Whoever wants
another object makes a plain dict of it (`{**stored}`, `clone`), which has no bytes.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from gitkube.objects.types import Object

_HEAD = re.compile(rb'\{"apiVersion":"[^"\\]*","kind":"[^"\\]*","metadata":\{(?!\})')


class StoredObject(dict[str, Any]):
    """See the module's text."""

    __slots__ = ("_document", "_metadata_end", "_metadata_start", "row")

    def __init__(self, obj: Object, value: bytes = b"") -> None:
        """
        Args:
            obj: with its version.
            value: what `encode` made of it.
        """
        super().__init__(obj)
        self.row: Any = None
        """What `server/rows.py` keeps of the object's row in a table."""
        self._metadata_start = self._metadata_end = 0
        self._document = b""
        if (head := _HEAD.match(value)) is not None:
            place = head.end()
            version = b'"resourceVersion":"%s",' % obj["metadata"]["resourceVersion"].encode()
            self._document = b"".join((value[:place], version, value[place:]))
            self._metadata_start = place - 1

    @property
    def document(self) -> bytes:
        """The object as JSON."""
        if not self._document:
            self._document = orjson.dumps(self)
        return self._document

    @property
    def metadata_document(self) -> bytes:
        """Its metadata as JSON."""
        if not self._metadata_start:
            return orjson.dumps(self["metadata"])
        if not self._metadata_end:
            # The version's place is another one than in the dict, which makes no difference to the length.
            self._metadata_end = self._metadata_start + len(orjson.dumps(self["metadata"]))
        return self._document[self._metadata_start : self._metadata_end]


def decode(value: bytes, revision: int) -> StoredObject:
    """The object of a stored value; its version is the revision that wrote it."""
    obj: Object = orjson.loads(value)
    obj["metadata"]["resourceVersion"] = str(revision)
    return StoredObject(obj, value)


def encode(obj: Object) -> bytes:
    """The value to store: everything but the version, which the store itself gives."""
    metadata = {key: value for key, value in obj["metadata"].items() if key != "resourceVersion"}
    first = {"apiVersion": obj.get("apiVersion", ""), "kind": obj.get("kind", ""), "metadata": metadata}
    return orjson.dumps({**first, **obj, "metadata": metadata})


def document_of(obj: Object) -> bytes:
    """Any object as JSON; without cost for one of the cache."""
    return obj.document if isinstance(obj, StoredObject) else orjson.dumps(obj)


def metadata_document_of(obj: Object) -> bytes:
    """The metadata of any object as JSON."""
    return obj.metadata_document if isinstance(obj, StoredObject) else orjson.dumps(obj["metadata"])
