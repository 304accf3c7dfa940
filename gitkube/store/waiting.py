"""Who waits for something that becomes known later, and is told it once; and a task that is woken.

An `asyncio.Future` is such a one; whoever awaits it goes on a turn of the loop later, as a task of its own. A
client's request needs neither the turn nor the task: it is answered at the moment its answer is known
(`served.py`). Both are told by the same three methods, so nobody who tells needs to know the difference.

Invariant: nobody is told anything after `done`, be it that he was told or that he has left.
"""

from __future__ import annotations

import asyncio
from typing import Protocol, TypeVar

from gitkube.store.protocol import StoreError

T_contra = TypeVar("T_contra", contravariant=True)


class Waiter(Protocol[T_contra]):
    """See the module's text. What is told may not raise: whoever tells has others to tell, too."""

    def done(self) -> bool: ...

    def set_result(self, result: T_contra, /) -> None: ...

    def set_exception(self, exception: StoreError, /) -> None: ...


class Bell:
    """Wakes one task, which hears it once however often it was rung meanwhile.

    An `asyncio.Event` does it for any number of tasks, with twice the calls; this is rung for each request.
    """

    def __init__(self) -> None:
        self._is_rung = False
        self._sleeper: asyncio.Future[None] | None = None

    def ring(self) -> None:
        self._is_rung = True
        if self._sleeper is not None and not self._sleeper.done():
            self._sleeper.set_result(None)

    async def wait(self) -> None:
        """Return when it was rung since the last return."""
        if not self._is_rung:
            self._sleeper = asyncio.get_running_loop().create_future()
            try:
                await self._sleeper
            finally:
                self._sleeper = None
        self._is_rung = False
