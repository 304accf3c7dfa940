"""One link and an agent in memory: what goes out, what is heard, and how it comes back after a loss."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from random import Random
from typing import Any

import pytest

from gitkube import wire
from gitkube.fleet.errors import HostKeyChanged, HostUnreachable, LinkLost
from gitkube.fleet.hosts import Host
from gitkube.fleet.link import HostLink, LinkState, backoff_s
from gitkube.fleet.settings import FleetSettings
from tests.support.fake_agent import FakeAgent, FakeDialer
from tests.support.fake_clock import FakeClock, settle

SETTINGS = FleetSettings()


class Observer:
    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.states: list[LinkState] = []

    async def linked(self, link: HostLink, hello: wire.Hello) -> None:
        self.messages.append(dict(hello))

    async def heard(self, link: HostLink, message: dict[str, Any]) -> None:
        self.messages.append(message)

    def state_changed(self, link: HostLink) -> None:
        self.states.append(link.state)


class Stage:
    """A clock, an agent, a dialer and a link that runs."""

    def __init__(self, term: int = 3) -> None:
        self.clock, self.observer, self.agent = FakeClock(), Observer(), FakeAgent("ant")
        self.dialer = FakeDialer(self.agent)
        self.link = HostLink(
            Host("ant", "192.0.2.1"), dialer=self.dialer, observer=self.observer, term=term,
            clock=self.clock, rng=Random(1), settings=SETTINGS,
        )  # fmt: skip
        self.task = asyncio.ensure_future(self.link.run())

    def want(self, section: str, **data: Any) -> str:
        digest = wire.digest_of(data)
        self.link.set_desired(section, data, digest, 7)
        return digest

    async def pass_s(self, seconds: float) -> None:
        await self.clock.advance(seconds)


@pytest.fixture
async def make() -> AsyncIterator[Callable[..., Stage]]:
    stages: list[Stage] = []

    def make(**kwargs: Any) -> Stage:
        stages.append(Stage(**kwargs))
        return stages[-1]

    yield make
    for stage in stages:
        stage.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stage.task
        await settle()


async def test_a_section_goes_out_once_and_again_only_when_it_changed(make) -> None:
    stage = make()
    digest = stage.want("pods", pods=[])
    await settle()
    assert stage.link.state.is_up
    assert stage.agent.sections["pods"]["digest"] == digest
    assert stage.agent.sections["pods"]["term"] == 3
    assert stage.link.in_force("pods") == ""
    stage.want("pods", pods=[])
    await settle()
    assert [message["type"] for message in stage.agent.received] == ["welcome", "desired"]
    stage.want("pods", pods=[{}])
    await settle()
    assert len(stage.agent.received) == 3


async def test_after_a_reconnect_only_what_the_host_lacks_is_sent(make) -> None:
    stage = make()
    stage.want("pods", pods=[])
    stage.want("services", services=[])
    await settle()
    await stage.agent.pipe.close()
    await settle()
    assert stage.link.state.phase == "waiting"
    assert stage.link.state.next_try_s > stage.clock.now()
    stage.agent.received.clear()
    stage.want("services", services=[{}])
    await stage.pass_s(1.0)
    assert stage.agent.connections == 2
    assert [message.get("section") for message in stage.agent.received] == [None, "services"]
    assert stage.link.in_force("pods") == ""


@pytest.mark.parametrize("turns", range(12))
async def test_a_link_that_is_let_go_ends_even_if_it_is_just_failing(turns: int) -> None:
    stage = Stage()
    stage.want("pods", pods=[])
    await settle()
    await stage.agent.pipe.close()
    for _ in range(turns):
        await asyncio.sleep(0)
    stage.task.cancel()
    await settle()
    assert stage.task.cancelled()


async def test_a_silent_host_is_a_dead_link_after_three_intervals(make) -> None:
    stage = make()
    await settle()
    assert stage.link.state.is_up
    await stage.pass_s(3 * wire.PING_INTERVAL_S - 0.5)
    assert stage.link.state.is_up
    assert any(message["type"] == "ping" for message in stage.agent.received)
    await stage.pass_s(1.0)
    assert not stage.link.state.is_up or stage.agent.connections == 2
    assert any("nothing heard" in state.sentence for state in stage.observer.states)


async def test_a_host_that_speaks_now_and_then_stays_linked(make) -> None:
    stage = make()
    await settle()
    for _ in range(10):
        await stage.agent.say(wire.Ping(type="ping"))
        await stage.pass_s(wire.PING_INTERVAL_S)
    assert stage.agent.connections == 1 and stage.link.state.is_up


async def test_a_changed_host_key_is_never_tried_again_until_somebody_acts(make) -> None:
    stage = make()
    stage.dialer.errors["ant"] = HostKeyChanged("the host key has changed")
    await settle()
    assert stage.link.state.phase == "stopped" and stage.link.state.reason == "HostKeyChanged"
    await stage.pass_s(3600)
    assert len(stage.dialer.dialled) == 1
    stage.dialer.errors.clear()
    stage.link.wake()
    await settle()
    assert stage.link.state.is_up


async def test_a_dead_host_is_tried_with_growing_pauses_up_to_the_cap(make) -> None:
    stage = make()
    stage.dialer.errors["ant"] = HostUnreachable("ssh: no answer")
    pauses = []
    for _ in range(14):
        await settle()
        pauses.append(stage.link.state.next_try_s - stage.clock.now())
        await stage.pass_s(pauses[-1] + 0.001)
    assert pauses[0] < SETTINGS.backoff_first_s + 0.01
    assert max(pauses) <= SETTINGS.backoff_cap_s and pauses[-1] >= SETTINGS.backoff_cap_s / 2
    assert stage.link.state.sentence == "ssh: no answer"


def test_pauses_are_jittered() -> None:
    rng = Random(2)
    assert len({round(backoff_s(3, SETTINGS, rng), 6) for _ in range(20)}) == 20


async def test_a_section_that_the_host_could_not_apply_is_told_and_sent_again(make) -> None:
    stage = make()
    stage.agent.errors["network"] = "wg0: no such device"
    stage.want("network", node="ant")
    await settle()
    assert stage.link.in_force("network") == "wg0: no such device"
    stage.agent.errors.clear()
    for _ in range(4):
        await stage.agent.say(wire.Ping(type="ping"))
        await stage.pass_s(1.5)
    assert stage.link.in_force("network") == ""


async def test_a_host_that_follows_a_newer_leader_refuses_us_and_that_is_shown(make) -> None:
    stage = make(term=3)
    stage.agent.term = 9
    await settle()
    assert stage.link.state.reason == "OlderTerm"
    assert "term 9" in stage.link.state.sentence


async def test_an_agent_that_is_not_the_one_on_disk_is_restarted_once(make) -> None:
    stage = make()
    stage.agent.agent = "b" * 64
    await settle()
    await stage.pass_s(1.0)
    assert [restart for _, restart in stage.dialer.dialled] == [False, True]
    assert stage.link.state.is_up


async def test_a_stream_over_a_lost_link_ends_and_a_new_one_is_refused(make) -> None:
    stage = make()
    opened = asyncio.Event()

    async def on_stream(stream: wire.Stream) -> None:
        await stream.write(wire.STDOUT, b"hello")
        opened.set()
        await asyncio.Event().wait()

    stage.agent.on_stream = on_stream
    await settle()
    stream = await stage.link.open({"kind": "logs"})
    assert await stream.read() == (wire.STDOUT, b"hello")
    await stage.agent.pipe.close()
    assert await stream.read() is None
    assert stream.result["reason"] == "LinkLost"
    await settle()
    with pytest.raises(LinkLost, match="ant"):
        await stage.link.open({"kind": "logs"})


async def test_nonsense_from_a_host_ends_its_link_and_nothing_else(make) -> None:
    stage = make()
    await settle()
    await stage.agent.pipe.write(b"\xff" * 64)
    await settle()
    assert stage.link.state.phase == "waiting"
    await stage.pass_s(1.0)
    assert stage.link.state.is_up


async def test_an_agent_that_never_says_hello_is_given_up(make) -> None:
    stage = make()

    async def mute(pipe: Any) -> None:
        await asyncio.Event().wait()

    stage.agent.serve = mute
    await stage.pass_s(SETTINGS.hello_timeout_s + 0.3)
    assert "said nothing" in stage.link.state.sentence
