"""A push that arrived at another controller, handed to the leader: both ends of `POST /gitkube/push`.

A push is the hook's request as one line, then the pack. Its answer is lines of JSON as the hooks get them,
with an empty line whenever nothing was said for a while, so that a leader that is gone is noticed. Who may
ask is decided in `cluster.py`, before anything here runs.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing

import aiohttp
import orjson
from aiohttp import web

from gitkube.clock import Clock
from gitkube.gitops.forwarding import LeaderUnreachableError
from gitkube.gitops.hook_socket import (
    MAX_REQUEST_BYTES,
    Answer,
    HookError,
    PushRequest,
    answer_from_json,
    answer_to_json,
)
from gitkube.gitops.packs import MAX_PACK_BYTES

SILENCE_S = 5.0
"""The leader says something at least so often while it answers a push ..."""
GONE_S = 20.0
"""... and is taken for gone when it has not for so long."""
CONNECT_TIMEOUT_S = 5.0
PushAnswerer = Callable[[PushRequest, bytes], AsyncGenerator[Answer]]


async def answer_push(request: web.Request, answerer: PushAnswerer, clock: Clock) -> web.StreamResponse:
    """The leader's end.

    Raises:
        HTTPBadRequest, HTTPRequestEntityTooLarge: it is no push, or too large a one.
    """
    line, pack = await _read_push(request)
    try:
        asked = PushRequest.parse(line)
    except HookError as error:
        raise web.HTTPBadRequest(text=str(error)) from error
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)
    async with aclosing(answerer(asked, pack)) as answers:
        async for answer in _with_pulse(answers, clock):
            said = json.dumps(answer_to_json(answer), ensure_ascii=False) if answer else ""
            await response.write(said.encode("utf-8", "replace") + b"\n")
    await response.write_eof()
    return response


async def hand_on(
    url: str, context: ssl.SSLContext, request: PushRequest, pack: bytes
) -> AsyncGenerator[Answer]:
    """The other end: hand a push to the leader, and give what it answers.

    Raises:
        LeaderUnreachableError: it does not answer, or broke off.
    """
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=GONE_S)
    connector = aiohttp.TCPConnector(ssl=context)
    body = request.to_json() + b"\n" + pack
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            session.post(url, data=body) as answer,
        ):
            if answer.status != 200:
                raise LeaderUnreachableError(f"{url} answered {answer.status}: {await answer.text()}")
            async for line in answer.content:
                if line.strip():
                    yield answer_from_json(orjson.loads(line))
    except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
        raise LeaderUnreachableError(f"{url}: {error or 'it fell silent'}") from error


async def _read_push(request: web.Request) -> tuple[bytes, bytes]:
    """The hook's request and the pack."""
    limit, data = MAX_REQUEST_BYTES + MAX_PACK_BYTES, bytearray()
    async for chunk in request.content.iter_chunked(256 * 1024):
        data += chunk
        if len(data) > limit:
            raise web.HTTPRequestEntityTooLarge(limit, len(data))
    line, _, pack = bytes(data).partition(b"\n")
    return line, pack


async def _with_pulse(answers: AsyncGenerator[Answer], clock: Clock) -> AsyncIterator[Answer | None]:
    """The answers, and None whenever there was none for a while."""
    coming = asyncio.ensure_future(anext(answers, None))
    try:
        while True:
            alarm = asyncio.ensure_future(clock.sleep(SILENCE_S))
            try:
                await asyncio.wait([coming, alarm], return_when=asyncio.FIRST_COMPLETED)
            finally:
                alarm.cancel()
            if not coming.done():
                yield None
                continue
            answer = coming.result()
            if answer is None:
                return
            yield answer
            coming = asyncio.ensure_future(anext(answers, None))
    finally:
        coming.cancel()
        await asyncio.wait([coming])
