"""Port-forward over the channels of a WebSocket, as the Python and JavaScript clients have it.

The ports stand in the query; the n-th has channel 2n for its bytes and 2n+1 for an error text. Each channel
begins, from the server, with its port as two bytes, little-endian. There is one connection for each port, and
no way to close one half of it: when the pod has closed all of them, the WebSocket is closed.
Source: Kubernetes' kubelet, the WebSocket half of its port-forward.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable, Mapping, Sequence

from aiohttp import WSMsgType, web

from gitkube.api.errors import StatusError, bad_request
from gitkube.api.streams import StreamSession
from gitkube.wire import WireError

PROTOCOL = "v4.channel.k8s.io"
MAX_PORTS = 32
_CHUNK_BYTES = 32 * 1024
_STDIN = 0

Dial = Callable[[int], Awaitable[StreamSession]]


def asked_ports(query: Mapping[str, str]) -> list[int]:
    """The ports of a request.

    Raises:
        StatusError: 400, it names none, too many, or what is no port.
    """
    get_all = getattr(query, "getall", None)
    lines = get_all("ports", []) if get_all else [query["ports"]] if "ports" in query else []
    words = [word for line in lines for word in line.split(",")]
    if not words:
        raise bad_request('query parameter "ports" is required')
    if len(words) > MAX_PORTS:
        raise bad_request(f"{len(words)} ports are more than {MAX_PORTS} on one connection")
    for word in words:
        if not (word.isascii() and word.isdigit()) or not 0 < int(word) < 65536:
            raise bad_request(f'port "{word}" must be > 0 and < 65536')
    return [int(word) for word in words]


async def forward_ports(socket: web.WebSocketResponse, ports: Sequence[int], dial: Dial) -> None:
    """Carry everything until the client goes or the pod has closed all connections.

    Raises:
        ConnectionError: the client has gone.
    """
    sessions: dict[int, StreamSession] = {}
    for index, port in enumerate(ports):
        for channel in (2 * index, 2 * index + 1):
            await socket.send_bytes(bytes([channel]) + struct.pack("<H", port))
        try:
            sessions[2 * index] = await dial(port)
        except StatusError as error:
            await socket.send_bytes(bytes([2 * index + 1]) + error.message.encode())
    inbound = asyncio.ensure_future(_from_client(socket, sessions))
    outbound = asyncio.ensure_future(_all_to_client(socket, sessions))
    try:
        await asyncio.wait([inbound, outbound], return_when=asyncio.FIRST_COMPLETED)
        if inbound.done():
            inbound.result()
        else:
            outbound.result()
            await socket.close()
    finally:
        inbound.cancel()
        outbound.cancel()
        await asyncio.wait([inbound, outbound])
        for session in sessions.values():
            await session.close({"exitCode": 0})


async def _from_client(socket: web.WebSocketResponse, sessions: Mapping[int, StreamSession]) -> None:
    async for message in socket:
        data = message.data.encode() if message.type is WSMsgType.TEXT else message.data
        if message.type not in (WSMsgType.BINARY, WSMsgType.TEXT) or len(data) < 2:
            continue
        session = sessions.get(data[0])
        if session is None:
            continue  # the error channel, or a port that could not be reached
        try:
            await session.write(_STDIN, data[1:])
        except WireError:
            continue  # the pod takes no more; what it still says is read to its end


async def _all_to_client(socket: web.WebSocketResponse, sessions: Mapping[int, StreamSession]) -> None:
    async with asyncio.TaskGroup() as tasks:
        for channel, session in sessions.items():
            tasks.create_task(_to_client(socket, channel, session))


async def _to_client(socket: web.WebSocketResponse, channel: int, session: StreamSession) -> None:
    while (item := await session.read()) is not None:
        for start in range(0, len(item[1]), _CHUNK_BYTES):
            await socket.send_bytes(bytes([channel]) + item[1][start : start + _CHUNK_BYTES])
    if error := (session.result or {}).get("error"):
        await socket.send_bytes(bytes([channel + 1]) + str(error).encode())
