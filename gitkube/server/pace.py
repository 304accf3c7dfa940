"""Of many requests that come at once, a few begin in each turn of the event loop.

What is written in one turn of the loop leaves when the turn is over. If sixteen requests that come together
were all decided in one turn, the store's process and the clients would have nothing to do meanwhile, and then
we would have nothing to do until all of them are stored. So a part begins, and while the store writes it the
next part is decided. Invariant: whoever waits here begins after finitely many turns, in the order of coming.
"""

from __future__ import annotations

import asyncio
from collections import deque

BEGUN_AT_ONCE = 8
"""In one turn of the loop; half of those that wait when these are more. Fewer would make the store write
each by itself."""


class Pace:
    """See the module's text."""

    def __init__(self) -> None:
        self._begun = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def begin(self) -> None:
        """Return in the turn of the loop in which the caller may begin: mostly this one."""
        loop = asyncio.get_running_loop()
        if not self._begun:
            loop.call_soon(self._next_turn)
        if self._begun < BEGUN_AT_ONCE:
            self._begun += 1
            return
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiting.append(waiter)
        await waiter

    def _next_turn(self) -> None:
        self._begun = 0
        may_begin = max(BEGUN_AT_ONCE, len(self._waiting) // 2)
        while self._waiting and self._begun < may_begin:
            waiter = self._waiting.popleft()
            if not waiter.done():  # a client that has gone away leaves its place to the next
                waiter.set_result(None)
                self._begun += 1
        if self._begun:
            asyncio.get_running_loop().call_soon(self._next_turn)
