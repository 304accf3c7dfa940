"""Messages and streams over one byte stream, each stream with a window of its own.

Streams are opened by control, with one of these requests:

    {"kind": "logs", "pod": uid, "container", "follow", "tailLines", "sinceSeconds", "sinceTime",
     "timestamps", "previous", "limitBytes"}                     data on STDOUT
    {"kind": "exec", "pod": uid, "container", "command": [..], "tty": bool, "stdin": bool}
    {"kind": "attach", "pod": uid, "container", "tty": bool, "stdin": bool}
    {"kind": "port-forward", "pod": uid, "port": int}            data on STDIN (in) and STDOUT (out)

and one by the node, for a connection that a pod makes to the Service `kubernetes`:

    {"kind": "api"}                                              data on STDIN (in) and STDOUT (out)

An empty DATA payload on STDIN is its end. RESIZE carries {"Width": columns, "Height": rows}.
CLOSE carries {"exitCode": int} or {"error": sentence, "reason": word}, and ends both directions.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Awaitable
from typing import Any, Callable, Protocol

from gitkube.wire.frames import CLOSE, DATA, MESSAGE, OPEN, WINDOW, Decoder, Frame, WireError, encode

DATA_CHUNK_BYTES = 64 * 1024
"""Stream data is cut to this size, so that messages slip in between."""
STREAM_WINDOW_BYTES = 256 * 1024
"""What a sender may have under way on one stream before the receiver has taken it."""
MAX_STREAMS = 1024
"""Streams open at once on one connection."""
MAX_EMPTY_CHUNKS = 64
"""Data frames without data (each the end of a channel) that may wait on one stream: they cost no window."""

# Channels of a stream, as in Kubernetes' remote command protocol (v5.channel.k8s.io).
STDIN, STDOUT, STDERR, ERROR, RESIZE = 0, 1, 2, 3, 4


class ByteStream(Protocol):
    """The two-way pipe under a connection. `read` returns b"" at the end."""

    async def read(self) -> bytes: ...

    async def write(self, data: bytes) -> None: ...

    async def close(self) -> None: ...


class SocketStream:
    """A `ByteStream` over asyncio's reader and writer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def read(self) -> bytes:
        return await self._reader.read(256 * 1024)

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def close(self) -> None:
        self._writer.close()


class Stream:
    """One logs, exec or port-forward, many of which share a connection."""

    def __init__(self, connection: Connection, number: int, request: dict[str, Any]) -> None:
        self.request = request
        self.result: dict[str, Any] | None = None
        """What the side that closed it said; None while it is open."""
        self._connection = connection
        self._number = number
        self._inbox: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue()
        self._credit = STREAM_WINDOW_BYTES
        self._credit_changed = asyncio.Event()
        self._taken = 0
        self._window = STREAM_WINDOW_BYTES
        """What the peer may still send: its credit, as we count it."""
        self._empty_waiting = 0

    async def read(self) -> tuple[int, bytes] | None:
        """The next (channel, data), or None when the stream is closed and drained."""
        if self.result is not None and self._inbox.empty():
            return None
        item = await self._inbox.get()
        if item is not None:
            self._taken += len(item[1])
            self._empty_waiting -= not item[1]
            if self._taken >= STREAM_WINDOW_BYTES // 2 and self.result is None:
                taken, self._taken = self._taken, 0
                self._window += taken
                await self._connection._send(Frame(WINDOW, self._number, struct.pack("!I", taken)))
        return item

    async def write(self, channel: int, data: bytes) -> None:
        """Send data on a channel; waits while the other side is slow.

        Raises:
            WireError: the stream or the connection is closed.
        """
        if not data:
            await self._write_chunk(channel, b"")
        for start in range(0, len(data), DATA_CHUNK_BYTES):
            await self._write_chunk(channel, data[start : start + DATA_CHUNK_BYTES])

    async def _write_chunk(self, channel: int, chunk: bytes) -> None:
        while self._credit < len(chunk) and self.result is None:
            self._credit_changed.clear()
            await self._credit_changed.wait()
        if self.result is not None:
            raise WireError("the stream is closed")
        self._credit -= len(chunk)
        await self._connection._send(Frame(DATA, self._number, bytes([channel]) + chunk))

    async def close(self, result: dict[str, Any]) -> None:
        """End the stream in both directions; the other side reads `result`. Twice is once."""
        if self.result is None:
            self._finish(result)
            await self._connection._close_stream(self._number, result)

    def _receive(self, channel: int, data: bytes) -> None:
        """Keep what came until it is read; a peer that sends past its window would fill our memory.

        Raises:
            WireError: it did.
        """
        self._window -= len(data)
        self._empty_waiting += not data
        if self._window < 0 or self._empty_waiting > MAX_EMPTY_CHUNKS:
            raise WireError(f"stream {self._number} was sent more than its window")
        self._inbox.put_nowait((channel, data))

    def _finish(self, result: dict[str, Any]) -> None:
        self.result = result
        self._inbox.put_nowait(None)
        self._credit_changed.set()


class Connection:
    """Messages and streams over one `ByteStream`.

    `on_message` gets each message in order, one at a time. `on_open` gets each stream the peer opens,
    in a task of its own, which is cancelled when the connection ends.
    """

    def __init__(
        self,
        stream: ByteStream,
        *,
        is_opener: bool,
        on_message: Callable[[dict[str, Any]], Awaitable[None]],
        on_open: Callable[[Stream], Awaitable[None]] | None = None,
    ) -> None:
        self._stream = stream
        self._on_message = on_message
        self._on_open = on_open
        self._next_number = 1 if is_opener else 2
        self._is_opener = is_opener
        self._streams: dict[int, Stream] = {}
        self._handlers: set[asyncio.Task[None]] = set()
        self._write_lock = asyncio.Lock()
        self._ended = False

    async def run(self) -> None:
        """Serve the connection until the peer ends it.

        Raises:
            WireError: the peer broke the protocol.
            OSError: the pipe under it failed.
        """
        decoder = Decoder()
        try:
            while True:
                data = await self._stream.read()
                if not data:
                    return
                for frame in decoder.feed(data):
                    await self._take(frame)
        finally:
            self._ended = True
            for stream in list(self._streams.values()):
                if stream.result is None:
                    stream._finish({"error": "the link to the host ended", "reason": "LinkLost"})
            self._streams.clear()
            for task in list(self._handlers):
                task.cancel()
            await self._stream.close()

    async def send(self, message: Any) -> None:
        """Send one message (any of the TypedDicts of `messages`)."""
        body = json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode()
        await self._send(Frame(MESSAGE, 0, body))

    async def open(self, request: dict[str, Any]) -> Stream:
        """Open a stream.

        Raises:
            WireError: too many streams, or the connection has ended.
        """
        if len(self._streams) >= MAX_STREAMS:
            raise WireError(f"{MAX_STREAMS} streams are open already")
        number, self._next_number = self._next_number, self._next_number + 2
        stream = Stream(self, number, request)
        self._streams[number] = stream
        await self._send(Frame(OPEN, number, json.dumps(request).encode()))
        return stream

    async def _take(self, frame: Frame) -> None:
        if frame.type == MESSAGE:
            await self._on_message(_json(frame.payload))
            return
        if frame.type == OPEN:
            self._take_open(frame)
            return
        stream = self._streams.get(frame.stream)
        if stream is None:
            return  # closed by us while this was under way
        if frame.type == DATA:
            if not frame.payload:
                raise WireError("a data frame without a channel")
            stream._receive(frame.payload[0], frame.payload[1:])
        elif frame.type == WINDOW:
            if len(frame.payload) != 4:
                raise WireError("a window frame must have four bytes")
            stream._credit += struct.unpack("!I", frame.payload)[0]
            stream._credit_changed.set()
        else:
            del self._streams[frame.stream]
            stream._finish(_json(frame.payload))

    def _take_open(self, frame: Frame) -> None:
        by_opener = frame.stream % 2 == 1
        if self._on_open is None or by_opener == self._is_opener or frame.stream in self._streams:
            raise WireError(f"stream {frame.stream} cannot be opened by the peer")
        if len(self._streams) >= MAX_STREAMS:
            raise WireError(f"{MAX_STREAMS} streams are open already")
        stream = Stream(self, frame.stream, _json(frame.payload))
        self._streams[frame.stream] = stream
        task = asyncio.ensure_future(self._handle(self._on_open, stream))
        self._handlers.add(task)
        task.add_done_callback(self._handlers.discard)

    async def _handle(self, on_open: Callable[[Stream], Awaitable[None]], stream: Stream) -> None:
        try:
            await on_open(stream)
        except (WireError, OSError):
            return  # the peer went away: there is nobody left to tell
        finally:
            if stream.result is None and not self._ended:
                await stream.close({"error": "the host gave up on the request", "reason": "InternalError"})

    async def _close_stream(self, number: int, result: dict[str, Any]) -> None:
        if self._streams.pop(number, None) is not None and not self._ended:
            await self._send(Frame(CLOSE, number, json.dumps(result).encode()))

    async def _send(self, frame: Frame) -> None:
        if self._ended:
            raise WireError("the connection has ended")
        async with self._write_lock:
            await self._stream.write(encode(frame))


async def join(
    stream: Stream,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    *,
    outgoing: int,
    incoming: int,
) -> None:
    """Carry bytes between a socket and a stream until both directions have ended, or one has broken.

    Args:
        outgoing, incoming: channels of the stream; an empty payload on one is its end.
    """

    async def up() -> None:
        while True:
            data = await reader.read(DATA_CHUNK_BYTES)
            if stream.result is None:
                await stream.write(outgoing, data)
            if not data:
                return

    async def down() -> None:
        while True:
            item = await stream.read()
            if item is None:
                return
            channel, data = item
            if channel == incoming and data:
                writer.write(data)
                await writer.drain()
            elif channel == incoming:
                if writer.can_write_eof():
                    writer.write_eof()
                return

    ways = {asyncio.ensure_future(up()), asyncio.ensure_future(down())}
    try:
        done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        if stream.result is None and all(one.exception() is None for one in done):
            await asyncio.wait(ways)
    finally:
        for way in ways:
            way.cancel()
        # Whatever broke, the other side sees its connection end; there is nothing more to say to it.
        await asyncio.gather(*ways, return_exceptions=True)


def _json(payload: bytes) -> dict[str, Any]:
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise WireError(f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise WireError("a message must be a JSON object")
    return value
