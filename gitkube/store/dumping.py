"""The state as a sequence of plain lists, for a snapshot, and back.

A dump is the state at the compacted revision and the changes since: everything else (older versions, which
keys hang on which lease, the bytes in use) follows from these two. Parts, each one list, in this order:

    ["space", format, revision, compacted]
    ["hash", running hash]
    ["leases", [[id, ttl_s], …]]
    ["alarms", [[kind, member], …]]
    ["sessions", […]] …                  see sessions.py
    ["base", [version, …]] …             what can be read at `compacted`, in the order of the keys
    ["first", [version, …]]              what the revision `compacted` itself changed, if it is known
    ["changes", revision, [[operation, …], …]] …   by revision, from the given one on

A version is the list of KeyValue's fields; an operation is `[key, value, lease]` of a put or `[key]` of a
deletion. Making a dump copies references before it returns, some milliseconds per 100,000 keys; the parts
are then made one by one, in any thread, while the key space goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from gitkube.store.protocol import NO_LEASE, CorruptError, KeyValue, LeaseId
from gitkube.store.versions import Change, Versions, VersionsCopy, versions_of

FORMAT = 2
PART_BYTES = 256 * 1024
"""A part is about as large; more than one version makes it only if they are smaller."""
_LIST_BYTES = 40
"""What a version or an operation has beside its key and value, about."""


def dump_versions(copy: VersionsCopy) -> Iterator[list[Any]]:
    """The parts that say which versions there are."""
    for batch in _batches((kv, len(kv.key) + len(kv.value)) for kv in copy.base()):
        yield ["base", batch]
    if copy.first is not None:
        yield ["first", copy.first]
    revision = copy.changes_from
    for batch in _batches(map(_operations, copy.changes)):
        yield ["changes", revision, batch]
        revision += len(batch)


def _operations(change: Change) -> tuple[list[list[Any]], int]:
    """Of one revision, and how many bytes they have."""
    operations: list[list[Any]] = []
    size_bytes = 0
    for key, value, _, _, version, lease in versions_of(change):
        operations.append([key, value, lease] if version else [key])
        size_bytes += len(key) + len(value)
    return operations, size_bytes


def _batches(items: Iterable[tuple[Any, int]]) -> Iterator[list[Any]]:
    batch: list[Any] = []
    size_bytes = 0
    for item, item_bytes in items:
        batch.append(item)
        size_bytes += item_bytes + _LIST_BYTES
        if size_bytes >= PART_BYTES:
            yield batch
            batch, size_bytes = [], 0
    if batch:
        yield batch


def load_versions(part: list[Any], versions: Versions) -> None:
    """Take in one of `dump_versions`' parts.

    Raises:
        CorruptError: it does not follow what was there before.
    """
    match part:
        case ["base", items]:
            versions.load_base(map(KeyValue._make, items))
        case ["first", items]:
            versions.load_first([KeyValue._make(item) for item in items])
        case ["changes", revision, changes]:
            if revision != versions.revision + 1:
                raise CorruptError(f"the changes of revision {versions.revision + 1} are missing")
            for change in changes:
                for operation in change:
                    if len(operation) == 1:
                        kv = versions.get(operation[0])
                        if kv is None:
                            raise CorruptError(f"key {operation[0]!r} is deleted and was not there")
                        versions.delete([kv])
                    else:
                        key, value, lease = operation
                        versions.put(key, value, LeaseId(lease) if lease else NO_LEASE)
                versions.commit()
        case _:
            raise CorruptError(f"a part of kind {part[0]!r}, which this version does not know")
