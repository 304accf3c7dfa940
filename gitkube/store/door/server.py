"""The gRPC server of the door: which method is answered by which function, over which connection.

Each method is a function from a request to an answer; here alone they become bytes, and here alone an error
of the store becomes a status of gRPC. Messages are read and written by the functions themselves or by
`_unary`, never by grpc: streams hand over bytes that are encoded once for many clients.

Invariant: a method that etcd has and this door has not is listed all the same, with a sentence.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import structlog

from gitkube.clock import Clock
from gitkube.store.door import cluster, watches
from gitkube.store.door.cluster import ClusterService, MaintenanceService, unimplemented
from gitkube.store.door.headers import Headers
from gitkube.store.door.keys import KeyService
from gitkube.store.door.leases import LeaseService
from gitkube.store.door.recipes import RecipeService
from gitkube.store.door.watches import EventCache, WatchStream
from gitkube.store.etcd.errors import EtcdError, to_etcd
from gitkube.store.etcd.wire import election, grpc, lock, service_methods
from gitkube.store.protocol import InvalidRequestError, Store, StoreAdmin, StoreError

log = structlog.get_logger()

MAX_REQUEST_BYTES = 2 * 1024 * 1024
"""As etcd: its largest request (1.5 MiB) and 512 KiB for what is around it."""
MAX_CALLS = 10_000
"""At once, streams included; more are refused with RESOURCE_EXHAUSTED."""
CLOSE_GRACE_S = 1.0

_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.max_send_message_length", -1),
    ("grpc.so_reuseport", 0),  # a second door on the same port is an error, not a lottery
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),  # as etcd
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.keepalive_time_ms", 7_200_000),
    ("grpc.keepalive_permit_without_calls", 1),
)

_Handler = Callable[[Any], Awaitable[Any]]
_StreamHandler = Callable[[Any], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class DoorTls:
    """Mutual TLS: certificate and key of the server, and the authority that signed its clients' certificates.

    Files in PEM. They are read again when they change, so that a rotated certificate needs no restart.
    """

    certificate: Path
    key: Path
    client_authority: Path


class Door:
    """A door that is open; `close` it."""

    def __init__(self, server: Any, headers: Headers, address: str) -> None:
        self._server = server
        self._headers = headers
        self.address = address
        """HOST:PORT where it listens."""

    async def close(self) -> None:
        """End what is being answered, and listen no more."""
        await self._headers.close()
        await self._server.stop(CLOSE_GRACE_S)


async def serve_door(
    store: Store,
    admin: StoreAdmin,
    listen: str,
    *,
    clock: Clock,
    tls: DoorTls | None = None,
    watch_progress_s: float = watches.PROGRESS_S,
) -> Door:
    """Serve etcd's v3 API over a store.

    Args:
        listen: HOST:PORT; port 0 takes a free one, which `Door.address` then tells.
        tls: without it whoever reaches the port has the whole store: only for loopback.

    Raises:
        UnavailableError: the store does not answer.
        InvalidRequestError: the address is taken or no address, or a certificate cannot be read.
    """
    headers = Headers(store, clock=clock)
    await headers.start()
    server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=MAX_CALLS)
    server.add_generic_rpc_handlers(
        _handlers(store, admin, headers, clock=clock, watch_progress_s=watch_progress_s)
    )
    host = listen.rsplit(":", 1)[0]
    try:
        port = server.add_secure_port(listen, _credentials(tls)) if tls else server.add_insecure_port(listen)
    except (RuntimeError, OSError) as error:
        await headers.close()
        raise InvalidRequestError(f"the etcd API cannot be served on {listen}: {error}") from error
    await server.start()
    log.info("door_opened", address=f"{host}:{port}", mutual_tls=tls is not None)
    return Door(server, headers, f"{host}:{port}")


def _credentials(tls: DoorTls) -> Any:
    current = _read_certificates(tls)

    def changed() -> Any:
        """Called by gRPC at each handshake; None: go on with what there is."""
        nonlocal current
        try:
            found = _read_certificates(tls)
        except OSError as error:
            log.error("door_certificates_unreadable", error=str(error))
            return None
        if found == current:
            return None
        current = found
        return _configuration(found)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(current), changed, require_client_authentication=True
    )


def _read_certificates(tls: DoorTls) -> tuple[bytes, bytes, bytes]:
    return tls.key.read_bytes(), tls.certificate.read_bytes(), tls.client_authority.read_bytes()


def _configuration(files: tuple[bytes, bytes, bytes]) -> Any:
    key, certificate, authority = files
    return grpc.ssl_server_certificate_configuration([(key, certificate)], authority)


# ---------------------------------------------------------------------- methods


def _handlers(
    store: Store, admin: StoreAdmin, headers: Headers, *, clock: Clock, watch_progress_s: float
) -> tuple[Any, ...]:
    keys, leases = KeyService(store, headers), LeaseService(store, headers)
    members, upkeep = ClusterService(admin, headers), MaintenanceService(store, admin, headers)
    recipes, events = RecipeService(store, headers), EventCache()

    async def watch(context: Any) -> None:
        stream = WatchStream(store, headers, events, context, clock=clock, progress_s=watch_progress_s)
        await stream.serve()

    return (
        _etcd_service(
            "KV",
            {
                "Range": keys.range,
                "Put": keys.put,
                "DeleteRange": keys.delete_range,
                "Txn": keys.txn,
                "Compact": keys.compact,
            },
        ),
        _etcd_service("Watch", {}, {"Watch": watch}),
        _etcd_service(
            "Lease",
            {
                "LeaseGrant": leases.grant,
                "LeaseRevoke": leases.revoke,
                "LeaseTimeToLive": leases.time_to_live,
                "LeaseLeases": leases.leases,
            },
            {"LeaseKeepAlive": leases.keep_alive},
        ),
        _etcd_service(
            "Cluster",
            {
                "MemberAdd": members.add,
                "MemberRemove": members.remove,
                "MemberUpdate": members.update,
                "MemberList": members.list,
                "MemberPromote": members.promote,
            },
        ),
        _etcd_service(
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
        _etcd_service("Auth", {name: _refusing(cluster.NO_AUTH) for name in service_methods("Auth")}),
        _service(
            "v3lockpb.Lock",
            {"Lock": (lock.LockRequest, recipes.lock), "Unlock": (lock.UnlockRequest, recipes.unlock)},
            {},
        ),
        _service(
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


def _refusing(sentence: str) -> Callable[[Any], Awaitable[NoReturn]]:
    async def refuse(request: Any) -> NoReturn:
        raise unimplemented(sentence)

    return refuse


def _etcd_service(
    name: str, unary: Mapping[str, _Handler], streams: Mapping[str, _StreamHandler] | None = None
) -> Any:
    methods = service_methods(name)
    return _service(
        f"etcdserverpb.{name}",
        {method: (methods[method][0], handler) for method, handler in unary.items()},
        streams or {},
    )


def _service(
    name: str, unary: Mapping[str, tuple[Any, _Handler]], streams: Mapping[str, _StreamHandler]
) -> Any:
    handlers = {method: _unary(request, handler) for method, (request, handler) in unary.items()}
    handlers |= {method: _stream(handler) for method, handler in streams.items()}
    return grpc.method_handlers_generic_handler(name, handlers)


def _unary(request_class: Any, handler: _Handler) -> Any:
    async def call(request: Any, context: Any) -> bytes:
        try:
            answer = await handler(request)
        except (StoreError, EtcdError) as error:
            await _abort(context, error)
        encoded: bytes = answer.SerializeToString()
        return encoded

    return grpc.unary_unary_rpc_method_handler(call, request_deserializer=request_class.FromString)


def _stream(handler: _StreamHandler) -> Any:
    """A method with a stream of requests or responses; one request alone is a stream of one, on the wire."""

    async def call(requests: Any, context: Any) -> None:
        try:
            await handler(context)
        except (StoreError, EtcdError) as error:
            await _abort(context, error)

    return grpc.stream_stream_rpc_method_handler(call)


async def _abort(context: Any, error: StoreError | EtcdError) -> NoReturn:
    status = error.status if isinstance(error, EtcdError) else to_etcd(error)
    await context.abort(status.code, status.text)
    raise AssertionError("abort does not return")
