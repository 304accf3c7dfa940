"""Work that is switched off and on again while its owner runs, such as what only a follower does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class Switch:
    """Work that can be switched off and on again; it is on at first."""

    def __init__(self) -> None:
        self._wanted = asyncio.Event()
        self._unwanted = asyncio.Event()
        self._is_idle = asyncio.Event()
        self.on()

    def on(self) -> None:
        self._wanted.set()
        self._unwanted.clear()

    async def off(self) -> None:
        """Returns when the work has stopped."""
        self._wanted.clear()
        self._unwanted.set()
        await self._is_idle.wait()

    async def run(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do the work whenever it is on, until cancelled; raises what it raises."""
        while True:
            self._is_idle.set()
            await self._wanted.wait()
            self._is_idle.clear()
            working = asyncio.ensure_future(work())
            stopping = asyncio.ensure_future(self._unwanted.wait())
            try:
                await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
            finally:
                working.cancel()
                stopping.cancel()
                await asyncio.wait([working, stopping])
            if not working.cancelled():
                working.result()
