"""The scheduler as a whole, on an API in memory."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from gitkube.api.errors import unavailable
from gitkube.objects.conditions import get_condition
from gitkube.objects.kinds import EVENT, NODE, POD, Kind
from gitkube.objects.types import Object
from gitkube.scheduler.framework import SUCCESS, Code, CycleState, Status
from gitkube.scheduler.plugins.default_binder import DefaultBinder
from gitkube.scheduler.pod_info import PodInfo
from gitkube.scheduler.profile import default_profile
from gitkube.scheduler.scheduler import Scheduler
from tests.support.cluster import node, pod
from tests.support.fake_client import FakeClient
from tests.support.fake_clock import FakeClock


@pytest.fixture
async def scheduler(client: FakeClient, clock: FakeClock) -> AsyncIterator[Scheduler]:
    scheduler = Scheduler(client, clock=clock, rng=random.Random(1))
    task = asyncio.create_task(scheduler.run())
    yield scheduler
    assert not task.done(), task.exception()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def host_of(client: FakeClient, name: str) -> str:
    return str((await client.get(POD, name, "default"))["spec"].get("nodeName", ""))


async def test_pods_are_bound_and_spread_over_the_hosts(
    client: FakeClient, clock: FakeClock, scheduler: Scheduler
) -> None:
    for name in ("ant", "bee", "cow"):
        await client.create(NODE, node(name))
    for number in range(6):
        await client.create(POD, pod(f"web-{number}", cpu="100m", owner="web"))
    await clock.advance(1)
    hosts = [await host_of(client, f"web-{number}") for number in range(6)]
    assert sorted(hosts) == ["ant", "ant", "bee", "bee", "cow", "cow"]
    events = (await client.list(EVENT)).items
    assert {event["reason"] for event in events} == {"Scheduled"}


async def test_a_pod_that_fits_nowhere_says_why_for_each_host_and_waits(
    client: FakeClient, clock: FakeClock, scheduler: Scheduler
) -> None:
    taint = {"key": "gpu", "value": "only", "effect": "NoSchedule"}
    await client.create(NODE, node("ant", taints=[taint]))
    await client.create(NODE, node("bee", cpu="8"))
    await client.create(POD, pod("hog", cpu="6800m"))
    await clock.advance(1)
    await client.create(POD, pod("large", cpu="4"))
    await clock.advance(1)
    large = await client.get(POD, "large", "default")
    condition = get_condition(large, "PodScheduled")
    assert condition is not None
    assert (condition["status"], condition["reason"]) == ("False", "Unschedulable")
    assert condition["message"] == (
        "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint {gpu: only}. "
        "ant: has taint gpu=only:NoSchedule, not tolerated; bee: needs 4 cores, 1.2 of 8 free"
    )
    (event,) = [one for one in (await client.list(EVENT)).items if one["reason"] == "FailedScheduling"]
    assert event["message"] == condition["message"] and event["type"] == "Warning"


async def test_a_waiting_pod_is_placed_when_a_host_joins_or_a_pod_goes(
    client: FakeClient, clock: FakeClock, scheduler: Scheduler
) -> None:
    await client.create(POD, pod("early", cpu="1"))
    await clock.advance(2)
    assert await host_of(client, "early") == ""
    await client.create(NODE, node("ant", cpu="1"))
    await clock.advance(2)
    assert await host_of(client, "early") == "ant"
    await client.create(POD, pod("next", cpu="1"))
    await clock.advance(5)
    assert await host_of(client, "next") == ""
    await client.delete(POD, "early", "default", grace_period_s=0)
    await clock.advance(2)
    assert await host_of(client, "next") == "ant"


@pytest.mark.parametrize("turns", range(10))
async def test_a_pod_is_placed_whenever_the_change_comes_that_helps_it(
    client: FakeClient, clock: FakeClock, scheduler: Scheduler, turns: int
) -> None:
    """Before the pod is decided on, after it, and between the decision and the end of its cycle."""
    taint = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
    await client.create(NODE, node("ant", taints=[taint]))
    await clock.advance(1)
    await client.create(POD, pod("web"))
    for _ in range(turns):
        await asyncio.sleep(0)
    await client.patch(NODE, "ant", "", {"spec": {"taints": None}})
    await clock.advance(5)
    assert await host_of(client, "web") == "ant"


async def test_a_waiting_pod_is_not_tried_again_while_nothing_that_helps_happens(
    client: FakeClient, clock: FakeClock, scheduler: Scheduler
) -> None:
    await client.create(NODE, node("ant", cpu="1"))
    await client.create(POD, pod("large", cpu="2"))
    await clock.advance(2)
    before = len(client.writes)
    await client.create(POD, pod("small", cpu="100m"))
    await clock.advance(60)
    writes = [write for write in client.writes[before:] if write[3].startswith("large")]
    assert writes == [], "the arrival of another pod cannot make room"


async def test_a_failed_binding_gives_the_place_back_and_is_tried_again(
    client: FakeClient, clock: FakeClock, scheduler: Scheduler
) -> None:
    failures = 2

    def fail(verb: str, kind: Kind, obj: Object) -> None:
        nonlocal failures
        if verb == "create binding" and failures:
            failures -= 1
            raise unavailable("no quorum")

    client.reactions.append(fail)
    await client.create(NODE, node("ant", cpu="1"))
    await client.create(POD, pod("web", cpu="1"))
    await clock.advance(0.5)
    assert await host_of(client, "web") == ""
    assert scheduler.snapshot.requested("cpu").sum() == 0
    await clock.advance(10)
    assert await host_of(client, "web") == "ant"


async def test_higher_priority_goes_first(client: FakeClient, clock: FakeClock, scheduler: Scheduler) -> None:
    await client.create(POD, pod("low", cpu="1"))
    await client.create(POD, pod("high", cpu="1", priority=1000))
    await clock.advance(1)
    await client.create(NODE, node("ant", cpu="1"))
    await clock.advance(15)
    assert (await host_of(client, "low"), await host_of(client, "high")) == ("", "ant")


async def test_pods_of_another_scheduler_gated_and_deleted_ones_are_left_alone(
    client: FakeClient, clock: FakeClock, scheduler: Scheduler
) -> None:
    await client.create(NODE, node("ant"))
    await client.create(POD, pod("foreign", schedulerName="mine"))
    await client.create(POD, pod("gated", schedulingGates=[{"name": "wait"}]))
    await clock.advance(5)
    assert [await host_of(client, name) for name in ("foreign", "gated")] == ["", ""]


async def test_a_restarted_scheduler_knows_what_is_taken(client: FakeClient, clock: FakeClock) -> None:
    await client.create(NODE, node("ant", cpu="1"))
    await client.create(POD, pod("old", cpu="700m"))
    for _ in range(2):
        scheduler = Scheduler(client, clock=clock, rng=random.Random(1))
        task = asyncio.create_task(scheduler.run())
        await clock.advance(1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if not [write for write in client.writes if write[3] == "new"]:
            await client.create(POD, pod("new", cpu="700m"))
    assert (await host_of(client, "old"), await host_of(client, "new")) == ("ant", "")


class Gate:
    """A plugin with Reserve, Permit and PostBind, which writes down what it is asked."""

    name = "Gate"

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.refusals = 1

    def reserve(self, state: CycleState, pod: PodInfo, node_name: str) -> Status:
        self.calls.append("reserve")
        return SUCCESS

    def unreserve(self, state: CycleState, pod: PodInfo, node_name: str) -> None:
        self.calls.append("unreserve")

    async def permit(self, state: CycleState, pod: PodInfo, node_name: str) -> Status:
        self.calls.append("permit")
        if self.refusals:
            self.refusals -= 1
            return Status(Code.UNSCHEDULABLE, ("not yet",), plugin=self.name)
        return SUCCESS

    async def post_bind(self, state: CycleState, pod: PodInfo, node_name: str) -> None:
        self.calls.append("post_bind")


async def test_plugins_of_the_binding_cycle_may_refuse_and_everything_is_undone(
    client: FakeClient, clock: FakeClock
) -> None:
    gate = Gate()
    profile = default_profile(DefaultBinder(client), gate)
    scheduler = Scheduler(client, clock=clock, rng=random.Random(1), profile=profile)
    task = asyncio.create_task(scheduler.run())
    await client.create(NODE, node("ant"))
    await client.create(POD, pod("web", cpu="1"))
    await clock.advance(0.5)
    assert gate.calls == ["reserve", "permit", "unreserve"]
    assert await host_of(client, "web") == "" and scheduler.snapshot.requested("cpu").sum() == 0
    await clock.advance(3)
    assert gate.calls[3:] == ["reserve", "permit", "post_bind"]
    assert await host_of(client, "web") == "ant"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
