"""The fleet, real agents and a lab's hosts: from an inventory to Ready nodes, and through a power cut."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from structlog.testing import capture_logs

from gitkube.api.authorization import system_user
from gitkube.clock import SystemClock
from gitkube.fleet import agent_package
from gitkube.fleet.agent_package import AgentPackage, build_agent_package
from gitkube.fleet.dialer import SshDialer
from gitkube.fleet.fleet import Fleet
from gitkube.fleet.settings import FleetSettings
from gitkube.lab.errors import LabError
from gitkube.lab.lab import Lab
from gitkube.objects import conditions, meta
from gitkube.objects.kinds import NODE
from tests.support.real_api import real_client

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0, reason="a lab is made of namespaces and mounts, which need root"),
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("fleet") / "lab")
    try:
        lab.up(hosts=2)
        yield lab
    finally:
        lab.down()


@pytest.fixture(scope="module")
def package() -> AgentPackage:
    """Built once: an agent that somebody edits meanwhile must not look like an upgrade."""
    return build_agent_package()


class World:
    def __init__(self, client: Any, lab: Lab, data_dir: Path, package: AgentPackage) -> None:
        self.client, self.lab, self.data_dir, self.package = client, lab, data_dir, package
        self.fleet: Fleet
        self.task: asyncio.Task[None] | None = None

    def start(
        self, term: int = 1, package: AgentPackage | None = None, settings: FleetSettings | None = None
    ) -> None:
        rng, settings = Random(3), settings or FleetSettings()
        self.fleet = Fleet(
            self.client, inventory=self.lab.inventory(), data_dir=self.data_dir, term=term,
            clock=SystemClock(), rng=rng, settings=settings,
            dialer=SshDialer(self.data_dir, rng=rng, settings=settings, package=package or self.package),
        )  # fmt: skip
        self.task = asyncio.ensure_future(self.fleet.run())

    async def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await self.task
            self.task = None

    async def until(self, check: Callable[[], Awaitable[bool]], timeout_s: float = 120) -> None:
        async with asyncio.timeout(timeout_s):
            while not await check():
                if self.task is not None and self.task.done():
                    self.task.result()
                await asyncio.sleep(0.02)

    def evidence(self) -> dict[str, str]:
        """What is to be read when a test fails."""
        found = {"the links": "\n".join(f"{name}: {state}" for name, state in self.fleet.states().items())}
        for host in ("ant", "bee"):
            try:
                done = self.lab.exec(host, ["tail", "-n", "40", "/var/log/gitkube-node.log"], timeout_s=20)
                found[f"the agent's log on {host}"] = done.stdout + done.stderr
            except LabError as error:
                found[f"the agent's log on {host}"] = str(error)
        return found

    async def statuses(self) -> dict[str, str]:
        """Ready of each node; gives each a share of the pod network, as the IPAM controller does."""
        found = {}
        for number, node in enumerate((await self.client.list(NODE)).items, 1):
            found[meta.name(node)] = conditions.status_of(node, "Ready")
            if not (node.get("spec") or {}).get("podCIDR"):
                cidr = f"10.42.{number}.0/24"
                await self.client.patch(
                    NODE, meta.name(node), "", {"spec": {"podCIDR": cidr, "podCIDRs": [cidr]}}
                )
        return found

    async def are(self, **wanted: str) -> None:
        async def check() -> bool:
            return await self.statuses() == wanted

        await self.until(check)


@pytest.fixture
async def world(lab: Lab, package: AgentPackage, tmp_path: Path) -> AsyncIterator[World]:
    async with real_client(tmp_path / "store", user=system_user("fleet")) as client:
        world = World(client, lab, tmp_path / "fleet", package)
        yield world
        await world.stop()


async def test_hosts_get_ready_and_a_second_start_changes_nothing_on_them(world: World) -> None:
    world.start()
    await world.are(ant="True", bee="True")
    ping = world.lab.exec("ant", ["ping", "-c", "1", "-W", "30", "10.42.2.1"])
    assert ping.returncode == 0, ping.stdout
    await world.stop()
    with capture_logs() as logs:
        world.start()

        async def linked() -> bool:
            return len([line for line in logs if line["event"] == "host_linked"]) == 2

        await world.until(linked)
    assert [line for line in logs if line["event"] == "host_prepared"] == []
    await world.stop()
    async with asyncio.timeout(60):  # the bridge ends with the link
        while world.lab.exec("ant", ["pgrep", "-f", "gitkube-node link"]).returncode != 1:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def test_a_power_cut_is_seen_and_the_host_comes_back_by_itself(world: World) -> None:
    world.start(term=2)
    await world.are(ant="True", bee="True")
    world.lab.kill("bee")
    await world.are(ant="True", bee="Unknown")
    world.lab.start("bee")
    await world.are(ant="True", bee="True")


async def test_a_killed_agent_is_back_without_the_node_being_lost(world: World) -> None:
    # A loaded machine may need longer than the usual grace for starting Python.
    world.start(term=3, settings=FleetSettings(node_lost_grace_s=30))
    await world.are(ant="True", bee="True")
    before = await world.client.get(NODE, "ant")
    assert world.lab.exec("ant", ["pkill", "-9", "-f", "gitkube-node-.*pyz agent"]).returncode == 0

    async def is_back() -> bool:
        return not world.fleet.states()["ant"].is_up

    await world.until(is_back)

    async def is_up() -> bool:
        return world.fleet.states()["ant"].is_up

    await world.until(is_up)
    after = await world.client.get(NODE, "ant")
    assert conditions.get_condition(after, "Ready") == conditions.get_condition(before, "Ready")


async def test_a_newer_agent_takes_over_and_is_confirmed_while_the_nodes_stay_ready(world: World) -> None:
    world.start(term=4, settings=FleetSettings(node_lost_grace_s=30))
    await world.are(ant="True", bee="True")
    before = await world.client.get(NODE, "ant")
    await world.stop()
    content = agent_package._zip({**agent_package._sources(), "gitkube/newer.txt": b"newer"})
    newer = AgentPackage(hashlib.sha256(content).hexdigest(), content)
    with capture_logs() as logs:
        # A loaded machine may need longer than the usual grace for starting Python twice on each host.
        world.start(term=5, package=newer, settings=FleetSettings(node_lost_grace_s=30))

        async def confirmed() -> bool:
            return len([line for line in logs if line["event"] == "agent_confirmed"]) == 2

        await world.until(confirmed)
        await world.are(ant="True", bee="True")
    assert [line for line in logs if line["event"] == "host_link_failed"] == []
    after = await world.client.get(NODE, "ant")
    assert conditions.get_condition(after, "Ready") == conditions.get_condition(before, "Ready")
    files = world.lab.exec("ant", ["ls", "/var/lib/gitkube/bin"]).stdout.split()
    assert "trial" not in files and {newer.name, world.package.name} <= set(files)
