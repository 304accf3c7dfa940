"""Pods scheduled a second, onto 1,000 and 5,000 pretend hosts.

"core" is what deciding costs: read the pod, filter and score all hosts, hold the place. "bound" is the whole
way: pods lie in a store with fsync behind the real API, and are counted when their binding is durable there;
API, store and scheduler share this process's core (the store in a process of its own).

Reference: kube-scheduler 1.20.2, bound pods, on two such cores with API server and etcd beside it: 224 pods/s
onto 1,000 nodes and 184 onto 5,000.
"""

from __future__ import annotations

import asyncio
import logging
import random
import tempfile
import time
from pathlib import Path

import structlog
import uvloop

from gitkube.api.authorization import User
from gitkube.api.client import Client
from gitkube.api.informer import Informer
from gitkube.api.machinery import Api
from gitkube.clock import SystemClock
from gitkube.objects.kinds import NODE, POD
from gitkube.objects.types import Object
from gitkube.scheduler.cycle import SchedulingCycle
from gitkube.scheduler.pod_info import pod_info
from gitkube.scheduler.profile import default_profile
from gitkube.scheduler.scheduler import Scheduler
from gitkube.scheduler.snapshot import Snapshot
from gitkube.store.config import MemberConfig
from gitkube.store.remote import RemoteStore, StoreProcess
from harness import Row, against, options, report

REFERENCE = {1000: 224.0, 5000: 184.0}
UNDER_WAY = 64
"""Requests at once while nodes and pods are created."""


def node(number: int) -> Object:
    name = f"node-{number}"
    zone = f"zone-{number % 3}"
    resources = {"cpu": "4", "memory": "32Gi", "pods": "110"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": zone},
        },
        "status": {"capacity": resources, "allocatable": resources},
    }


def pod(number: int) -> Object:
    """As kube-scheduler's own benchmark has them: 100m cpu and 500 Mi, of one of twenty owners."""
    owner = f"owner-{number % 20}"
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"pod-{number}",
            "namespace": "default",
            "labels": {"app": owner},
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1",
                    "kind": "ReplicaSet",
                    "name": owner,
                    "uid": owner,
                    "controller": True,
                }
            ],
        },
        "spec": {
            "containers": [
                {
                    "name": "pause",
                    "image": "pause:1",
                    "resources": {"requests": {"cpu": "100m", "memory": "500Mi"}},
                }
            ]
        },
    }


def core(nodes: int, pods: int) -> float:
    """Decisions a second."""
    snapshot = Snapshot()
    for number in range(nodes):
        snapshot.set_node(node(number))
    cycle = SchedulingCycle(default_profile(), snapshot, random.Random(1))
    waiting = [pod(number) for number in range(pods)]
    started = time.perf_counter()
    for obj in waiting:
        info = pod_info(obj)
        snapshot.assume(info, cycle.decide(info).node_name)
    return pods / (time.perf_counter() - started)


async def bound(nodes: int, pods: int) -> float:
    """Durable bindings a second, with all pods waiting at the start."""
    clock = SystemClock()
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as name:
        directory = Path(name)
        process = StoreProcess(
            MemberConfig(directory / "store", directory / "s"), clock=clock, rng=random.Random(1)
        )
        keeper = asyncio.create_task(process.run())
        store = RemoteStore(directory / "s", clock=clock)
        api = Api(store, clock=clock, rng=random.Random(2))
        tasks = [keeper, asyncio.create_task(api.run())]
        try:
            await api.wait_ready()
            client = api.client(User("system:bench", groups=("system:masters",)))
            await fill(client, nodes, pods)
            bindings = Informer(client, POD, clock=clock)
            left = pods
            is_done = asyncio.Event()

            def on_pod(before: Object | None, after: Object | None) -> None:
                nonlocal left
                was_bound = before is not None and bool(before["spec"].get("nodeName"))
                if after is not None and after["spec"].get("nodeName") and not was_bound:
                    left -= 1
                    if not left:
                        is_done.set()

            bindings.add_handler(on_pod)
            tasks.append(asyncio.create_task(bindings.run()))
            await bindings.wait_synced()
            scheduler = Scheduler(client, clock=clock, rng=random.Random(3))
            tasks.append(asyncio.create_task(scheduler.run()))
            started = time.perf_counter()
            await asyncio.wait_for(is_done.wait(), 600)
            return pods / (time.perf_counter() - started)
        finally:
            for task in reversed(tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await store.close()


async def fill(client: Client, nodes: int, pods: int) -> None:
    limit = asyncio.Semaphore(UNDER_WAY)

    async def create_node(number: int) -> None:
        async with limit:
            wanted = node(number)
            created = await client.create(NODE, wanted)
            if not (created.get("status") or {}).get("allocatable"):
                patch = {"status": wanted["status"]}
                await client.patch(NODE, wanted["metadata"]["name"], "", patch, subresource="status")

    async def create_pod(number: int) -> None:
        async with limit:
            await client.create(POD, pod(number))

    await asyncio.gather(*(create_node(number) for number in range(nodes)))
    await asyncio.gather(*(create_pod(number) for number in range(pods)))


async def main() -> None:
    arguments = options(__doc__ or "")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    core_pods, bound_pods = (2000, 1500) if arguments.quick else (10_000, 5000)
    rows: list[Row] = []
    for nodes, reference in REFERENCE.items():
        rate = core(nodes, core_pods)
        rows.append(against(f"core, {nodes} nodes", rate, "pods/s", reference, "kube-scheduler, bound"))
        rate = await bound(nodes, bound_pods)
        rows.append(against(f"bound, {nodes} nodes", rate, "pods/s", reference, "kube-scheduler, bound"))
    how = (
        f"{core_pods} decisions, then {bound_pods} pods bound through API and store with fsync "
        "(their events follow behind); "
        "reference kube-scheduler 1.20.2 on two cores, measured earlier"
    )
    report(rows, how, arguments.json)


if __name__ == "__main__":
    uvloop.run(main())
