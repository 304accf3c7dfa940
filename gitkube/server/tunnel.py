"""An HTTP client whose connections are streams to a pod, instead of TCP to an address we may not reach.

aiohttp wants a socket. It gets one end of a socket pair; two tasks carry bytes between the other end and the
`StreamSession`, so whatever HTTP does (bodies of any length, TLS to the pod, an upgrade to WebSocket) needs
nothing of its own here. Invariant: tasks and sockets end with the connector, which serves one request.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

from gitkube.api.errors import StatusError
from gitkube.api.streams import StreamSession
from gitkube.wire import WireError

CHUNK_BYTES = 32 * 1024
_STDIN = 0

Dial = Callable[[], Awaitable[StreamSession]]


class StreamConnector(aiohttp.BaseConnector):
    """Connects by `dial`, whatever the URL says.

    TLS certificates are not checked: a pod's is signed by whomever its owner likes, and the way to it is
    sealed already (Kubernetes' proxy does the same).
    """

    def __init__(self, dial: Dial) -> None:
        super().__init__(force_close=True)
        self._dial = dial
        self._pumps: set[asyncio.Future[None]] = set()
        self.failure: StatusError | None = None
        """Why the host or the pod refused the stream."""

    async def _create_connection(
        self, req: aiohttp.ClientRequest, traces: list[Any], timeout: aiohttp.ClientTimeout
    ) -> ResponseHandler:
        session = await self._dial()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        pump = asyncio.ensure_future(self._carry(ours, session))
        self._pumps.add(pump)
        pump.add_done_callback(self._pumps.discard)
        context = _unchecked() if req.is_ssl() else None
        _, protocol = await asyncio.get_running_loop().create_connection(
            self._factory, sock=theirs, ssl=context, server_hostname=req.url.host if context else None
        )
        return protocol

    async def _carry(self, ours: socket.socket, session: StreamSession) -> None:
        reader, writer = await asyncio.open_connection(sock=ours)
        inbound = asyncio.ensure_future(_to_pod(reader, session))
        try:
            while (item := await session.read()) is not None:
                writer.write(item[1])
                await writer.drain()
            if error := (session.result or {}).get("error"):
                self.failure = StatusError(
                    503, "ServiceUnavailable", f"error trying to reach service: {error}"
                )
        except ConnectionError:
            pass  # the client has all it wants
        except StatusError as error:
            self.failure = error
        finally:
            inbound.cancel()
            await asyncio.wait([inbound])
            writer.close()
            await session.close({"exitCode": 0})

    async def end(self) -> None:
        """Close the streams; call it when the answer has been read."""
        pumps = list(self._pumps)
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


async def _to_pod(reader: asyncio.StreamReader, session: StreamSession) -> None:
    try:
        while chunk := await reader.read(CHUNK_BYTES):
            await session.write(_STDIN, chunk)
        await session.write(_STDIN, b"")
    except (WireError, ConnectionError, StatusError):
        return  # the pod takes no more; what it still says is read to its end


def _unchecked() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
