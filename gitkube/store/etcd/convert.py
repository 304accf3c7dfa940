"""From our vocabulary to etcd's messages and back; the door and `EtcdStore` are mirror images through it.

Pure functions, in pairs. `*_message` makes one of etcd's, the others read one. Where etcd leaves a field
empty to say "none" (a range's end, a lease), ours is None or 0; nothing else differs.

Invariant: a request that goes out through one function and comes in through the other is the same request.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gitkube.store.etcd.wire import mvcc, rpc
from gitkube.store.protocol import (
    Compare,
    Delete,
    DeleteResult,
    Event,
    EventType,
    Get,
    KeyValue,
    LeaseId,
    Op,
    Operation,
    OperationResult,
    Put,
    PutResult,
    RangeResult,
    Revision,
    SortBy,
    Target,
)

ALL = b"\x00"
"""etcd's smallest key, and as the end of a range: no upper bound."""

_SORT_TARGETS = (SortBy.KEY, SortBy.VERSION, SortBy.CREATE, SortBy.MOD, SortBy.VALUE)
_OPS = (Op.EQUAL, Op.GREATER, Op.LESS, Op.NOT_EQUAL)
_TARGETS = (Target.VERSION, Target.CREATE, Target.MOD, Target.VALUE, Target.LEASE)
_TARGET_FIELDS = ("version", "create_revision", "mod_revision", "value", "lease")
_EVENT_TYPES = (EventType.PUT, EventType.DELETE)
_NONE, _ASCEND, _DESCEND = 0, 1, 2


class UnsupportedError(Exception):
    """A message asks for what our vocabulary has no word for; the text says which."""


def key_value_message(kv: KeyValue) -> Any:
    return mvcc.KeyValue(
        key=kv.key,
        value=kv.value,
        create_revision=kv.create_revision,
        mod_revision=kv.mod_revision,
        version=kv.version,
        lease=kv.lease,
    )


def key_value(message: Any) -> KeyValue:
    return KeyValue(
        message.key,
        message.value,
        Revision(message.create_revision),
        Revision(message.mod_revision),
        message.version,
        LeaseId(message.lease),
    )


def event_message(event: Event) -> Any:
    """With the previous key and value if the event has it."""
    message = mvcc.Event(type=_EVENT_TYPES.index(event.type), kv=key_value_message(event.kv))
    if event.previous is not None:
        message.prev_kv.CopyFrom(key_value_message(event.previous))
    return message


def event(message: Any) -> Event:
    previous = key_value(message.prev_kv) if message.HasField("prev_kv") else None
    return Event(_EVENT_TYPES[message.type], key_value(message.kv), previous)


def from_key(key: bytes, end: bytes | None) -> bytes:
    """etcd refuses an empty key; a range from there begins at its smallest."""
    return ALL if not key and end is not None else key


def range_message(get: Get, *, serializable: bool = False) -> Any:
    message = rpc.RangeRequest(
        key=from_key(get.key, get.end),
        range_end=get.end or b"",
        limit=get.limit,
        revision=get.revision,
        serializable=serializable,
        keys_only=get.keys_only,
        count_only=get.count_only,
        min_mod_revision=get.min_mod_revision,
        max_mod_revision=get.max_mod_revision,
        min_create_revision=get.min_create_revision,
        max_create_revision=get.max_create_revision,
    )
    if get.descending or get.sort_by is not SortBy.KEY:
        message.sort_target = _SORT_TARGETS.index(get.sort_by)
        message.sort_order = _DESCEND if get.descending else _ASCEND
    return message


def get(message: Any) -> Get:
    return Get(
        message.key,
        message.range_end or None,
        message.limit,
        Revision(message.revision),
        message.keys_only,
        message.count_only,
        _SORT_TARGETS[message.sort_target],
        message.sort_order == _DESCEND,
        message.min_mod_revision,
        message.max_mod_revision,
        message.min_create_revision,
        message.max_create_revision,
    )


def range_result(message: Any) -> RangeResult:
    return RangeResult(
        [key_value(kv) for kv in message.kvs],
        Revision(message.header.revision),
        message.count,
        message.more,
    )


def put_message(put: Put, *, prev_kv: bool) -> Any:
    return rpc.PutRequest(
        key=put.key,
        value=put.value,
        lease=put.lease,
        prev_kv=prev_kv,
        ignore_value=put.ignore_value,
        ignore_lease=put.ignore_lease,
    )


def put(message: Any) -> Put:
    return Put(message.key, message.value, LeaseId(message.lease), message.ignore_value, message.ignore_lease)


def delete_message(delete: Delete, *, prev_kv: bool) -> Any:
    return rpc.DeleteRangeRequest(
        key=from_key(delete.key, delete.end), range_end=delete.end or b"", prev_kv=prev_kv
    )


def delete(message: Any) -> Delete:
    return Delete(message.key, message.range_end or None)


def operation_message(operation: Operation, *, previous: bool) -> Any:
    """As a step of a transaction. What is deleted is asked for, since our results have it.

    Args:
        previous: ask for what was there before a put, too.
    """
    match operation:
        case Put():
            return rpc.RequestOp(request_put=put_message(operation, prev_kv=previous))
        case Delete():
            return rpc.RequestOp(request_delete_range=delete_message(operation, prev_kv=True))
        case Get():
            return rpc.RequestOp(request_range=range_message(operation))


def operation(message: Any) -> Operation:
    """Raises:
    UnsupportedError: a transaction inside of a transaction.
    """
    match message.WhichOneof("request"):
        case "request_put":
            return put(message.request_put)
        case "request_delete_range":
            return delete(message.request_delete_range)
        case "request_range":
            return get(message.request_range)
        case _:
            raise UnsupportedError("a transaction inside of a transaction is not supported by this store")


def operation_result(message: Any) -> OperationResult:
    match message.WhichOneof("response"):
        case "response_put":
            answer = message.response_put
            return PutResult(key_value(answer.prev_kv) if answer.HasField("prev_kv") else None)
        case "response_delete_range":
            return DeleteResult([key_value(kv) for kv in message.response_delete_range.prev_kvs])
        case _:
            return range_result(message.response_range)


def compare_message(compare: Compare) -> Any:
    index = _TARGETS.index(compare.target)
    return rpc.Compare(
        key=from_key(compare.key, compare.end),
        range_end=compare.end or b"",
        target=index,
        result=_OPS.index(compare.op),
        **{_TARGET_FIELDS[index]: compare.value},
    )


def compare(message: Any) -> Compare:
    """A value that was left out compares as 0 or b"", as in etcd."""
    field = _TARGET_FIELDS[message.target]
    return Compare(
        message.key,
        _TARGETS[message.target],
        _OPS[message.result],
        getattr(message, field),
        message.range_end or None,
    )


def txn_message(
    compares: Sequence[Compare],
    success: Sequence[Operation],
    failure: Sequence[Operation],
    *,
    previous: bool,
) -> Any:
    return rpc.TxnRequest(
        compare=[compare_message(each) for each in compares],
        success=[operation_message(each, previous=previous) for each in success],
        failure=[operation_message(each, previous=previous) for each in failure],
    )
