"""etcd's KV service: Range, Put, DeleteRange, Txn, Compact.

A request is first refused for what etcd refuses (its api/v3rpc/key.go), in etcd's order and words; then it is
one call of the store, and the result becomes the answer. Within a transaction each answer has a header of its
own that carries only a revision: that of the transaction from its first change on, the one before until then
(etcd's apply.go).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from gitkube.store.door.gathering import Gathering
from gitkube.store.door.headers import Headers
from gitkube.store.etcd import convert, errors
from gitkube.store.etcd.errors import EtcdError, EtcdStatus
from gitkube.store.etcd.wire import grpc, rpc
from gitkube.store.protocol import (
    MAX_KEY_BYTES,
    MAX_TXN_OPERATIONS,
    MAX_VALUE_BYTES,
    DeleteResult,
    KeyNotFoundError,
    LeaseId,
    OperationResult,
    PutResult,
    RangeResult,
    Revision,
    Store,
    TxnResult,
)

KEYS_PER_PIECE = 500
"""Of a large answer: what is encoded in about two milliseconds."""
# etcd's enumerations as far as they go; protobuf lets any number through.
_SORT_TARGETS, _SORT_ORDERS = range(5), range(3)
_COMPARE_TARGETS, _COMPARE_RESULTS = range(5), range(4)


class KeyService:
    """See the module's text."""

    def __init__(self, store: Store, headers: Headers) -> None:
        self._store = store
        self._headers = headers
        self._writes = Gathering()
        self._reads = Gathering()

    async def range(self, request: Any) -> Any:
        check_range(request)
        get = convert.get(request)
        if request.serializable:
            result = await self._store.read(get, serializable=True)
        else:
            async with self._reads:
                result = await self._store.read(get)
        header = self._headers.at(result.revision)
        if len(result.kvs) <= KEYS_PER_PIECE:
            return _range_answer(result, header)
        return await _Pieces.of(result, header)

    async def put(self, request: Any) -> Any:
        check_put(request)
        try:
            async with self._writes:
                result = await self._store.txn((), (convert.put(request),), previous=request.prev_kv)
        except KeyNotFoundError:
            if request.lease:
                # A put by itself looks at the lease first; one in a transaction at the key, as our store.
                await self._store.lease_time_to_live(LeaseId(request.lease))
            raise
        answer = rpc.PutResponse(header=self._headers.at(result.revision))
        (done,) = result.results
        if isinstance(done, PutResult) and done.previous is not None:
            answer.prev_kv.CopyFrom(convert.key_value_message(done.previous))
        return answer

    async def delete_range(self, request: Any) -> Any:
        check_delete(request)
        async with self._writes:
            result = await self._store.txn((), (convert.delete(request),))
        (done,) = result.results
        assert isinstance(done, DeleteResult)
        return _delete_answer(done, self._headers.at(result.revision), with_previous=request.prev_kv)

    async def txn(self, request: Any) -> Any:
        check_txn(request)
        try:
            compares = [convert.compare(each) for each in request.compare]
            success = [convert.operation(each) for each in request.success]
            failure = [convert.operation(each) for each in request.failure]
        except convert.UnsupportedError as error:
            unsupported = EtcdStatus(grpc.StatusCode.UNIMPLEMENTED, f"etcdserver: {error}")
            raise EtcdError(unsupported) from error
        previous = any(each.request_put.prev_kv for each in (*request.success, *request.failure))
        async with self._writes:
            result = await self._store.txn(compares, success, failure, previous=previous)
        chosen = request.success if result.succeeded else request.failure
        return rpc.TxnResponse(
            header=self._headers.at(result.revision),
            succeeded=result.succeeded,
            responses=list(_txn_answers(chosen, result)),
        )

    async def compact(self, request: Any) -> Any:
        await self._store.compact(Revision(request.revision))
        return rpc.CompactionResponse(header=await self._headers.now())


# ---------------------------------------------------------------------- answers


class _Pieces:
    """A large RangeResponse, encoded piece by piece, since the member's heartbeats are sent in between. To
    read the pieces one after the other is to merge them (protobuf's encoding, "Last One Wins").
    """

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    @classmethod
    async def of(cls, result: RangeResult, header: Any) -> _Pieces:
        whole = RangeResult([], result.revision, result.count, result.more)
        pieces = [_range_answer(whole, header).SerializeToString()]
        for start in range(0, len(result.kvs), KEYS_PER_PIECE):
            kvs = [convert.key_value_message(kv) for kv in result.kvs[start : start + KEYS_PER_PIECE]]
            pieces.append(rpc.RangeResponse(kvs=kvs).SerializeToString())
            await asyncio.sleep(0)
        return cls(pieces)

    def SerializeToString(self) -> bytes:
        return b"".join(self._pieces)


def _txn_answers(operations: Iterable[Any], result: TxnResult) -> Iterable[Any]:
    has_changed = any(_changes(each) for each in result.results)
    revision = result.revision - 1 if has_changed else result.revision
    for operation, done in zip(operations, result.results, strict=True):
        if _changes(done):
            revision = result.revision
        header = rpc.ResponseHeader(revision=revision)
        match done:
            case PutResult(previous):
                answer = rpc.PutResponse(header=header)
                if operation.request_put.prev_kv and previous is not None:
                    answer.prev_kv.CopyFrom(convert.key_value_message(previous))
                yield rpc.ResponseOp(response_put=answer)
            case DeleteResult():
                with_previous = operation.request_delete_range.prev_kv
                yield rpc.ResponseOp(
                    response_delete_range=_delete_answer(done, header, with_previous=with_previous)
                )
            case RangeResult():
                yield rpc.ResponseOp(response_range=_range_answer(done, header))


def _changes(result: OperationResult) -> bool:
    return isinstance(result, PutResult) or (isinstance(result, DeleteResult) and bool(result.deleted))


def _range_answer(result: RangeResult, header: Any) -> Any:
    return rpc.RangeResponse(
        header=header,
        kvs=[convert.key_value_message(kv) for kv in result.kvs],
        more=result.more,
        count=result.count,
    )


def _delete_answer(result: DeleteResult, header: Any, *, with_previous: bool) -> Any:
    answer = rpc.DeleteRangeResponse(header=header, deleted=len(result.deleted))
    if with_previous:
        answer.prev_kvs.extend(convert.key_value_message(kv) for kv in result.deleted)
    return answer


# ---------------------------------------------------------------------- what etcd refuses


def check_range(request: Any) -> None:
    """Raises:
    EtcdError: as etcd's checkRangeRequest.
    """
    if not request.key:
        raise EtcdError(errors.EMPTY_KEY)
    if request.sort_target not in _SORT_TARGETS or request.sort_order not in _SORT_ORDERS:
        raise EtcdError(errors.INVALID_SORT)


def check_put(request: Any) -> None:
    """Raises:
    EtcdError: as etcd's checkPutRequest, and for a key or value that is too large for any store.
    """
    if not request.key:
        raise EtcdError(errors.EMPTY_KEY)
    if request.ignore_value and request.value:
        raise EtcdError(errors.VALUE_PROVIDED)
    if request.ignore_lease and request.lease:
        raise EtcdError(errors.LEASE_PROVIDED)
    if len(request.key) > MAX_KEY_BYTES or len(request.value) > MAX_VALUE_BYTES:
        raise EtcdError(errors.REQUEST_TOO_LARGE)


def check_delete(request: Any) -> None:
    """Raises:
    EtcdError: as etcd's checkDeleteRequest.
    """
    if not request.key:
        raise EtcdError(errors.EMPTY_KEY)


def check_txn(request: Any) -> None:
    """Raises:
    EtcdError: as etcd's checkTxnRequest and checkIntervals; and for a comparison of a kind that there is not,
        which etcd takes for a true one.
    """
    operations = max(len(request.compare), len(request.success), len(request.failure))
    if operations > MAX_TXN_OPERATIONS:
        raise EtcdError(errors.TOO_MANY_OPERATIONS)
    if any(not compare.key for compare in request.compare):
        raise EtcdError(errors.EMPTY_KEY)
    for compare in request.compare:
        if compare.target not in _COMPARE_TARGETS or compare.result not in _COMPARE_RESULTS:
            raise EtcdError(errors.UNKNOWN_COMPARISON)
    for branch in (request.success, request.failure):
        for operation in branch:
            match operation.WhichOneof("request"):
                case "request_range":
                    check_range(operation.request_range)
                case "request_put":
                    check_put(operation.request_put)
                case "request_delete_range":
                    check_delete(operation.request_delete_range)
                case None:
                    raise EtcdError(errors.KEY_NOT_FOUND)
    for branch in (request.success, request.failure):
        _check_changed_once(branch)


def _check_changed_once(operations: Iterable[Any]) -> None:
    deletes = [each.request_delete_range for each in operations if each.HasField("request_delete_range")]
    seen: set[bytes] = set()
    for operation in operations:
        if not operation.HasField("request_put"):
            continue
        key = operation.request_put.key
        if key in seen or any(_is_deleted(key, delete) for delete in deletes):
            raise EtcdError(errors.DUPLICATE_KEY)
        seen.add(key)


def _is_deleted(key: bytes, delete: Any) -> bool:
    if not delete.range_end:
        return bool(key == delete.key)
    return bool(delete.key <= key < delete.range_end)
