"""The fleet between the real API and agents in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from gitkube import wire
from gitkube.api.authorization import system_user
from gitkube.api.errors import StatusError
from gitkube.api.streams import ExecOptions, LogOptions
from gitkube.clock import SystemClock
from gitkube.fleet.errors import HostKeyChanged
from gitkube.fleet.fleet import Fleet
from gitkube.fleet.settings import FleetSettings
from gitkube.objects import conditions, meta, pods
from gitkube.objects.kinds import CONFIG_MAP, EVENT, NODE, POD, SERVICE, Kind
from tests.support.fake_agent import FakeAgent, FakeDialer, public_key_of
from tests.support.real_api import real_client

SETTINGS = FleetSettings(node_lost_grace_s=0.3, backoff_first_s=0.05, let_go_s=0.2)
INVENTORY = """
hosts:
  ant: {address: 192.0.2.1, labels: {disk: ssd}, taints: ["gpu=only:NoSchedule"]}
  bee: {address: 192.0.2.2}
"""


class World:
    def __init__(self, client: Any, directory: Path) -> None:
        self.client, self.directory = client, directory
        self.path = directory / "hosts.yaml"
        self.path.write_text(INVENTORY)
        self.ant, self.bee = FakeAgent("ant"), FakeAgent("bee")
        self.dialer = FakeDialer(self.ant, self.bee)
        self.fleet: Fleet
        self.task: asyncio.Task[None] | None = None

    def start(self, settings: FleetSettings = SETTINGS) -> None:
        self.fleet = Fleet(
            self.client, inventory=self.path, data_dir=self.directory / "fleet", term=1,
            clock=SystemClock(), rng=Random(3), settings=settings, dialer=self.dialer,
        )  # fmt: skip
        (self.directory / "fleet").mkdir(exist_ok=True)
        self.task = asyncio.ensure_future(self.fleet.run())

    async def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await self.task
            self.task = None

    async def until(self, check: Callable[[], Awaitable[Any] | Any], what: str = "") -> Any:
        async with asyncio.timeout(60):
            while True:
                if self.task is not None and self.task.done():
                    self.task.result()
                try:
                    value = check()
                    value = await value if isinstance(value, Awaitable) else value
                except (KeyError, StatusError):
                    value = None
                if value:
                    return value
                await asyncio.sleep(0.005)

    async def quiet(self, agent: FakeAgent) -> None:
        """Until nothing more is sent to it for a moment."""
        while True:
            count = len(agent.received)
            await asyncio.sleep(0.2)
            if len(agent.received) == count:
                return

    async def node(self, name: str = "ant") -> Any:
        return await self.client.get(NODE, name)

    async def ready(self, name: str, status: str = "True") -> Any:
        async def check() -> Any:
            return conditions.status_of(await self.node(name), "Ready") == status

        await self.until(check)
        return await self.node(name)

    async def give_cidrs(self) -> None:
        """As the IPAM controller does."""
        for number, name in enumerate(("ant", "bee"), 1):
            await self.until(lambda name=name: self.node(name))
            cidr = f"10.42.{number}.0/24"
            await self.client.patch(NODE, name, "", {"spec": {"podCIDR": cidr, "podCIDRs": [cidr]}})

    async def pod(self, name: str, host: str = "ant", **spec: Any) -> Any:
        pod = {
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"nodeName": host, "containers": [{"name": "web", "image": "web:1"}], **spec},
        }  # fmt: skip
        return await self.client.create(POD, pod)

    async def get(self, kind: Kind, name: str) -> Any:
        return await self.client.get(kind, name, "default")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with real_client(tmp_path / "store", user=system_user("fleet")) as client:
        world = World(client, tmp_path)
        yield world
        await world.stop()


def running(pod: Any, **more: Any) -> wire.PodReport:
    return wire.PodReport(
        uid=meta.uid(pod), namespace="default", name=meta.name(pod), gone=False,
        status={"phase": "Running", "podIP": "10.42.1.5", "podIPs": [{"ip": "10.42.1.5"}],
                "conditions": [{"type": "Ready", "status": "True"}], **more},
    )  # fmt: skip


async def report(agent: FakeAgent, *pods: wire.PodReport, full: bool = False) -> None:
    await agent.say(wire.PodReports(type="pods", full=full, pods=list(pods)))


async def test_nodes_come_from_the_inventory_and_get_ready_with_the_network(world: World) -> None:
    world.start()
    await world.give_cidrs()
    node = await world.ready("ant")
    await world.ready("bee")
    assert meta.labels(node) == {
        "kubernetes.io/hostname": "ant", "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
        "disk": "ssd",
    }  # fmt: skip
    assert node["spec"]["taints"] == [{"key": "gpu", "value": "only", "effect": "NoSchedule"}]
    assert {"type": "InternalIP", "address": "192.0.2.1"} in node["status"]["addresses"]
    assert node["status"]["allocatable"]["cpu"] == "2"
    assert node["status"]["nodeInfo"]["osImage"] == "Debian 12"
    peers = world.ant.sections["network"]["data"]["peers"]
    assert [(peer["name"], peer["publicKey"], peer["podCIDR"]) for peer in peers] == [
        ("bee", public_key_of("bee"), "10.42.2.0/24")
    ]
    assert peers[0]["endpoint"] == "192.0.2.1:51820"  # both agents live at the dialer's one address


async def test_a_bound_pod_goes_down_with_what_it_refers_to_and_nothing_else(world: World) -> None:
    for name in ("used", "unused"):
        await world.client.create(
            CONFIG_MAP, {"metadata": {"name": name, "namespace": "default"}, "data": {"a": "1"}}
        )
    world.start()
    await world.give_cidrs()
    pod = await world.pod(
        "web-1",
        containers=[{"name": "web", "image": "web:1", "envFrom": [{"configMapRef": {"name": "used"}}]}],
    )
    data = await world.until(
        lambda: world.ant.sections["pods"]["data"]["pods"] and world.ant.sections["pods"]["data"]
    )
    assert [meta.uid(one) for one in data["pods"]] == [meta.uid(pod)]
    assert list(data["configMaps"]) == ["default/used"]
    assert "managedFields" not in data["pods"][0]["metadata"] and "status" not in data["pods"][0]
    assert world.bee.sections["pods"]["data"]["pods"] == []
    await world.client.patch(CONFIG_MAP, "used", "default", {"data": {"a": "2"}})
    await world.until(
        lambda: world.ant.sections["pods"]["data"]["configMaps"]["default/used"]["data"] == {"a": "2"}
    )


async def test_a_report_becomes_status_and_does_not_come_back_as_a_change(world: World) -> None:
    world.start()
    await world.give_cidrs()
    await world.ready("ant")
    pod = await world.pod("web-1")
    await world.until(lambda: world.ant.sections["pods"]["data"]["pods"])
    await world.quiet(world.ant)
    sent = len(world.ant.received)
    await report(world.ant, running(pod))

    async def phase() -> bool:
        return bool((await world.get(POD, "web-1"))["status"].get("podIP") == "10.42.1.5")

    await world.until(phase)
    before = await world.get(POD, "web-1")
    await report(world.ant, running(pod), full=True)
    await asyncio.sleep(0.1)
    after = await world.get(POD, "web-1")
    assert meta.resource_version(before) == meta.resource_version(after)
    assert [message for message in world.ant.received[sent:] if message["type"] == "desired"] == []
    kept = {condition["type"] for condition in after["status"]["conditions"]}
    assert "Ready" in kept
    assert after["status"].get("qosClass") == "BestEffort"


async def test_a_host_that_lost_its_disk_hears_which_pods_have_ended_and_cannot_undo_it(world: World) -> None:
    world.start()
    await world.give_cidrs()
    await world.ready("ant")
    pod = await world.pod("job-1", restartPolicy="Never")
    await world.until(lambda: world.ant.sections["pods"]["data"]["pods"])
    ended = [{"name": "web", "state": {"terminated": {"exitCode": 0}}, "image": "web:1", "imageID": ""}]
    await report(world.ant, running(pod, phase="Succeeded", containerStatuses=ended))

    def told() -> Any:
        (one,) = world.ant.sections["pods"]["data"]["pods"]
        return one.get("status") == {"phase": "Succeeded"}

    await world.until(told)
    waiting = [
        {"name": "web", "state": {"waiting": {"reason": "ContainerCreating"}}, "image": "", "imageID": ""}
    ]
    await report(world.ant, running(pod, phase="Pending", containerStatuses=waiting))
    other = await world.pod("web-1")
    await report(world.ant, running(other))

    async def is_through() -> bool:
        return pods.phase(await world.get(POD, "web-1")) == "Running"

    await world.until(is_through)
    status = (await world.get(POD, "job-1"))["status"]
    assert status["phase"] == "Succeeded"
    assert status["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 0


async def test_a_readiness_gate_that_another_opens_is_told_to_the_host_and_stays_anothers(
    world: World,
) -> None:
    world.start()
    await world.give_cidrs()
    await world.ready("ant")
    pod = await world.pod("web-1", readinessGates=[{"conditionType": "example.com/gate"}])

    def told() -> Any:
        (one,) = world.ant.sections["pods"]["data"]["pods"]
        return one

    await world.until(lambda: world.ant.sections["pods"]["data"]["pods"])
    assert "status" not in told()
    for status in ("True", "False"):
        mine = {"type": "example.com/gate", "status": status, "reason": "Mine"}
        patch = {"status": {"conditions": [mine, {"type": "example.com/other", "status": "True"}]}}
        await world.client.patch(POD, "web-1", "default", patch, subresource="status")
        gate = {"conditions": [{"type": "example.com/gate", "status": status}]}
        await world.until(lambda gate=gate: told().get("status") == gate)
    await report(world.ant, running(pod))

    async def is_ready() -> bool:
        return conditions.is_true(await world.get(POD, "web-1"), "Ready")

    await world.until(is_ready)
    gate = conditions.get_condition(await world.get(POD, "web-1"), "example.com/gate")
    assert gate is not None and (gate["status"], gate["reason"]) == ("False", "Mine")


async def test_a_report_never_touches_a_namesake_with_another_uid(world: World) -> None:
    world.start()
    await world.give_cidrs()
    old = await world.pod("web-1")
    await world.until(lambda: world.ant.sections["pods"]["data"]["pods"])
    await world.client.delete(POD, "web-1", "default", grace_period_s=0)
    new = await world.pod("web-1")
    await report(world.ant, running(old))
    await report(world.ant, {**running(old), "gone": True})
    await asyncio.sleep(0.1)
    found = await world.get(POD, "web-1")
    assert meta.uid(found) == meta.uid(new)
    assert "podIP" not in found["status"]


async def test_a_report_of_a_host_that_the_pod_is_not_bound_to_is_ignored(world: World) -> None:
    world.start()
    await world.give_cidrs()
    pod = await world.pod("web-1", host="bee")
    await world.until(lambda: world.bee.sections["pods"]["data"]["pods"])
    await report(world.ant, running(pod))
    await asyncio.sleep(0.1)
    assert "podIP" not in (await world.get(POD, "web-1"))["status"]


async def test_a_pod_being_deleted_stays_desired_until_the_host_says_it_is_gone(world: World) -> None:
    world.start()
    await world.give_cidrs()
    pod = await world.pod("web-1", terminationGracePeriodSeconds=30)
    await world.until(lambda: world.ant.sections["pods"]["data"]["pods"])
    await world.client.delete(POD, "web-1", "default")
    await world.until(
        lambda: world.ant.sections["pods"]["data"]["pods"][0]["metadata"].get("deletionTimestamp")
    )
    await report(world.ant, {**running(pod), "gone": True})
    await world.until(lambda: not world.ant.sections["pods"]["data"]["pods"])
    with pytest.raises(StatusError, match="not found"):
        await world.get(POD, "web-1")


async def test_a_status_that_another_changed_meanwhile_is_merged_again(world: World) -> None:
    world.start()
    await world.give_cidrs()
    pod = await world.pod("web-1")
    await world.until(lambda: world.ant.sections["pods"]["data"]["pods"])
    for number in range(8):
        await world.client.patch(POD, "web-1", "default", {"metadata": {"labels": {"n": str(number)}}})
        await report(world.ant, running(pod, message=f"m{number}"))

    async def done() -> bool:
        return bool((await world.get(POD, "web-1"))["status"].get("message") == "m7")

    await world.until(done)
    assert meta.labels(await world.get(POD, "web-1"))["n"] == "7"


async def test_services_go_to_every_host(world: World) -> None:
    world.start()
    await world.give_cidrs()
    service = {"metadata": {"name": "web", "namespace": "default"}, "spec": {"ports": [{"port": 80}]}}
    await world.client.create(SERVICE, service)
    for agent in (world.ant, world.bee):
        await world.until(
            lambda agent=agent: (
                "web" in [meta.name(one) for one in agent.sections["services"]["data"]["services"]]
            )
        )


async def test_a_host_that_stays_away_becomes_unknown_and_ready_again_when_it_is_back(world: World) -> None:
    world.start()
    await world.give_cidrs()
    await world.ready("ant")
    world.dialer.hangs.add("ant")
    await world.ant.pipe.close()
    node = await world.ready("ant", "Unknown")
    assert conditions.get_condition(node, "Ready")["reason"] == "NodeStatusUnknown"
    assert conditions.status_of(await world.node("bee"), "Ready") == "True"


async def test_a_short_break_of_the_link_is_not_seen_at_the_node(world: World) -> None:
    world.start(replace(SETTINGS, node_lost_grace_s=60))
    await world.give_cidrs()
    node = await world.ready("ant")
    await world.ant.pipe.close()
    await world.until(lambda: world.ant.connections == 2 and world.fleet.states()["ant"].is_up)
    await asyncio.sleep(0.1)
    assert conditions.get_condition(await world.node("ant"), "Ready") == conditions.get_condition(
        node, "Ready"
    )


async def test_a_changed_host_key_is_a_condition_and_an_event(world: World) -> None:
    world.dialer.errors["ant"] = HostKeyChanged("the host key has changed: SHA256:x")
    world.start()
    node = await world.ready("ant", "Unknown")
    assert conditions.get_condition(node, "Ready")["reason"] == "HostKeyChanged"

    async def events() -> Any:
        found = (await world.client.list(EVENT)).items
        return [one for one in found if one["reason"] == "HostKeyChanged" and one["type"] == "Warning"]

    assert (await world.until(events))[0]["involvedObject"]["name"] == "ant"


async def test_events_of_a_host_become_events_of_the_pod(world: World) -> None:
    world.start()
    await world.give_cidrs()
    pod = await world.pod("web-1")
    await world.until(lambda: world.ant.sections["pods"]["data"]["pods"])
    await world.ant.say(
        wire.EventReport(
            type="event", uid=meta.uid(pod), namespace="default", name="web-1", eventType="Warning",
            reason="BackOff", message="image web:1 not found", fieldPath="spec.containers{web}", time=1.0,
        )
    )  # fmt: skip

    async def events() -> Any:
        return [
            one for one in (await world.client.list(EVENT, "default")).items if one["reason"] == "BackOff"
        ]

    event = (await world.until(events))[0]
    assert event["involvedObject"]["uid"] == meta.uid(pod)
    assert event["source"]["host"] == "ant"


async def test_others_taints_stay_and_the_inventorys_come_and_go(world: World) -> None:
    world.start()
    await world.give_cidrs()
    node = await world.ready("ant")
    other = {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}
    await world.client.patch(NODE, "ant", "", {"spec": {"taints": [*node["spec"]["taints"], other]}})
    world.path.write_text(INVENTORY.replace('"gpu=only:NoSchedule"', '"a=b:NoSchedule"'))

    async def taints() -> Any:
        return [taint["key"] for taint in (await world.node())["spec"].get("taints", [])] == [
            other["key"],
            "a",
        ]

    await world.until(taints)
    assert world.ant.connections == 1


async def test_hosts_join_and_leave_with_the_inventory_and_a_broken_file_changes_nothing(
    world: World,
) -> None:
    world.start()
    await world.give_cidrs()
    await world.ready("bee")
    world.path.write_text("hosts: [")
    await world.until(lambda: world.fleet.inventory_error)
    assert world.fleet.states().keys() == {"ant", "bee"}
    world.dialer.agents["cow"] = FakeAgent("cow")
    world.path.write_text("hosts:\n  ant: {address: 192.0.2.1}\n  cow: {address: 192.0.2.3}\n")
    await world.until(lambda: world.dialer.agents["cow"].connections == 1)
    assert world.fleet.inventory_error == ""

    async def bee_is_gone() -> bool:
        return "bee" not in {meta.name(one) for one in (await world.client.list(NODE)).items}

    await world.until(bee_is_gone)

    async def label_is_gone() -> bool:
        return "disk" not in meta.labels(await world.node())

    await world.until(label_is_gone)
    assert world.ant.connections == 1


async def test_a_restarted_fleet_keeps_the_network_whole_while_hosts_say_hello(world: World) -> None:
    world.start()
    await world.give_cidrs()
    await world.ready("ant")
    await world.ready("bee")
    await world.stop()
    network = world.ant.sections["network"]
    world.dialer.hangs.add("bee")
    world.start()
    await world.until(lambda: world.ant.connections == 2 and world.fleet.states()["ant"].is_up)
    await asyncio.sleep(0.1)
    assert world.ant.sections["network"]["digest"] == network["digest"]


async def test_logs_and_exec_pass_through_the_link(world: World) -> None:
    async def on_stream(stream: wire.Stream) -> None:
        if stream.request["kind"] == "logs":
            await stream.write(wire.STDOUT, json.dumps(stream.request).encode())
            if stream.request["container"] == "lost":
                await stream.close({"error": "container lost not found", "reason": "NotFound"})
            else:
                await stream.close({"exitCode": 0})
            return
        item = await stream.read()
        await stream.write(wire.STDOUT, item[1].upper())
        await stream.close({"exitCode": 3})

    world.ant.on_stream = on_stream
    world.start()
    await world.give_cidrs()
    await world.until(lambda: world.fleet.states()["ant"].is_up)
    pod = await world.pod("web-1")
    chunks = [chunk async for chunk in world.fleet.logs(pod, LogOptions("web", tail_lines=5))]
    assert json.loads(b"".join(chunks)) == {
        "kind": "logs", "container": "web", "follow": False, "previous": False, "timestamps": False,
        "tailLines": 5, "pod": meta.uid(pod),
    }  # fmt: skip
    with pytest.raises(StatusError) as caught:
        async for _ in world.fleet.logs(pod, LogOptions("lost")):
            pass
    assert caught.value.code == 404
    session = await world.fleet.exec(pod, ExecOptions("web", ["sh"], stdin=True))
    await session.write(wire.STDIN, b"abc")
    assert await session.read() == (wire.STDOUT, b"ABC")
    assert await session.read() is None
    assert session.result == {"exitCode": 3}


async def test_streams_say_404_without_a_host_and_503_without_a_link(world: World) -> None:
    world.dialer.hangs.add("ant")
    world.start()
    pod = await world.pod("web-1")
    with pytest.raises(StatusError) as caught:
        await world.fleet.exec(pod, ExecOptions("web", ["sh"]))
    assert caught.value.code == 503
    with pytest.raises(StatusError) as caught:
        await world.fleet.exec({**pod, "spec": {}}, ExecOptions("web", ["sh"]))
    assert caught.value.code == 404
