"""One leader at a time, by a Lease object and compare-and-swap.

Whoever holds the lease renews it every few seconds; who sees it unrenewed for its whole duration, by his own
clock, may take it. Clocks of two machines are never compared: only how long the record has stood unchanged
before one's own eyes counts. A leader that cannot renew stops its work *before* the others may take over.

A lease is no fencing token: a leader may be frozen and wake up deposed. So every leadership has a *term*, the
lease's transitions + 1, which only grows (it grows even when the same process takes the lease again), and
everything outside the store is told the term and refuses an older one.

Invariants: renew deadline < lease duration; the term handed out is that of a write which succeeded.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import structlog

from gitkube.api.client import Client
from gitkube.api.errors import StatusError, is_already_exists, is_conflict, is_not_found
from gitkube.clock import Clock, rfc3339_micro
from gitkube.objects.kinds import LEASE
from gitkube.objects.types import Object

T = TypeVar("T")

JITTER = 0.2
RELEASE_TIMEOUT_S = 2.0

log = structlog.get_logger(__name__)


class LeaderElection:
    """See the module's text.

    Args:
        identity: who stands for election; unique among those who do.
        lease_duration_s: how long a record must stand unchanged before somebody else may take it.
        renew_deadline_s: how long the leader tries to renew before it stops its work.
        retry_period_s: between two tries.
    """

    def __init__(
        self,
        client: Client,
        identity: str,
        *,
        clock: Clock,
        rng: random.Random,
        lease_name: str = "gitkube-controller",
        namespace: str = "kube-system",
        lease_duration_s: float = 15.0,
        renew_deadline_s: float = 10.0,
        retry_period_s: float = 2.0,
    ) -> None:
        assert retry_period_s < renew_deadline_s < lease_duration_s
        self._client = client
        self._identity = identity
        self._clock = clock
        self._rng = rng
        self._lease_name = lease_name
        self._namespace = namespace
        self._lease_duration_s = lease_duration_s
        self._renew_deadline_s = renew_deadline_s
        self._retry_period_s = retry_period_s
        self._observed: tuple[str, float] = ("", 0.0)
        """resourceVersion of the lease as last seen changed, and when that was by our clock."""
        self._observed_duration_s = 0.0

    async def run(self, on_started: Callable[[int], Awaitable[None]]) -> None:
        """Stand for election for ever; while elected, run `on_started(term)`.

        Returns when `on_started` returns; raises what it raises.
        """
        while True:
            lease, renewed_at = await self._acquire()
            term = int(lease["spec"].get("leaseTransitions") or 0) + 1
            log.info("leadership_won", identity=self._identity, term=term)
            finished = await self._lead(on_started, term, lease, renewed_at)
            if finished:
                return
            log.warning("leadership_lost", identity=self._identity, term=term)

    async def _lead(
        self, on_started: Callable[[int], Awaitable[None]], term: int, lease: Object, renewed_at: float
    ) -> bool:
        """Work and renew. True: the work is done. False: the lease is lost, and the work was stopped."""
        work = asyncio.ensure_future(on_started(term))
        renewal = asyncio.ensure_future(self._renew(lease, renewed_at))
        is_finished = is_lost = False
        try:
            await asyncio.wait((work, renewal), return_when=asyncio.FIRST_COMPLETED)
            is_finished, is_lost = work.done(), renewal.done()
        finally:
            await _stop(work)
            await _stop(renewal)
            if not is_lost:
                await self._release(term)
        if is_finished:
            work.result()
            return True
        renewal.result()  # raises if renewing itself is broken
        if not work.cancelled() and (error := work.exception()) is not None:
            log.warning("work_failed_while_stopping", identity=self._identity, error=str(error))
        return False

    async def _acquire(self) -> tuple[Object, float]:
        while True:
            started = self._clock.monotonic()
            try:
                lease = await self._try_to_take()
                if lease is not None:
                    return lease, started
            except (StatusError, OSError, TimeoutError) as error:
                log.warning("election_failed", identity=self._identity, error=str(error))
            await self._clock.sleep(self._retry_period_s * (1 + JITTER * self._rng.random()))

    async def _try_to_take(self) -> Object | None:
        """The lease, if it is ours now."""
        now = rfc3339_micro(self._clock.now())
        try:
            lease = await self._client.get(LEASE, self._lease_name, self._namespace)
        except StatusError as error:
            if not is_not_found(error):
                raise
            return await self._write(self._client.create(LEASE, self._record(now, now, 0)))
        spec = lease.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        if lease["metadata"]["resourceVersion"] != self._observed[0]:
            self._observed = (lease["metadata"]["resourceVersion"], self._clock.monotonic())
            self._observed_duration_s = float(spec.get("leaseDurationSeconds") or self._lease_duration_s)
        stands_since = self._observed[1]
        is_held = holder not in ("", self._identity)
        if is_held and self._clock.monotonic() < stands_since + self._observed_duration_s:
            return None
        # Also when it was ours before: a new leadership is a new term.
        record = self._record(now, now, int(spec.get("leaseTransitions") or 0) + 1)
        record["metadata"]["resourceVersion"] = lease["metadata"]["resourceVersion"]
        return await self._write(self._client.update(LEASE, record))

    async def _write(self, request: Coroutine[Any, Any, Object]) -> Object | None:
        try:
            return await request
        except StatusError as error:
            if is_conflict(error) or is_already_exists(error):
                return None  # somebody else was faster
            raise

    async def _renew(self, lease: Object, renewed_at: float) -> None:
        """Keep the lease; returns when it is lost."""
        while True:
            await self._clock.sleep(self._retry_period_s)
            started = self._clock.monotonic()
            left_s = renewed_at + self._renew_deadline_s - started
            try:
                renewed = await self._within(left_s, self._renew_once(lease))
            except (StatusError, OSError, TimeoutError) as error:
                log.warning("lease_not_renewed", identity=self._identity, error=str(error))
                if self._clock.monotonic() >= renewed_at + self._renew_deadline_s:
                    return
                continue
            if renewed is None:
                return
            lease, renewed_at = renewed, started

    async def _renew_once(self, lease: Object) -> Object | None:
        spec = lease["spec"]
        record = self._record(
            spec["acquireTime"],
            rfc3339_micro(self._clock.now()),
            int(spec.get("leaseTransitions") or 0),
        )
        record["metadata"]["resourceVersion"] = lease["metadata"]["resourceVersion"]
        try:
            return await self._client.update(LEASE, record)
        except StatusError as error:
            if not is_conflict(error) and not is_not_found(error):
                raise
        # An earlier try may have been written although its answer was lost.
        try:
            current = await self._client.get(LEASE, self._lease_name, self._namespace)
        except StatusError as error:
            if is_not_found(error):
                return None
            raise
        mine = (self._identity, spec.get("leaseTransitions"))
        held = (current["spec"].get("holderIdentity"), current["spec"].get("leaseTransitions"))
        return current if held == mine else None

    async def _release(self, term: int) -> None:
        """Let the next one take over at once. Failing is harmless: the lease runs out by itself."""
        try:
            lease = await self._within(
                RELEASE_TIMEOUT_S, self._client.get(LEASE, self._lease_name, self._namespace)
            )
            spec = lease["spec"]
            if spec.get("holderIdentity") != self._identity or int(spec["leaseTransitions"]) + 1 != term:
                return
            record = self._record(spec["acquireTime"], rfc3339_micro(self._clock.now()), term - 1)
            record["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
            record["metadata"]["resourceVersion"] = lease["metadata"]["resourceVersion"]
            await self._within(RELEASE_TIMEOUT_S, self._client.update(LEASE, record))
        except (StatusError, OSError, TimeoutError) as error:
            log.info("lease_not_released", identity=self._identity, error=str(error))

    async def _within(self, timeout_s: float, request: Coroutine[Any, Any, T]) -> T:
        """The request's answer, if it comes in time by our clock.

        Raises:
            TimeoutError: it does not.
        """
        task = asyncio.ensure_future(request)
        alarm = asyncio.ensure_future(self._clock.sleep(max(timeout_s, 0.0)))
        try:
            await asyncio.wait((task, alarm), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise TimeoutError(f"no answer within {timeout_s:.1f} s")
        finally:
            await _stop(alarm)
            await _stop(task)

    def _record(self, acquired: str, renewed: str, transitions: int) -> Object:
        return {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.kind,
            "metadata": {"name": self._lease_name, "namespace": self._namespace},
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": max(1, round(self._lease_duration_s)),
                "acquireTime": acquired,
                "renewTime": renewed,
                "leaseTransitions": transitions,
            },
        }


async def _stop(task: asyncio.Future[Any]) -> None:
    """Cancel, and wait for the end; its outcome stays with the task."""
    if not task.done():
        task.cancel()
        await asyncio.wait((task,))
