"""What blocks on the disk: in the loop when the disk is quick, else in a thread that the loop waits for.

A sync in the loop saves two switches of threads, which on a quick disk is more than the sync itself takes; on
a slow one the next writes had better be taken in meanwhile. Invariant: nothing is closed under a thread that
still writes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from statistics import median_high
from typing import Any, TypeVar

from gitkube.clock import Clock

THREADS = 4
"""For an fsync, a snapshot that is written, a backup that is read, and the next segment of the log."""
_QUICK_SYNC_S = 0.0005
"""A disk this fast is synced in the loop."""
_SYNCS_REMEMBERED = 15
"""Their median says how fast the disk is. A mean would say how busy the processors are: whoever waits for one
in the middle of a sync seems to have a slow disk."""

T = TypeVar("T")


class DiskWork:
    """See the module's text."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._syncs_s: deque[float] = deque([0.0], maxlen=_SYNCS_REMEMBERED)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="store-disk")
        self._under_way: set[Future[Any]] = set()

    async def sync(self, work: Callable[[], None], *, is_large: bool) -> float:
        """Do what ends with a sync of the log; how many seconds it took.

        Args:
            is_large: it writes much more than entries, and belongs in a thread.

        Raises:
            OSError, CorruptError: as `work` does.
        """

        def timed() -> float:
            started = self._clock.monotonic()
            work()
            return self._clock.monotonic() - started

        is_quick = median_high(self._syncs_s) < _QUICK_SYNC_S
        took_s = timed() if is_quick and not is_large else await self.in_thread(timed)
        self._syncs_s.append(took_s)
        return took_s

    async def in_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        """Do it in a thread; `close` waits for it even if whoever asked is cancelled.

        The executor is asked directly: a task and a shield would cost the loop three turns more for each
        fsync.
        """
        working = self._threads.submit(work, *arguments)
        self._under_way.add(working)
        working.add_done_callback(self._under_way.discard)
        return await asyncio.wrap_future(working)

    async def close(self) -> None:
        """Wait for what is under way."""
        await asyncio.gather(*map(asyncio.wrap_future, list(self._under_way)), return_exceptions=True)
        self._threads.shutdown(wait=False)
