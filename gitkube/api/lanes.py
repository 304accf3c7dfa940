"""Turns: writes that are charged to the quotas of one namespace are made one after another.

Each would otherwise find that another one has just changed the quota, and begin anew. Only the writers of
this process wait for each other here; those of others are told by the store.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from gitkube.api.errors import unavailable


@dataclass(slots=True)
class _Lane:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0
    """Who holds it or waits for it; a lane without users is forgotten."""


class Lanes:
    def __init__(self, timeout_s: float) -> None:
        """
        Args:
            timeout_s: how long a write waits for its turn.
        """
        self._timeout_s = timeout_s
        self._lanes: dict[str, _Lane] = {}

    @contextlib.asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[None]:
        """Alone in the lane.

        Raises:
            StatusError: 503, the others take too long.
        """
        lane = self._lanes.setdefault(name, _Lane())
        lane.users += 1
        try:
            try:
                async with asyncio.timeout(self._timeout_s):
                    await lane.lock.acquire()
            except TimeoutError as error:
                text = f"too many writes to namespace {name} wait for its quota; try again"
                raise unavailable(text) from error
            try:
                yield
            finally:
                lane.lock.release()
        finally:
            lane.users -= 1
            if not lane.users:
                del self._lanes[name]
