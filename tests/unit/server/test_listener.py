"""Clients that connect and then misbehave: nobody else notices, and what they hold is bounded."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from gitkube.clock import SystemClock
from gitkube.server import bodies, sending
from gitkube.server.app import BUSY, HttpServer
from gitkube.server.listener import Busy, ConnectionLimits
from gitkube.server.pki import Pki

LIMITS = ConnectionLimits(connections=8, handshakes=4, handshake_timeout_s=30)
PATIENCE_S = 60.0
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Site:
    def __init__(self, server: HttpServer, context: ssl.SSLContext) -> None:
        self.port = server.port
        self.context = context
        self.open: list[asyncio.StreamWriter] = []
        self.hold = asyncio.Event()
        self.is_held = asyncio.Event()
        self.is_cut = asyncio.Event()

    async def connect(self, *, tls: bool = True) -> Stream:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1",
            self.port,
            ssl=self.context if tls else None,
            server_hostname="127.0.0.1" if tls else None,
        )
        self.open.append(writer)
        return reader, writer

    async def ask(self, path: str = "/", stream: Stream | None = None) -> bytes:
        reader, writer = stream or await self.connect()
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        async with asyncio.timeout(PATIENCE_S):
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r")[0])
            return await reader.readexactly(length)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    pki = Pki.open(tmp_path / "pki", clock=SystemClock())
    busy = Busy()
    app = web.Application(middlewares=[busy.middleware], client_max_size=bodies.MAX_BODY_BYTES)
    app[BUSY] = busy
    server = HttpServer(app, host="127.0.0.1", port=0, pki=pki, clock=SystemClock(), limits=LIMITS)
    site: Site

    async def hello(_: web.Request) -> web.Response:
        return web.Response(body=b"hello")

    async def hold(_: web.Request) -> web.Response:
        site.is_held.set()
        await site.hold.wait()
        return web.Response(body=b"held")

    async def body(request: web.Request) -> web.Response:
        return web.Response(body=b"%d" % len(await bodies.read_body(request)))

    async def huge(request: web.Request) -> web.StreamResponse:
        try:
            return await sending.send_large(request, web.Response(body=b"x" * 32 * 1024 * 1024))
        except BaseException:
            site.is_cut.set()
            raise

    app.router.add_get("/", hello)
    app.router.add_get("/hold", hold)
    app.router.add_get("/huge", huge)
    app.router.add_post("/", body)
    await server.start()
    site = Site(server, ssl.create_default_context(cadata=pki.ca_pem.decode()))
    try:
        yield site
    finally:
        site.hold.set()
        for writer in site.open:
            writer.transport.abort()
        await server.stop()


async def test_idle_connections_make_room_for_new_ones(site: Site) -> None:
    idle = [await site.connect() for _ in range(LIMITS.connections * 3)]
    for _ in range(3):
        assert await site.ask() == b"hello"
    async with asyncio.timeout(PATIENCE_S):
        assert await idle[0][0].read() == b""  # the oldest went first


async def test_a_connection_with_a_request_under_way_is_left_alone(site: Site) -> None:
    held = asyncio.create_task(site.ask("/hold"))
    await site.is_held.wait()
    for _ in range(LIMITS.connections * 2):
        await site.connect()
    assert await site.ask() == b"hello"
    site.hold.set()
    assert await held == b"held"


async def test_handshakes_that_are_never_finished_are_in_nobodys_way(site: Site) -> None:
    silent = [await site.connect(tls=False) for _ in range(LIMITS.handshakes * 4)]
    assert await site.ask() == b"hello"
    async with asyncio.timeout(PATIENCE_S):
        assert await silent[0][0].read() == b""


async def test_what_is_no_tls_is_hung_up_on(site: Site) -> None:
    reader, writer = await site.connect(tls=False)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(PATIENCE_S):
            await reader.read()
    assert await site.ask() == b"hello"


async def test_a_body_that_does_not_come_is_waited_for_only_so_long(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "BODY_TIMEOUT_S", 0.2)
    reader, writer = await site.connect()
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
    async with asyncio.timeout(PATIENCE_S):
        head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 500")  # a StatusError is made a Status by the door, not here
    assert await site.ask() == b"hello"


async def test_a_client_that_does_not_read_its_answer_is_cut(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "PIECE_TIMEOUT_S", 0.3)
    reader, writer = await site.connect()
    writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's transport can
    writer.write(b"GET /huge HTTP/1.1\r\nHost: x\r\n\r\n")
    async with asyncio.timeout(PATIENCE_S):
        await site.is_cut.wait()
    writer.transport.resume_reading()  # type: ignore[attr-defined]
    async with asyncio.timeout(PATIENCE_S):
        with contextlib.suppress(ConnectionError):
            assert len(await reader.read()) < 32 * 1024 * 1024
    assert await site.ask() == b"hello"


async def test_a_large_answer_comes_whole(site: Site) -> None:
    assert await site.ask("/huge") == b"x" * 32 * 1024 * 1024
