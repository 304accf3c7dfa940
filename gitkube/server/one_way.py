"""Streams on which only the server speaks, watches and logs: an answer's body, or messages of a WebSocket.

Dashboards run in browsers, which cannot read an answer while it comes in every case, but have WebSockets. So
a watch or a log may be asked for by an upgrade: each event, or each piece of the log, is one message then.
What the client sends is ignored; that it closes ends the stream. An HTTP/1.0 client, which is what many a
reverse proxy is by default, knows no chunks: its answer ends with the connection.
Sources: Kubernetes' `WatchServer.HandleWS`, and `wsstream.NewReader` with its default protocols for logs.
"""

from __future__ import annotations

import asyncio
import base64
import enum
from collections.abc import Coroutine
from typing import Any, Protocol

from aiohttp import HttpVersion11, WSMsgType, web

from gitkube.api.errors import bad_request
from gitkube.server.identity import asked_protocols
from gitkube.server.upgrade import wants_websocket

MAX_MESSAGE_BYTES = 64 * 1024
"""Clients have nothing to say here; more than this ends the stream."""
CLOSED_WITHIN_S = 2.0


class Framing(enum.Enum):
    """How bytes become the messages of a WebSocket."""

    TEXT = "the bytes are UTF-8"
    BINARY = "as they are"
    BASE64 = "text that is base64, for who can read nothing else"


LOG_FRAMING = {
    "": Framing.BINARY,
    "binary.k8s.io": Framing.BINARY,
    "base64.binary.k8s.io": Framing.BASE64,
}
"""By the subprotocol that the client asks for."""


class Outlet(Protocol):
    """Where the bytes of one stream go."""

    @property
    def response(self) -> web.StreamResponse: ...

    async def start(self) -> None:
        """Send the headers, or the answer to the upgrade."""
        ...

    async def carry(self, speaking: Coroutine[Any, Any, None]) -> None:
        """Run what writes here, until it ends or the client has closed."""
        ...

    async def write(self, data: bytes) -> None:
        """
        Raises:
            ConnectionError: the client is gone.
        """
        ...

    async def end(self) -> None:
        """In good order."""
        ...


def watch_outlet(request: web.Request) -> Outlet:
    """For a watch: every message is an event, in whichever subprotocol the client would have."""
    if not is_websocket(request):
        return _Body(request, "application/json")
    return _Messages(request, next(iter(asked_protocols(request)), ""), Framing.TEXT)


def log_outlet(request: web.Request) -> Outlet:
    """For a log.

    Raises:
        StatusError: 400, a WebSocket of a subprotocol that there is not.
    """
    if not is_websocket(request):
        return _Body(request, "text/plain")
    asked = asked_protocols(request) or [""]
    protocol = next((one for one in asked if one in LOG_FRAMING), None)
    if protocol is None:
        served = ", ".join(one for one in LOG_FRAMING if one)
        raise bad_request(f"unable to upgrade connection: no common subprotocol; served are: {served}")
    return _Messages(request, protocol, LOG_FRAMING[protocol])


def is_websocket(request: web.Request) -> bool:
    """Whether the client asks to go on by WebSocket (RFC 6455, section 4.2.1)."""
    return wants_websocket(request) and "upgrade" in request.headers.get("Connection", "").lower()


class _Body:
    """The body of an ordinary answer."""

    def __init__(self, request: web.Request, content_type: str) -> None:
        headers = {"Content-Type": content_type, "Cache-Control": "no-cache, private"}
        self.response = web.StreamResponse(headers=headers)
        self._request = request

    async def start(self) -> None:
        if self._request.version >= HttpVersion11:
            self.response.enable_chunked_encoding()
        await self.response.prepare(self._request)

    async def carry(self, speaking: Coroutine[Any, Any, None]) -> None:
        await speaking

    async def write(self, data: bytes) -> None:
        await self.response.write(data)

    async def end(self) -> None:
        await self.response.write_eof()


class _Messages:
    """A WebSocket."""

    def __init__(self, request: web.Request, protocol: str, framing: Framing) -> None:
        self.response = web.WebSocketResponse(
            protocols=(protocol,) if protocol else (),
            max_msg_size=MAX_MESSAGE_BYTES,
            timeout=CLOSED_WITHIN_S,
        )
        self._request = request
        self._framing = framing

    async def start(self) -> None:
        await self.response.prepare(self._request)

    async def carry(self, speaking: Coroutine[Any, Any, None]) -> None:
        speaker = asyncio.ensure_future(speaking)
        listener = asyncio.ensure_future(self._until_closed())
        try:
            await asyncio.wait([speaker, listener], return_when=asyncio.FIRST_COMPLETED)
            if speaker.done():
                speaker.result()
        finally:
            speaker.cancel()
            listener.cancel()
            await asyncio.gather(speaker, listener, return_exceptions=True)

    async def write(self, data: bytes) -> None:
        match self._framing:
            case Framing.TEXT:
                await self.response.send_str(data.decode())
            case Framing.BINARY:
                await self.response.send_bytes(data)
            case Framing.BASE64:
                await self.response.send_str(base64.b64encode(data).decode())

    async def end(self) -> None:
        await self.response.close()

    async def _until_closed(self) -> None:
        async for message in self.response:
            if message.type is WSMsgType.ERROR:
                return
