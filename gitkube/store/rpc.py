"""`Store` and `StoreAdmin` over a unix socket: what both ends of it agree on.

A frame's content is msgpack. Requests are `[number, method, arguments]`; answers are `[number, kind,
body]` with kind ANSWER, ERROR, or, of a stream, any number of BATCH and perhaps an END. Errors travel by
name and come out as the same exception on the other side.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import msgpack

from gitkube.store.command import kv_from_list
from gitkube.store.frames import FrameError, frame
from gitkube.store.protocol import (
    Event,
    EventType,
    Lease,
    LeaseId,
    Revision,
    StateHash,
    StoreStatus,
    WatchBatch,
)

ANSWER, ERROR, BATCH, END = 0, 1, 2, 3
MAX_FRAME_BYTES = 1024 * 1024 * 1024
"""A range of a whole large key space is one frame; both ends are one program on one machine."""
WATCH_WINDOW = 8
"""Batches of one watch under way before the reader has taken the first of them."""


def encode_frame(body: list[Any]) -> bytes:
    packed: bytes = msgpack.packb(body)
    return frame(packed)


def decode_frame(content: bytes) -> list[Any]:
    """The three items of a frame.

    Raises:
        FrameError: the other side sent something else.
    """
    try:
        body = msgpack.unpackb(content, strict_map_key=False)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise FrameError(f"a frame of the store's socket is not understood: {error}") from error
    if not isinstance(body, list) or len(body) != 3:
        raise FrameError("not a frame of the store's socket")
    return body


def batch_to_list(batch: WatchBatch) -> list[Any]:
    return [
        batch.revision,
        [[event.type is EventType.PUT, event.kv, event.previous] for event in batch.events],
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
