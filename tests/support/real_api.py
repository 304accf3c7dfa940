"""The real API over a real store member in a directory of the test."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from gitkube.api.authorization import User
from gitkube.api.local import LocalClient
from gitkube.api.machinery import Api
from gitkube.api.settings import ApiSettings
from gitkube.clock import Clock, SystemClock
from gitkube.store.member import Member
from gitkube.store.settings import MemberSettings

ADMIN = User("system:test", groups=("system:masters",))
SMALL_STORE = MemberSettings(segment_bytes=256 * 1024)
"""A segment is written full of zeros before use: 16 MiB each time is most of what a short test would do."""


@contextlib.asynccontextmanager
async def real_api(
    directory: Path,
    *,
    clock: Clock | None = None,
    settings: ApiSettings | None = None,
    fixed_tokens: Mapping[str, User] | None = None,
) -> AsyncIterator[Api]:
    """An API that lives as long as the block."""
    clock = clock or SystemClock()
    member = await Member.open(directory, clock=clock, rng=random.Random(1), settings=SMALL_STORE)
    api = Api(member, clock=clock, rng=random.Random(2), settings=settings, fixed_tokens=fixed_tokens)
    task = asyncio.create_task(api.run())
    try:
        async with asyncio.timeout(60):
            await api.wait_ready()
        yield api
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await member.close()


@contextlib.asynccontextmanager
async def real_client(directory: Path, *, user: User = ADMIN) -> AsyncIterator[LocalClient]:
    """A client of an API that lives as long as the block."""
    async with real_api(directory) as api:
        yield api.client(user)
