"""Pods that wait for a host, in three places.

*active*: to be tried now, in the order of QueueSort. *backoff*: failed, to be tried again when a pause that
doubles with each try is over. *unschedulable*: no host fits, and nothing has happened yet that could change
it; an event of the cluster moves a pod out if one of the plugins that refused it says that this kind of event
may help. Whatever has waited there for LEFTOVER_S is tried again all the same, for a hint may be wrong.

Invariant: a pod is in at most one of the three, and in none while its cycle or its binding is under way.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

from gitkube.clock import Clock
from gitkube.objects.types import Object
from gitkube.scheduler.framework import Event, Hint, QueueSort
from gitkube.scheduler.pod_info import Key, PodInfo

FIRST_BACKOFF_S = 1.0
MAX_BACKOFF_S = 10.0
LEFTOVER_S = 300.0
FLUSH_INTERVAL_S = 0.25
"""How exact the end of a pause is."""


@dataclass(slots=True, eq=False)
class QueuedPod:
    pod: PodInfo
    queued_at: float
    """When it was first seen; ties of priority go by it, so it stays through retries."""
    attempts: int = 0
    failed_at: float = 0.0
    refusing_plugins: frozenset[str] = field(default_factory=frozenset)

    @property
    def backoff_until(self) -> float:
        if not self.attempts:
            return 0.0
        # The exponent is capped, or a pod that waits for weeks would overflow the power.
        return self.failed_at + min(FIRST_BACKOFF_S * 2.0 ** min(self.attempts - 1, 10), MAX_BACKOFF_S)


class SchedulingQueue:
    def __init__(
        self, clock: Clock, queue_sort: QueueSort, hints: Mapping[str, Mapping[Event, Hint]]
    ) -> None:
        self._clock = clock
        self._queue_sort = queue_sort
        self._hints = hints
        self._active: dict[Key, QueuedPod] = {}
        self._order: list[tuple[tuple[float, ...], int, QueuedPod]] = []
        self._backoff: dict[Key, QueuedPod] = {}
        self._unschedulable: dict[Key, QueuedPod] = {}
        self._under_way: dict[Key, QueuedPod] = {}
        self._sequence = itertools.count()
        self._has_active = asyncio.Event()
        self._has_waiting = asyncio.Event()

    def __len__(self) -> int:
        return len(self._active) + len(self._backoff) + len(self._unschedulable)

    def sizes(self) -> dict[str, int]:
        """How many pods are in each place."""
        return {
            "active": len(self._active),
            "backoff": len(self._backoff),
            "unschedulable": len(self._unschedulable),
        }

    def set(self, pod: PodInfo) -> None:
        """A pod without a host was seen. If it changed in what it asks for, it is tried again."""
        if pod.key in self._under_way:
            queued = self._under_way[pod.key]
            if queued.pod.uid == pod.uid:
                queued.pod = pod
                return
            del self._under_way[pod.key]
        place = self._place_of(pod.key)
        if place is None:
            self._activate(QueuedPod(pod, self._clock.monotonic()))
            return
        queued = place[pod.key]
        before, queued.pod = queued.pod, pod
        if before.uid != pod.uid:
            del place[pod.key]
            self._activate(QueuedPod(pod, self._clock.monotonic()))
        elif place is self._unschedulable and _asks_differently(before, pod):
            del place[pod.key]
            self._retry(queued)

    def discard(self, key: Key) -> None:
        """The pod is gone, over, or has a host."""
        self._under_way.pop(key, None)
        place = self._place_of(key)
        if place is not None:
            del place[key]

    async def pop(self) -> QueuedPod:
        """The next pod to try. The caller owes `done` or `failed`."""
        while True:
            queued = self.pop_nowait()
            if queued is not None:
                return queued
            self._has_active.clear()
            await self._has_active.wait()

    def pop_nowait(self) -> QueuedPod | None:
        """As `pop`, or None when no pod is active."""
        while self._order:
            _, _, queued = heapq.heappop(self._order)
            if self._active.get(queued.pod.key) is queued:
                del self._active[queued.pod.key]
                self._under_way[queued.pod.key] = queued
                queued.attempts += 1
                return queued
        return None

    def done(self, queued: QueuedPod) -> None:
        """The pod was bound."""
        if self._under_way.get(queued.pod.key) is queued:
            del self._under_way[queued.pod.key]

    def failed(self, queued: QueuedPod, refusing_plugins: frozenset[str] = frozenset()) -> None:
        """The pod was not bound: it waits for an event if plugins refused it, else for a pause.

        Events are not kept: a refusal must be told before anything else happens than what it was decided on.
        """
        if self._under_way.get(queued.pod.key) is not queued:
            return  # deleted or replaced meanwhile
        del self._under_way[queued.pod.key]
        queued.failed_at = self._clock.monotonic()
        queued.refusing_plugins = refusing_plugins
        place = self._unschedulable if refusing_plugins else self._backoff
        place[queued.pod.key] = queued
        self._has_waiting.set()

    def move_on(self, event: Event, before: Object | None, after: Object | None) -> None:
        """Something happened in the cluster: whoever it may help is tried again."""
        for queued in list(self._unschedulable.values()):
            if self._may_help(queued, event, before, after):
                del self._unschedulable[queued.pod.key]
                self._retry(queued)

    def move_all(self) -> None:
        """Try everyone again, for no one can say what has changed."""
        for queued in list(self._unschedulable.values()):
            del self._unschedulable[queued.pod.key]
            self._retry(queued)

    def flush(self) -> None:
        """Activate whose pause is over, and who has waited too long."""
        now = self._clock.monotonic()
        for queued in list(self._backoff.values()):
            if queued.backoff_until <= now:
                del self._backoff[queued.pod.key]
                self._activate(queued)
        for queued in list(self._unschedulable.values()):
            if queued.failed_at + LEFTOVER_S <= now:
                del self._unschedulable[queued.pod.key]
                self._activate(queued)

    async def run(self) -> None:
        """Flush for ever; costs nothing while nobody waits."""
        while True:
            if not self._backoff and not self._unschedulable:
                self._has_waiting.clear()
                await self._has_waiting.wait()
            await self._clock.sleep(FLUSH_INTERVAL_S if self._backoff else 4 * FLUSH_INTERVAL_S)
            self.flush()

    def _may_help(self, queued: QueuedPod, event: Event, before: Object | None, after: Object | None) -> bool:
        for plugin in queued.refusing_plugins:
            hints = self._hints.get(plugin)
            if hints is None:
                return True
            hint = hints.get(event)
            if hint is not None and hint(queued.pod, before, after):
                return True
        return False

    def _retry(self, queued: QueuedPod) -> None:
        if queued.backoff_until > self._clock.monotonic():
            self._backoff[queued.pod.key] = queued
            self._has_waiting.set()
        else:
            self._activate(queued)

    def _activate(self, queued: QueuedPod) -> None:
        self._active[queued.pod.key] = queued
        sort_key = self._queue_sort.sort_key(queued.pod, queued.queued_at)
        heapq.heappush(self._order, (sort_key, next(self._sequence), queued))
        self._has_active.set()

    def _place_of(self, key: Key) -> dict[Key, QueuedPod] | None:
        for place in (self._active, self._backoff, self._unschedulable):
            if key in place:
                return place
        return None


def _asks_differently(before: PodInfo, after: PodInfo) -> bool:
    return before.pod.get("spec") != after.pod.get("spec") or before.labels != after.labels
