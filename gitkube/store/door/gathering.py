"""Calls that come one by one are let through together, so that they share an fsync or a round to a quorum.

gRPC's server takes in one call a turn of the loop. A store that begins with each at once syncs them one by
one, and meanwhile no further call is taken in: 64 clients would be as slow as one. So whoever is not alone
waits for the others a moment, until a few turns of the loop have brought no more. It is PostgreSQL's
`commit_delay` with `commit_siblings`, but for the time, which is not fixed.

Invariant: a call that is alone waits for nobody, and no call waits for more than `MAX_GATHERED` others.
"""

from __future__ import annotations

import asyncio

MAX_GATHERED = 64
"""What is shared by so many costs each next to nothing."""
_QUIET_TURNS = 8
"""Of the loop, without a newcomer: about 0.1 ms, in which gRPC's threads would have brought one."""
_ALONE = 1.5
"""Calls let through at once, on average, up to which they count as one by one."""


class Gathering:
    """A context around each call, which begins when it is let through; see the module's text."""

    def __init__(self) -> None:
        self._under_way = 0
        self._gathered = 0
        self._released: asyncio.Event | None = None
        self._usual_size = 1.0
        """Lately: when all were answered at once, the first to come again is not alone."""
        self._releasing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        self._under_way += 1
        if self._under_way > 1 or self._usual_size > _ALONE:
            try:
                await self._join()
            except BaseException:
                self._under_way -= 1
                raise

    async def __aexit__(self, *_: object) -> None:
        self._under_way -= 1

    async def _join(self) -> None:
        if self._released is None:
            self._released, self._gathered = asyncio.Event(), 0
            self._releasing = asyncio.create_task(self._release(self._released), name="door-gathering")
        self._gathered += 1
        await self._released.wait()

    async def _release(self, released: asyncio.Event) -> None:
        quiet_turns = 0
        while quiet_turns < _QUIET_TURNS and self._gathered < MAX_GATHERED:
            before = self._gathered
            await asyncio.sleep(0)
            quiet_turns = quiet_turns + 1 if self._gathered == before else 0
        self._usual_size = (self._usual_size + self._gathered) / 2
        self._released = None
        released.set()
