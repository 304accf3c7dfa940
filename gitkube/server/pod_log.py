"""A pod's log on its way to the client: what is refused is refused before the answer begins.

A followed log of a silent container answers after a moment all the same, so that the client knows that it
stands. What breaks later is said as the last line: the answer has begun, and has no other place for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import structlog
from aiohttp import web

from gitkube.api.errors import StatusError
from gitkube.server.one_way import Outlet, log_outlet

log = structlog.get_logger()

HEADERS_AFTER_S = 0.5


async def send_log(request: web.Request, chunks: AsyncIterator[bytes], *, follow: bool) -> web.StreamResponse:
    """Send a log to its end, or until the client goes.

    Raises:
        StatusError: there is none to be had.
    """
    outlet = log_outlet(request)
    first = asyncio.ensure_future(_step(chunks))
    try:
        await asyncio.wait([first], timeout=HEADERS_AFTER_S if follow else None)
        if first.done() and (error := first.exception()) is not None:
            raise error
        await outlet.start()
        await outlet.carry(_speak(request, outlet, first, chunks))
        await outlet.end()
    except ConnectionError:
        pass  # the reader went away
    finally:
        first.cancel()
        await asyncio.wait([first])
        close = getattr(chunks, "aclose", None)
        if close is not None:
            await close()
    return outlet.response


async def _speak(
    request: web.Request, outlet: Outlet, first: asyncio.Future[bytes | None], chunks: AsyncIterator[bytes]
) -> None:
    try:
        chunk = await first
        while chunk is not None:
            await outlet.write(chunk)
            chunk = await anext(chunks, None)
    except StatusError as error:
        log.warning("log_stream_broke", path=request.path, error=error.message)
        await outlet.write(f"\n{error.message}\n".encode())


async def _step(chunks: AsyncIterator[bytes]) -> bytes | None:
    return await anext(chunks, None)
