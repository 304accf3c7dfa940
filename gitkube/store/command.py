"""What the log carries: commands, and how they become bytes.

A command is everything that changes the key space. It is written to the log once, and each member applies
the same commands in the same order, so applying may depend on nothing but the command and the state.
Encoded with msgpack as `[kind, session, sequence, …]`. Session and sequence let a retried write be applied
once; 0 is a write that nobody retries. The format is on people's disks: fields are only ever added at the
end of an array.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgpack

from gitkube.store.protocol import (
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
    Target,
)


@dataclass(frozen=True, slots=True)
class Txn:
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


Command = Txn | LeaseGrant | LeaseRevoke | Compact

_TXN, _GRANT, _REVOKE, _COMPACT = 1, 2, 3, 4
_PUT, _DELETE, _GET = 1, 2, 3
_TARGETS = {Target.VERSION: 1, Target.CREATE: 2, Target.MOD: 3, Target.VALUE: 4, Target.LEASE: 5}
_OPS = {Op.EQUAL: 1, Op.NOT_EQUAL: 2, Op.GREATER: 3, Op.LESS: 4}
_TARGET_OF = {code: target for target, code in _TARGETS.items()}
_OP_OF = {code: op for op, code in _OPS.items()}


def encode(command: Command) -> bytes:
    """The bytes of a command, as they stand in the log."""
    body: list[Any]
    match command:
        case Txn(compare, success, failure):
            body = [
                _TXN, 0, 0,
                [compare_to_list(item) for item in compare],
                [operation_to_list(operation) for operation in success],
                [operation_to_list(operation) for operation in failure],
            ]  # fmt: skip
        case LeaseGrant(lease, ttl_s):
            body = [_GRANT, 0, 0, lease, ttl_s]
        case LeaseRevoke(lease):
            body = [_REVOKE, 0, 0, lease]
        case Compact(revision):
            body = [_COMPACT, 0, 0, revision]
    packed: bytes = msgpack.packb(body)
    return packed


def decode(data: bytes) -> Command:
    """The command that `encode` wrote.

    Raises:
        CorruptError: not a command of a format this version knows.
    """
    try:
        body = msgpack.unpackb(data)
        kind = body[0]
        if kind == _TXN:
            return Txn(
                tuple(compare_from_list(item) for item in body[3]),
                tuple(operation_from_list(item) for item in body[4]),
                tuple(operation_from_list(item) for item in body[5]),
            )
        if kind == _GRANT:
            return LeaseGrant(LeaseId(body[3]), body[4])
        if kind == _REVOKE:
            return LeaseRevoke(LeaseId(body[3]))
        if kind == _COMPACT:
            return Compact(Revision(body[3]))
    except (ValueError, KeyError, IndexError, TypeError, msgpack.UnpackException) as error:
        raise CorruptError(f"a record of the log is no command: {error}") from error
    raise CorruptError(f"the log holds a command of kind {kind!r}, which this version does not know")


def operation_to_list(operation: Operation) -> list[Any]:
    match operation:
        case Put(key, value, lease):
            return [_PUT, key, value, lease]
        case Delete(key, end):
            return [_DELETE, key, end]
        case Get(key, end, limit):
            return [_GET, key, end, limit]


def operation_from_list(item: Sequence[Any]) -> Operation:
    kind = item[0]
    if kind == _PUT:
        return Put(item[1], item[2], LeaseId(item[3]))
    if kind == _DELETE:
        return Delete(item[1], item[2])
    if kind == _GET:
        return Get(item[1], item[2], item[3])
    raise ValueError(f"operation of kind {kind!r}")


def compare_to_list(compare: Compare) -> list[Any]:
    return [compare.key, _TARGETS[compare.target], _OPS[compare.op], compare.value]


def compare_from_list(item: Sequence[Any]) -> Compare:
    return Compare(item[0], _TARGET_OF[item[1]], _OP_OF[item[2]], item[3])


def kv_to_list(kv: KeyValue) -> list[Any]:
    return [kv.key, kv.value, kv.create_revision, kv.mod_revision, kv.version, kv.lease]


def kv_from_list(item: Sequence[Any]) -> KeyValue:
    return KeyValue(item[0], item[1], Revision(item[2]), Revision(item[3]), item[4], LeaseId(item[5]))
