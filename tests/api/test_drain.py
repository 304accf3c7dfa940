"""The real kubectl drains a host beside controllers, and a PodDisruptionBudget keeps the rest running."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator

import pytest

from gitkube.clock import SystemClock
from gitkube.control.manager import Manager
from gitkube.control.settings import ControlSettings
from gitkube.objects import conditions, pods
from gitkube.objects.kinds import DEPLOYMENT, NODE, POD, POD_DISRUPTION_BUDGET
from gitkube.objects.types import Object
from gitkube.scheduler.scheduler import Scheduler
from tests.support.cluster import node
from tests.support.fake_kubelet import FakeKubelet
from tests.support.live_cluster import LiveCluster

DEADLINE_S = 100
"""Below what `LiveCluster.run` waits for."""


class Loops:
    """Controllers, scheduler and pretend hosts in the server's loop, and the fewest ready pods they saw."""

    def __init__(self, cluster: LiveCluster) -> None:
        self._cluster = cluster
        self._tasks: list[asyncio.Task[None]] = []
        self.fewest = 99

    async def start(self) -> None:
        client, clock = self._cluster.client, SystemClock()
        manager = Manager(client, clock=clock, rng=random.Random(1), settings=ControlSettings())
        scheduler = Scheduler(client, clock=clock, rng=random.Random(2))
        kubelet = FakeKubelet(client, clock, start_s=0.3, stop_s=0.05)
        self._tasks = [asyncio.create_task(one.run()) for one in (manager, scheduler, kubelet)]

    async def watch(self) -> None:
        async def look() -> None:
            while True:
                self.fewest = min(self.fewest, await self.ready())
                await asyncio.sleep(0.01)

        self._tasks.append(asyncio.create_task(look()))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def ready(self) -> int:
        found = (await self._cluster.client.list(POD, "default", label_selector="app=web")).items
        return sum(pods.is_ready(one) and "deletionTimestamp" not in one["metadata"] for one in found)

    async def until_ready(self, count: int) -> None:
        await self._until(self.ready, count, "ready pods")

    async def until_allowed(self, count: int) -> None:
        await self._until(self.allowed, count, "allowed disruptions")

    async def _until(self, of: Callable[[], Awaitable[int]], count: int, what: str) -> None:
        for _ in range(DEADLINE_S * 50):
            if await of() == count:
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"waited in vain for {count} {what}")

    async def allowed(self) -> int:
        budget = await self._cluster.client.get(POD_DISRUPTION_BUDGET, "web", "default")
        return int((budget.get("status") or {}).get("disruptionsAllowed") or 0)


@pytest.fixture
def loops(cluster: LiveCluster) -> Iterator[Loops]:
    found = Loops(cluster)
    cluster.run(found.start())
    yield found
    cluster.run(found.stop())


async def add_host(cluster: LiveCluster, name: str) -> None:
    wanted = node(name)
    await cluster.client.create(NODE, wanted)
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    patch = {"status": {**wanted["status"], **ready}}
    await cluster.client.patch(NODE, name, "", patch, subresource="status")


def deployment(replicas: int) -> Object:
    container = {"name": "main", "image": "web:1"}
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template},
    }


BUDGET: Object = {
    "apiVersion": "policy/v1",
    "kind": "PodDisruptionBudget",
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {"maxUnavailable": "25%", "selector": {"matchLabels": {"app": "web"}}},
}


def test_drain_waits_for_the_budget_and_empties_the_host(cluster: LiveCluster, loops: Loops) -> None:
    for name in ("ant", "bee"):
        cluster.run(add_host(cluster, name))
    cluster.run(cluster.client.create(DEPLOYMENT, deployment(4)))
    cluster.run(cluster.client.create(POD_DISRUPTION_BUDGET, BUDGET))
    cluster.run(loops.until_ready(4))
    cluster.run(loops.until_allowed(1))
    cluster.run(loops.watch())
    done = cluster.kubectl("drain", "ant", "--timeout=60s", timeout_s=90)
    assert "node/ant drained" in done.stdout
    left = cluster.run(cluster.client.list(POD, "default", field_selector="spec.nodeName=ant")).items
    assert left == []
    cluster.run(loops.until_ready(4))
    assert loops.fewest == 3
    budget = cluster.run(cluster.client.get(POD_DISRUPTION_BUDGET, "web", "default"))
    assert budget["status"]["expectedPods"] == 4
    assert budget["status"]["desiredHealthy"] == 3
    cluster.run(loops.until_allowed(1))
    budget = cluster.run(cluster.client.get(POD_DISRUPTION_BUDGET, "web", "default"))
    assert conditions.is_true(budget, "DisruptionAllowed")
    shown = cluster.kubectl("get", "pdb", "web").stdout.splitlines()
    assert shown[1].split()[:4] == ["web", "N/A", "25%", "1"]
