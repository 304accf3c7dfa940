"""Port-forward: many connections of a client to ports of one pod, multiplexed by SPDY in one WebSocket.

The client opens two streams for each connection, named by the headers `streamtype` (error, data), `port` and
`requestid`. Each data stream becomes a `StreamSession` to the pod; an error is told as text on the error
stream. Every connection is served by a task of one group. What the pod has not taken yet waits in a queue
with a limit; when one is full, nothing more is read from the client: one slow connection holds back its
neighbours, because the client's SPDY heeds no window.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from gitkube.api.errors import StatusError
from gitkube.api.streams import StreamSession
from gitkube.server import spdy
from gitkube.wire import WireError

PROTOCOL = "SPDY/3.1+portforward.k8s.io"
MAX_CONNECTIONS = 256
"""Open at once on one WebSocket."""
_QUEUE_CHUNKS = 256
_CHUNK_BYTES = 32 * 1024
_PORT_STDIN = 0

Dial = Callable[[int], Awaitable[StreamSession]]
Send = Callable[[bytes], Awaitable[None]]


class _Inbox:
    """What waits for the pod. `put` waits while it is full; its end always gets in."""

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        self._has_ended = False
        self._changed = asyncio.Condition()

    async def put(self, chunk: bytes) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._has_ended or len(self._chunks) < _QUEUE_CHUNKS)
            if not self._has_ended:
                self._chunks.append(chunk)
                self._changed.notify_all()

    async def end(self) -> None:
        """Nothing more is put; who waits to put goes on, and what it has is dropped."""
        async with self._changed:
            self._has_ended = True
            self._changed.notify_all()

    async def get(self) -> bytes | None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._chunks or self._has_ended)
            chunk = self._chunks.popleft() if self._chunks else None
            self._changed.notify_all()
            return chunk


@dataclass(slots=True)
class _Connection:
    """One forwarded connection."""

    error_stream: int
    data_stream: int = 0
    port: int = 0
    inbox: _Inbox = field(default_factory=lambda: _Inbox())


class PortForward:
    """`run` must run while `feed` is called."""

    def __init__(self, send: Send, dial: Dial) -> None:
        self._send_raw = send
        self._dial = dial
        self._session = spdy.Session()
        self._by_request: dict[str, _Connection] = {}
        self._by_stream: dict[int, _Connection] = {}
        self._opened: asyncio.Queue[_Connection] = asyncio.Queue()
        self._lock = asyncio.Lock()

    async def run(self) -> None:
        """Serve the connections that `feed` opens, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                connection = await self._opened.get()
                tasks.create_task(self._serve(connection))

    async def feed(self, data: bytes) -> None:
        """Take what the client sent.

        Raises:
            SpdyError: it is not SPDY.
        """
        for event in self._session.feed(data):
            if isinstance(event, spdy.StreamOpened):
                await self._open(event)
            elif isinstance(event, spdy.Data):
                await self._take(event)
            elif isinstance(event, spdy.Pinged):
                await self._send(spdy.ping_frame(event.payload))
            elif isinstance(event, spdy.StreamReset):
                await self._end_of_input(event.stream)

    async def _open(self, event: spdy.StreamOpened) -> None:
        request = event.headers.get("requestid", "")
        kind, port = event.headers.get("streamtype", ""), event.headers.get("port", "")
        if kind == "error" and len(self._by_request) < MAX_CONNECTIONS:
            self._by_request[request] = _Connection(event.stream)
        elif kind == "data" and request in self._by_request and port.isdigit() and 0 < int(port) < 65536:
            connection = self._by_request[request]
            connection.data_stream, connection.port = event.stream, int(port)
            self._by_stream[event.stream] = connection
            self._opened.put_nowait(connection)
        else:
            await self._send(spdy.reset_frame(event.stream, spdy.REFUSED_STREAM))
            return
        await self._send(self._session.reply(event.stream))

    async def _take(self, event: spdy.Data) -> None:
        connection = self._by_stream.get(event.stream)
        if connection is None:
            return  # the error stream's half-close, or a stream that has ended
        if event.data:
            await connection.inbox.put(event.data)
        if event.is_last:
            await self._end_of_input(event.stream)

    async def _end_of_input(self, stream: int) -> None:
        connection = self._by_stream.pop(stream, None)
        if connection is not None:
            await connection.inbox.end()

    async def _serve(self, connection: _Connection) -> None:
        try:
            session = await self._dial(connection.port)
        except StatusError as error:
            await self._finish(connection, error.message)
            return
        inbound = asyncio.ensure_future(self._to_pod(connection, session))
        error_text = ""
        try:
            while (item := await session.read()) is not None:
                data = item[1]
                for start in range(0, len(data), _CHUNK_BYTES):
                    chunk = data[start : start + _CHUNK_BYTES]
                    await self._send(spdy.data_frame(connection.data_stream, chunk))
            error_text = str((session.result or {}).get("error") or "")
        finally:
            inbound.cancel()
            await asyncio.wait([inbound])
            await connection.inbox.end()
            await session.close({"exitCode": 0})
        await self._finish(connection, error_text)

    async def _to_pod(self, connection: _Connection, session: StreamSession) -> None:
        try:
            while (chunk := await connection.inbox.get()) is not None:
                await session.write(_PORT_STDIN, chunk)
                await self._send(spdy.window_frame(connection.data_stream, len(chunk)))
            await session.write(_PORT_STDIN, b"")
        except WireError:
            await connection.inbox.end()  # the pod takes no more; what it still says is read to its end

    async def _finish(self, connection: _Connection, error: str) -> None:
        for stream in (connection.data_stream, connection.error_stream):
            text = error.encode() if stream == connection.error_stream else b""
            await self._send(spdy.data_frame(stream, text, is_last=True))
        self._by_stream.pop(connection.data_stream, None)
        for request, known in list(self._by_request.items()):
            if known is connection:
                del self._by_request[request]

    async def _send(self, frame: bytes) -> None:
        async with self._lock:
            await self._send_raw(frame)
