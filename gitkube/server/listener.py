"""Connections: accepted one by one, so that clients that only sit there are in nobody's way.

Whoever connects and does not finish the TLS handshake is dropped after a while, and before that when too many
do so; no more connections are held than the process may have files, and when that is reached, the connection
that has been idle for longest makes room for the new one. A connection with a request under way is never
closed for another.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import resource
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog
from aiohttp import web

log = structlog.get_logger()

HANDSHAKE_TIMEOUT_S = 10.0
BACKLOG = 1024
_RESERVED_FILES = 512
"""For the store, logs, links to hosts and everything else that the process has open."""
_WANTED_FILES = 65536
_NO_FILES_RETRY_S = 0.1
RequestAnswerer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    connections: int = 20_000
    handshakes: int = 1_000
    """Under way at once."""
    handshake_timeout_s: float = HANDSHAKE_TIMEOUT_S


def within_files(limits: ConnectionLimits) -> ConnectionLimits:
    """The limits, lowered to what the process may open; that is raised as far as it may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED_FILES if hard == resource.RLIM_INFINITY else min(hard, _WANTED_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):  # then it stays as it is
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return limits
    room = max(64, soft - _RESERVED_FILES)
    handshakes = max(8, min(limits.handshakes, room // 8))
    return ConnectionLimits(
        min(limits.connections, room - handshakes), handshakes, limits.handshake_timeout_s
    )


class Busy:
    """Which connections have a request under way."""

    def __init__(self) -> None:
        self._handlers: set[object] = set()
        handlers = self._handlers

        @web.middleware
        async def note(request: web.Request, handler: RequestAnswerer) -> web.StreamResponse:
            handlers.add(request.protocol)
            try:
                return await handler(request)
            finally:
                handlers.discard(request.protocol)

        self.middleware = note
        """Of the application whose connections these are."""

    def __contains__(self, handler: object) -> bool:
        return handler in self._handlers


class Listener:
    def __init__(
        self,
        server: web.Server,
        context: ssl.SSLContext,
        *,
        busy: Busy,
        limits: ConnectionLimits | None = None,
    ) -> None:
        """
        Args:
            server: makes the handlers of connections, and knows those that are open.
        """
        self._server = server
        self._context = context
        self._busy = busy
        self._limits = within_files(limits or ConnectionLimits())
        self._sockets: list[socket.socket] = []
        self._accepting: list[asyncio.Task[None]] = []
        self._handshakes: dict[asyncio.Task[None], socket.socket] = {}
        self.port = 0

    async def start(self, host: str, port: int) -> None:
        """Listen on every address of a host; port 0 takes a free one.

        Raises:
            OSError: the address is taken or not ours.
        """
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        try:
            for family, type, protocol, _, address in dict.fromkeys(found):
                try:
                    self._sockets.append(_listening(family, type, protocol, address))
                except OSError as error:
                    # A name may have an address of a family that this machine does not have.
                    if error.errno != errno.EAFNOSUPPORT or len(found) == 1:
                        raise
            if not self._sockets:
                raise OSError(errno.EAFNOSUPPORT, f"this machine has no address of the family of {host}")
        except OSError:
            self._close_sockets()
            raise
        self.port = int(self._sockets[0].getsockname()[1])
        self._accepting = [loop.create_task(self._accept(one), name="accept") for one in self._sockets]

    async def stop(self) -> None:
        """Listen no more; connections that are open go on."""
        tasks = [*self._accepting, *self._handshakes]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._close_sockets()

    def _close_sockets(self) -> None:
        for one in self._sockets:
            one.close()
        self._sockets = []

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listening)
            except ConnectionError:
                continue  # it went away again before it was accepted
            except OSError as error:
                log.warning("accept_failed", error=str(error), retry_s=_NO_FILES_RETRY_S)
                self._make_room(all_of_it=True)
                await asyncio.sleep(_NO_FILES_RETRY_S)
                continue
            self._make_room()
            connection.setblocking(False)
            task = loop.create_task(self._shake_hands(connection))
            self._handshakes[task] = connection
            task.add_done_callback(self._handshakes.pop)

    def _make_room(self, *, all_of_it: bool = False) -> None:
        if all_of_it or len(self._handshakes) >= self._limits.handshakes:
            oldest = next(iter(self._handshakes), None)
            if oldest is not None:
                oldest.cancel()
        connections = self._server.connections
        surplus = len(connections) + 1 - self._limits.connections
        if all_of_it:
            surplus = max(1, surplus)
        for handler in connections:
            if surplus <= 0:
                return
            if handler not in self._busy and handler.transport is not None:
                handler.transport.abort()
                surplus -= 1

    async def _shake_hands(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(
                self._server,
                connection,
                ssl=self._context,
                ssl_handshake_timeout=self._limits.handshake_timeout_s,
            )
        except (OSError, ssl.SSLError, TimeoutError):
            connection.close()  # no client of ours: a scan, a probe, one without our authority
        except asyncio.CancelledError:
            connection.close()
            raise


def _listening(family: int, type: int, protocol: int, address: object) -> socket.socket:
    one = socket.socket(family, type, protocol)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.setblocking(False)
        one.bind(address)  # type: ignore[arg-type]  # as getaddrinfo gave it
        one.listen(BACKLOG)
    except OSError:
        one.close()
        raise
    return one
