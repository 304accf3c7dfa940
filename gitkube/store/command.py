"""What the log carries: commands, and how they become bytes.

A command is everything that changes the key space. It is written to the log once, and each member applies
the same commands in the same order, so applying may depend on nothing but the command and the state.
Encoded with msgpack as `[kind, session, sequence, acknowledged, …]`: whose command it is comes first, see
`Origin`. The format is on people's disks: fields are only ever added at the end of an array, and those at
the end that have their usual value are left out.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgpack

from gitkube.store.protocol import (
    NO_LEASE,
    Compare,
    CorruptError,
    Delete,
    Get,
    KeyValue,
    LeaseId,
    Op,
    Operation,
    Put,
    Revision,
    SortBy,
    Target,
)


class Txn(NamedTuple):
    compare: Sequence[Compare]
    success: Sequence[Operation]
    failure: Sequence[Operation] = ()


@dataclass(frozen=True, slots=True)
class LeaseGrant:
    lease: LeaseId
    ttl_s: int


@dataclass(frozen=True, slots=True)
class LeaseRevoke:
    lease: LeaseId


@dataclass(frozen=True, slots=True)
class Compact:
    revision: Revision


class AlarmKind(enum.Enum):
    NOSPACE = 1
    """The member's key space has reached its quota: no member takes what would grow it."""
    CORRUPT = 2
    """The member's state differs from the others'. It is told to people; the key space goes on."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """Raise or lift an alarm of one member."""

    kind: AlarmKind
    member: int
    """Its id; 0 with `is_raised` False lifts the alarms of this kind of all members."""
    is_raised: bool = True


Command = Txn | LeaseGrant | LeaseRevoke | Compact | Alarm


class Origin(NamedTuple):
    """Which write of which client this is, so that one which is sent again is done once (thesis, 6.3)."""

    session: int = 0
    """Random number of the client's choice; 0 is a write that nobody sends again."""
    sequence: int = 0
    """Counts the session's writes, from 1. Several may be under way, and arrive in any order."""
    acknowledged: int = 0
    """The client has all its answers below this sequence, so they may be forgotten."""


NO_ORIGIN = Origin()

_TXN, _GRANT, _REVOKE, _COMPACT, _ALARM = 1, 2, 3, 4, 5
_PUT, _DELETE, _GET = 1, 2, 3
_IGNORE_VALUE, _IGNORE_LEASE = 1, 2
_KEYS_ONLY, _COUNT_ONLY, _DESCENDING = 1, 2, 4
_TARGETS = {Target.VERSION: 1, Target.CREATE: 2, Target.MOD: 3, Target.VALUE: 4, Target.LEASE: 5}
_OPS = {Op.EQUAL: 1, Op.NOT_EQUAL: 2, Op.GREATER: 3, Op.LESS: 4}
_SORTS = {SortBy.KEY: 0, SortBy.VERSION: 1, SortBy.CREATE: 2, SortBy.MOD: 3, SortBy.VALUE: 4}
_TARGET_OF = {code: target for target, code in _TARGETS.items()}
_OP_OF = {code: op for op, code in _OPS.items()}
_SORT_OF = {code: sort for sort, code in _SORTS.items()}


def encode(command: Command, origin: Origin = NO_ORIGIN) -> bytes:
    """The bytes of a command, as they stand in the log."""
    body: list[Any]
    match command:
        case Txn(compare, success, failure):
            body = [
                _TXN, *origin,
                [compare_to_list(item) for item in compare],
                [operation_to_list(operation) for operation in success],
                [operation_to_list(operation) for operation in failure],
            ]  # fmt: skip
        case LeaseGrant(lease, ttl_s):
            body = [_GRANT, *origin, lease, ttl_s]
        case LeaseRevoke(lease):
            body = [_REVOKE, *origin, lease]
        case Compact(revision):
            body = [_COMPACT, *origin, revision]
        case Alarm(kind, member, is_raised):
            body = [_ALARM, *origin, kind.value, member, is_raised]
    packed: bytes = msgpack.packb(body)
    return packed


def decode(data: bytes) -> tuple[Command, Origin]:
    """The command that `encode` wrote, and whose it is.

    Raises:
        CorruptError: not a command of a format this version knows.
    """
    try:
        body = msgpack.unpackb(data)
        kind = body[0]
        origin = Origin(body[1], body[2], body[3]) if body[1] else NO_ORIGIN
        if kind == _TXN:
            compare, success, failure = body[4], body[5], body[6]
            return (
                Txn(
                    tuple([compare_from_list(item) for item in compare]) if compare else (),
                    tuple([operation_from_list(item) for item in success]),
                    tuple([operation_from_list(item) for item in failure]) if failure else (),
                ),
                origin,
            )
        if kind == _GRANT:
            return LeaseGrant(LeaseId(body[4]), body[5]), origin
        if kind == _REVOKE:
            return LeaseRevoke(LeaseId(body[4])), origin
        if kind == _COMPACT:
            return Compact(Revision(body[4])), origin
        if kind == _ALARM:
            return Alarm(AlarmKind(body[4]), body[5], body[6]), origin
    except (ValueError, KeyError, IndexError, TypeError, msgpack.UnpackException) as error:
        raise CorruptError(f"a record of the log is no command: {error}") from error
    raise CorruptError(f"the log holds a command of kind {kind!r}, which this version does not know")


def operation_to_list(operation: Operation) -> list[Any]:
    match operation:
        case Put(key, value, lease, ignore_value, ignore_lease):
            flags = ignore_value * _IGNORE_VALUE + ignore_lease * _IGNORE_LEASE
            if flags:
                return [_PUT, key, value, lease, flags]
            return [_PUT, key, value, lease] if lease != NO_LEASE else [_PUT, key, value]
        case Delete(key, end):
            return [_DELETE, key, end]
        case Get():
            return get_to_list(operation)


def operation_from_list(item: Sequence[Any]) -> Operation:
    kind = item[0]
    if kind == _PUT:
        if len(item) == 3:
            return Put(item[1], item[2])
        flags = item[4] if len(item) > 4 else 0
        return Put(
            item[1],
            item[2],
            LeaseId(item[3]),
            ignore_value=bool(flags & _IGNORE_VALUE),
            ignore_lease=bool(flags & _IGNORE_LEASE),
        )
    if kind == _DELETE:
        return Delete(item[1], item[2])
    if kind == _GET:
        return get_from_list(item)
    raise ValueError(f"operation of kind {kind!r}")


def get_to_list(get: Get) -> list[Any]:
    flags = get.keys_only * _KEYS_ONLY + get.count_only * _COUNT_ONLY + get.descending * _DESCENDING
    item = [
        _GET, get.key, get.end, get.limit, get.revision, flags, _SORTS[get.sort_by],
        get.min_mod_revision, get.max_mod_revision, get.min_create_revision, get.max_create_revision,
    ]  # fmt: skip
    while not item[-1] and len(item) > 3:
        item.pop()
    return item


def get_from_list(item: Sequence[Any]) -> Get:
    _, key, end, limit, revision, flags, sort_by, *bounds = [*item, *_GET_DEFAULTS[len(item) :]]
    return Get(
        key,
        end,
        limit,
        Revision(revision),
        keys_only=bool(flags & _KEYS_ONLY),
        count_only=bool(flags & _COUNT_ONLY),
        sort_by=_SORT_OF[sort_by],
        descending=bool(flags & _DESCENDING),
        min_mod_revision=bounds[0],
        max_mod_revision=bounds[1],
        min_create_revision=bounds[2],
        max_create_revision=bounds[3],
    )


_GET_DEFAULTS: list[Any] = [_GET, b"", None, 0, 0, 0, 0, 0, 0, 0, 0]


def compare_to_list(compare: Compare) -> list[Any]:
    item = [compare.key, _TARGETS[compare.target], _OPS[compare.op], compare.value]
    if compare.end is not None:
        item.append(compare.end)
    return item


def compare_from_list(item: Sequence[Any]) -> Compare:
    end = item[4] if len(item) > 4 else None
    return Compare(item[0], _TARGET_OF[item[1]], _OP_OF[item[2]], item[3], end)


def kv_from_list(item: Sequence[Any]) -> KeyValue:
    return KeyValue._make(item)
