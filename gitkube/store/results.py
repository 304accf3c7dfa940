"""Results of commands as plain lists: for the snapshot, and for whoever carries them further.

A `KeyValue` stands in them as it is: msgpack packs a tuple as it packs a list.
An error is a result like any other: it travels by its name and comes out as the same exception.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gitkube.store import protocol
from gitkube.store.command import kv_from_list
from gitkube.store.protocol import (
    CompactedError,
    DeleteResult,
    InvalidRequestError,
    OperationResult,
    PutResult,
    RangeResult,
    Revision,
    StoreError,
    TxnResult,
)

Result = TxnResult | StoreError | None
"""None: done, and there is nothing more to say."""

_NONE, _TXN, _ERROR = 0, 1, 2
_PUT, _DELETE, _RANGE = 1, 2, 3
_ERRORS = {
    error.__name__: error
    for error in vars(protocol).values()
    if isinstance(error, type) and issubclass(error, StoreError)
}


def result_to_list(result: Result) -> list[Any]:
    if result is None:
        return [_NONE]
    if isinstance(result, StoreError):
        return [_ERROR, *error_to_list(result)]
    return [_TXN, *txn_to_list(result)]


def result_from_list(item: Sequence[Any]) -> Result:
    kind, *body = item
    if kind == _TXN:
        return txn_from_list(body)
    if kind == _ERROR:
        return error_from_list(body)
    return None


def error_to_list(error: StoreError) -> list[Any]:
    revision = error.compact_revision if isinstance(error, CompactedError) else 0
    return [type(error).__name__, str(error), revision]


def error_from_list(body: Sequence[Any]) -> StoreError:
    name, text, revision = body
    if name == CompactedError.__name__:
        return CompactedError(Revision(revision))
    return _ERRORS.get(name, StoreError)(text)


def txn_result(result: Result, *, previous: bool) -> TxnResult:
    """What a transaction gave.

    Args:
        previous: with what was there before its puts.

    Raises:
        StoreError: that is what it gave; or it was none.
    """
    if isinstance(result, StoreError):
        raise result
    if not isinstance(result, TxnResult):
        raise InvalidRequestError(f"a transaction gave {result!r}")
    return result if previous else result.without_previous()


def txn_to_list(result: TxnResult) -> list[Any]:
    return [result.succeeded, result.revision, [_operation_to_list(each) for each in result.results]]


def txn_from_list(body: Sequence[Any]) -> TxnResult:
    succeeded, revision, results = body
    return TxnResult(succeeded, Revision(revision), [_operation_from_list(each) for each in results])


def range_to_list(result: RangeResult) -> list[Any]:
    return list(result)


def range_from_list(body: Sequence[Any]) -> RangeResult:
    kvs, revision, count, more = body
    return RangeResult([kv_from_list(item) for item in kvs], Revision(revision), count, more)


def _operation_to_list(result: OperationResult) -> list[Any]:
    match result:
        case PutResult(previous):
            return [_PUT, previous]
        case DeleteResult(deleted):
            return [_DELETE, deleted]
        case RangeResult():
            return [_RANGE, range_to_list(result)]


def _operation_from_list(item: Sequence[Any]) -> OperationResult:
    kind, body = item
    if kind == _PUT:
        return PutResult(None if body is None else kv_from_list(body))
    if kind == _DELETE:
        return DeleteResult([kv_from_list(kv) for kv in body])
    return range_from_list(body)
