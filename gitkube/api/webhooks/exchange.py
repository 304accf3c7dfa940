"""One HTTP/1.1 POST over a connection that is open already, and its answer, bounded in every direction.

Only what a webhook's answer needs: a status, a length or chunks, and whether the connection may be used
again. Whatever else comes is an error. Source: RFC 9112, sections 4 to 7.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

MAX_HEAD_BYTES = 64 * 1024
MAX_ANSWER_BYTES = 10 * 1024 * 1024
"""An object has at most three megabytes; what a conversion answers are several."""
_MAX_LINE_BYTES = 256
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: [^\r\n]*)?")
_LENGTH = re.compile(r"[0-9]{1,15}")
_NO_BODY = (204, 304)


class ExchangeError(Exception):
    """What came is no answer, or too much of one; the message is for whoever runs the webhook."""


class ConnectionEnded(ExchangeError):
    """The other side closed the connection before it said anything."""

    def __init__(self) -> None:
        super().__init__("EOF")


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    is_reusable: bool
    """Another request may go over the same connection."""


async def post(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, target: str, body: bytes
) -> Answer:
    """Send a JSON document, and read the whole answer.

    Args:
        host: for the header, with its port where that is not the scheme's own.
        target: path and query, escaped.

    Raises:
        ExchangeError: the answer is none, or too large.
        OSError: the connection broke.
    """
    head = (
        f"POST {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: gitkube-apiserver\r\n"
        f"Accept: application/json\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode("ascii"))
    writer.write(body)
    await writer.drain()
    while True:
        minor, status, headers = await _head(reader)
        if status >= 200:
            break
    keeps = headers.get("connection", "keep-alive" if minor else "close").lower() != "close"
    if status in _NO_BODY:
        return Answer(status, b"", keeps)
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return Answer(status, await _chunks(reader), keeps)
    if "transfer-encoding" in headers:
        raise ExchangeError(f"unsupported transfer encoding: {headers['transfer-encoding']!r}")
    if (length := headers.get("content-length")) is not None:
        if not _LENGTH.fullmatch(length):
            raise ExchangeError("malformed HTTP response: bad Content-Length")
        if int(length) > MAX_ANSWER_BYTES:
            raise _too_large()
        try:
            return Answer(status, await reader.readexactly(int(length)), keeps)
        except asyncio.IncompleteReadError as error:
            raise ExchangeError("unexpected EOF") from error
    return Answer(status, await _to_the_end(reader), False)


async def _head(reader: asyncio.StreamReader) -> tuple[int, int, dict[str, str]]:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        raise ConnectionEnded if not error.partial else ExchangeError("unexpected EOF") from error
    except asyncio.LimitOverrunError as error:
        raise ExchangeError(f"the answer's head is larger than {MAX_HEAD_BYTES} bytes") from error
    first, *lines = head[:-4].split(b"\r\n")
    status_line = _STATUS_LINE.fullmatch(first)
    if status_line is None:
        raise ExchangeError(f"malformed HTTP response {first[:64]!r}")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name or name != name.strip():
            raise ExchangeError(f"malformed HTTP header {line[:64]!r}")
        key = name.decode("latin-1").lower()
        text = value.strip().decode("latin-1")
        if key in ("content-length", "transfer-encoding") and headers.get(key, text) != text:
            raise ExchangeError(f"malformed HTTP response: two values of {key}")
        headers[key] = text
    return int(status_line[1]), int(status_line[2]), headers


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    parts: list[bytes] = []
    size = 0
    try:
        while True:
            line = await reader.readline()
            digits = line.split(b";")[0].strip()
            if len(line) > _MAX_LINE_BYTES or not re.fullmatch(rb"[0-9a-fA-F]{1,8}", digits):
                raise ExchangeError("malformed chunked encoding")
            length = int(digits, 16)
            size += length
            if size > MAX_ANSWER_BYTES:
                raise _too_large()
            if not length:
                break
            parts.append(await reader.readexactly(length))
            if await reader.readexactly(2) != b"\r\n":
                raise ExchangeError("malformed chunked encoding")
        trailer_bytes = 0
        while (line := await reader.readline()) not in (b"\r\n", b""):
            trailer_bytes += len(line)
            if trailer_bytes > MAX_HEAD_BYTES:
                raise _too_large()
    except (asyncio.IncompleteReadError, ValueError) as error:
        raise ExchangeError("unexpected EOF") from error
    return b"".join(parts)


async def _to_the_end(reader: asyncio.StreamReader) -> bytes:
    parts: list[bytes] = []
    size = 0
    while part := await reader.read(64 * 1024):
        size += len(part)
        if size > MAX_ANSWER_BYTES:
            raise _too_large()
        parts.append(part)
    return b"".join(parts)


def _too_large() -> ExchangeError:
    return ExchangeError(f"the answer is larger than {MAX_ANSWER_BYTES} bytes")
