"""A connection that stops being HTTP: bytes both ways after `101 Switching Protocols`.

aiohttp knows upgrades to WebSocket only. Older kubectl and many Go clients upgrade to SPDY/3.1, so here the
transport gets another protocol: what arrives waits in a buffer with a limit, beyond which nothing is read
from the client, and who writes waits while the client does not read. When the connection is lost, aiohttp's
own protocol hears of it and cancels the handler, as with every other request; when the handler returns, it
closes the transport.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Mapping

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from gitkube.api.errors import StatusError

MAX_BUFFERED_BYTES = 1024 * 1024
"""Of what the client sent and nobody has read yet."""

CLOSED_WITHIN_S = 2.0
_VERSION_HEADER = "X-Stream-Protocol-Version"


class Upgraded(web.StreamResponse):
    """The answer to a request whose connection went over to another protocol."""

    def __init__(self, connection: RawConnection) -> None:
        super().__init__(status=101)
        self.connection = connection
        self.force_close()

    @property
    def prepared(self) -> bool:
        return True

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """There is no end of a body to write."""


class RawConnection(asyncio.Protocol):
    """`read` and `write` of a connection that was HTTP."""

    def __init__(self, transport: asyncio.Transport, http: asyncio.BaseProtocol) -> None:
        self._transport = transport
        self._http = http
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._has_ended = False
        self._arrived = asyncio.Event()
        self._may_write = asyncio.Event()
        self._may_write.set()

    async def read(self) -> bytes:
        """What the client sent next; nothing at the end."""
        while not self._chunks and not self._has_ended:
            self._arrived.clear()
            await self._arrived.wait()
        if not self._chunks:
            return b""
        chunk = self._chunks.popleft()
        was_full = self._size > MAX_BUFFERED_BYTES
        self._size -= len(chunk)
        if was_full and self._size <= MAX_BUFFERED_BYTES:
            self._transport.resume_reading()
        return chunk

    async def write(self, data: bytes) -> None:
        """
        Raises:
            ConnectionError: the client is gone.
        """
        if self._has_ended or self._transport.is_closing():
            raise ConnectionResetError("the client went away")
        self._transport.write(data)
        await self._may_write.wait()

    async def wait_closed(self) -> None:
        """Give the client a moment to close: a connection that is closed with words of its unread is reset,
        and what was sent last may be lost."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSED_WITHIN_S):
                while await self.read():
                    continue

    # ------------------------------------------------------------------ asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        self._chunks.append(data)
        was_full = self._size > MAX_BUFFERED_BYTES
        self._size += len(data)
        if self._size > MAX_BUFFERED_BYTES and not was_full:
            self._transport.pause_reading()
        self._arrived.set()

    def eof_received(self) -> bool:
        self._end()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        self._http.connection_lost(exc)

    def pause_writing(self) -> None:
        self._may_write.clear()

    def resume_writing(self) -> None:
        self._may_write.set()

    def _end(self) -> None:
        self._has_ended = True
        self._arrived.set()
        self._may_write.set()


def wants_spdy(request: web.Request) -> bool:
    return request.headers.get("Upgrade", "").lower() == "spdy/3.1"


def wants_websocket(request: web.Request) -> bool:
    return request.headers.get("Upgrade", "").lower() == "websocket"


def negotiated(request: web.Request, protocol: str) -> dict[str, str]:
    """The headers of an upgrade to SPDY that will carry this protocol.

    Raises:
        StatusError: 403, the client speaks only others.
    """
    offered = [
        word.strip() for line in request.headers.getall(_VERSION_HEADER, []) for word in line.split(",")
    ]
    if protocol not in offered:
        text = f"unable to negotiate protocol: client supports {offered}, server accepts [{protocol}]"
        raise StatusError(403, "Forbidden", f"unable to upgrade: {text}")
    return {"Upgrade": "SPDY/3.1", _VERSION_HEADER: protocol}


def switch_protocols(request: web.Request, headers: Mapping[str, str]) -> Upgraded:
    """Answer 101 with these headers; from now on the connection is the caller's.

    Raises:
        ConnectionError: the client is gone already.
    """
    if request.transport is None or request.transport.is_closing():
        raise ConnectionResetError("the client went away")
    transport = request.transport
    connection = RawConnection(transport, request.protocol)
    lines = ["HTTP/1.1 101 Switching Protocols", "Connection: Upgrade"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    transport.set_protocol(connection)
    transport.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
    return Upgraded(connection)
