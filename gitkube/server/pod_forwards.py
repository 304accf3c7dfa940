"""Connections to pods from a controller that does not lead: carried by the leader, which holds the links.

For webhooks behind a Service: the controller that was asked to write must call them, and only the leader
reaches the pods. `GET /gitkube/forward` is a WebSocket for the controllers: the first message is the pod and
the port, the answer to it says whether the connection stands, and from then on each message is bytes, one
way or the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from typing import Any

import aiohttp
import orjson
import structlog
from aiohttp import WSMsgType, web

from gitkube.api.errors import StatusError, unavailable
from gitkube.api.streams import PodStreams, StreamSession
from gitkube.objects.types import Object
from gitkube.wire import WireError

log = structlog.get_logger(__name__)

FORWARD_PATH = "/gitkube/forward"
CONNECT_TIMEOUT_S = 5.0
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
_STDIN, _STDOUT = 0, 1


async def serve_forward(request: web.Request, streams: PodStreams) -> web.StreamResponse:
    """The leader's end; whoever calls this has checked who asks."""
    socket = web.WebSocketResponse(max_msg_size=MAX_MESSAGE_BYTES)
    await socket.prepare(request)
    try:
        asked = orjson.loads(await socket.receive_str())
        session = await streams.port_forward(asked["pod"], int(asked["port"]))
    except StatusError as error:
        await socket.send_bytes(orjson.dumps(error.to_status()))
        await socket.close()
        return socket
    except (TypeError, ValueError, KeyError) as error:
        log.warning("forward_refused", error=str(error))
        await socket.close(code=aiohttp.WSCloseCode.PROTOCOL_ERROR)
        return socket
    await socket.send_bytes(b"{}")
    inbound = asyncio.create_task(_to_pod(socket, session), name="forward-in")
    outbound = asyncio.create_task(_to_controller(socket, session), name="forward-out")
    try:
        await asyncio.wait([inbound, outbound], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in (inbound, outbound):
            way.cancel()
        await asyncio.wait([inbound, outbound])
        await session.close({"exitCode": 0})
        await socket.close()
    return socket


async def _to_pod(socket: web.WebSocketResponse, session: StreamSession) -> None:
    with contextlib.suppress(WireError):
        async for message in socket:
            if message.type is WSMsgType.BINARY:
                await session.write(_STDIN, message.data)


async def _to_controller(socket: web.WebSocketResponse, session: StreamSession) -> None:
    with contextlib.suppress(ConnectionError, WireError):
        while (item := await session.read()) is not None:
            await socket.send_bytes(item[1])


class LeadersForwards:
    """The other end: opens connections to pods through the leader.

    Args:
        leader_url: where the leader's API is; "" or None when there is none to be asked.
        context: the TLS context of a controller.
    """

    def __init__(self, leader_url: Callable[[], str | None], context: Callable[[], ssl.SSLContext]) -> None:
        self._leader_url = leader_url
        self._context = context

    async def port_forward(self, pod: Object, port: int) -> StreamSession:
        """Raises `StatusError` 503 when the leader cannot be asked, and what the leader refuses with."""
        url = self._leader_url()
        if not url:
            raise unavailable("no controller leads at the moment, so none holds the links to the hosts")
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S)
        session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self._context()), timeout=timeout)
        try:
            socket = await session.ws_connect(url + FORWARD_PATH, max_msg_size=MAX_MESSAGE_BYTES)
            await socket.send_str(orjson.dumps({"pod": pod, "port": port}).decode())
            answer = orjson.loads(await socket.receive_bytes())
        except (aiohttp.ClientError, OSError, TypeError, ValueError) as error:
            await session.close()
            raise unavailable(f"the leader's API at {url} cannot be reached: {error}") from error
        except BaseException:
            await session.close()
            raise
        if answer:
            await session.close()
            raise StatusError.from_status(answer)
        return _Forwarded(session, socket)


class _Forwarded:
    """A `StreamSession` over the WebSocket."""

    def __init__(self, session: aiohttp.ClientSession, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._session = session
        self._socket = socket
        self.result: dict[str, Any] | None = None

    async def read(self) -> tuple[int, bytes] | None:
        message = await self._socket.receive()
        if message.type is WSMsgType.BINARY:
            return _STDOUT, message.data
        self.result = self.result or {"exitCode": 0}
        return None

    async def write(self, channel: int, data: bytes) -> None:
        if not data:
            return  # the end of input: the webhook is told by the end of the connection
        try:
            await self._socket.send_bytes(data)
        except (ConnectionError, RuntimeError) as error:
            raise WireError("the connection to the leader has ended") from error

    async def close(self, result: dict[str, Any]) -> None:
        self.result = self.result or result
        await self._socket.close()
        await self._session.close()
