"""The same loops on the real API and store: what the fake leaves out (schemas, defaults, fsync) is here."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

from gitkube.api.client import Client, Propagation
from gitkube.clock import SystemClock
from gitkube.control.leader import LeaderElection
from gitkube.control.manager import Manager
from gitkube.control.settings import ControlSettings
from gitkube.objects import conditions, meta, pods
from gitkube.objects.kinds import (
    CONFIG_MAP,
    DEPLOYMENT,
    ENDPOINT_SLICE,
    JOB,
    NAMESPACE,
    NODE,
    POD,
    REPLICA_SET,
    SERVICE,
    SERVICE_ACCOUNT,
)
from gitkube.objects.types import Object
from gitkube.scheduler.scheduler import Scheduler
from tests.support.cluster import deployment, image_patch, node
from tests.support.fake_kubelet import FakeKubelet
from tests.support.real_api import real_client

SERVICE_WEB = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
}
SEED = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"name": "seed", "namespace": "default"},
    "spec": {
        "completions": 2,
        "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "ok:1"}]}},
    },
}


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    for _ in range(1000):
        if await condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"waited in vain until {what}")


async def ready_images(client: Client) -> list[str]:
    found = (await client.list(POD, "default", label_selector="app=web")).items
    return sorted(one["spec"]["containers"][0]["image"] for one in found if pods.is_ready(one))


async def add_host(client: Client, name: str) -> None:
    wanted = node(name)
    await client.create(NODE, wanted)
    patch = {"status": {**wanted["status"], "conditions": [{"type": "Ready", "status": "True"}]}}
    await client.patch(NODE, name, "", patch, subresource="status")


class TheOnlyOne:
    """A store of one member, which leads."""

    is_leader: bool | None = True


async def test_from_nothing_to_a_rolled_deployment_a_job_and_an_empty_namespace(tmp_path: Path) -> None:
    clock = SystemClock()
    terms: list[int] = []
    async with real_client(tmp_path) as client:

        async def lead(term: int) -> None:
            terms.append(term)
            kubelet = FakeKubelet(client, clock, start_s=0.01, stop_s=0.01)
            kubelet.ending["ok:1"] = "Succeeded"
            settings = ControlSettings(root_ca="PEM")
            async with asyncio.TaskGroup() as group:
                group.create_task(Manager(client, clock=clock, rng=random.Random(1), settings=settings).run())
                group.create_task(Scheduler(client, clock=clock, rng=random.Random(1)).run())
                group.create_task(kubelet.run())

        election = LeaderElection(client, "test", TheOnlyOne(), clock=clock, rng=random.Random(1))
        leading = asyncio.create_task(election.run(lead))
        for name in ("ant", "bee", "cow"):
            await add_host(client, name)
        await client.create(DEPLOYMENT, deployment())
        await client.create(SERVICE, SERVICE_WEB)
        await client.create(JOB, SEED)

        async def has(count: int, image: str) -> bool:
            return await ready_images(client) == [image] * count

        await until(lambda: has(3, "web:1"), "three pods of web:1 are ready")
        await client.patch(DEPLOYMENT, "web", "default", image_patch("web:2"))
        await until(lambda: has(3, "web:2"), "three pods of web:2 are ready")

        async def is_published() -> bool:
            slices = (await client.list(ENDPOINT_SLICE, "default")).items
            ours = [one for one in slices if meta.labels(one).get("kubernetes.io/service-name") == "web"]
            return [len(one["endpoints"]) for one in ours] == [3]

        await until(is_published, "the Service has three endpoints")

        async def is_seeded() -> bool:
            return conditions.is_true(await client.get(JOB, "seed", "default"), "Complete")

        await until(is_seeded, "the Job is complete")
        hosts = (await client.list(NODE)).items
        assert sorted(one["spec"]["podCIDR"] for one in hosts) == [
            "10.42.0.0/24",
            "10.42.1.0/24",
            "10.42.2.0/24",
        ]
        assert len((await client.list(REPLICA_SET, "default")).items) == 2

        await _delete_a_namespace(client)
        await client.delete(DEPLOYMENT, "web", "default", propagation=Propagation.FOREGROUND)

        async def is_gone() -> bool:
            left = [*(await client.list(DEPLOYMENT)).items, *(await client.list(REPLICA_SET)).items]
            return not left and not await ready_images(client)

        await until(is_gone, "the Deployment is gone with its pods")
        assert not leading.done() and len(terms) == 1
        leading.cancel()
        await asyncio.gather(leading, return_exceptions=True)


async def _delete_a_namespace(client: Client) -> None:
    namespace: Object = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
    await client.create(NAMESPACE, namespace)

    async def is_furnished() -> bool:
        names = [
            meta.name(one)
            for kind in (SERVICE_ACCOUNT, CONFIG_MAP)
            for one in (await client.list(kind, "shop")).items
        ]
        return names == ["default", "kube-root-ca.crt"]

    await until(is_furnished, "the namespace has its account and CA")
    await client.create(DEPLOYMENT, deployment(namespace="shop"))
    await client.delete(NAMESPACE, "shop")

    async def is_gone() -> bool:
        return "shop" not in {meta.name(one) for one in (await client.list(NAMESPACE)).items}

    await until(is_gone, "the namespace is gone")
