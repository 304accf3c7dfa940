"""Which method of etcd's is answered by which function.

Each is a function from a request to an answer. Here alone they become bytes, and here alone an error of the
store becomes a status of gRPC; streams read and write bytes themselves, as one response may be encoded once
for many clients.

Invariant: a method that etcd has and this door has not is listed all the same, with a sentence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NoReturn

import structlog

from gitkube.store.door import cluster
from gitkube.store.door.cluster import ClusterService, MaintenanceService, unimplemented
from gitkube.store.door.headers import Headers
from gitkube.store.door.keys import KeyService
from gitkube.store.door.leases import LeaseService
from gitkube.store.door.recipes import RecipeService
from gitkube.store.door.watches import EventCache, WatchStream
from gitkube.store.etcd import errors
from gitkube.store.etcd.errors import EtcdError, EtcdStatus, to_etcd
from gitkube.store.etcd.wire import DecodeError, election, grpc, lock, method_path, service_methods
from gitkube.store.protocol import Store, StoreAdmin, StoreError

log = structlog.get_logger()

_INTERNAL = grpc.StatusCode.INTERNAL
NO_MESSAGE = EtcdStatus(_INTERNAL, "the request is no message of its type; compressed ones are not read")
FAILED = EtcdStatus(_INTERNAL, "the server failed; its log says why")

_Handler = Callable[[Any], Awaitable[Any]]
_StreamHandler = Callable[[Any], Awaitable[None]]


class Methods(grpc.GenericRpcHandler):  # type: ignore[misc, unused-ignore]
    """Finds the handler of a call by its path, such as `/etcdserverpb.KV/Put`.

    gRPC can be told of each method by itself, too; it then waits for the next call of every one of them
    anew whenever one came.
    """

    def __init__(
        self,
        store: Store,
        admin: StoreAdmin,
        headers: Headers,
        streams: OpenStreams,
        *,
        watch_progress_s: float,
    ) -> None:
        self._handlers = _handlers(store, admin, headers, streams, watch_progress_s)

    def service(self, handler_call_details: Any) -> Any:
        return self._handlers.get(handler_call_details.method)


class OpenStreams:
    """Streams, which have no end of their own: when the door closes they are ended with a word."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any] | None] = set()
        self._is_closing = False

    async def serve(self, handler: _StreamHandler, context: Any) -> None:
        task = asyncio.current_task()
        self._tasks.add(task)
        try:
            await handler(context)
        except asyncio.CancelledError:
            if self._is_closing:
                await _abort(context, errors.STOPPED)
            raise
        finally:
            self._tasks.discard(task)

    def close(self) -> None:
        self._is_closing = True
        for task in self._tasks:
            if task is not None:
                task.cancel()


def _handlers(
    store: Store, admin: StoreAdmin, headers: Headers, streams: OpenStreams, watch_progress_s: float
) -> dict[str, Any]:
    keys, leases = KeyService(store, headers), LeaseService(store, headers)
    members, upkeep = ClusterService(admin, headers), MaintenanceService(store, admin, headers)
    recipes, events = RecipeService(store, headers), EventCache()

    async def watch(context: Any) -> None:
        stream = WatchStream(store, headers, events, context, progress_s=watch_progress_s)
        await stream.serve()

    def service(
        name: str, unary: Mapping[str, tuple[Any, _Handler]], streaming: Mapping[str, _StreamHandler]
    ) -> dict[str, Any]:
        found = {method_path(name, method): _unary(*each) for method, each in unary.items()}
        return found | {method_path(name, each): _stream(streams, do) for each, do in streaming.items()}

    def etcd_service(
        name: str, unary: Mapping[str, _Handler], streaming: Mapping[str, _StreamHandler] | None = None
    ) -> dict[str, Any]:
        methods = service_methods(name)
        requests = {method: (methods[method][0], handler) for method, handler in unary.items()}
        return service(f"etcdserverpb.{name}", requests, streaming or {})

    services = (
        etcd_service(
            "KV",
            {
                "Range": keys.range,
                "Put": keys.put,
                "DeleteRange": keys.delete_range,
                "Txn": keys.txn,
                "Compact": keys.compact,
            },
        ),
        etcd_service("Watch", {}, {"Watch": watch}),
        etcd_service(
            "Lease",
            {
                "LeaseGrant": leases.grant,
                "LeaseRevoke": leases.revoke,
                "LeaseTimeToLive": leases.time_to_live,
                "LeaseLeases": leases.leases,
            },
            {"LeaseKeepAlive": leases.keep_alive},
        ),
        etcd_service(
            "Cluster",
            {
                "MemberAdd": members.add,
                "MemberRemove": members.remove,
                "MemberUpdate": members.update,
                "MemberList": members.list,
                "MemberPromote": members.promote,
            },
        ),
        etcd_service(
            "Maintenance",
            {
                "Alarm": upkeep.alarm,
                "Status": upkeep.status,
                "Defragment": upkeep.defragment,
                "Hash": upkeep.hash,
                "HashKV": upkeep.hash_kv,
                "MoveLeader": upkeep.move_leader,
                "Downgrade": _refusing(cluster.NO_DOWNGRADE),
            },
            {"Snapshot": _refusing(cluster.NO_SNAPSHOT)},
        ),
        etcd_service("Auth", {name: _refusing(cluster.NO_AUTH) for name in service_methods("Auth")}),
        service(
            "v3lockpb.Lock",
            {"Lock": (lock.LockRequest, recipes.lock), "Unlock": (lock.UnlockRequest, recipes.unlock)},
            {},
        ),
        service(
            "v3electionpb.Election",
            {
                "Campaign": (election.CampaignRequest, recipes.campaign),
                "Proclaim": (election.ProclaimRequest, recipes.proclaim),
                "Leader": (election.LeaderRequest, recipes.leader),
                "Resign": (election.ResignRequest, recipes.resign),
            },
            {"Observe": recipes.observe},
        ),
    )
    return {path: method for each in services for path, method in each.items()}


def _refusing(sentence: str) -> Callable[[Any], Awaitable[NoReturn]]:
    async def refuse(request: Any) -> NoReturn:
        raise unimplemented(sentence)

    return refuse


def _unary(request_class: Any, handler: _Handler) -> Any:
    read = request_class.FromString

    async def call(data: bytes, context: Any) -> bytes:
        try:
            answer = await handler(read(data))
        except Exception as error:
            await _abort(context, _status(error))
        encoded: bytes = answer.SerializeToString()
        return encoded

    return grpc.unary_unary_rpc_method_handler(call)


def _stream(streams: OpenStreams, handler: _StreamHandler) -> Any:
    """A method with a stream of requests or responses; one request alone is a stream of one, on the wire."""

    async def call(requests: Any, context: Any) -> None:
        try:
            await streams.serve(handler, context)
        except grpc.aio.BaseError:
            raise  # gRPC's own: the client is gone, or the status was sent
        except Exception as error:
            await _abort(context, _status(error))

    return grpc.stream_stream_rpc_method_handler(call)


def _status(error: Exception) -> EtcdStatus:
    if isinstance(error, EtcdError):
        return error.status
    if isinstance(error, StoreError):
        return to_etcd(error)
    if isinstance(error, DecodeError):
        return NO_MESSAGE
    log.error("door_call_failed", exc_info=error)
    return FAILED


async def _abort(context: Any, status: EtcdStatus) -> NoReturn:
    await context.abort(status.code, status.text)
    raise AssertionError("abort does not return")
