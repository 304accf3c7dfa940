"""A small cluster in memory: API, hosts, scheduler and controllers on one clock."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest

from gitkube.control.manager import Manager
from gitkube.control.settings import ControlSettings
from gitkube.objects import meta, pods
from gitkube.objects.kinds import DEPLOYMENT, NODE, POD, REPLICA_SET, Kind
from gitkube.objects.registry import Registry
from gitkube.objects.types import Object
from gitkube.scheduler.scheduler import Scheduler
from tests.support.cluster import node
from tests.support.fake_client import FakeClient
from tests.support.fake_clock import FakeClock
from tests.support.fake_kubelet import FakeKubelet


@dataclass
class Cluster:
    clock: FakeClock
    client: FakeClient
    kubelet: FakeKubelet
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    manager: asyncio.Task[None] | None = None
    settings: ControlSettings = field(default_factory=ControlSettings)
    registry: Registry = field(default_factory=Registry)

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self.tasks.append(task)
        return task

    def start_manager(self) -> None:
        manager = Manager(
            self.client, clock=self.clock, rng=random.Random(1),
            settings=self.settings, registry=self.registry,
        )  # fmt: skip
        self.manager = self.start(manager.run())

    async def stop_manager(self) -> None:
        assert self.manager is not None
        self.tasks.remove(self.manager)
        self.manager.cancel()
        await asyncio.gather(self.manager, return_exceptions=True)

    async def start_all(self, hosts: int = 3) -> None:
        for name in ("ant", "bee", "cow", "dog")[:hosts]:
            await self.client.create(NODE, node(name))
        self.start_manager()
        self.start(Scheduler(self.client, clock=self.clock, rng=random.Random(1)).run())
        self.start(self.kubelet.run())
        await self.clock.advance(0.1)

    async def all(self, kind: Kind) -> list[Object]:
        return (await self.client.list(kind)).items

    async def pods(self) -> list[Object]:
        return [pod for pod in await self.all(POD) if pods.is_active(pod)]

    async def ready_pods(self) -> list[Object]:
        return [pod for pod in await self.pods() if pods.is_ready(pod)]

    async def deployment(self, name: str = "web") -> Object:
        return await self.client.get(DEPLOYMENT, name, "default")

    async def replica_sets(self) -> dict[str, int]:
        """Revision -> replicas."""
        return {
            meta.annotations(one)["deployment.kubernetes.io/revision"]: one["spec"]["replicas"]
            for one in await self.all(REPLICA_SET)
        }

    async def patch(self, kind: Kind, name: str, patch: Object, namespace: str = "default") -> Object:
        return await self.client.patch(kind, name, namespace, patch)


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    clock = FakeClock()
    client = FakeClient(clock)
    cluster = Cluster(clock, client, FakeKubelet(client, clock))
    yield cluster
    failed = [task.exception() for task in cluster.tasks if task.done() and not task.cancelled()]
    for task in cluster.tasks:
        task.cancel()
    await asyncio.gather(*cluster.tasks, return_exceptions=True)
    assert failed == []
