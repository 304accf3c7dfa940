"""The real API over a real store member in a directory of the test."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

from gitkube.api.authorization import User
from gitkube.api.local import LocalClient
from gitkube.api.machinery import Api
from gitkube.api.settings import ApiSettings
from gitkube.clock import Clock, SystemClock
from gitkube.store.member import Member


@contextlib.asynccontextmanager
async def real_client(
    directory: Path, clock: Clock | None = None, settings: ApiSettings | None = None
) -> AsyncIterator[LocalClient]:
    """A client of an API that lives as long as the block."""
    clock = clock or SystemClock()
    member = await Member.open(directory, clock=clock, rng=random.Random(1))
    api = Api(member, clock=clock, rng=random.Random(2), settings=settings)
    task = asyncio.create_task(api.run())
    try:
        await api.wait_ready()
        yield api.client(User("system:test", groups=("system:masters",)))
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await member.close()
