"""HTTP/2 (RFC 9113) from the server's side, without IO: bytes in, events out; calls in, bytes out.

`receive` takes what came from the socket and gives events; `respond`, `send` and `end` queue what shall go
out, `taken` hands it over. What the client's flow control does not let through yet waits in its stream and
follows when a window opens. Windows of our own open as the application says that it has `consumed` data, so
a stream whose reader is slow stops its client, and nobody else's.

What a server needs not do is left out: it pushes nothing, ignores priorities, and never writes to the header
table. What hostile clients do is bounded: streams (until their work is done, not only until they are reset),
header blocks with their continuations, and data beyond a window.

Invariant: what was sent on a stream and on the connection never exceeds the windows that the client gave.
"""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass, field

from gitkube.store.door.http2.hpack import Field, HeaderDecoder, HeaderError

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MAX_FRAME_BYTES = 16_384
"""The default of SETTINGS_MAX_FRAME_SIZE, for what is received; and a good size for what is sent."""
MAX_HEADER_BLOCK_BYTES = 32 * 1024
STREAM_WINDOW_BYTES = 1024 * 1024
CONNECTION_WINDOW_BYTES = 16 * 1024 * 1024
MAX_STREAMS = 10_000
_DEFAULT_WINDOW_BYTES = 65_535
_MAX_WINDOW_BYTES = 2**31 - 1

# Frame types and flags, sections 6.1 to 6.10.
_DATA, _HEADERS, _PRIORITY, _RST_STREAM, _SETTINGS = 0, 1, 2, 3, 4
_PUSH_PROMISE, _PING, _GOAWAY, _WINDOW_UPDATE, _CONTINUATION = 5, 6, 7, 8, 9
_END_STREAM, _ACK, _END_HEADERS, _PADDED, _WITH_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20

# Settings, section 6.5.2.
_MAX_CONCURRENT_STREAMS, _INITIAL_WINDOW_SIZE = 0x3, 0x4

# Error codes, section 7.
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR = 0x0, 0x1, 0x2, 0x3
STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR = 0x5, 0x6, 0x7, 0x8, 0x9

_HEADER = struct.Struct(">HBBBI")  # length (16 + 8 bits), type, flags, stream


class ConnectionFailed(Exception):
    """The client broke the protocol: `taken` has a last word for it, then the connection must be closed."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True, slots=True)
class Request:
    stream: int
    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Data:
    stream: int
    data: bytes
    is_last: bool


@dataclass(frozen=True, slots=True)
class Reset:
    """The client wants no answer any more."""

    stream: int


@dataclass(frozen=True, slots=True)
class Writable:
    """All that waited in a stream has gone out."""

    stream: int


Event = Request | Data | Reset | Writable


@dataclass(slots=True)
class _Stream:
    send_window: int
    receive_window: int = STREAM_WINDOW_BYTES
    unacknowledged: int = 0
    is_half_closed: bool = False
    """The client has said its last word."""
    is_reset: bool = False
    is_finished: bool = False
    """Goes as soon as nothing waits in it."""
    waiting: deque[tuple[bytes, bool]] = field(default_factory=deque)
    """Frames' payloads that the windows do not let through: data, and whether it is a block of trailers."""


class Connection:
    """See the module's text."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._has_preface = False
        self._headers = HeaderDecoder()
        self._streams: dict[int, _Stream] = {}
        self._last_stream = 0
        self._send_window = _DEFAULT_WINDOW_BYTES
        self._initial_send_window = _DEFAULT_WINDOW_BYTES
        self._receive_window = CONNECTION_WINDOW_BYTES
        self._unacknowledged = 0
        self._block: tuple[int, int, bytearray] | None = None
        """Stream, flags and bytes of a header block whose continuation must come next."""
        self._blocked: dict[int, None] = {}
        """Streams with something waiting, in the order in which they began to wait."""
        self._is_closing = False
        self._out: list[bytes] = [
            _frame(
                _SETTINGS,
                0,
                0,
                struct.pack(
                    ">HIHI",
                    _MAX_CONCURRENT_STREAMS,
                    MAX_STREAMS,
                    _INITIAL_WINDOW_SIZE,
                    STREAM_WINDOW_BYTES,
                ),
            ),
            _frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", CONNECTION_WINDOW_BYTES - _DEFAULT_WINDOW_BYTES)),
        ]

    def taken(self) -> bytes:
        """What shall be written to the socket now."""
        out, self._out = self._out, []
        return b"".join(out)

    # ------------------------------------------------------------------ sending

    def is_open(self, stream: int) -> bool:
        """Whether an answer on this stream still interests somebody."""
        found = self._streams.get(stream)
        return found is not None and not found.is_reset

    def is_waiting(self, stream: int) -> bool:
        """Whether data of the stream waits for the client's flow control."""
        return stream in self._blocked

    def respond(self, stream: int, block: bytes, *, is_last: bool = False) -> None:
        """Send the headers of an answer; with `is_last` they are all of it, and `finish` is next."""
        if self.is_open(stream):
            self._out.append(_frame(_HEADERS, _END_HEADERS | (_END_STREAM if is_last else 0), stream, block))

    def send(self, stream: int, data: bytes) -> None:
        """Send some of the answer's body, now or when the client's windows allow it."""
        found = self._streams.get(stream)
        if found is None or found.is_reset:
            return
        size = len(data)
        window = min(MAX_FRAME_BYTES, self._send_window, found.send_window)
        if size <= window and stream not in self._blocked:
            self._send_window -= size
            found.send_window -= size
            self._out.append(_frame(_DATA, 0, stream, data))
            return
        found.waiting.append((data, False))
        self._flush(stream, found)

    def end(self, stream: int, block: bytes) -> None:
        """Send the trailers, after all that waits; `finish` is next."""
        found = self._streams.get(stream)
        if found is None or found.is_reset:
            return
        if stream in self._blocked:
            found.waiting.append((block, True))
        else:
            self._out.append(_frame(_HEADERS, _END_HEADERS | _END_STREAM, stream, block))

    def finish(self, stream: int) -> None:
        """No work is done for the stream any more: it counts no longer.

        What still waits in it is sent when it can be. If the client is still talking, it is told to stop
        (section 8.1: an answer may be complete before the request is).
        """
        found = self._streams.get(stream)
        if found is None:
            return
        found.is_finished = True
        if stream in self._blocked:
            return
        if not found.is_half_closed and not found.is_reset:
            self._out.append(_frame(_RST_STREAM, 0, stream, struct.pack(">I", NO_ERROR)))
        del self._streams[stream]

    def consumed(self, stream: int, size: int) -> None:
        """The application has taken data: the client may send as much again."""
        self._unacknowledged += size
        if self._unacknowledged >= CONNECTION_WINDOW_BYTES // 2:
            self._out.append(_frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", self._unacknowledged)))
            self._receive_window += self._unacknowledged
            self._unacknowledged = 0
        found = self._streams.get(stream)
        if found is None or found.is_half_closed or found.is_reset:
            return
        found.unacknowledged += size
        if found.unacknowledged >= STREAM_WINDOW_BYTES // 2:
            self._out.append(_frame(_WINDOW_UPDATE, 0, stream, struct.pack(">I", found.unacknowledged)))
            found.receive_window += found.unacknowledged
            found.unacknowledged = 0

    def go_away(self, code: int = NO_ERROR, reason: str = "") -> None:
        """Tell the client that no further streams are taken; those that are open go on."""
        self._is_closing = True
        payload = struct.pack(">II", self._last_stream, code) + reason.encode()
        self._out.append(_frame(_GOAWAY, 0, 0, payload))

    def _flush(self, stream: int, found: _Stream) -> bool:
        """Send what waits as far as the windows allow; whether all has gone."""
        while found.waiting:
            data, is_trailers = found.waiting[0]
            if is_trailers:
                self._out.append(_frame(_HEADERS, _END_HEADERS | _END_STREAM, stream, data))
                found.waiting.popleft()
                continue
            size = min(len(data), self._send_window, found.send_window, MAX_FRAME_BYTES)
            if size <= 0 and data:
                self._blocked.setdefault(stream)
                return False
            self._send_window -= size
            found.send_window -= size
            self._out.append(_frame(_DATA, 0, stream, data[:size]))
            if size == len(data):
                found.waiting.popleft()
            else:
                found.waiting[0] = (data[size:], False)
        self._blocked.pop(stream, None)
        if found.is_finished:
            self.finish(stream)
        return True

    # ------------------------------------------------------------------ receiving

    def receive(self, data: bytes) -> list[Event]:
        """What these bytes from the socket mean.

        Raises:
            ConnectionFailed: the client broke the protocol.
        """
        self._received += data
        events: list[Event] = []
        try:
            self._read_frames(events)
        except ConnectionFailed as error:
            self.go_away(error.code, str(error))
            raise
        return events

    def _read_frames(self, events: list[Event]) -> None:
        received, at = self._received, 0
        if not self._has_preface:
            if len(received) < len(PREFACE) and PREFACE.startswith(received):
                return
            if not received.startswith(PREFACE):
                raise ConnectionFailed(PROTOCOL_ERROR, "the client does not speak HTTP/2")
            self._has_preface, at = True, len(PREFACE)
        while len(received) - at >= 9:
            high, low, kind, flags, stream = _HEADER.unpack_from(received, at)
            length = high << 8 | low
            if length > MAX_FRAME_BYTES:
                raise ConnectionFailed(FRAME_SIZE_ERROR, f"a frame of {length} bytes")
            end = at + 9 + length
            if end > len(received):
                break
            payload = bytes(received[at + 9 : end])
            at = end
            self._frame_received(kind, flags, stream & 0x7FFFFFFF, payload, events)
        del received[:at]

    def _frame_received(
        self, kind: int, flags: int, stream: int, payload: bytes, events: list[Event]
    ) -> None:
        if self._block is not None and (kind != _CONTINUATION or stream != self._block[0]):
            raise ConnectionFailed(PROTOCOL_ERROR, "a header block is interrupted")
        if kind == _DATA:
            self._data_received(flags, stream, payload, events)
        elif kind == _HEADERS:
            self._headers_received(flags, stream, payload, events)
        elif kind == _WINDOW_UPDATE:
            self._window_received(stream, payload, events)
        elif kind == _RST_STREAM:
            found = self._streams.get(stream)
            if found is not None and not found.is_reset:
                self._reset(stream, found, events)
        elif kind == _SETTINGS:
            if not flags & _ACK:
                self._settings_received(payload, events)
        elif kind == _PING:
            if len(payload) != 8:
                raise ConnectionFailed(FRAME_SIZE_ERROR, "a PING that has not 8 bytes")
            if not flags & _ACK:
                self._out.append(_frame(_PING, _ACK, 0, payload))
        elif kind == _CONTINUATION:
            self._continuation_received(flags, payload, events)
        elif kind == _PUSH_PROMISE:
            raise ConnectionFailed(PROTOCOL_ERROR, "a client may not push")
        # GOAWAY: it will close when its streams are done. PRIORITY, unknown ones: ignored (section 5.5).

    def _data_received(self, flags: int, stream: int, payload: bytes, events: list[Event]) -> None:
        size = len(payload)  # with the padding: that is what flow control counts
        self._receive_window -= size
        if self._receive_window < 0:
            raise ConnectionFailed(FLOW_CONTROL_ERROR, "more data than the connection's window")
        found = self._streams.get(stream)
        if found is None or found.is_reset:
            if stream > self._last_stream or stream % 2 == 0:
                raise ConnectionFailed(PROTOCOL_ERROR, f"data on stream {stream}, which is idle")
            self.consumed(stream, size)
            return  # it was under way when the stream ended
        if found.is_half_closed:
            raise ConnectionFailed(STREAM_CLOSED, f"data on stream {stream}, which the client has ended")
        found.receive_window -= size
        if found.receive_window < 0:
            raise ConnectionFailed(FLOW_CONTROL_ERROR, f"more data than the window of stream {stream}")
        if flags & _PADDED:
            payload = _unpadded(payload)
            self.consumed(stream, size - len(payload))
        is_last = bool(flags & _END_STREAM)
        found.is_half_closed = is_last
        events.append(Data(stream, payload, is_last))

    def _headers_received(self, flags: int, stream: int, payload: bytes, events: list[Event]) -> None:
        if flags & _PADDED:
            payload = _unpadded(payload)
        if flags & _WITH_PRIORITY:
            payload = payload[5:]
        if flags & _END_HEADERS:
            self._block_received(stream, flags, payload, events)
        else:
            self._block = (stream, flags, bytearray(payload))

    def _continuation_received(self, flags: int, payload: bytes, events: list[Event]) -> None:
        if self._block is None:
            raise ConnectionFailed(PROTOCOL_ERROR, "a continuation of nothing")
        stream, first_flags, block = self._block
        block += payload
        if len(block) > MAX_HEADER_BLOCK_BYTES or (not payload and not flags & _END_HEADERS):
            raise ConnectionFailed(PROTOCOL_ERROR, "a header block that is too large or goes on with nothing")
        if flags & _END_HEADERS:
            self._block = None
            self._block_received(stream, first_flags, bytes(block), events)

    def _block_received(self, stream: int, flags: int, block: bytes, events: list[Event]) -> None:
        try:
            fields = self._headers.decode(block)
        except HeaderError as error:
            raise ConnectionFailed(COMPRESSION_ERROR, str(error)) from error
        found = self._streams.get(stream)
        is_last = bool(flags & _END_STREAM)
        if found is not None:
            # Trailers of a request. gRPC has none, so only their end matters.
            if found.is_half_closed or not is_last:
                raise ConnectionFailed(PROTOCOL_ERROR, f"headers in the middle of stream {stream}")
            found.is_half_closed = True
            if not found.is_reset:
                events.append(Data(stream, b"", is_last=True))
            return
        if stream % 2 == 0 or stream <= self._last_stream:
            raise ConnectionFailed(PROTOCOL_ERROR, f"stream {stream} was opened out of turn")
        self._last_stream = stream
        if self._is_closing or len(self._streams) >= MAX_STREAMS:
            self._out.append(_frame(_RST_STREAM, 0, stream, struct.pack(">I", REFUSED_STREAM)))
            return
        self._streams[stream] = _Stream(self._initial_send_window, is_half_closed=is_last)
        events.append(Request(stream, fields))
        if is_last:
            events.append(Data(stream, b"", is_last=True))

    def _reset(self, stream: int, found: _Stream, events: list[Event]) -> None:
        found.is_reset = True
        found.waiting.clear()
        self._blocked.pop(stream, None)
        events.append(Reset(stream))

    def _settings_received(self, payload: bytes, events: list[Event]) -> None:
        if len(payload) % 6:
            raise ConnectionFailed(FRAME_SIZE_ERROR, "SETTINGS of a length that is none")
        for name, value in struct.iter_unpack(">HI", payload):
            if name == _INITIAL_WINDOW_SIZE:
                if value > _MAX_WINDOW_BYTES:
                    raise ConnectionFailed(FLOW_CONTROL_ERROR, "an initial window that is too large")
                for found in self._streams.values():
                    found.send_window += value - self._initial_send_window
                self._initial_send_window = value
        # The largest frame the client takes is never below what we send (section 6.5.2).
        self._out.append(_frame(_SETTINGS, _ACK, 0, b""))
        self._flush_blocked(events)

    def _window_received(self, stream: int, payload: bytes, events: list[Event]) -> None:
        if len(payload) != 4:
            raise ConnectionFailed(FRAME_SIZE_ERROR, "a WINDOW_UPDATE that has not 4 bytes")
        increment = int.from_bytes(payload, "big") & 0x7FFFFFFF
        if stream == 0:
            self._send_window += increment
            if not increment or self._send_window > _MAX_WINDOW_BYTES:
                raise ConnectionFailed(FLOW_CONTROL_ERROR, "a window of the connection that cannot be")
            if self._blocked:
                self._flush_blocked(events)
            return
        found = self._streams.get(stream)
        if found is None:
            return
        found.send_window += increment
        if not increment or found.send_window > _MAX_WINDOW_BYTES:
            raise ConnectionFailed(FLOW_CONTROL_ERROR, f"a window of stream {stream} that cannot be")
        if stream in self._blocked and self._flush(stream, found):
            events.append(Writable(stream))

    def _flush_blocked(self, events: list[Event]) -> None:
        for stream in list(self._blocked):
            if self._send_window <= 0:
                return
            if self._flush(stream, self._streams[stream]):
                events.append(Writable(stream))


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    size = len(payload)
    return _HEADER.pack(size >> 8, size & 0xFF, kind, flags, stream) + payload


def _unpadded(payload: bytes) -> bytes:
    if not payload or payload[0] >= len(payload):
        raise ConnectionFailed(PROTOCOL_ERROR, "padding that is longer than its frame")
    return payload[1 : len(payload) - payload[0]]
