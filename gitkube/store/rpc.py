"""`Store` and `StoreAdmin` over a unix socket: what both ends of it agree on.

A frame is `length:u32` and msgpack. Requests are `[number, method, arguments]`; answers are `[number, kind,
body]` with kind ANSWER, ERROR, or, of a stream, any number of BATCH and perhaps an END. Errors travel by
name and come out as the same exception on the other side.
"""

from __future__ import annotations

import asyncio
import struct
from dataclasses import fields
from typing import Any

import msgpack

from gitkube.store import protocol
from gitkube.store.command import kv_from_list, kv_to_list
from gitkube.store.protocol import (
    CompactedError,
    DeleteResult,
    Event,
    EventType,
    Lease,
    LeaseId,
    OperationResult,
    PutResult,
    RangeResult,
    Revision,
    StateHash,
    StoreError,
    StoreStatus,
    TxnResult,
    UnavailableError,
    WatchBatch,
)

ANSWER, ERROR, BATCH, END = 0, 1, 2, 3
MAX_FRAME_BYTES = 1024 * 1024 * 1024
"""A range of a whole large key space is one frame; both ends are one program on one machine."""
WATCH_WINDOW = 8
"""Batches of one watch under way before the reader has taken the first of them."""

_LENGTH = struct.Struct("!I")
_ERRORS = {
    error.__name__: error
    for error in vars(protocol).values()
    if isinstance(error, type) and issubclass(error, StoreError)
}


def encode_frame(body: list[Any]) -> bytes:
    packed: bytes = msgpack.packb(body)
    return _LENGTH.pack(len(packed)) + packed


async def read_frame(reader: asyncio.StreamReader) -> list[Any] | None:
    """The next frame, or None at the end of the stream.

    Raises:
        UnavailableError: the other side sent something else.
    """
    try:
        header = await reader.readexactly(_LENGTH.size)
        (length,) = _LENGTH.unpack(header)
        if length > MAX_FRAME_BYTES:
            raise UnavailableError(f"a frame of {length} bytes on the store's socket")
        body = msgpack.unpackb(await reader.readexactly(length), strict_map_key=False)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    if not isinstance(body, list) or len(body) != 3:
        raise UnavailableError("not a frame of the store's socket")
    return body


def error_to_list(error: StoreError) -> list[Any]:
    revision = error.compact_revision if isinstance(error, CompactedError) else 0
    return [type(error).__name__, str(error), revision]


def error_from_list(body: list[Any]) -> StoreError:
    name, text, revision = body
    if name == CompactedError.__name__:
        return CompactedError(Revision(revision))
    return _ERRORS.get(name, StoreError)(text)


def range_to_list(result: RangeResult) -> list[Any]:
    return [[kv_to_list(kv) for kv in result.kvs], result.revision, result.count, result.more]


def range_from_list(body: list[Any]) -> RangeResult:
    kvs, revision, count, more = body
    return RangeResult([kv_from_list(item) for item in kvs], Revision(revision), count, more)


def txn_to_list(result: TxnResult) -> list[Any]:
    return [result.succeeded, result.revision, [_result_to_list(each) for each in result.results]]


def txn_from_list(body: list[Any]) -> TxnResult:
    succeeded, revision, results = body
    return TxnResult(succeeded, Revision(revision), [_result_from_list(each) for each in results])


def _result_to_list(result: OperationResult) -> list[Any]:
    match result:
        case PutResult(previous):
            return ["put", None if previous is None else kv_to_list(previous)]
        case DeleteResult(deleted):
            return ["delete", [kv_to_list(kv) for kv in deleted]]
        case RangeResult():
            return ["range", range_to_list(result)]


def _result_from_list(item: list[Any]) -> OperationResult:
    kind, body = item
    if kind == "put":
        return PutResult(None if body is None else kv_from_list(body))
    if kind == "delete":
        return DeleteResult([kv_from_list(kv) for kv in body])
    return range_from_list(body)


def batch_to_list(batch: WatchBatch) -> list[Any]:
    return [
        batch.revision,
        [
            [
                event.type is EventType.PUT,
                kv_to_list(event.kv),
                None if event.previous is None else kv_to_list(event.previous),
            ]
            for event in batch.events
        ],
    ]


def batch_from_list(body: list[Any]) -> WatchBatch:
    revision, events = body
    return WatchBatch(
        Revision(revision),
        [
            Event(
                EventType.PUT if is_put else EventType.DELETE,
                kv_from_list(kv),
                None if previous is None else kv_from_list(previous),
            )
            for is_put, kv, previous in events
        ],
    )


def lease_to_list(lease: Lease) -> list[Any]:
    return [lease.id, lease.granted_ttl_s, lease.remaining_ttl_s, list(lease.keys)]


def lease_from_list(body: list[Any]) -> Lease:
    return Lease(LeaseId(body[0]), body[1], body[2], body[3])


def status_to_list(status: StoreStatus) -> list[Any]:
    return [getattr(status, each.name) for each in fields(StoreStatus)]


def status_from_list(body: list[Any]) -> StoreStatus:
    return StoreStatus(*body)


def hash_to_list(found: StateHash) -> list[Any]:
    return [found.revision, found.compact_revision, found.hash]


def hash_from_list(body: list[Any]) -> StateHash:
    return StateHash(Revision(body[0]), Revision(body[1]), body[2])
