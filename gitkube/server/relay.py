"""Logs, exec and port-forward from any controller: what only the leader can carry is carried there.

The leader holds the links to the hosts. A request for one of these streams that reaches another controller
is authorized here, by the same rules, and then made again at the leader's API with this controller's own
certificate; its bytes, or the messages of its WebSocket, pass through unread in both directions.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

import aiohttp
import structlog
from aiohttp import WSMsgType, web
from yarl import URL

from gitkube.api.errors import StatusError, unavailable
from gitkube.server.channels import MAX_MESSAGE_BYTES
from gitkube.server.identity import asked_protocols
from gitkube.server.proxy_rules import ONLY_FOR_US, end_to_end
from gitkube.server.raw_relay import pass_on_raw
from gitkube.server.upgrade import wants_spdy, wants_websocket

CONNECT_TIMEOUT_S = 5.0
CHUNK_BYTES = 64 * 1024
_AUTO = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
"""What aiohttp adds by itself: the client's own words are passed on."""
RELAYED = "Gitkube-Relayed"
"""Marks a request that was passed on: it is not passed on again, should two controllers disagree."""

log = structlog.get_logger(__name__)


class Relay:
    """See the module's text.

    Args:
        leader_url: where the leader's API is; None when we lead ourselves, "" when nobody does.
        context: the TLS context of a controller.
    """

    def __init__(self, leader_url: Callable[[], str | None], context: Callable[[], ssl.SSLContext]) -> None:
        self._leader_url = leader_url
        self._context = context

    def is_needed(self, request: web.Request) -> bool:
        """Whether the stream is another controller's to carry."""
        return RELAYED not in request.headers and self._leader_url() is not None

    async def pass_on(self, request: web.Request) -> web.StreamResponse:
        """Answer with what the leader answers.

        Raises:
            StatusError: 503, there is no leader now or it cannot be reached.
        """
        url = self._leader_url()
        if not url:
            raise unavailable("no controller leads at the moment, so none holds the links to the hosts")
        target = URL(url + request.rel_url.raw_path_qs, encoded=True)
        if wants_spdy(request):
            return await pass_on_raw(request, target, {RELAYED: "1"}, self._context())
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S)
        connector = aiohttp.TCPConnector(ssl=self._context())
        async with aiohttp.ClientSession(
            connector=connector, timeout=timeout, headers={RELAYED: "1"}, auto_decompress=False
        ) as session:
            try:
                if wants_websocket(request):
                    return await carry_websocket(request, session, target)
                return await _plain(request, session, target)
            except aiohttp.ClientConnectorError as error:
                raise unavailable(f"the leader's API at {url} cannot be reached: {error}") from error


async def _plain(request: web.Request, session: aiohttp.ClientSession, target: URL) -> web.StreamResponse:
    body = request.content if request.can_read_body else None
    headers = end_to_end(request.headers, without=ONLY_FOR_US)
    asking = session.request(
        request.method, target, headers=headers, data=body, allow_redirects=False, skip_auto_headers=_AUTO
    )
    async with asking as answer:
        response = web.StreamResponse(status=answer.status, reason=answer.reason)
        for name, value in end_to_end(answer.headers).items():
            response.headers.add(name, value)
        await response.prepare(request)
        try:
            async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
                await response.write(chunk)
        except aiohttp.ClientPayloadError as error:
            log.warning("relay_broke", path=request.path, error=str(error))
            await response.write(b"\nthe controller that carried this stream went away\n")
        await response.write_eof()
        return response


async def carry_websocket(
    request: web.Request, session: aiohttp.ClientSession, target: URL
) -> web.StreamResponse:
    """Open a WebSocket to `target` and carry the messages of both; a refusal is the answer.

    Raises:
        ClientError: nobody answers there.
    """
    asked = asked_protocols(request)
    try:
        onward = await session.ws_connect(
            target,
            method=request.method,
            headers=end_to_end(request.headers, without=(*ONLY_FOR_US, "sec-websocket-")),
            protocols=asked,
            max_msg_size=MAX_MESSAGE_BYTES,
            autoclose=False,
        )
    except aiohttp.WSServerHandshakeError:
        # Refused before the upgrade: the refusal itself is what a plain request of the same path gets.
        return await _refusal(request, session, target)
    async with onward:
        chosen = (onward.protocol,) if onward.protocol else ()
        socket = web.WebSocketResponse(protocols=chosen, max_msg_size=MAX_MESSAGE_BYTES)
        await socket.prepare(request)
        ways = [
            asyncio.ensure_future(_pump(socket, onward)),
            asyncio.ensure_future(_pump(onward, socket)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.wait(ways)
        code = onward.close_code or socket.close_code or aiohttp.WSCloseCode.OK
        await onward.close()
        await socket.close(code=code if code != aiohttp.WSCloseCode.ABNORMAL_CLOSURE else 1011)
        return socket


async def _refusal(request: web.Request, session: aiohttp.ClientSession, target: URL) -> web.StreamResponse:
    headers = {name: request.headers[name] for name in ("Upgrade", "Connection") if name in request.headers}
    headers |= {name: value for name, value in request.headers.items() if name.startswith("Sec-WebSocket-")}
    if asked := asked_protocols(request):
        headers["Sec-WebSocket-Protocol"] = ", ".join(asked)  # without the token, which is for us only
    else:
        headers.pop("Sec-WebSocket-Protocol", None)
    async with session.request(request.method, target, headers=headers) as answer:
        if answer.status < 400:
            raise StatusError(503, "ServiceUnavailable", "the leader has changed its mind; try again")
        return web.Response(
            status=answer.status, body=await answer.read(), headers={"Content-Type": answer.content_type}
        )


_Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


async def _pump(source: _Socket, target: _Socket) -> None:
    """Carry messages until one of the two has closed."""
    try:
        async for message in source:
            if message.type is WSMsgType.BINARY:
                await target.send_bytes(message.data)
            elif message.type is WSMsgType.TEXT:
                await target.send_str(message.data)
    except (ConnectionError, RuntimeError) as error:
        # aiohttp says RuntimeError when the other socket was closed meanwhile.
        log.info("relay_ended", error=str(error))
