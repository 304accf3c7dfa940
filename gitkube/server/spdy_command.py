"""exec and attach over SPDY/3.1, as older kubectl and many Go clients speak them: `v4.channel.k8s.io`.

The client opens a stream for each of `error`, `stdin`, `stdout`, `stderr` and `resize` that it wants, named
by the header `streamtype`, and waits for each to be accepted. When all are there, bytes flow as over the
channels of a WebSocket, and the last word is the final Status on the error stream.
Source: Kubernetes' remotecommand, version 4.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from gitkube.api.streams import StreamSession
from gitkube.server import channels, spdy
from gitkube.wire import WireError

PROTOCOL = "v4.channel.k8s.io"
STREAMS_WITHIN_S = 30.0
"""As long as Kubernetes waits for a client to open its streams."""
_CHUNK_BYTES = 32 * 1024
_NUMBERS = {
    "stdin": channels.STDIN,
    "stdout": channels.STDOUT,
    "stderr": channels.STDERR,
    "error": channels.ERROR,
    "resize": channels.RESIZE,
}
_INBOUND = (channels.STDIN, channels.RESIZE)

Send = Callable[[bytes], Awaitable[None]]
Read = Callable[[], Awaitable[bytes]]


def wanted_streams(*, stdin: bool, stdout: bool, stderr: bool, tty: bool) -> frozenset[str]:
    """The streams that a client opens for these options."""
    wanted = {"error": True, "stdin": stdin, "stdout": stdout, "stderr": stderr and not tty, "resize": tty}
    return frozenset(name for name, is_wanted in wanted.items() if is_wanted)


class SpdyCommand:
    """One command of one client."""

    def __init__(self, read: Read, send: Send, wanted: frozenset[str]) -> None:
        self._read = read
        self._send_raw = send
        self._wanted = wanted
        self._framing = spdy.Session()
        self._streams: dict[int, int] = {}
        """Channel -> stream."""
        self._channels: dict[int, int] = {}
        self._has_all = asyncio.Event()
        self._lock = asyncio.Lock()

    async def run(self, session: StreamSession) -> None:
        """Carry everything until the command ends or the client goes.

        Raises:
            ConnectionError: the client has gone.
            SpdyError: it broke the protocol, or did not open its streams in time.
        """
        inbound = asyncio.ensure_future(self._from_client(session))
        outbound = asyncio.ensure_future(self._to_client(session))
        try:
            await asyncio.wait([inbound, outbound], return_when=asyncio.FIRST_COMPLETED)
            if inbound.done():
                inbound.result()  # raises, unless the client has closed the connection
                return
            outbound.result()
        finally:
            inbound.cancel()
            outbound.cancel()
            await asyncio.wait([inbound, outbound])

    async def _from_client(self, session: StreamSession) -> None:
        while data := await self._read():
            for event in self._framing.feed(data):
                if isinstance(event, spdy.StreamOpened):
                    await self._open(event)
                elif isinstance(event, spdy.Data):
                    await self._take(session, event)
                elif isinstance(event, spdy.Pinged):
                    await self._send(spdy.ping_frame(event.payload))

    async def _open(self, event: spdy.StreamOpened) -> None:
        name = event.headers.get("streamtype", "")
        channel = _NUMBERS.get(name)
        if name not in self._wanted or channel is None or channel in self._streams:
            await self._send(spdy.reset_frame(event.stream, spdy.REFUSED_STREAM))
            return
        self._streams[channel] = event.stream
        self._channels[event.stream] = channel
        await self._send(self._framing.reply(event.stream))
        if len(self._streams) == len(self._wanted):
            self._has_all.set()

    async def _take(self, session: StreamSession, event: spdy.Data) -> None:
        channel = self._channels.get(event.stream)
        if channel not in _INBOUND:
            return  # the client closes its half of the streams that it reads
        try:
            if event.data:
                # Each size is a line of JSON; two may come in one frame.
                parts = event.data.splitlines() if channel == channels.RESIZE else [event.data]
                for part in parts:
                    await session.write(channel, part)
                await self._send(spdy.window_frame(event.stream, len(event.data)))
            if event.is_last and channel == channels.STDIN:
                await session.write(channel, b"")
        except WireError:
            return  # the command takes no more; what it still says is read to its end

    async def _to_client(self, session: StreamSession) -> None:
        try:
            async with asyncio.timeout(STREAMS_WITHIN_S):
                await self._has_all.wait()
        except TimeoutError as error:
            missing = sorted(self._wanted - {n for n, c in _NUMBERS.items() if c in self._streams})
            raise spdy.SpdyError(f"the client opened no stream for: {', '.join(missing)}") from error
        while (item := await session.read()) is not None:
            channel, data = item
            stream = self._streams.get(channel)
            if stream is None:
                continue
            for start in range(0, len(data), _CHUNK_BYTES):
                await self._send(spdy.data_frame(stream, data[start : start + _CHUNK_BYTES]))
        for channel in (channels.STDOUT, channels.STDERR):
            if channel in self._streams:
                await self._send(spdy.data_frame(self._streams[channel], b"", is_last=True))
        status = channels.final_status(session.result)
        await self._send(spdy.data_frame(self._streams[channels.ERROR], status, is_last=True))

    async def _send(self, frame: bytes) -> None:
        async with self._lock:
            await self._send_raw(frame)
