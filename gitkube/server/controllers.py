"""The controllers of the cluster, as the store's membership has them: who leads, and where each is reached.

One loop looks at our own member a few times a second and keeps what it says; everybody else reads that. The
same loop does what keeps the membership true: it records our addresses when they have changed, asks to be
made a voter while we are a learner, and, when the leader's API falls silent while its member goes on, asks
the store to hand the leadership over to us.

Invariant: what is read here may be a moment old, and nothing that must be safe rests on it (see
`store/fenced.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog

from gitkube.clock import Clock
from gitkube.server.cluster import ManagedStore
from gitkube.store.protocol import MemberInfo, MembershipError, StoreError, StoreStatus, UnavailableError

LOOK_S = 0.2
UPKEEP_S = 1.0
PROBE_TIMEOUT_S = 1.5
ANSWER_TIMEOUT_S = 15.0
"""Longer than our member's process takes to be started again; one that was stopped answers never."""
SILENT_PROBES = 4
"""So many in a row make a leader's API silent: some six seconds."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where we are reached."""

    peer: str
    client_urls: tuple[str, ...]


class Controllers:
    """See the module's text.

    Args:
        addresses: ours.
        is_alive: whether an API answers, given its URL and the seconds to wait.
        on_change: called after members, leader or addresses have changed.
    """

    def __init__(
        self,
        store: ManagedStore,
        addresses: Addresses,
        *,
        clock: Clock,
        is_alive: Callable[[str, float], Awaitable[bool]],
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._addresses = addresses
        self._clock = clock
        self._is_alive = is_alive
        self._on_change = on_change
        self._status: StoreStatus | None = None
        self._members: tuple[MemberInfo, ...] = ()
        self._heard: tuple[int, int] = (0, 0)
        """The leader whose API has answered, and in how many probes since it has not."""

    # ------------------------------------------------------------------ what others ask

    @property
    def is_leader(self) -> bool | None:
        """Whether our member leads; None when it does not answer, or has not yet."""
        return None if self._status is None else self._status.is_leader

    @property
    def member_id(self) -> int:
        return 0 if self._status is None else self._status.member_id

    @property
    def cluster_id(self) -> int:
        return 0 if self._status is None else self._status.cluster_id

    @property
    def members(self) -> Sequence[MemberInfo]:
        return self._members

    @property
    def own(self) -> MemberInfo | None:
        return self._member(self.member_id)

    @property
    def leader(self) -> MemberInfo | None:
        """None while there is none."""
        return None if self._status is None else self._member(self._status.leader_id)

    @property
    def is_alone(self) -> bool:
        """Whether no other controller is recorded; also while that is not known."""
        return len(self._members) <= 1

    def _member(self, member: int) -> MemberInfo | None:
        return next((one for one in self._members if one.id == member and member), None)

    # ------------------------------------------------------------------ the loop

    async def run(self) -> None:
        """Look until cancelled."""
        next_upkeep_s = 0.0
        while True:
            before = (self._members, self.leader)
            await self._look()
            if (self._members, self.leader) != before:
                self._on_change()
            if self._status is not None and self._clock.monotonic() >= next_upkeep_s:
                await self._keep_up_in_time()
                next_upkeep_s = self._clock.monotonic() + UPKEEP_S
            await self._clock.sleep(LOOK_S)

    async def _look(self) -> None:
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                status = await self._store.status()
                members = tuple(sorted(await self._store.members(), key=lambda one: one.name))
        except (UnavailableError, TimeoutError) as error:
            if self._status is not None:
                log.warning("member_silent", error=str(error) or f"no answer in {ANSWER_TIMEOUT_S:g} s")
            self._status = None
            return
        if self._status is None or status.leader_id != self._status.leader_id:
            log.info("leader_seen", leader=f"{status.leader_id:016x}", store_term=status.term)
        self._status, self._members = status, members

    async def _keep_up_in_time(self) -> None:
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                await self._keep_up()
        except TimeoutError:
            log.warning("membership_upkeep_failed", error=f"no answer in {ANSWER_TIMEOUT_S:g} s")

    async def _keep_up(self) -> None:
        try:
            await self._record_addresses()
            own = self.own
            if own is not None and own.is_learner:
                await self._ask_for_promotion(own)
            elif not self.is_leader:
                await self._mind_the_leader()
        except StoreError as error:
            log.warning("membership_upkeep_failed", error=str(error))

    async def _record_addresses(self) -> None:
        own, wanted = self.own, self._addresses
        if own is None or (own.peer_address, tuple(own.client_urls)) == (wanted.peer, wanted.client_urls):
            return
        if not wanted.peer and own.peer_address:
            return  # started without --peer-listen: the others still know where it will be
        await self._store.member_update(own.id, peer_address=wanted.peer, client_urls=wanted.client_urls)
        log.info("addresses_recorded", peer=wanted.peer, urls=wanted.client_urls)

    async def _ask_for_promotion(self, own: MemberInfo) -> None:
        """Only who runs can ask: a voter that is recorded and was never started would cost the quorum."""
        try:
            await self._store.member_promote(own.id)
        except MembershipError as error:
            log.info("not_a_voter_yet", member=own.name, why=str(error))
        else:
            log.info("became_a_voter", member=own.name)

    async def _mind_the_leader(self) -> None:
        """Take over from a leader whose API was there and has fallen silent, though its member goes on.

        One that has never answered us is left alone: then it is we who cannot reach it, and to take over
        would be a fight without end.
        """
        leader, own = self.leader, self.own
        if leader is None or own is None or not leader.client_urls:
            return
        known, silent = self._heard
        if await self._is_alive(leader.client_urls[0], PROBE_TIMEOUT_S):
            self._heard = (leader.id, 0)
        elif known != leader.id:
            self._heard = (0, 0)
        elif silent + 1 < SILENT_PROBES:
            self._heard = (leader.id, silent + 1)
        else:
            log.warning("leader_api_silent", leader=leader.name, url=leader.client_urls[0])
            self._heard = (0, 0)
            await self._store.transfer_leadership(own.id)
