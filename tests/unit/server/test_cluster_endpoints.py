"""What controllers ask of one another over HTTPS: joining, comparing, passing on pushes and streams."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import aiohttp
import orjson
import pytest
from aiohttp import web

from gitkube.api.authorization import User
from gitkube.clock import SystemClock
from gitkube.gitops.forwarding import LeaderUnreachableError
from gitkube.gitops.hook_socket import Answer, Line, PushRequest, Storing, Verdict
from gitkube.server import pushes
from gitkube.server.app import HttpServer
from gitkube.server.cluster import (
    JOIN_PATH,
    PUSH_PATH,
    STORE_PATH,
    ClusterClient,
    ClusterEndpoints,
    ClusterError,
)
from gitkube.server.identity import user_of_certificate
from gitkube.server.joining import JoinError, JoinFile, invite
from gitkube.server.pki import Pki
from gitkube.server.relay import RELAYED, Relay
from gitkube.server.upgrade import negotiated, switch_protocols, wants_spdy
from gitkube.store.protocol import Put
from tests.support.memory_cluster import CLUSTER_ID, MemoryCluster

PUSH = PushRequest("pre-receive", (("0" * 40, "a" * 40, "refs/heads/main"),))


class Site:
    """A controller's HTTPS server with the routes for other controllers."""

    def __init__(self, directory: Path) -> None:
        self.clock = SystemClock()
        self.cluster = MemoryCluster("ctl-1")
        self.store = self.cluster.member("ctl-1")
        self.pki = Pki.open(directory / "pki", clock=self.clock)
        self.pki.member_files("ctl-1")
        self.client = ClusterClient(self.pki.controller_context)
        self.pushed: list[tuple[PushRequest, bytes]] = []
        self.leads = True
        self.say: list[Answer | float | Exception] = [Line("plan"), Storing(), Verdict(0)]
        self.url = ""

    def _answerer(self):  # type: ignore[no-untyped-def]
        async def answer(request: PushRequest, pack: bytes) -> AsyncGenerator[Answer]:
            self.pushed.append((request, pack))
            for one in self.say:
                if isinstance(one, float):
                    await asyncio.sleep(one)
                elif isinstance(one, Exception):
                    raise one
                else:
                    yield one

        return answer if self.leads else None

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        app = web.Application()
        ClusterEndpoints(
            self.store, authenticate=user_of_certificate, clock=self.clock, pushes=self._answerer
        ).add_to(app)
        server = HttpServer(app, host="127.0.0.1", port=0, pki=self.pki, clock=self.clock)
        await server.start()
        self.url = server.url
        try:
            yield
        finally:
            await server.stop()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    made = Site(tmp_path)
    async with made.serving():
        yield made


async def invited(site: Site, **changes: object) -> JoinFile:
    from dataclasses import replace

    before = await site.store.members()
    added = await site.store.member_add("ctl-2", "ctl-2:2380")
    join = await invite(
        site.store, added, before, cluster_id=CLUSTER_ID, pki=site.pki._directory, clock=site.clock
    )
    return replace(join, apis=[site.url], **changes)  # type: ignore[arg-type]


async def test_a_join_file_is_redeemed_once(site: Site) -> None:
    join = await invited(site)
    await site.client.redeem(join, "first")
    await site.client.redeem(join, "first")
    with pytest.raises(JoinError, match="was used already"):
        await site.client.redeem(join, "second")


async def test_a_request_to_join_may_arrive_in_pieces_but_not_without_an_end(site: Site) -> None:
    join = await invited(site)
    body = orjson.dumps({"member": f"{join.member_id:016x}", "token": join.token, "by": "first"})

    async def in_pieces(*pieces: bytes) -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece
            await asyncio.sleep(0.05)  # so that it leaves by itself

    connector = aiohttp.TCPConnector(ssl=site.pki.controller_context())
    async with aiohttp.ClientSession(connector=connector) as session:
        for pieces, code in (((body[:20], body[20:]), 200), ((b" " * 4000, b" " * 4000), 413)):
            async with session.post(site.url + JOIN_PATH, data=in_pieces(*pieces)) as answer:
                assert answer.status == code, await answer.text()


async def test_controllers_that_do_not_answer_are_passed_over(site: Site) -> None:
    from dataclasses import replace

    join = replace(await invited(site), apis=["https://127.0.0.1:1", site.url])
    await site.client.redeem(join, "by")
    with pytest.raises(JoinError, match=r"no controller .* could be asked.*127\.0\.0\.1:1 does not answer"):
        await site.client.redeem(replace(join, apis=["https://127.0.0.1:1"]), "by")


async def test_an_api_whose_words_cannot_be_read_is_no_reason_to_end(site: Site) -> None:
    """Another program may have taken the address that a controller had."""

    async def words(request: web.Request) -> web.Response:
        return web.Response(status=500, body=b"\xff\xfe\xff", content_type="text/plain", charset="utf-8")

    app = web.Application()
    app.router.add_get("/livez", words)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    assert not await site.client.is_alive(f"http://{host}:{port}", 30.0)
    await runner.cleanup()


async def test_members_are_compared_at_a_revision(site: Site) -> None:
    await site.store.txn([], [Put(b"a", b"1")])
    then = (await site.client.store([site.url]))["status"]["revision"]
    before = (await site.client.store([site.url], then))["hash"]
    await site.store.txn([], [Put(b"a", b"2")])
    assert (await site.client.store([site.url], then))["hash"] == before
    assert (await site.client.store([site.url]))["hash"]["hash"] != before["hash"]
    with pytest.raises(ClusterError, match="no address"):
        await site.client.store([])


async def test_who_is_no_controller_is_turned_away(site: Site) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False)) as nobody:
        for method, path in (("GET", STORE_PATH), ("POST", PUSH_PATH), ("POST", "/gitkube/join")):
            async with nobody.request(method, site.url + path) as answer:
                assert answer.status == 401
    from types import SimpleNamespace

    for user in (User("ada", ("developers",)), User("", ("system:masters",))):
        endpoints = ClusterEndpoints(site.store, authenticate=lambda _, user=user: user, clock=site.clock)
        with pytest.raises(web.HTTPForbidden):
            await endpoints._status(SimpleNamespace(query={}))  # type: ignore[arg-type]


async def test_a_push_is_passed_on_whole_and_its_answer_comes_back(site: Site) -> None:
    pack = bytes(range(256)) * 5000 + b"\n\n"
    answers = [answer async for answer in site.client.push(site.url, PUSH, pack)]
    assert answers == [Line("plan"), Storing(), Verdict(0)]
    assert site.pushed == [(PUSH, pack)]


async def test_a_silent_leader_is_kept_apart_from_one_that_is_gone(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pushes, "SILENCE_S", 0.05)
    monkeypatch.setattr(pushes, "GONE_S", 1.0)
    site.say = [Line("judging"), 1.5, Verdict(0)]
    answers = [answer async for answer in site.client.push(site.url, PUSH, b"x")]
    assert answers == [Line("judging"), Verdict(0)]
    monkeypatch.setattr(pushes, "SILENCE_S", 60.0)
    with pytest.raises(LeaderUnreachableError):
        [answer async for answer in site.client.push(site.url, PUSH, b"x")]


async def test_a_leader_that_breaks_off_or_leads_no_more_is_told(site: Site) -> None:
    site.say = [Line("plan"), RuntimeError("bug")]
    with pytest.raises(LeaderUnreachableError):
        [answer async for answer in site.client.push(site.url, PUSH, b"x")]
    site.leads = False
    with pytest.raises(LeaderUnreachableError, match="does not lead"):
        [answer async for answer in site.client.push(site.url, PUSH, b"x")]
    with pytest.raises(LeaderUnreachableError):
        [answer async for answer in site.client.push("https://127.0.0.1:1", PUSH, b"x")]


# ---------------------------------------------------------------------- streams


class Streams:
    """A leader that answers plain and WebSocket requests, and a follower that passes them on."""

    def __init__(self, directory: Path) -> None:
        self.pki = Pki.open(directory / "pki", clock=SystemClock())
        self.leader: str | None = None
        self.follower = ""
        self.seen: list[tuple[str, str]] = []

    async def _serve(self, handler) -> HttpServer:  # type: ignore[no-untyped-def]
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        server = HttpServer(app, host="127.0.0.1", port=0, pki=self.pki, clock=SystemClock())
        await server.start()
        return server

    async def _leads(self, request: web.Request) -> web.StreamResponse:
        user = user_of_certificate(request)
        self.seen.append((user.name if user else "", request.rel_url.raw_path_qs))
        if request.path == "/refused":
            return web.json_response({"kind": "Status", "code": 400}, status=400)
        if wants_spdy(request):
            upgraded = switch_protocols(request, negotiated(request, "v4.channel.k8s.io"))
            while data := await upgraded.connection.read():
                await upgraded.connection.write(data.upper())
            return upgraded
        if request.method == "POST":
            own = request.headers.get("X-Own", "")
            said = f"{own} {(await request.read()).decode()}"
            return web.Response(text=said, status=418, headers={"X-Answer": "kept"})
        if "Upgrade" not in request.headers:
            response = web.StreamResponse(headers={"Content-Type": "text/plain"})
            await response.prepare(request)
            for part in (b"one ", b"two ", b"three"):
                await response.write(part)
            return response
        socket = web.WebSocketResponse(protocols=["v5.channel.k8s.io"])
        await socket.prepare(request)
        async for message in socket:
            if message.data == b"end":
                await socket.close()
            else:
                await socket.send_bytes(b"echo " + message.data)
        return socket

    async def _follows(self, request: web.Request) -> web.StreamResponse:
        relay = Relay(lambda: self.leader, self.pki.controller_context)
        if not relay.is_needed(request):
            return web.Response(text="here")
        try:
            return await relay.pass_on(request)
        except Exception as error:
            return web.Response(text=str(error), status=503)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[aiohttp.ClientSession]:
        leader, follower = await self._serve(self._leads), await self._serve(self._follows)
        self.leader, self.follower = leader.url, follower.url
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False)) as client:
            yield client
        await follower.stop()
        await leader.stop()


@pytest.fixture
async def streams(tmp_path: Path) -> Streams:
    return Streams(tmp_path)


async def test_a_log_comes_through_with_the_query_as_it_was(streams: Streams) -> None:
    async with streams.serving() as client:
        async with client.get(streams.follower + "/logs?follow=true&container=a%20b") as answer:
            assert (await answer.read(), answer.content_type) == (b"one two three", "text/plain")
        assert streams.seen == [("system:gitkube:controller", "/logs?follow=true&container=a%20b")]


async def test_an_exec_is_carried_both_ways_in_the_leaders_protocol(streams: Streams) -> None:
    async with (
        streams.serving() as client,
        client.ws_connect(
            streams.follower + "/exec?command=x", protocols=["v5.channel.k8s.io", "v4.channel.k8s.io"]
        ) as socket,
    ):
        assert socket.protocol == "v5.channel.k8s.io"
        for part in (b"\x00in", b"\x04{}"):
            await socket.send_bytes(part)
            assert (await socket.receive_bytes()) == b"echo " + part
        await socket.send_bytes(b"end")
        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE


async def test_a_body_and_headers_are_carried_both_ways(streams: Streams) -> None:
    async with streams.serving() as client:
        headers = {"X-Own": "mine", "Authorization": "Bearer of-a-user"}
        async with client.post(streams.follower + "/proxy/", data=b"body", headers=headers) as answer:
            assert (answer.status, await answer.text()) == (418, "mine body")
            assert answer.headers["X-Answer"] == "kept"


async def upgraded(url: str, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, str]:
    """A connection that asked for SPDY, and the head of the answer."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    host, port = url.removeprefix("https://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
    head = [f"POST {path} HTTP/1.1", f"Host: {host}", "Connection: Upgrade", "Upgrade: SPDY/3.1"]
    head += ["X-Stream-Protocol-Version: v4.channel.k8s.io", "Content-Length: 0", "", ""]
    writer.write("\r\n".join(head).encode())
    return reader, writer, (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)).decode()


async def test_a_connection_that_becomes_spdy_is_carried_unread(streams: Streams) -> None:
    async with streams.serving():
        reader, writer, head = await upgraded(streams.follower, "/exec?command=a%2Fb")
        assert head.startswith("HTTP/1.1 101 ")
        assert "X-Stream-Protocol-Version: v4.channel.k8s.io" in head
        writer.write(b"through and back")
        assert await asyncio.wait_for(reader.readexactly(16), 30) == b"THROUGH AND BACK"
        writer.close()
        assert streams.seen == [("system:gitkube:controller", "/exec?command=a%2Fb")]


async def test_an_upgrade_that_the_leader_refuses_is_refused(streams: Streams) -> None:
    async with streams.serving():
        reader, writer, head = await upgraded(streams.follower, "/refused")
        assert head.startswith("HTTP/1.1 400 ")
        assert b'"kind": "Status"' in await asyncio.wait_for(reader.readuntil(b"}"), 30)
        writer.close()


async def test_what_the_leader_refuses_is_refused_in_its_words(streams: Streams) -> None:
    async with streams.serving() as client:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await client.ws_connect(streams.follower + "/refused")
        assert refused.value.status == 400
        async with client.get(streams.follower + "/refused") as answer:
            assert (await answer.json())["kind"] == "Status"


async def test_nothing_is_passed_on_twice_or_to_nobody(streams: Streams) -> None:
    async with streams.serving() as client:
        async with client.get(streams.follower + "/logs", headers={RELAYED: "1"}) as answer:
            assert await answer.text() == "here"
        streams.leader = ""
        async with client.get(streams.follower + "/logs") as answer:
            assert "no controller leads" in await answer.text()
        streams.leader = "https://127.0.0.1:1"
        async with client.get(streams.follower + "/logs") as answer:
            assert "cannot be reached" in await answer.text()
        streams.leader = None
        async with client.get(streams.follower + "/logs") as answer:
            assert await answer.text() == "here"
