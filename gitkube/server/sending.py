"""Large answers leave in pieces, and whoever does not take them is cut.

An answer that is given to the connection in one piece waits there, in memory and encrypted, for as long as
its client likes. Here the next piece is given when the last one has gone, and each has a time to go in.
"""

from __future__ import annotations

import asyncio

from aiohttp import web

PIECE_BYTES = 256 * 1024
LARGE_BYTES = 1024 * 1024
"""Answers below this fit into what a connection may buffer anyway."""
PIECE_TIMEOUT_S = 30.0


def is_large(response: web.StreamResponse) -> bool:
    return isinstance(response, web.Response) and len(_body(response)) >= LARGE_BYTES


async def send_large(request: web.Request, response: web.Response) -> web.StreamResponse:
    """Send an answer piece by piece; what is returned has been sent.

    Raises:
        ConnectionError: the client has gone, or does not read.
    """
    body = memoryview(_body(response))
    stream = web.StreamResponse(status=response.status, headers=response.headers)
    stream.content_length = len(body)
    await stream.prepare(request)
    if request.method == "HEAD":
        return stream
    try:
        for start in range(0, len(body), PIECE_BYTES):
            async with asyncio.timeout(PIECE_TIMEOUT_S):
                await stream.write(body[start : start + PIECE_BYTES])
        async with asyncio.timeout(PIECE_TIMEOUT_S):
            await stream.write_eof()
    except TimeoutError as error:
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("the client does not take its answer") from error
    return stream


def _body(response: web.Response) -> bytes:
    return response.body if isinstance(response.body, bytes) else b""
