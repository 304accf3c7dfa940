"""A member's own idea of time: too fast or too slow, and with pauses.

The consensus core counts ticks; how long one lasts is a matter of the machine. Here each member has its own
rate, a jitter on every tick, and the fault driver may make ticks come in a burst (a process that was stopped
and continues) or not at all. Leases are timed on a clock that has the member's rate but does not jump, as
CLOCK_MONOTONIC does not.

Invariant: over any span the clock is wrong by less than `MAX_DRIFT`: what checks of time may rely on.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from gitkube.sim.schedule import SECOND_US

TICK_US = 100_000
MAX_DRIFT = 0.1
"""How much faster or slower than true time a member's clock may go."""


@dataclass(slots=True)
class LocalClock:
    """See the module's text."""

    rate: float = 1.0
    """Seconds of this clock in one true second."""
    jitter: float = 0.0
    """By how much of its length a tick may come late, at most."""

    def next_tick_us(self, rng: random.Random) -> int:
        """How long from now until the next tick."""
        return int(TICK_US / self.rate * (1.0 + rng.random() * self.jitter))

    def monotonic_s(self, now_us: int) -> float:
        """What the clock shows; only differences mean something."""
        return now_us * self.rate / SECOND_US


def drifting_clock(rng: random.Random) -> LocalClock:
    """A clock of ordinary quality for this simulation."""
    return LocalClock(rate=1.0 + rng.uniform(-MAX_DRIFT, MAX_DRIFT) * 0.9, jitter=rng.uniform(0.0, 0.3))
