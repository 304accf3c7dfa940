"""One controller acts at a time: the one whose member leads the store.

The store has elected a leader already, by votes that are on the disks of a majority; a second election over
it could only be slower, or disagree. So a controller acts while its own member leads, and takes the *Lease*
object as soon as that is so, whoever holds it. (docs/decisions/0004-acting-follows-the-store.md)

The Lease is no heartbeat: it is written once a leadership. The revision of that write is the leadership's
*term*. It only grows, also over a restored backup, and it fences in both directions: what the leader writes
is compared with it in the store (`store/fenced.py`), and hosts refuse orders of an older one. Safety rests
on these two alone. Everything here is for speed: to begin soon, and to stop soon.

Invariant: `on_started` runs with the term of a write that succeeded, and never twice at a time.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

import structlog

from gitkube.api.client import Client
from gitkube.api.errors import StatusError, is_already_exists, is_conflict, is_not_found
from gitkube.clock import Clock, rfc3339_micro
from gitkube.objects.kinds import LEASE
from gitkube.objects.types import Object

LEASE_NAME, LEASE_NAMESPACE = "gitkube-controller", "kube-system"
LOOK_S = 0.2
"""How soon a change of the store's leader is noticed; the question stays on this machine."""
CHECK_LEASE_S = 2.0
RETRY_S = 0.5
JITTER = 0.2
NO_EXPIRY_S = 2**31 - 1
"""The Lease is held until another member leads; the field wants a number."""

log = structlog.get_logger(__name__)


class Standing(Protocol):
    """What an election must know of the store."""

    @property
    def is_leader(self) -> bool | None:
        """Whether our own member leads; None when it does not say."""
        ...


class LeaderElection:
    """See the module's text.

    Args:
        identity: who we are, in the Lease.
        standing: kept up to date by whoever runs it.
    """

    def __init__(
        self,
        client: Client,
        identity: str,
        standing: Standing,
        *,
        clock: Clock,
        rng: random.Random,
        lease_name: str = LEASE_NAME,
        namespace: str = LEASE_NAMESPACE,
    ) -> None:
        self._client = client
        self._identity = identity
        self._standing = standing
        self._clock = clock
        self._rng = rng
        self._lease_name = lease_name
        self._namespace = namespace

    async def run(self, on_started: Callable[[int], Awaitable[None]]) -> None:
        """Run `on_started(term)` whenever and as long as our member leads.

        Returns when `on_started` returns; raises what it raises.
        """
        while True:
            if not self._standing.is_leader:
                await self._clock.sleep(LOOK_S)
                continue
            term = await self._take()
            if term is None:
                await self._clock.sleep(RETRY_S * (1 + JITTER * self._rng.random()))
                continue
            log.info("leadership_won", identity=self._identity, term=term)
            if await self._lead(on_started, term):
                return
            log.warning("leadership_lost", identity=self._identity, term=term)

    async def _lead(self, on_started: Callable[[int], Awaitable[None]], term: int) -> bool:
        """True: the work is done. False: the leadership is over, and the work was stopped."""
        work = asyncio.ensure_future(on_started(term))
        watching = asyncio.ensure_future(self._until_deposed(term))
        try:
            await asyncio.wait((work, watching), return_when=asyncio.FIRST_COMPLETED)
            is_finished = work.done()
        finally:
            await _stop(watching)
            await _stop(work)
        if is_finished:
            work.result()
            return True
        watching.result()
        if not work.cancelled() and (error := work.exception()) is not None:
            log.warning("work_failed_while_stopping", identity=self._identity, error=str(error))
        return False

    async def _until_deposed(self, term: int) -> None:
        """Returns when somebody else leads. A member that is silent deposes nobody: it may be restarting, and
        while it is away nothing can be written anyway."""
        next_check_s = self._clock.monotonic() + CHECK_LEASE_S
        while self._standing.is_leader is not False:
            await self._clock.sleep(LOOK_S)
            if self._clock.monotonic() < next_check_s:
                continue
            next_check_s = self._clock.monotonic() + CHECK_LEASE_S
            if await self._is_taken(term):
                return

    async def _is_taken(self, term: int) -> bool:
        """Whether the Lease is another's, or was changed by hand: then all our writes are refused."""
        try:
            lease = await self._client.get(LEASE, self._lease_name, self._namespace)
        except StatusError as error:
            return is_not_found(error)
        return _version(lease) > term

    async def _take(self) -> int | None:
        """Write ourselves into the Lease; the term, or None when it could not be written now."""
        now = rfc3339_micro(self._clock.now())
        try:
            lease = await self._client.get(LEASE, self._lease_name, self._namespace)
            transitions = int((lease.get("spec") or {}).get("leaseTransitions") or 0) + 1
            record = self._record(now, transitions)
            record["metadata"]["resourceVersion"] = lease["metadata"]["resourceVersion"]
            return await self._written(self._client.update(LEASE, record))
        except StatusError as error:
            if not is_not_found(error):
                log.warning("lease_not_taken", identity=self._identity, error=error.message)
                return None
        try:
            return await self._written(self._client.create(LEASE, self._record(now, 0)))
        except StatusError as error:
            log.warning("lease_not_taken", identity=self._identity, error=error.message)
            return None

    async def _written(self, request: Coroutine[Any, Any, Object]) -> int | None:
        try:
            return _version(await request)
        except StatusError as error:
            if is_conflict(error) or is_already_exists(error):
                return None  # somebody else was faster
            raise

    def _record(self, acquired: str, transitions: int) -> Object:
        return {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.kind,
            "metadata": {"name": self._lease_name, "namespace": self._namespace},
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": NO_EXPIRY_S,
                "acquireTime": acquired,
                "renewTime": acquired,
                "leaseTransitions": transitions,
            },
        }


def _version(lease: Object) -> int:
    return int(lease["metadata"]["resourceVersion"])


async def _stop(task: asyncio.Future[Any]) -> None:
    """Cancel, and wait for the end; its outcome stays with the task."""
    if not task.done():
        task.cancel()
        await asyncio.wait((task,))
