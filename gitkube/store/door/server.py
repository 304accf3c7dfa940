"""The door itself: gRPC's server (grpc.aio) with the methods of etcd, where it listens and how it is closed.

HTTP/2, TLS and flow control are gRPC's; what a client may ask for at once and how large it may be is said
here. gRPC only carries bytes (`methods.py` reads and writes them).

Invariant: an address or certificate that cannot be used is an error with its reason before anything is
served.
"""

from __future__ import annotations

import socket
from typing import Any

import structlog

from gitkube.clock import Clock
from gitkube.store.addresses import split_address
from gitkube.store.door import watches
from gitkube.store.door.certificates import DoorTls, server_credentials
from gitkube.store.door.headers import Headers
from gitkube.store.door.methods import Methods, OpenStreams
from gitkube.store.etcd.wire import grpc
from gitkube.store.protocol import InvalidRequestError, Store, StoreAdmin

log = structlog.get_logger()

MAX_REQUEST_BYTES = 2 * 1024 * 1024
"""As etcd: its largest request (1.5 MiB) and 512 KiB for what is around it."""
MAX_CALLS = 4_000
"""At once, streams included; more are refused with RESOURCE_EXHAUSTED."""
MAX_PENDING = 5 * MAX_CALLS
"""Calls that gRPC has and we have not taken in yet."""
CLOSE_GRACE_S = 1.0
HANDSHAKE_TIMEOUT_S = 10.0
"""gRPC's own is two minutes, in which whoever reaches the port can use up the files that we may open."""
_LOOK_S = 1.0

_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.max_send_message_length", -1),
    # A few compressed bytes may stand for gigabytes, which gRPC does not limit: they stay compressed, and are
    # refused as no message.
    ("grpc.per_message_decompression", 0),
    # From 1,000 on gRPC would end calls at random, whoever's they are, with CANCELLED and no word of why.
    ("grpc.server.max_pending_requests", MAX_PENDING),
    ("grpc.server.max_pending_requests_hard_limit", MAX_PENDING + 1),
    # A second door on the same port is an error, not a lottery.
    ("grpc.so_reuseport", 0),
    # As etcd: who pings more often than each 5 s is cut off.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    # A client that vanished without a word must not keep its watches and its place in a queue for hours.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
)


class Door:
    """A door that is open; `close` it."""

    def __init__(self, server: Any, streams: OpenStreams, headers: Headers, address: str) -> None:
        self._server = server  # gRPC's server ends when nobody refers to it any more
        self._streams = streams
        self._headers = headers
        self.address = address
        """HOST:PORT where it listens."""

    async def wait_failed(self) -> None:
        """Return when gRPC's server has ended, though nobody closed it.

        Raises:
            Exception: the reason, if it is known.
        """
        while await self._server.wait_for_termination(_LOOK_S):
            pass  # only at the end of a wait does it tell of a server that has failed but has open streams

    async def close(self) -> None:
        """Listen no more, and end what is being answered: streams at once, others after a short grace."""
        await self._headers.close()
        self._streams.close()
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
        watch_progress_s: how often a watch that asked for it and has no events is told the revision.

    Raises:
        UnavailableError: the store does not answer.
        InvalidRequestError: the address is taken or no address, or a certificate cannot be read.
    """
    headers, streams = Headers(store, clock=clock), OpenStreams()
    options = (*_OPTIONS, ("grpc.server_handshake_timeout_ms", int(HANDSHAKE_TIMEOUT_S * 1000)))
    server = grpc.aio.server(options=options, maximum_concurrent_rpcs=MAX_CALLS)
    methods = Methods(store, admin, headers, streams, watch_progress_s=watch_progress_s)
    server.add_generic_rpc_handlers((methods,))
    await headers.start()
    try:
        port = _listen(server, listen, tls)
        await server.start()
    except BaseException as error:
        await headers.close()
        if isinstance(error, OSError | ValueError | RuntimeError):
            raise InvalidRequestError(f"the etcd API cannot be served on {listen!r}: {error}") from error
        raise
    address = f"{listen.rpartition(':')[0]}:{port}"
    log.info("door_opened", address=address, mutual_tls=tls is not None)
    return Door(server, streams, headers, address)


def _listen(server: Any, listen: str, tls: DoorTls | None) -> int:
    host, port = split_address(listen)
    if not host:
        raise ValueError("it names no host")
    _try_address(host, port)
    if tls is None:
        return int(server.add_insecure_port(listen))
    return int(server.add_secure_port(listen, server_credentials(tls)))


def _try_address(host: str, port: int) -> None:
    """gRPC only says that an address cannot be had; this says why.

    Raises:
        OSError: it cannot be listened on.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        probe.listen(1)
