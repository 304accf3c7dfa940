"""Virtual time: what happens next, and nothing in between.

Everything that will happen is an entry of one queue, ordered by its virtual time and, among equals, by when
it was asked for. Running the next entry moves the time on to it. Nothing waits, so a minute of the cluster's
life takes as long as its work does.

Invariant: the order depends on nothing but the calls made; no two entries compare equal.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

MILLISECOND_US = 1_000
SECOND_US = 1_000_000


class Schedule:
    """See the module's text. Times are microseconds since the beginning of the life."""

    def __init__(self) -> None:
        self.now_us = 0
        self.steps = 0
        """How many entries have run."""
        self._queue: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._asked = 0

    def after(self, delay_us: int, action: Callable[..., None], *arguments: Any) -> None:
        """Call `action(*arguments)` in `delay_us` from now; never before what was asked for the same time."""
        self._asked += 1
        heapq.heappush(self._queue, (self.now_us + max(0, delay_us), self._asked, action, arguments))

    def run_next(self) -> bool:
        """Run the next entry; False when there is none."""
        if not self._queue:
            return False
        self.now_us, _, action, arguments = heapq.heappop(self._queue)
        self.steps += 1
        action(*arguments)
        return True

    @property
    def now_s(self) -> float:
        return self.now_us / SECOND_US
