"""Tokens of pods, and their way to the API: each host gets its own, in time, and nothing lies on its disk."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from gitkube import wire
from gitkube.api.errors import StatusError
from gitkube.clock import rfc3339
from gitkube.fleet import tokens
from gitkube.fleet.api_bridge import ApiBridge
from gitkube.fleet.tokens import CHECK_S, PodTokens
from gitkube.node.api_door import ApiDoor
from gitkube.objects.kinds import Kind
from gitkube.objects.types import Object
from tests.support.fake_agent import memory_pipe
from tests.support.fake_clock import FakeClock


class Issuer:
    """The API, as far as tokens go. Only what is asked for is there."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.asked: list[tuple[str, str, Object]] = []
        self.refuses = False

    async def create_subresource(
        self, kind: Kind, name: str, namespace: str, subresource: str, body: Object
    ) -> Object:
        await asyncio.sleep(0)
        if self.refuses:
            raise StatusError(404, "NotFound", f'serviceaccounts "{name}" not found')
        self.asked.append((namespace, name, body["spec"]))
        ends_s = self.clock.now() + body["spec"]["expirationSeconds"]
        status = {"token": f"token-{len(self.asked)}", "expirationTimestamp": rfc3339(ends_s)}
        return {"kind": "TokenRequest", "status": status}


def pod(name: str, *sources: dict[str, Any], phase: str = "Pending") -> Object:
    projected = [{"serviceAccountToken": {"path": "token", **source}} for source in sources]
    return {
        "metadata": {"name": name, "namespace": "shop", "uid": f"uid-{name}"},
        "spec": {
            "serviceAccountName": "bot",
            "volumes": [{"name": "v", "projected": {"sources": projected}}, {"name": "e", "emptyDir": {}}],
        },
        "status": {"phase": phase},
    }


class World:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.issuer = Issuer(self.clock)
        self.pods: dict[str, list[Object]] = {"ant": [], "bee": []}
        self.changed: list[str] = []
        self.tokens = PodTokens(
            self.issuer,  # type: ignore[arg-type]
            lambda host: self.pods[host],
            clock=self.clock,
            rng=Random(1),
            on_change=self.changed.append,
        )

    def section(self, host: str = "ant") -> dict[str, dict[str, str]]:
        return self.tokens.section(host)["tokens"]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    running = asyncio.create_task(made.tokens.run(lambda: made.pods))
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_host_gets_the_tokens_of_its_own_pods_bound_to_each(world: World) -> None:
    world.pods["ant"] = [pod("a", {"expirationSeconds": 3607}, {"audience": "vault"}), pod("done", {})]
    world.pods["ant"][1]["status"]["phase"] = "Succeeded"
    world.pods["bee"] = [pod("b", {})]
    await world.tokens.prepare(["ant"])
    assert world.section() == {"uid-a": {"3607:": "token-1", "3600:vault": "token-2"}}
    assert world.section("bee") == {}
    await world.tokens.prepare(["bee"])
    assert world.section("bee") == {"uid-b": {"3600:": "token-3"}}
    namespace, account, spec = world.issuer.asked[1]
    assert (namespace, account, spec["audiences"]) == ("shop", "bot", ["vault"])
    assert spec["boundObjectRef"] == {"kind": "Pod", "apiVersion": "v1", "name": "a", "uid": "uid-a"}
    assert "audiences" not in world.issuer.asked[0][2]


async def test_a_token_is_renewed_when_four_fifths_of_its_life_are_over(world: World) -> None:
    world.pods["ant"] = [pod("a", {"expirationSeconds": 100})]
    await world.tokens.prepare(["ant"])
    await world.clock.advance(80 - 2 * CHECK_S)
    assert world.section() == {"uid-a": {"100:": "token-1"}}
    world.changed.clear()
    await world.clock.advance(3 * CHECK_S)
    assert world.section() == {"uid-a": {"100:": "token-2"}} and world.changed == ["ant"]


async def test_one_that_holds_for_long_is_renewed_after_a_day(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "RENEW_AFTER_S", 40.0)  # a shorter day
    world.pods["ant"] = [pod("a", {"expirationSeconds": 30 * 86400})]
    await world.tokens.prepare(["ant"])
    await world.clock.advance(20.0)
    assert list(world.section()["uid-a"].values()) == ["token-1"]
    await world.clock.advance(40.0)
    assert list(world.section()["uid-a"].values()) == ["token-2"]


async def test_what_is_refused_is_asked_for_again_and_what_is_over_is_forgotten(world: World) -> None:
    world.issuer.refuses = True
    world.pods["ant"] = [pod("a", {})]
    await world.tokens.prepare(["ant"])
    assert world.section() == {}
    world.issuer.refuses = False
    await world.clock.advance(2 * CHECK_S)
    assert world.section() == {"uid-a": {"3600:": "token-1"}}
    world.pods["ant"] = []
    await world.clock.advance(2 * CHECK_S)
    world.pods["ant"] = [pod("a", {})]
    assert world.section() == {}


async def test_a_pod_waits_no_longer_than_a_moment_for_an_api_that_is_silent(world: World) -> None:
    world.pods["ant"] = [pod("a", {})]
    answers = asyncio.Event()
    real = world.issuer.create_subresource

    async def late(*arguments: Any) -> Object:
        await answers.wait()
        return await real(*arguments)

    world.issuer.create_subresource = late  # type: ignore[method-assign]
    preparing = asyncio.create_task(world.tokens.prepare(["ant"]))
    await world.clock.advance(1.0)
    assert preparing.done() and world.section() == {}
    answers.set()
    await world.clock.advance(0.1)
    assert world.section() and world.changed == ["ant"]


# ---------------------------------------------------------------------- the way to the API


@contextlib.asynccontextmanager
async def linked(api: Callable[[], tuple[str, int]]) -> AsyncIterator[tuple[wire.Connection, ApiBridge]]:
    """A host's end of a link whose other end has the bridge."""
    control, node = memory_pipe()
    bridge = ApiBridge("ant", api)

    async def ignore(message: dict[str, Any]) -> None:
        return None

    ends = [
        wire.Connection(control, is_opener=True, on_message=ignore, on_open=bridge.serve),
        wire.Connection(node, is_opener=False, on_message=ignore),
    ]
    tasks = [asyncio.create_task(end.run()) for end in ends]
    yield ends[1], bridge
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def door(link: wire.Connection | None, network: str = "127.0.0.0/8") -> AsyncIterator[ApiDoor]:
    made = ApiDoor(lambda: link, port=0)
    running = asyncio.create_task(made.run())
    made.move("127.0.0.1", network)
    async with asyncio.timeout(60):
        while not made.port:  # noqa: ASYNC110 - the port is a plain fact, nobody waits for it elsewhere
            await asyncio.sleep(0.01)
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An API that says back in capitals what it was told, until its client has ended."""
    while data := await reader.read(65536):
        writer.write(data.upper())
        await writer.drain()
    writer.write(b"BYE")
    writer.close()


async def test_what_a_pod_says_reaches_the_api_and_the_answer_the_pod(tmp_path: Path) -> None:
    server = await asyncio.start_server(shout, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()[:2]
    async with linked(lambda: address) as (link, _), door(link) as made, asyncio.timeout(20):

        async def ask(text: bytes) -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
            writer.write(text)
            writer.write_eof()
            answer = await reader.read()
            writer.close()
            return answer

        texts = [b"hello", b"x" * 700_000, b"", b"y"]  # more than a stream's window
        answers = await asyncio.gather(*(ask(text) for text in texts))
    server.close()
    assert answers == [text.upper() + b"BYE" for text in texts]


async def test_only_this_hosts_own_pods_are_let_through() -> None:
    server = await asyncio.start_server(shout, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()[:2]
    async with linked(lambda: address) as (link, _), door(link, "192.0.2.0/24") as made, asyncio.timeout(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
        assert await reader.read() == b""
        writer.close()
    server.close()


async def test_without_a_control_side_or_its_api_a_connection_ends_at_once() -> None:
    async with asyncio.timeout(20):
        async with door(None) as made:
            reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
            assert await reader.read() == b""
            writer.close()
        async with linked(lambda: ("127.0.0.1", 1)) as (link, _), door(link) as made:
            reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
            assert await reader.read() == b""
            writer.close()


async def test_a_host_can_open_nothing_but_the_api(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gitkube.fleet.api_bridge.MAX_STREAMS", 0)
    async with linked(lambda: ("127.0.0.1", 1)) as (link, _), asyncio.timeout(20):
        for request, reason in (({"kind": "exec"}, "BadRequest"), ({"kind": "api"}, "Busy")):
            stream = await link.open(request)
            assert await stream.read() is None
            assert stream.result is not None and stream.result["reason"] == reason


def test_tokens_are_named_alike_on_both_sides() -> None:
    assert wire.token_key({"path": "x"}) == "3600:"
    assert wire.token_key({"audience": "a", "expirationSeconds": 600}) == "600:a"
