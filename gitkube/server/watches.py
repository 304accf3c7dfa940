"""Watches over HTTP: one JSON document a line, or a WebSocket's message, for as long as the client listens.

The headers leave as soon as the watch stands, and not before: what a client writes after it has seen them
reaches it as an event, never as part of the picture that the watch begins with. Each event's bytes are made
once by the cache and shared by all; tables and partial objects are made by the first who asks for them. That
the version is too old, and what goes wrong later, is told as a last event of type ERROR with a Status, as
Kubernetes does; who may not watch, or asks for nonsense, gets an HTTP status.

A client that does not read holds up nobody: what waits for it is bounded by the connection's buffer, and when
it has taken nothing for a while, its connection is cut.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace

import orjson
from aiohttp import web

from gitkube.api.errors import StatusError
from gitkube.api.requests import Context, VerbsApi, WatchItem
from gitkube.objects.kinds import Kind
from gitkube.objects.types import Object
from gitkube.server import queries
from gitkube.server.forms import Shaper, check_include
from gitkube.server.lifetime import Lifetime
from gitkube.server.negotiation import As, Form, wanted_form
from gitkube.server.one_way import Outlet, watch_outlet
from gitkube.server.paths import Target

MIN_TIMEOUT_S = 1800
"""A watch that asks for no timeout ends after one to two of these, so that clients spread over servers."""
MAX_FORMS = 8
"""Of one event that are kept for others, beside the whole object."""
STALLED_AFTER_S = 30.0
"""A client whose connection takes no bytes for so long is gone, or does not read: its watch is cut."""


class Watches:
    def __init__(self, verbs: VerbsApi, shaper: Shaper, lifetime: Lifetime, rng: random.Random) -> None:
        self._verbs = verbs
        self._shaper = shaper
        self._lifetime = lifetime
        self._rng = rng

    async def handle(self, request: web.Request, target: Target, context: Context) -> web.StreamResponse:
        """Serve a watch of a collection or of one object until client, timeout or server ends it.

        Raises:
            StatusError: it is refused before the headers have left.
        """
        form = wanted_form(request.headers.get("Accept", ""))
        asked_s = queries.whole_number(request.query, "timeoutSeconds") or 0
        timeout_s = float(asked_s) if asked_s > 0 else MIN_TIMEOUT_S * (1 + self._rng.random())
        options = replace(queries.watch_options(request.query, target.name), timeout_s=timeout_s)
        include = request.query.get("includeObject", "")
        if form.form is As.TABLE:
            check_include(include)
        writer = _EventWriter(target.kind, form, include, self._shaper)
        outlet = watch_outlet(request)
        with self._lifetime.long_request():
            patience = asyncio.timeout(timeout_s)
            try:
                async with patience:
                    items = await self._verbs.watch(context, target.kind, target.namespace, options)
            except StatusError as error:
                if not _is_told_as_event(error):
                    raise
                items = _refusing(error)
            except TimeoutError:
                if not patience.expired():
                    raise
                items = _silent()  # from a version that is still to come, for less time than it takes
            return await self._stream(request, outlet, items, writer, timeout_s)

    async def _stream(
        self,
        request: web.Request,
        outlet: Outlet,
        items: AsyncIterator[WatchItem],
        writer: _EventWriter,
        timeout_s: float,
    ) -> web.StreamResponse:
        try:
            await outlet.start()
            try:
                async with asyncio.timeout(timeout_s):
                    await outlet.carry(self._pump(outlet, items, writer))
            except TimeoutError:
                pass  # its time is over: a clean end, after which clients watch again
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if not self._lifetime.is_stopping or task is None:
                    raise
                task.uncancel()  # the server stops, and says so by a clean end as well
            async with asyncio.timeout(STALLED_AFTER_S):
                await outlet.end()
        except (_StalledError, TimeoutError):
            if request.transport is not None:
                request.transport.abort()
        except ConnectionError:
            pass  # the client went away, which is how most watches end
        finally:
            close = getattr(items, "aclose", None)
            if close is not None:
                await close()
        return outlet.response

    async def _pump(
        self,
        outlet: Outlet,
        items: AsyncIterator[WatchItem],
        writer: _EventWriter,
    ) -> None:
        try:
            async for item in items:
                await _write(outlet, writer.encode(item))
        except StatusError as error:
            await _write(outlet, _error_event(error))


class _StalledError(Exception):
    """The client takes nothing any more."""


async def _write(outlet: Outlet, data: bytes) -> None:
    try:
        async with asyncio.timeout(STALLED_AFTER_S) as patience:
            await outlet.write(data)
    except TimeoutError as error:
        if patience.expired():
            raise _StalledError from error
        raise  # the time of the whole watch is over


def _is_told_as_event(error: StatusError) -> bool:
    return error.code in (410, 504)


async def _refusing(error: StatusError) -> AsyncIterator[WatchItem]:
    """A watch that tells nothing but why it is none."""
    raise error
    yield


async def _silent() -> AsyncIterator[WatchItem]:
    """A watch whose time was over before there was anything to tell."""
    return
    yield


class _EventWriter:
    """Events in the form that this watcher asked for."""

    def __init__(self, kind: Kind, form: Form, include: str, shaper: Shaper) -> None:
        self._kind = kind
        self._form = form
        self._include = include
        self._shaper = shaper
        self._has_sent_columns = False

    def encode(self, item: WatchItem) -> bytes:
        if self._form.form is As.OBJECT:
            return item.encoded
        with_columns = self._form.form is As.TABLE and not self._has_sent_columns
        # A row tells an age, so it is shared by those who get it in the same second only.
        second = int(asyncio.get_running_loop().time()) if self._form.form is As.TABLE else 0
        key = (self._kind, self._form, self._include, with_columns, second)
        encoded = item.forms.get(key)
        if encoded is None:
            if len(item.forms) >= MAX_FORMS:
                item.forms.clear()
            obj = self._object(item, with_columns=with_columns)
            encoded = item.forms[key] = orjson.dumps({"type": item.type, "object": obj}) + b"\n"
        self._has_sent_columns = self._has_sent_columns or item.type != "BOOKMARK"
        return encoded

    def _object(self, item: WatchItem, *, with_columns: bool) -> Object:
        if self._form.form is not As.TABLE:
            return self._shaper.partial(item.object, self._form)
        return self._shaper.table_event(
            self._kind,
            item.object,
            self._form,
            self._include,
            is_bookmark=item.type == "BOOKMARK",
            with_columns=with_columns,
        )


def _error_event(error: StatusError) -> bytes:
    return orjson.dumps({"type": "ERROR", "object": error.to_status()}) + b"\n"
