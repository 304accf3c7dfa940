"""A host in strange hands: what its agent may say, and that it can only ever speak of itself."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gitkube import wire
from gitkube.fleet import said
from gitkube.objects import meta
from gitkube.objects.kinds import EVENT, NODE, POD
from tests.support.fake_agent import FakeAgent, memory_pipe, public_key_of
from tests.unit.fleet.test_fleet import World, report, running

A_LITTLE_S = 0.3
"""Long enough for a report to be written, when nothing refuses it."""


async def heard_nothing(world: World, agent: FakeAgent) -> None:
    """Until what the agent has said was dealt with: its next good word is in force."""
    own = await world.pod("own", host=agent.name)
    await world.until(lambda: any(p["metadata"]["name"] == "own" for p in sent_pods(agent)))
    await report(agent, running(own))

    async def is_running() -> bool:
        return (await world.get(POD, "own"))["status"].get("phase") == "Running"

    await world.until(is_running)
    await asyncio.sleep(A_LITTLE_S)


def sent_pods(agent: FakeAgent) -> list[Any]:
    return agent.sections["pods"]["data"]["pods"] if "pods" in agent.sections else []


# ------------------------------------------------------------ pods, events and keys of others


async def test_a_host_cannot_report_a_pod_of_another_host(world: World) -> None:
    world.start()
    await world.give_cidrs()
    await world.ready("bee")
    pod = await world.pod("web-1", host="ant")
    await report(world.bee, running(pod, podIP="10.42.2.66"))
    await report(world.bee, {**running(pod), "gone": True})
    await heard_nothing(world, world.bee)
    after = await world.get(POD, "web-1")
    assert "podIP" not in after["status"] and after["status"].get("phase") != "Running"


async def test_a_host_cannot_push_the_report_of_another_aside(world: World) -> None:
    """Both speak of the same pod at the same time, again and again: the word of its own host counts."""
    world.start()
    await world.give_cidrs()
    await world.ready("ant")
    await world.ready("bee")
    pod = await world.pod("web-1", host="ant")
    await report(world.ant, running(pod))
    for number in range(20):
        await report(world.bee, running(pod, podIP=f"10.42.2.{number + 2}"))

    async def is_running() -> bool:
        return (await world.get(POD, "web-1"))["status"].get("podIP") == "10.42.1.5"

    await world.until(is_running)


async def test_a_pod_that_is_gone_is_deleted_by_its_own_host_and_its_own_uid_only(world: World) -> None:
    world.start()
    await world.give_cidrs()
    await world.ready("ant")
    pod = await world.pod("web-1", host="ant")
    await report(world.ant, {**running(pod), "uid": "another", "gone": True})
    await heard_nothing(world, world.ant)
    assert meta.uid(await world.get(POD, "web-1")) == meta.uid(pod)


async def test_a_host_makes_events_about_its_own_pods_and_nothing_else(world: World) -> None:
    world.start()
    await world.give_cidrs()
    await world.ready("bee")
    pod = await world.pod("web-1", host="ant")
    mine = await world.pod("web-2", host="bee")
    event = {"type": "event", "eventType": "Warning", "message": "m", "fieldPath": "", "time": 0.0}
    for about in (
        {"uid": meta.uid(pod), "namespace": "default", "name": "web-1", "reason": "OfAnotherHost"},
        {"uid": "made-up", "namespace": "kube-system", "name": "x", "reason": "OfNoPod"},
        {"uid": meta.uid(mine), "namespace": "kube-system", "name": "web-2", "reason": "OfAnotherNamespace"},
        {"uid": meta.uid(mine), "namespace": "default", "name": "web-1", "reason": "OfAnotherName"},
    ):
        await world.bee.say({**event, **about})
    last = {"uid": meta.uid(mine), "namespace": "default", "name": "web-2", "reason": "Mine"}
    await world.bee.say({**event, **last})

    async def reasons() -> set[str]:
        return {each["reason"] for each in (await world.client.list(EVENT)).items}

    async def mine_is_there() -> bool:
        return "Mine" in await reasons()

    await world.until(mine_is_there)
    assert not {reason for reason in await reasons() if reason.startswith("Of")}


async def test_the_name_in_a_hello_is_not_believed(world: World) -> None:
    original = world.bee.hello
    world.bee.hello = lambda: {**original(), "node": "ant"}  # type: ignore[method-assign, return-value]
    world.start()
    await world.give_cidrs()
    await world.ready("bee")
    keys = {
        name: meta.annotations(await world.node(name))["gitkube.dev/wireguard-public-key"]
        for name in ("ant", "bee")
    }
    assert keys == {"ant": public_key_of("ant"), "bee": public_key_of("bee")}


async def test_a_host_cannot_take_the_key_of_another_and_its_place_in_the_overlay(world: World) -> None:
    original = world.bee.hello
    world.start()
    await world.give_cidrs()
    await world.ready("ant")
    await world.ready("bee")
    stolen = {"publicKey": public_key_of("ant")}
    world.bee.hello = lambda: {**original(), **stolen}  # type: ignore[method-assign, return-value, typeddict-item]
    await world.bee.pipe.close()  # type: ignore[union-attr]
    await world.until(lambda: "has the WireGuard key of host ant" in world.fleet.states()["bee"].sentence)
    assert world.fleet.states()["ant"].is_up
    kept = meta.annotations(await world.node("bee"))["gitkube.dev/wireguard-public-key"]
    assert kept == public_key_of("bee")


# ------------------------------------------------------------ words that are none

HELLO = FakeAgent("ant").hello()
BAD_HELLOS = [
    {"term": None}, {"term": "9"}, {"term": True}, {"digests": []}, {"digests": {"pods": 1}},
    {"digests": {str(n): "" for n in range(100)}}, {"nodeInfo": "x"}, {"nodeInfo": {"a": {}}},
    {"capacity": {"cpu": 2}}, {"publicKey": "short"}, {"publicKey": "A" * 200_000}, {"publicKey": 3},
    {"publicKey": public_key_of("x") + "\nallowed_ip=0.0.0.0/0"}, {"agent": ["x"]}, {"node": "x" * 300},
]  # fmt: skip


@pytest.mark.parametrize("change", BAD_HELLOS, ids=[json.dumps(change)[:40] for change in BAD_HELLOS])
def test_a_hello_that_is_none_is_refused(change: dict[str, Any]) -> None:
    said.hello(HELLO)
    with pytest.raises(wire.WireError):
        said.hello({**HELLO, **change})


REPORT: dict[str, Any] = {"uid": "u", "namespace": "n", "name": "p", "gone": False, "status": {}}


@pytest.mark.parametrize(
    "message",
    [
        {"pods": "x"}, {"pods": [1]}, {"pods": [{}]}, {"pods": [{**REPORT, "uid": 1}]},
        {"pods": [{**REPORT, "name": ""}]}, {"pods": [{**REPORT, "status": []}]},
        {"pods": [{**REPORT, "gone": "yes"}]}, {"pods": [REPORT] * 5_000},
        {"pods": [{**REPORT, "status": {"conditions": ["x"]}}]},
    ],
)  # fmt: skip
def test_a_report_that_is_none_is_refused(message: dict[str, Any]) -> None:
    with pytest.raises(wire.WireError):
        said.pods(message)


def test_conditions_images_and_events_that_are_none_are_refused() -> None:
    checks: list[tuple[Callable[[Any], Any], dict[str, Any]]] = [
        (said.node, {"conditions": [{"type": ""}]}),
        (said.node, {"conditions": [1]}),
        (said.node, {"images": "x"}),
        (said.node, {"images": [{}] * 2_000}),
        (said.event, {"uid": 1}),
        (said.event, {"message": {}}),
        (said.event, {"reason": "x" * 300}),
    ]
    for check, message in checks:
        with pytest.raises(wire.WireError):
            check(message)
    assert len(said.event({"message": "x" * 10_000})["message"]) == said.MAX_MESSAGE_CHARS


async def test_a_host_that_talks_nonsense_is_dropped_and_the_others_go_on(world: World) -> None:
    world.start()
    await world.give_cidrs()
    await world.ready("ant")
    await world.ready("bee")
    for message in (
        {"type": "pods", "pods": 7},
        {"type": "node", "conditions": [3]},
        {"type": "event", "uid": {}},
    ):
        before = world.bee.connections
        await world.bee.say(message)
        await world.until(lambda before=before: world.bee.connections > before)
        await world.until(lambda: world.fleet.states()["bee"].is_up)
    assert world.ant.connections == 1
    assert meta.name(await world.client.get(NODE, "ant")) == "ant"


# ------------------------------------------------------------ frames


async def refused(act: Callable[[Any], Awaitable[None]], *, opens: bool = False) -> str:
    """What the control side's end says to raw bytes of a peer."""
    ours, theirs = memory_pipe()
    taken: list[Any] = []

    async def on_message(message: dict[str, Any]) -> None:
        taken.append(message)

    connection = wire.Connection(ours, is_opener=True, on_message=on_message)
    serving = asyncio.ensure_future(connection.run())
    if opens:
        await connection.open({"kind": "logs"})
    await act(theirs)
    async with asyncio.timeout(60):
        with pytest.raises(wire.WireError) as caught:
            await serving
    return str(caught.value)


def frame(kind: int, stream: int, payload: bytes) -> bytes:
    return struct.pack("!IBI", len(payload), kind, stream) + payload


async def test_an_oversized_frame_ends_the_connection_before_it_is_kept() -> None:
    async def act(pipe: Any) -> None:
        await pipe.write(struct.pack("!IBI", wire.MAX_FRAME_BYTES + 1, wire.MESSAGE, 0))

    assert "not a frame" in await refused(act)


@pytest.mark.parametrize("number", [0, 1, 2, 3, 2**32 - 1])
async def test_a_host_opens_no_stream_towards_the_control_side(number: int) -> None:
    async def act(pipe: Any) -> None:
        await pipe.write(frame(wire.OPEN, number, b"{}"))

    assert "cannot be opened by the peer" in await refused(act)


async def test_data_for_streams_that_nobody_opened_is_dropped() -> None:
    async def act(pipe: Any) -> None:
        for number in (0, 3, 4, 2**32 - 1):
            await pipe.write(frame(wire.DATA, number, b"\x01x") + frame(wire.CLOSE, number, b"{}"))
        await pipe.write(frame(wire.MESSAGE, 0, b"no json"))

    assert "not JSON" in await refused(act)


async def test_a_sender_past_its_window_does_not_fill_our_memory() -> None:
    async def act(pipe: Any) -> None:
        for _ in range(2 * wire.STREAM_WINDOW_BYTES // wire.DATA_CHUNK_BYTES):
            await pipe.write(frame(wire.DATA, 1, b"\x01" + b"x" * wire.DATA_CHUNK_BYTES))

    assert "more than its window" in await refused(act, opens=True)


async def test_endless_empty_data_is_past_the_window_too() -> None:
    async def act(pipe: Any) -> None:
        await pipe.write(frame(wire.DATA, 1, b"\x01") * 1_000)

    assert "more than its window" in await refused(act, opens=True)


async def test_a_reader_that_keeps_up_is_given_as_much_as_there_is() -> None:
    ours, theirs = memory_pipe()
    total = 0

    async def on_message(message: dict[str, Any]) -> None: ...

    async def on_open(stream: wire.Stream) -> None:
        await stream.write(wire.STDOUT, b"x" * wire.STREAM_WINDOW_BYTES * 5)
        await stream.close({"exitCode": 0})

    one = wire.Connection(ours, is_opener=True, on_message=on_message)
    other = wire.Connection(theirs, is_opener=False, on_message=on_message, on_open=on_open)
    serving = [asyncio.ensure_future(end.run()) for end in (one, other)]
    stream = await one.open({"kind": "logs"})
    async with asyncio.timeout(60):
        while (item := await stream.read()) is not None:
            total += len(item[1])
    assert total == wire.STREAM_WINDOW_BYTES * 5
    for task in serving:
        task.cancel()
    await asyncio.gather(*serving, return_exceptions=True)


@pytest.mark.parametrize("payload", [b"[" * 200_000, b'{"a":' * 200_000, b"[]", b"1", b"\xff", b""])
async def test_messages_nested_without_end_or_of_another_type_end_the_connection(payload: bytes) -> None:
    async def act(pipe: Any) -> None:
        await pipe.write(frame(wire.MESSAGE, 0, payload))

    await refused(act)
