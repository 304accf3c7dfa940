"""Requests wait for their turn: `fairness.py` with an event loop around it."""

from __future__ import annotations

import asyncio

from gitkube.api.errors import StatusError
from gitkube.server.fairness import Fairness, Level, RefusedError, Turn
from gitkube.server.pace import Pace

PATIENCE_S = 15.0
"""How long a request waits for its turn: a quarter of what it has altogether, as Kubernetes."""
RETRY_AFTER_S = 1


class Turns:
    def __init__(self, fairness: Fairness | None = None) -> None:
        self.fairness = fairness or Fairness()
        self._waiting: dict[Turn, asyncio.Future[None]] = {}
        self._pace = Pace()

    async def take(self, level: Level, flow: str) -> Turn:
        """The turn of a request of this level and flow, once it has come; `give_back` must follow.

        Raises:
            StatusError: 429, there are too many, or it has waited too long.
        """
        await self._pace.begin()
        try:
            turn = self.fairness.arrive(level, flow)
        except RefusedError as error:
            raise _too_many() from error
        if not turn.is_served:
            try:
                await self._wait(turn)
            except BaseException:
                self.give_back(turn)
                raise
        return turn

    def give_back(self, turn: Turn) -> None:
        """The request is done: others may go on."""
        for other in self.fairness.leave(turn):
            waiter = self._waiting.get(other)
            if waiter is not None and not waiter.done():
                waiter.set_result(None)

    async def _wait(self, turn: Turn) -> None:
        waiter = self._waiting[turn] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(PATIENCE_S):
                await waiter
        except TimeoutError as error:
            if not turn.is_served:
                raise _too_many() from error
        finally:
            del self._waiting[turn]


def _too_many() -> StatusError:
    text = "too many requests, please try again later"
    return StatusError(429, "TooManyRequests", text, retry_after_s=RETRY_AFTER_S)
