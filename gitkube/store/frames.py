"""Frames on a socket, `length:u32` and so many bytes: what members say to each other and to their clients.

A connection is read in one of two ways. `read` gives the frames one by one, and lets the sender wait while
nobody takes them. After `deliver` each goes to a callback in the very turn of the event loop in which it
arrives: a task that had to be woken for it would cost two turns more, and a lone writer's time is made of
such turns. What is written in one turn leaves by one system call.

Invariant: frames are given out in order, each once, and none after `ended` is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections import deque
from collections.abc import Callable
from typing import Any, Final, cast

from gitkube.store.protocol import UnavailableError

MAX_QUEUED_BYTES: Final = 1024 * 1024
"""Arrived and not read: beyond it the sender waits."""
FAREWELL_S: Final = 1.0
"""How long a connection that is ended waits for what was written to be taken."""

LENGTH = struct.Struct("!I")


class FrameError(UnavailableError):
    """The other end sent something that is no frame."""


def frame(packed: bytes) -> bytes:
    """A frame with this content."""
    return LENGTH.pack(len(packed)) + packed


class FrameConnection(asyncio.Protocol):
    """See the module's text.

    Args:
        max_frame_bytes: a longer one ends the connection.
        on_open: called when the connection stands, if it is one that others open.
    """

    def __init__(
        self, max_frame_bytes: int, on_open: Callable[[FrameConnection], None] | None = None
    ) -> None:
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = loop.create_future()
        """Done when the connection has ended, for whatever reason; `error` may tell it."""
        self.error: Exception | None = None
        self._loop = loop
        self._max_frame_bytes = max_frame_bytes
        self._on_open = on_open
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._needed_bytes = 0
        self._frames: deque[bytes] = deque()
        self._queued_bytes = 0
        self._is_paused = False
        self._on_frame: Callable[[bytes], None] | None = None
        self._reader: asyncio.Future[None] | None = None
        self._unsent: list[bytes] = []
        self._may_write = asyncio.Event()
        self._may_write.set()

    # ------------------------------------------------------------------ reading

    async def read(self) -> bytes | None:
        """The content of the next frame, or None when there will be no more.

        Raises:
            FrameError: the other end sent something else.
        """
        while not self._frames:
            if self.ended.done():
                if isinstance(self.error, FrameError):
                    raise self.error
                return None
            self._reader = self._loop.create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        content = self._frames.popleft()
        self._queued_bytes -= len(content)
        if self._is_paused and self._queued_bytes <= MAX_QUEUED_BYTES and self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()
        return content

    def deliver(self, on_frame: Callable[[bytes], None]) -> None:
        """Hand every frame over from now on, first those that wait. What the callback raises ends the
        connection, with that as its `error`.
        """
        self._on_frame = on_frame
        while self._frames and not self.ended.done():
            self._hand_over(self._frames.popleft())
        self._queued_bytes = 0
        if self._is_paused and self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()

    # ------------------------------------------------------------------ writing

    def write(self, frame: bytes) -> None:
        """Send soon; after the end of the connection it is dropped."""
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(frame)

    def write_now(self, frame: bytes) -> None:
        """Send at once: for one that has gathered all of its turn itself."""
        if self._unsent:
            self._unsent.append(frame)
            self._flush()
        elif not self.is_closing:
            assert self._transport is not None
            self._transport.write(frame)

    def _flush(self) -> None:
        frames, self._unsent = self._unsent, []
        if frames and not self.is_closing:
            assert self._transport is not None
            self._transport.write(frames[0] if len(frames) == 1 else b"".join(frames))

    async def drain(self) -> None:
        """Wait until the other end has taken most of what was written.

        Raises:
            ConnectionError: it has gone.
        """
        self._flush()
        await self._may_write.wait()
        if self.ended.done():
            raise ConnectionResetError("the connection was lost")

    @property
    def unsent_bytes(self) -> int:
        """Written and not taken by the other end's machine."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    # ------------------------------------------------------------------ the connection

    @property
    def is_closing(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def extra(self, name: str) -> Any:
        """As `asyncio.BaseTransport.get_extra_info`."""
        return None if self._transport is None else self._transport.get_extra_info(name)

    async def wait_ended(self) -> None:
        """Return when the connection has ended; whoever waits may be cancelled, and the connection stands."""
        await asyncio.shield(self.ended)

    def close(self, error: Exception | None = None) -> None:
        """End the connection once what was written is sent."""
        if self.error is None:
            self.error = error
        self._flush()
        if self._transport is not None:
            self._transport.close()

    async def finish(self) -> None:
        """End the connection, and return when it has ended. What the other end has not taken by
        `FAREWELL_S` is dropped: it may be stopped, and take it never.
        """
        self.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_S):
                await self.wait_ended()
                return
        if self._transport is not None:
            self._transport.abort()
            await self.wait_ended()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are of no class of asyncio's
        if self._on_open is not None:
            self._on_open(self)

    def data_received(self, data: bytes) -> None:
        if not self._buffer and len(data) >= LENGTH.size:
            (length,) = LENGTH.unpack_from(data)
            if len(data) == LENGTH.size + length <= self._max_frame_bytes and not self.is_closing:
                self._take(data[LENGTH.size :])  # one whole frame, as nearly always when it is quiet
                return
        self._take_pieces(data)

    def _take_pieces(self, data: bytes) -> None:
        if self._buffer:
            self._buffer += data
            if len(self._buffer) < self._needed_bytes:
                return
            view, self._buffer = memoryview(self._buffer), bytearray()
        else:
            view = memoryview(data)
        begin, size = 0, len(view)
        while begin < size and not self.is_closing:
            start = begin + LENGTH.size
            if start > size:
                self._keep(view[begin:], LENGTH.size)
                return
            (length,) = LENGTH.unpack_from(view, begin)
            if length > self._max_frame_bytes:
                self.close(FrameError(f"a frame of {length} bytes on the store's connection"))
                return
            end = start + length
            if end > size:
                self._keep(view[begin:], end - begin)
                return
            begin = end
            self._take(bytes(view[start:end]))

    def _keep(self, rest: memoryview, needed_bytes: int) -> None:
        """The beginning of a frame; it is not looked at again before so much is there."""
        self._buffer += rest
        self._needed_bytes = needed_bytes

    def _take(self, content: bytes) -> None:
        if self._on_frame is not None:
            self._hand_over(content)
            return
        self._frames.append(content)
        self._queued_bytes += len(content)
        if self._queued_bytes > MAX_QUEUED_BYTES and not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()
        self._wake_reader()

    def _hand_over(self, content: bytes) -> None:
        assert self._on_frame is not None
        try:
            self._on_frame(content)
        except Exception as error:
            self.close(error)

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def pause_writing(self) -> None:
        self._may_write.clear()

    def resume_writing(self) -> None:
        self._may_write.set()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.error is None:
            self.error = exc
        self._on_frame = None
        self._may_write.set()
        if not self.ended.done():
            self.ended.set_result(None)
        self._wake_reader()
