"""Time as an argument.

Whatever decides by time takes a `Clock`, so that a simulation can own it. `SystemClock` is the only
place of the control side that asks the operating system.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol


class Clock(Protocol):
    """Where a component gets its time from."""

    def now(self) -> float:
        """Wall-clock time, in seconds since the Unix epoch."""
        ...

    def monotonic(self) -> float:
        """A clock in seconds that never goes back; only differences mean something."""
        ...

    async def sleep(self, delay_s: float) -> None:
        """Return after `delay_s` seconds of this clock."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)


async def set_within(clock: Clock, event: asyncio.Event, timeout_s: float) -> bool:
    """Wait until the event is set (True), or so many seconds are over (False)."""
    waiting = asyncio.ensure_future(event.wait())
    sleeping = asyncio.ensure_future(clock.sleep(timeout_s))
    try:
        await asyncio.wait((waiting, sleeping), return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        sleeping.cancel()
    return event.is_set()


def rfc3339(timestamp_s: float) -> str:
    """`metav1.Time`: RFC 3339 in UTC with whole seconds, such as `2026-01-31T09:30:00Z`."""
    return _whole_second(int(timestamp_s))


@lru_cache(maxsize=64)
def _whole_second(timestamp_s: int) -> str:
    """What is written within one second has one text."""
    return datetime.fromtimestamp(timestamp_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rfc3339_micro(timestamp_s: float) -> str:
    """`metav1.MicroTime`: RFC 3339 in UTC with six decimals."""
    return datetime.fromtimestamp(timestamp_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_rfc3339(text: str) -> float:
    """Seconds since the epoch of an RFC 3339 time (section 5.6).

    Raises:
        ValueError: the text is not such a time.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone; RFC 3339 asks for one, such as 2026-01-31T09:30:00Z")
    return moment.timestamp()
