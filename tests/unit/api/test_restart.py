"""An API that starts on what an earlier one has left."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from gitkube.api.machinery import Api
from gitkube.clock import SystemClock
from gitkube.objects.kinds import SERVICE
from gitkube.store.protocol import Put
from tests.support.memory_cluster import MemoryCluster
from tests.support.real_api import real_client


async def uid_of_the_first_service(directory: Path) -> str:
    async with real_client(directory) as client:
        service = await client.get(SERVICE, "kubernetes", "default")
        return str(service["metadata"]["uid"])


async def test_the_objects_of_every_cluster_are_made_once(tmp_path: Path) -> None:
    first = await uid_of_the_first_service(tmp_path)
    assert await uid_of_the_first_service(tmp_path) == first


async def test_records_that_are_no_objects_are_passed_over_at_a_start(tmp_path: Path) -> None:
    """Those of the sealing keys, of joining, and of the repository lie below the same root."""
    store = MemoryCluster("a").member("a")
    for key in ("sealing/ring-of-before", "joining/0001", "branches/main/tip", "branches/main/packs/1"):
        await store.txn([], [Put(f"/registry/gitkube.dev/{key}".encode(), b'{"no": "object"}')])
    api = Api(store, clock=SystemClock(), rng=random.Random(1))
    task = asyncio.create_task(api.run())
    async with asyncio.timeout(30):
        await api.wait_ready()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
