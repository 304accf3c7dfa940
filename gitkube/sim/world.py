"""What everything in a life shares: time, chance, the network, the checks and the notes.

One object is handed around in place of six. Chance is one generator for all pretended things; the product's
own generators are seeded from it.

Invariant: notes cost nothing and change nothing when nobody asked for them.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from gitkube.sim.checks import Checks
from gitkube.sim.network import Network
from gitkube.sim.schedule import Schedule


@dataclass(slots=True)
class Counts:
    """What happened in a life, for its summary."""

    crashes: int = 0
    restarts: int = 0
    partitions: int = 0
    snapshots_sent: int = 0
    snapshots_taken: int = 0
    membership_changes: int = 0
    transfers: int = 0
    damaged: int = 0
    refused: int = 0
    torn_by_damage: int = 0
    disk_errors: int = 0
    leases_expired: int = 0
    watched_events: int = 0
    compactions: int = 0


@dataclass(slots=True)
class World:
    """See the module's text."""

    schedule: Schedule
    rng: random.Random
    network: Network
    checks: Checks
    tell: Callable[[str], None] | None = None
    """Where notes go; None: nobody listens, and callers don't even make them."""
    counts: Counts = field(default_factory=Counts)

    def note(self, who: str, what: str) -> None:
        if self.tell is not None:
            self.tell(f"{self.schedule.now_s:10.4f} s  {who:<8} {what}")

    def chance(self, probability: float) -> bool:
        return probability > 0.0 and self.rng.random() < probability
