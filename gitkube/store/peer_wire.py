"""What members say to each other, as bytes.

A connection goes from the one who dialled to the one who listens, and begins with a greeting that says who
calls whom in which cluster. A frame's content is a msgpack array whose first item is its type:

    HELLO, WELCOME     who calls; whether it is let in, and if not why
    MESSAGES           messages of the consensus core, in order
    ASK, ANSWER        a question that only the other member can answer, by number
    STATE, PIECE, END  a state that replaces the receiver's log: the SNAPSHOT message, its bytes, their end

Both ends are members of one cluster that proved it with certificates; still nothing that arrives is believed
beyond its shape, and what has another shape ends the connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgpack

from gitkube.store.frames import FrameError, frame
from gitkube.store.raft.types import ConfState, Entry, EntryKind, Message, MessageKind, SnapshotMeta

VERSION: Final = 1
HELLO, WELCOME, MESSAGES, ASK, ANSWER, STATE, PIECE, END = range(1, 9)
MAX_FRAME_BYTES = 128 * 1024 * 1024
"""More than any batch of messages may hold (`Transport` cuts them far below)."""

_ENTRY_KINDS = {kind.value: kind for kind in EntryKind}
_INT = {int}
_MESSAGE_KINDS = {kind.value: kind for kind in MessageKind}


class PeerFrameError(FrameError):
    """The other end, another member, sent something that is no frame of this protocol."""


def encode_frame(*items: Any) -> bytes:
    """The bytes of a frame of this type and content."""
    packed: bytes = msgpack.packb(items)
    return frame(packed)


def decode_frame(packed: bytes) -> list[Any]:
    """The items of a frame, its type first.

    Raises:
        PeerFrameError: not a frame.
    """
    try:
        items = msgpack.unpackb(packed)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise PeerFrameError(f"a frame between members is not understood: {error}") from error
    if not isinstance(items, list) or not items or not isinstance(items[0], int):
        raise PeerFrameError("a frame between members has no type")
    return items


def messages_to_list(messages: Sequence[Message]) -> list[Any]:
    return [_message_to_list(message) for message in messages]


def _message_to_list(message: Message) -> list[Any]:
    return [
        message.kind, message.to, message.sender, message.term, message.log_term, message.index,
        message.entries, message.commit, message.reject, message.reject_hint, message.context,
        message.snapshot, message.state_index, message.state_hash,
    ]  # fmt: skip


def messages_from_list(items: Any) -> list[Message]:
    """Raises:
    PeerFrameError: one of them is no message.
    """
    try:
        return [_message_from_list(*item) for item in items]
    except (ValueError, TypeError, KeyError) as error:
        raise PeerFrameError(f"a message between members is not understood: {error}") from error


def _message_from_list(
    kind: int, to: int, sender: int, term: int, log_term: int, index: int, entries: list[Any], commit: int,
    reject: bool, reject_hint: int, context: bytes, snapshot: list[Any] | None, state_index: int,
    state_hash: int,
) -> Message:  # fmt: skip
    numbers = (to, sender, term, log_term, index, commit, reject_hint, state_index, state_hash)
    if set(map(type, numbers)) != _INT or min(numbers) < 0 or type(context) is not bytes:
        raise ValueError("a field is not of its type")
    return Message(
        _MESSAGE_KINDS[kind],
        to,  # type: ignore[arg-type]
        sender,  # type: ignore[arg-type]
        term,
        log_term,
        index,
        tuple([Entry(at, of, data, _ENTRY_KINDS[entry_kind]) for at, of, data, entry_kind in entries]),
        commit,
        bool(reject),
        reject_hint,
        context,
        None if snapshot is None else _meta_from_list(*snapshot),
        state_index,
        state_hash,
    )


def _meta_from_list(index: int, term: int, conf: list[Any]) -> SnapshotMeta:
    voters, learners, outgoing, learners_next, auto_leave = conf
    return SnapshotMeta(
        index,
        term,
        ConfState(tuple(voters), tuple(learners), tuple(outgoing), tuple(learners_next), bool(auto_leave)),
    )
