"""What a watcher may conclude from the headers of a watch, over HTTP and with verbs that the test holds."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any, cast

import orjson
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from gitkube.api.authorization import User
from gitkube.api.errors import StatusError, gone
from gitkube.api.requests import Context, VerbsApi
from gitkube.objects.kinds import CONFIG_MAP
from gitkube.server.forms import Shaper
from gitkube.server.lifetime import Lifetime
from gitkube.server.paths import Target
from gitkube.server.watches import Watches

LONG_TO_OPEN_S = 0.1


class SlowVerbs:
    """Watches that stand only after a while, and have nothing to tell; or are refused then."""

    def __init__(self, said: list[str], refusal: StatusError | None = None) -> None:
        self._said = said
        self._refusal = refusal

    async def watch(self, *_: Any) -> AsyncIterator[Any]:
        self._said.append("asked")
        await asyncio.sleep(LONG_TO_OPEN_S)
        if self._refusal is not None:
            raise self._refusal
        self._said.append("stands")
        return self._nothing()

    async def _nothing(self) -> AsyncIterator[Any]:
        for item in ():
            yield item


async def answer(said: list[str], refusal: StatusError | None = None) -> tuple[int, bytes]:
    verbs = cast(VerbsApi, SlowVerbs(said, refusal))
    watches = Watches(verbs, cast(Shaper, None), Lifetime(), random.Random(1))

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await watches.handle(request, Target(CONFIG_MAP), Context(User("ada")))
        except StatusError as error:
            return web.Response(status=error.code)

    async def note(request: web.Request, response: web.StreamResponse) -> None:
        said.append("headers")

    app = web.Application()
    app.router.add_get("/", handle)
    app.on_response_prepare.append(note)
    async with TestClient(TestServer(app)) as client, client.get("/") as response:
        return response.status, await response.read()


async def test_the_headers_leave_when_the_watch_stands_however_long_that_takes() -> None:
    said: list[str] = []
    assert await answer(said) == (200, b"")
    assert said == ["asked", "stands", "headers"]


async def test_a_refusal_is_a_status_however_late_it_comes() -> None:
    said: list[str] = []
    code, _ = await answer(said, StatusError(403, "Forbidden", "no"))
    assert code == 403


async def test_that_a_version_is_too_old_is_told_as_an_event() -> None:
    said: list[str] = []
    code, body = await answer(said, gone("too old resource version"))
    event = orjson.loads(body)
    assert (code, event["type"], event["object"]["code"]) == (200, "ERROR", 410)
