"""A connection that goes over to SPDY, passed on to the controller that leads: bytes both ways, unread.

The request is made again there, by hand, because no HTTP client lends its connection out; only an answer of
101 begins the exchange, and any other is given to the client as it is.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping

import structlog
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from gitkube.api.errors import StatusError, unavailable
from gitkube.server.upgrade import RawConnection, Upgraded, switch_protocols

CONNECT_WITHIN_S = 5.0
ANSWER_WITHIN_S = 60.0
"""The leader may wait for its host."""
MAX_HEAD_BYTES = 64 * 1024
MAX_REFUSAL_BYTES = 1024 * 1024
CHUNK_BYTES = 64 * 1024

log = structlog.get_logger(__name__)


async def pass_on_raw(
    request: web.Request, target: URL, headers: Mapping[str, str], context: ssl.SSLContext
) -> web.StreamResponse:
    """Answer with what the other controller answers.

    Args:
        headers: beside those of the upgrade.

    Raises:
        StatusError: 503, it cannot be reached or says nothing that is HTTP.
    """
    try:
        async with asyncio.timeout(CONNECT_WITHIN_S):
            reader, writer = await asyncio.open_connection(
                target.host, target.port, ssl=context, limit=MAX_HEAD_BYTES
            )
    except (OSError, TimeoutError) as error:
        raise unavailable(f"the leader's API at {target.origin()} cannot be reached: {error}") from error
    try:
        writer.write(_head(request, target, headers))
        status, answered = await _read_head(reader)
        if status != 101:
            length = int(answered.get("Content-Length", "0"))
            body = await reader.readexactly(min(length, MAX_REFUSAL_BYTES))
            return web.Response(
                status=status, body=body, headers={"Content-Type": answered.get("Content-Type", "text/plain")}
            )
        kept = {name: value for name, value in answered.items() if name.lower() not in ("connection", "date")}
        upgraded = switch_protocols(request, kept)
        await _carry(upgraded, reader, writer)
        return upgraded
    except (
        OSError,
        ValueError,
        asyncio.IncompleteReadError,
        asyncio.LimitOverrunError,
        TimeoutError,
    ) as error:
        raise unavailable(f"the leader's API at {target.origin()} broke off: {error}") from error
    finally:
        writer.close()


def _head(request: web.Request, target: URL, headers: Mapping[str, str]) -> bytes:
    lines = [f"{request.method} {target.raw_path_qs} HTTP/1.1", f"Host: {target.host}:{target.port}"]
    lines += ["Connection: Upgrade", "Content-Length: 0"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    for name, value in request.headers.items():
        if name.lower() in ("upgrade", "x-stream-protocol-version"):
            lines.append(f"{name}: {value}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


async def _read_head(reader: asyncio.StreamReader) -> tuple[int, CIMultiDict[str]]:
    async with asyncio.timeout(ANSWER_WITHIN_S):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip("\r\n").split("\r\n")
    words = first.split(" ", 2)
    if len(words) < 2 or not words[1].isdigit():
        raise StatusError(503, "ServiceUnavailable", "the leader answered with something that is not HTTP")
    pairs = [line.partition(":") for line in lines]
    return int(words[1]), CIMultiDict((name.strip(), value.strip()) for name, _, value in pairs)


async def _carry(upgraded: Upgraded, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    connection = upgraded.connection
    ways = [
        asyncio.ensure_future(_onward(connection, writer)),
        asyncio.ensure_future(_back(reader, connection)),
    ]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        for ended in await asyncio.gather(*ways, return_exceptions=True):
            if isinstance(ended, Exception):
                log.info("relay_ended", error=str(ended))


async def _onward(connection: RawConnection, writer: asyncio.StreamWriter) -> None:
    while data := await connection.read():
        writer.write(data)
        await writer.drain()


async def _back(reader: asyncio.StreamReader, connection: RawConnection) -> None:
    while data := await reader.read(CHUNK_BYTES):
        await connection.write(data)
    await connection.wait_closed()
