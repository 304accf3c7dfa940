"""Puts back what somebody else has changed or deleted, object by object.

Whoever sees that an object may have changed adds it; a worker looks whether it is still as it was left, and
applies it if not. While a commit is being applied nothing is healed: that does the same, and more. Two who
fight over a field would do so as fast as the API answers, so each object is put back only so often.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable

import structlog

from gitkube.api.errors import StatusError, is_outage
from gitkube.api.workqueue import WorkQueue, run_workers
from gitkube.clock import Clock
from gitkube.gitops.applier import Applier
from gitkube.gitops.check import Ref
from gitkube.gitops.desired import Desired

HEAL_WORKERS = 4
MAX_HEALS_PER_MINUTE = 6
"""Of one object: a fight with another writer is fought at this pace, and shown in the log."""
DEPLOYING_RETRY_S = 1.0

log = structlog.get_logger(__name__)


class Healer:
    """See the module's text.

    Args:
        wanted: what git wants of an object now; None when it is not git's.
        is_deploying: whether a commit is being applied.
        on_done: called after each try.
    """

    def __init__(
        self,
        applier: Applier,
        *,
        wanted: Callable[[Ref], Desired | None],
        is_deploying: Callable[[], bool],
        on_done: Callable[[], None],
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._applier = applier
        self._wanted, self._is_deploying, self._on_done = wanted, is_deploying, on_done
        self._clock = clock
        self._queue: WorkQueue[Ref] = WorkQueue(clock, rng)
        self._heals: dict[Ref, deque[float]] = {}

    def add(self, ref: Ref, delay_s: float = 0.0) -> None:
        """Have an object looked at."""
        self._queue.add_after(ref, delay_s)

    async def run(self) -> None:
        """Heal for ever."""
        await run_workers(self._queue, self._heal, workers=HEAL_WORKERS, name="gitops-heal")

    async def _heal(self, ref: Ref) -> float | None:
        """Apply one object again if it is not as it was left."""
        wanted = self._wanted(ref)
        if wanted is None:
            self._heals.pop(ref, None)
            return None
        if self._is_deploying():
            return DEPLOYING_RETRY_S
        if not self._applier.is_due(wanted):
            return None
        now_s = self._clock.monotonic()
        heals = self._heals.setdefault(ref, deque(maxlen=MAX_HEALS_PER_MINUTE))
        if len(heals) == MAX_HEALS_PER_MINUTE and now_s - heals[0] < 60:
            log.warning("heal_paced", object=str(ref), reason="another writer keeps changing it")
            return 60 - (now_s - heals[0])
        try:
            has_changed = await self._applier.apply_one(wanted)
            heals.append(now_s)  # one that fails is no fight; the queue paces it
            if has_changed:
                log.info("object_healed", object=str(ref), origin=str(wanted.place))
        except StatusError as error:
            if not is_outage(error):
                self._applier.quarantine(wanted, error)
            raise
        finally:
            self._on_done()
        return None
