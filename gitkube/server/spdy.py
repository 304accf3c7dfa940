"""SPDY/3.1 framing, without IO: the part of it that Kubernetes' port-forward uses.

Kubernetes tunnels SPDY frames in a WebSocket (KEP-4006). Each forwarded connection is a pair of streams, one
for data and one for an error text, told apart by headers. The framing follows the public draft
(draft-mbelshe-httpbis-spdy-00 with 3.1's session window): a control frame begins with a set bit, version and
type; a data frame with a stream number; headers are name/value pairs compressed by zlib with a dictionary.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field

SYN_STREAM, SYN_REPLY, RST_STREAM, SETTINGS, PING, GOAWAY, HEADERS, WINDOW_UPDATE = 1, 2, 3, 4, 6, 7, 8, 9
FLAG_FIN = 0x01
_VERSION_3 = 0x8003
MAX_FRAME_BYTES = 1024 * 1024
MAX_HEADER_BYTES = 64 * 1024
"""Of one block after decompression: a small frame must not become a large one."""
PROTOCOL_ERROR, REFUSED_STREAM = 1, 3

# Section 2.6.10.1: first single words with their length, then texts without.
_WORDS = (
    *(
        b"options head post put delete trace accept accept-charset accept-encoding accept-language "
        b"accept-ranges age allow authorization cache-control connection content-base content-encoding "
        b"content-language content-length content-location content-md5 content-range content-type date etag "
        b"expect expires from host if-match if-modified-since if-none-match if-range if-unmodified-since "
        b"last-modified location max-forwards pragma proxy-authenticate proxy-authorization range referer "
        b"retry-after server te trailer transfer-encoding upgrade user-agent vary via warning "
        b"www-authenticate method get status"
    ).split(),
    *(b"200 OK", b"version", b"HTTP/1.1", b"url", b"public", b"set-cookie", b"keep-alive", b"origin"),
)
_TEXT = (
    b"100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    b"203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized"
    b"403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    b"Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    b"chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,"
    b"text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY = b"".join(struct.pack("!I", len(word)) + word for word in _WORDS) + _TEXT


class SpdyError(Exception):
    """The peer broke the framing; the session is of no more use."""


@dataclass(frozen=True, slots=True)
class StreamOpened:
    stream: int
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Data:
    stream: int
    data: bytes
    is_last: bool


@dataclass(frozen=True, slots=True)
class StreamReset:
    stream: int


@dataclass(frozen=True, slots=True)
class Pinged:
    payload: bytes


@dataclass(frozen=True, slots=True)
class WindowGrew:
    stream: int
    """0 is the session."""
    by: int


Event = StreamOpened | Data | StreamReset | Pinged | WindowGrew


@dataclass(slots=True)
class Session:
    """The server's end. `feed` takes bytes and gives events; the other methods give bytes to send."""

    _buffer: bytearray = field(default_factory=bytearray)
    _inflate: zlib._Decompress = field(default_factory=lambda: zlib.decompressobj(zdict=DICTIONARY))
    _deflate: zlib._Compress = field(
        default_factory=lambda: zlib.compressobj(
            zlib.Z_BEST_SPEED, zlib.DEFLATED, 15, 8, zlib.Z_DEFAULT_STRATEGY, DICTIONARY
        )
    )

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes.

        Raises:
            SpdyError: it is not SPDY/3.
        """
        self._buffer += data
        events: list[Event] = []
        while len(self._buffer) >= 8:
            first, second = struct.unpack_from("!II", self._buffer)
            flags, length = second >> 24, second & 0xFFFFFF
            if length > MAX_FRAME_BYTES:
                raise SpdyError(f"a frame of {length} bytes is over the limit of {MAX_FRAME_BYTES}")
            if len(self._buffer) < 8 + length:
                break
            payload = bytes(self._buffer[8 : 8 + length])
            del self._buffer[: 8 + length]
            if not first & 0x80000000:
                events.append(Data(first, payload, bool(flags & FLAG_FIN)))
            elif first >> 16 != _VERSION_3:
                raise SpdyError(f"not SPDY/3: a control frame begins with {first:08x}")
            elif (event := self._control(first & 0xFFFF, payload)) is not None:
                events.append(event)
        return events

    def _control(self, type: int, payload: bytes) -> Event | None:
        if type == SYN_STREAM:
            if len(payload) < 10:
                raise SpdyError("a SYN_STREAM is too short")
            return StreamOpened(_number(payload), self._headers(payload[10:]))
        if type == HEADERS:
            # Nothing in it matters, but the compression goes on from frame to frame.
            self._headers(payload[4:])
            return None
        if type == RST_STREAM:
            return StreamReset(_number(payload))
        if type == PING:
            return Pinged(payload)
        if type == WINDOW_UPDATE:
            if len(payload) != 8:
                raise SpdyError("a WINDOW_UPDATE has eight bytes")
            return WindowGrew(_number(payload), _number(payload[4:]))
        return None  # SETTINGS, GOAWAY, SYN_REPLY: nothing to do

    def _headers(self, block: bytes) -> dict[str, str]:
        try:
            plain = self._inflate.decompress(block, MAX_HEADER_BYTES)
        except zlib.error as error:
            raise SpdyError(f"headers cannot be decompressed: {error}") from error
        if self._inflate.unconsumed_tail:
            raise SpdyError(f"headers are over {MAX_HEADER_BYTES} bytes")
        try:
            (count,) = struct.unpack_from("!I", plain)
            at, found = 4, {}
            for _ in range(min(count, MAX_HEADER_BYTES)):
                name, at = _text(plain, at)
                value, at = _text(plain, at)
                found[name.lower()] = value
        except (struct.error, UnicodeDecodeError) as error:
            raise SpdyError("a block of headers cannot be read") from error
        return found

    def reply(self, stream: int) -> bytes:
        """SYN_REPLY without headers: the stream is accepted."""
        block = self._deflate.compress(struct.pack("!I", 0)) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        return _frame(SYN_REPLY, struct.pack("!I", stream) + block)


def data_frame(stream: int, data: bytes, *, is_last: bool = False) -> bytes:
    flags = FLAG_FIN if is_last else 0
    return struct.pack("!II", stream, flags << 24 | len(data)) + data


def reset_frame(stream: int, status: int) -> bytes:
    return _frame(RST_STREAM, struct.pack("!II", stream, status))


def ping_frame(payload: bytes) -> bytes:
    return _frame(PING, payload)


def window_frame(stream: int, by: int) -> bytes:
    return _frame(WINDOW_UPDATE, struct.pack("!II", stream, by))


def _frame(type: int, payload: bytes) -> bytes:
    return struct.pack("!HHI", _VERSION_3, type, len(payload)) + payload


def _number(payload: bytes) -> int:
    if len(payload) < 4:
        raise SpdyError("a control frame is too short")
    number: int = struct.unpack_from("!I", payload)[0] & 0x7FFFFFFF
    return number


def _text(plain: bytes, at: int) -> tuple[str, int]:
    (length,) = struct.unpack_from("!I", plain, at)
    at += 4
    if at + length > len(plain):
        raise SpdyError("a header is cut off")
    return plain[at : at + length].decode(), at + length
