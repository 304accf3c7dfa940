"""Waiting for what comes about by itself: `until` in tests that block, `eventually` in those that don't."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

TIMEOUT_S = 60.0
_PAUSE_S = 0.1


def until(
    condition: Callable[[], object], told: Callable[[], str] = str, timeout_s: float = TIMEOUT_S
) -> None:
    """Wait until the condition holds.

    Args:
        told: what to show when it never does, such as the log of the client under test.
    """
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise AssertionError(f"not within {timeout_s:.0f} s:\n{told()[-6000:]}")
        time.sleep(_PAUSE_S)


async def eventually(condition: Callable[[], Awaitable[T]], timeout_s: float = TIMEOUT_S) -> T:
    """Wait until an async condition gives something true, and return that."""
    async with asyncio.timeout(timeout_s):
        while True:
            if found := await condition():
                return found
            await asyncio.sleep(0.02)
