"""The door itself: which method of etcd's is answered by which function, and where it listens.

Each method is a function from a request to an answer. Here alone they become bytes, and here alone an error
of the store becomes a status of gRPC; streams read and write bytes themselves, as one response may be
encoded once for many clients. `http2/` carries them.

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
from gitkube.store.door.http2.call import INTERNAL, Call, Method, RefusedError, Streaming, Unary
from gitkube.store.door.http2.server import GrpcServer
from gitkube.store.door.http2.tls import ServerTls
from gitkube.store.door.keys import KeyService
from gitkube.store.door.leases import LeaseService
from gitkube.store.door.recipes import RecipeService
from gitkube.store.door.watches import EventCache, WatchStream
from gitkube.store.etcd.errors import EtcdError, to_etcd
from gitkube.store.etcd.wire import DecodeError, election, lock, method_path, service_methods
from gitkube.store.protocol import InvalidRequestError, Store, StoreAdmin, StoreError

log = structlog.get_logger()

MAX_REQUEST_BYTES = 2 * 1024 * 1024
"""As etcd: its largest request (1.5 MiB) and 512 KiB for what is around it."""
CLOSE_GRACE_S = 1.0

_Handler = Callable[[Any], Awaitable[Any]]
_StreamHandler = Callable[[Call], Awaitable[None]]


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

    def __init__(self, server: GrpcServer, headers: Headers, address: str) -> None:
        self._server = server
        self._headers = headers
        self.address = address
        """HOST:PORT where it listens."""

    async def close(self) -> None:
        """End what is being answered, and listen no more."""
        await self._headers.close()
        await self._server.close(CLOSE_GRACE_S)


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
        watch_progress_s: how often a watch that asked for it and has no events is told the revision.

    Raises:
        UnavailableError: the store does not answer.
        InvalidRequestError: the address is taken or no address, or a certificate cannot be read.
    """
    host, _, port = listen.rpartition(":")
    headers = Headers(store, clock=clock)
    methods = _methods(store, admin, headers, watch_progress_s)
    server = GrpcServer(methods, max_request_bytes=MAX_REQUEST_BYTES)
    await headers.start()
    try:
        server_tls = ServerTls(tls.certificate, tls.key, tls.client_authority) if tls else None
        bound_port = await server.start(host.strip("[]"), int(port), server_tls)
    except (OSError, ValueError) as error:
        await headers.close()
        raise InvalidRequestError(f"the etcd API cannot be served on {listen!r}: {error}") from error
    log.info("door_opened", address=f"{host}:{bound_port}", mutual_tls=tls is not None)
    return Door(server, headers, f"{host}:{bound_port}")


# ---------------------------------------------------------------------- methods


def _methods(store: Store, admin: StoreAdmin, headers: Headers, watch_progress_s: float) -> dict[str, Method]:
    keys, leases = KeyService(store, headers), LeaseService(store, headers)
    members, upkeep = ClusterService(admin, headers), MaintenanceService(store, admin, headers)
    recipes, events = RecipeService(store, headers), EventCache()

    async def watch(call: Call) -> None:
        stream = WatchStream(store, headers, events, call, progress_s=watch_progress_s)
        await stream.serve()

    services = (
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
    return {path: method for service in services for path, method in service.items()}


def _refusing(sentence: str) -> Callable[[Any], Awaitable[NoReturn]]:
    async def refuse(request: Any) -> NoReturn:
        raise unimplemented(sentence)

    return refuse


def _etcd_service(
    name: str, unary: Mapping[str, _Handler], streams: Mapping[str, _StreamHandler] | None = None
) -> dict[str, Method]:
    methods = service_methods(name)
    requests = {method: (methods[method][0], handler) for method, handler in unary.items()}
    return _service(f"etcdserverpb.{name}", requests, streams or {})


def _service(
    name: str, unary: Mapping[str, tuple[Any, _Handler]], streams: Mapping[str, _StreamHandler]
) -> dict[str, Method]:
    methods: dict[str, Method] = {
        method_path(name, method): _unary(request, handler) for method, (request, handler) in unary.items()
    }
    return methods | {method_path(name, method): _stream(handler) for method, handler in streams.items()}


def _unary(request_class: Any, handler: _Handler) -> Unary:
    read = request_class.FromString

    async def handle(data: bytes) -> bytes:
        try:
            answer = await handler(read(data))
        except (StoreError, EtcdError) as error:
            raise _refused(error) from error
        except DecodeError as error:
            raise RefusedError(INTERNAL, f"the request is no message of its type: {error}") from error
        encoded: bytes = answer.SerializeToString()
        return encoded

    return Unary(handle)


def _stream(handler: _StreamHandler) -> Streaming:
    async def handle(call: Call) -> None:
        try:
            await handler(call)
        except (StoreError, EtcdError) as error:
            raise _refused(error) from error
        except DecodeError as error:
            raise RefusedError(INTERNAL, f"a request is no message of its type: {error}") from error

    return Streaming(handle)


def _refused(error: StoreError | EtcdError) -> RefusedError:
    status = error.status if isinstance(error, EtcdError) else to_etcd(error)
    return RefusedError(status.code.value[0], status.text)
