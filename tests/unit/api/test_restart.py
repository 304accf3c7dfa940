"""An API that starts on what an earlier one has left."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from gitkube.api.authorization import system_user
from gitkube.api.machinery import Api
from gitkube.clock import SystemClock
from gitkube.objects.kinds import SERVICE
from gitkube.store.member import Member


async def uid_of_the_first_service(directory: Path) -> str:
    store = await Member.open(directory)
    api = Api(store, clock=SystemClock(), rng=random.Random(1))
    running = asyncio.create_task(api.run())
    try:
        await asyncio.wait_for(api.wait_ready(), 10)
        service = await api.client(system_user("test")).get(SERVICE, "kubernetes", "default")
        return str(service["metadata"]["uid"])
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await store.close()


async def test_the_objects_of_every_cluster_are_made_once(tmp_path: Path) -> None:
    first = await uid_of_the_first_service(tmp_path)
    assert await uid_of_the_first_service(tmp_path) == first
