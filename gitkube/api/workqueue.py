"""The queue between "something may have changed" and the loop that looks.

Informers put *keys* in, workers take them out and reconcile; what happened is never in the queue, so that
ten changes of one object while a worker is busy cost one look. It keeps client-go's four promises:

1. *fair*: keys come out in the order in which they were first added;
2. *one worker per key*: a key that is being worked on is given to nobody else;
3. *re-add while working*: a key that is added meanwhile comes again after `done`, and is never lost;
4. *shutdown*: what was added is still given out, then everyone who waits is told that it is over.

Beside these: a key can be added after a delay, or after a delay that doubles with each failure of that key.
The timer for the delays runs only while somebody waits in `get`, so no task outlives the workers.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import structlog

from gitkube.api.errors import StatusError, is_conflict
from gitkube.clock import Clock

K = TypeVar("K", bound=Hashable)

BASE_DELAY_S = 0.005
MAX_DELAY_S = 60.0
"""A person who has mended the cause should not wait longer than this for the next try."""
JITTER = 0.1
"""The share by which a retry's delay is drawn out, so that what failed together does not return together."""
MAX_EXPONENT = 40
"""2**40 times any base delay is beyond each maximum; further doubling would only overflow."""

log = structlog.get_logger(__name__)


class QueueShutDown(Exception):
    """The queue was shut down and is empty: the worker's work is over."""


class WorkQueue(Generic[K]):
    """See the module's text.

    Invariants: a key is in `_ready` if and only if it is in `_dirty` and not in `_working`; each key of
    `_delayed` has an entry of the same time in `_timers` (entries without are outdated).
    """

    def __init__(
        self,
        clock: Clock,
        rng: random.Random,
        base_delay_s: float = BASE_DELAY_S,
        max_delay_s: float = MAX_DELAY_S,
    ) -> None:
        self._clock = clock
        self._rng = rng
        self._base_delay_s = base_delay_s
        self._max_delay_s = max_delay_s
        self._ready: deque[K] = deque()
        self._dirty: set[K] = set()
        self._working: set[K] = set()
        self._failures: dict[K, int] = {}
        self._delayed: dict[K, float] = {}
        self._timers: list[tuple[float, int, K]] = []
        self._sequence = itertools.count()
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.Task[None] | None = None
        self._is_shut_down = False

    def __len__(self) -> int:
        """How many keys wait for a worker now (without the delayed ones)."""
        return len(self._ready)

    def add(self, key: K) -> None:
        """Have the key looked at. Twice before a worker takes it is once."""
        if self._is_shut_down or key in self._dirty:
            return
        self._dirty.add(key)
        if key not in self._working:
            self._ready.append(key)
            self._wake_one()

    def add_after(self, key: K, delay_s: float) -> None:
        """Add the key when the delay is over; of several delays for one key the earliest end counts."""
        if self._is_shut_down:
            return
        if delay_s <= 0:
            self.add(key)
            return
        due = self._clock.monotonic() + delay_s
        if key in self._delayed and self._delayed[key] <= due:
            return
        self._delayed[key] = due
        heapq.heappush(self._timers, (due, next(self._sequence), key))
        # A timer without a waiter is that of one who was woken and has not had its turn; whoever waits before
        # that would take it over as it is.
        if (self._waiters or self._timer is not None) and self._timers[0][2] == key:
            self._arm()

    def add_rate_limited(self, key: K) -> None:
        """Add the key after a delay that doubles with each call until `forget`."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay_s = min(self._base_delay_s * 2.0 ** min(failures, MAX_EXPONENT), self._max_delay_s)
        self.add_after(key, delay_s * (1 + JITTER * self._rng.random()))

    def forget(self, key: K) -> None:
        """The key's work succeeded: its next failure starts at the base delay again."""
        self._failures.pop(key, None)

    def failures(self, key: K) -> int:
        """How often the key has failed since it last succeeded."""
        return self._failures.get(key, 0)

    async def get(self) -> K:
        """The next key. The caller owes a `done(key)`.

        Raises:
            QueueShutDown: shut down, and nothing is left.
        """
        while True:
            self._release_due()
            if self._ready:
                key = self._ready.popleft()
                self._dirty.discard(key)
                self._working.add(key)
                return key
            if self._is_shut_down:
                raise QueueShutDown
            await self._wait()

    def done(self, key: K) -> None:
        """The worker is through with the key, well or not; if it was added meanwhile it comes again."""
        assert key in self._working, f"done({key!r}) without a get"
        self._working.discard(key)
        if key in self._dirty:
            self._ready.append(key)
            self._wake_one()

    def shut_down(self) -> None:
        """Take nothing more. What is ready is still given out; what is delayed is dropped."""
        self._is_shut_down = True
        self._delayed.clear()
        self._timers.clear()
        self._disarm()
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _wait(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        if self._timer is None:
            self._arm()
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._wake_one()  # the key meant for us must wake somebody else
            raise
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            if not self._waiters:
                self._disarm()

    def _wake_one(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _release_due(self) -> None:
        now = self._clock.monotonic()
        while self._timers and self._timers[0][0] <= now:
            due, _, key = heapq.heappop(self._timers)
            if self._delayed.get(key) == due:
                del self._delayed[key]
                self.add(key)

    def _arm(self) -> None:
        self._disarm()
        if self._timers:
            self._timer = asyncio.get_running_loop().create_task(self._ring(), name="workqueue timer")

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _ring(self) -> None:
        while self._timers:
            await self._clock.sleep(max(self._timers[0][0] - self._clock.monotonic(), 0.0))
            self._release_due()
        self._timer = None


async def run_workers(
    queue: WorkQueue[K],
    reconcile: Callable[[K], Awaitable[float | None]],
    *,
    workers: int,
    name: str,
) -> None:
    """Reconcile keys until the queue is shut down or the caller is cancelled.

    Args:
        reconcile: one function from a key to an outcome. Returning a number of seconds means "look again
            after so long"; an exception means "retry with backoff".
        workers: how many keys may be worked on at once.
        name: of the loop, for logs.
    """
    async with asyncio.TaskGroup() as group:
        for number in range(workers):
            group.create_task(_work(queue, reconcile, name), name=f"{name} worker {number}")


async def _work(queue: WorkQueue[K], reconcile: Callable[[K], Awaitable[float | None]], name: str) -> None:
    while True:
        try:
            key = await queue.get()
        except QueueShutDown:
            return
        try:
            again_after_s = await reconcile(key)
        except Exception as error:
            queue.add_rate_limited(key)
            _log_failure(name, key, queue.failures(key), error)
        except BaseException:
            queue.add(key)  # cancelled half way: whoever runs the workers next must look again
            raise
        else:
            queue.forget(key)
            if again_after_s is not None:
                queue.add_after(key, again_after_s)
        finally:
            queue.done(key)
        # A look that had nothing to wait for has let nobody else have a turn, and neither has a full queue.
        await asyncio.sleep(0)


def _log_failure(name: str, key: object, failures: int, error: Exception) -> None:
    facts = {"loop": name, "key": _shown(key), "failures": failures, "error": str(error)}
    if is_conflict(error):
        # Somebody else wrote first. It is the price of optimistic concurrency, and the next look settles it.
        log.debug("reconcile_conflicted", **facts)
    elif isinstance(error, StatusError | OSError):
        log.warning("reconcile_failed", **facts)
    else:
        # A mistake of ours: the trace says where.
        log.error("reconcile_crashed", **facts, exc_info=error)


def _shown(key: object) -> str:
    """As people write it: keys of more than one kind have a text of their own, `Deployment shop/web`."""
    return "/".join(map(str, key)) if type(key) is tuple else str(key)
