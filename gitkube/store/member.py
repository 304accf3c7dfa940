"""The member of a cluster, or the whole of one: the `Store` protocol over an `Engine`.

Reads and writes become what the engine understands: a command for the log, or a read of the key space once
it is known to be current. Time belongs to the leader alone: only it says whether a lease still lives.
"""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import structlog

from gitkube.clock import Clock, SystemClock
from gitkube.store import results, rpc
from gitkube.store.administration import Administration
from gitkube.store.command import Alarm, AlarmKind, Compact, LeaseGrant, LeaseRevoke, Origin, Txn
from gitkube.store.config import JoinInfo
from gitkube.store.directory import lock_directory
from gitkube.store.disk import Disk, SystemDisk
from gitkube.store.engine import Engine
from gitkube.store.leases import lease_not_found
from gitkube.store.mvcc import NOW, Result
from gitkube.store.protocol import (
    NO_LEASE,
    Compare,
    EventType,
    Get,
    Lease,
    LeaseId,
    NoSpaceError,
    Operation,
    RangeResult,
    Revision,
    StoreStatus,
    TxnResult,
    UnavailableError,
    WatchBatch,
)
from gitkube.store.replica import Replica, ReplicaSettings
from gitkube.store.settings import MemberSettings, PeerSettings
from gitkube.store.starting import open_replica
from gitkube.store.waiting import Waiter

log = structlog.get_logger()

HANDOVER_TIMEOUT_S = 1.0
_OF_LEADER = ("lease_keep_alive", "lease_time_to_live")


class Member:
    """A `Store` on a directory of this machine, and with `administration` a `StoreAdmin`. Make one with
    `open`.
    """

    def __init__(
        self,
        replica: Replica,
        lock: int,
        *,
        settings: MemberSettings,
        clock: Clock,
        rng: random.Random,
        peers: PeerSettings | None,
    ) -> None:
        self.engine = Engine(
            replica, settings=settings, clock=clock, rng=rng, peers=peers, answer=self._answer
        )
        self.administration = Administration(self.engine)
        self._lock = lock

    @classmethod
    async def open(
        cls,
        directory: Path,
        *,
        name: str = "0",
        clock: Clock | None = None,
        rng: random.Random | None = None,
        settings: MemberSettings | None = None,
        peers: PeerSettings | None = None,
        join: JoinInfo | None = None,
        disk: Disk | None = None,
    ) -> Member:
        """Open the member of a data directory, or make it.

        Args:
            name: of a new member.
            peers: None is a member that is alone.
            join: the place in a cluster that a new member has been given; None begins a cluster of its own.

        Raises:
            CorruptError: what is on the disk is damaged or of a newer format; nothing is changed then.
            IdentityError: the directory is another member's.
            StoreError: another process has the directory.
            UnavailableError: the address for other members cannot be listened on, or the disk failed.
        """
        settings, clock, rng = (
            settings or MemberSettings(),
            clock or SystemClock(),
            rng or random.SystemRandom(),
        )
        disk = disk or SystemDisk()
        disk.make_directory(directory)
        lock = await lock_directory(directory, clock, settings.lock_wait_s)
        try:
            replica = open_replica(
                disk, directory, name=name, rng=rng, join=join,
                peer_address=(peers.advertise or peers.listen) if peers else "",
                client_urls=peers.client_urls if peers else (),
                settings=ReplicaSettings(
                    segment_bytes=settings.segment_bytes,
                    snapshot_entries=settings.snapshot_entries,
                    keep_entries=settings.keep_entries,
                    election_ticks=settings.election_ticks,
                ),
            )  # fmt: skip
        except BaseException:
            os.close(lock)
            raise
        member = cls(replica, lock, settings=settings, clock=clock, rng=rng, peers=peers)
        try:
            await member.engine.start()
        except BaseException:
            await member.close()
            raise
        return member

    # ------------------------------------------------------------------ the Store protocol: reading

    async def range(
        self,
        key: bytes,
        end: bytes | None = None,
        *,
        limit: int = 0,
        revision: Revision = NOW,
        keys_only: bool = False,
        count_only: bool = False,
        serializable: bool = False,
    ) -> RangeResult:
        engine = self.engine
        if not serializable:
            await engine.current()
        engine.check_alive()
        return engine.replica.space.range(
            key, end, limit=limit, revision=revision, keys_only=keys_only, count_only=count_only
        )

    async def read(self, get: Get, *, serializable: bool = False) -> RangeResult:
        if not serializable:
            await self.engine.current()
        return self.read_now(get)

    def read_now(self, get: Get) -> RangeResult:
        """As `read`, from the key space as it is at this moment."""
        self.engine.check_alive()
        return self.engine.replica.space.read(get)

    async def watch(
        self,
        key: bytes,
        end: bytes | None = None,
        *,
        start_revision: Revision = NOW,
        previous: bool = False,
        without: frozenset[EventType] = frozenset(),
        progress_s: float = 0.0,
    ) -> AsyncIterator[WatchBatch]:
        self.engine.check_alive()
        async for batch in self.engine.watches.watch(
            key, end, start_revision, previous=previous, without=without, progress_s=progress_s
        ):
            yield batch

    # ------------------------------------------------------------------ the Store protocol: writing

    async def txn(
        self,
        compare: Sequence[Compare],
        success: Sequence[Operation],
        failure: Sequence[Operation] = (),
        *,
        previous: bool = False,
        origin: Origin | None = None,
    ) -> TxnResult:
        txn = Txn(tuple(compare), tuple(success), tuple(failure))
        self.engine.replica.space.check(txn)
        if _only_reads(txn):
            await self.engine.current()
            self.engine.check_alive()
            return self.engine.replica.space.answer(txn)  # it changes nothing: no need for the log
        await self._check_quota(txn)
        return results.txn_result(await self.engine.propose(txn, origin), previous=previous)

    def begin_txn(self, txn: Txn, origin: Origin, answer: Waiter[Result], data: bytes) -> bool:
        """Begin a transaction that only the log is needed for, and tell `answer` its result.

        Args:
            data: what `txn` and `origin` were decoded from (`command.decode`).

        Returns:
            False: it was not begun, since there is more to it; `txn` does that.

        Raises:
            StoreError: as `txn`, for what is known now.
        """
        engine = self.engine
        space = engine.replica.space
        space.check(txn)
        if _only_reads(txn) or space.would_exceed(txn, engine.settings.quota_bytes):
            return False
        engine.begin(data, origin, answer, txn)
        return True

    async def compact(self, revision: Revision, *, origin: Origin | None = None) -> None:
        await self.engine.propose(Compact(revision), origin)

    async def _check_quota(self, txn: Txn) -> None:
        engine = self.engine
        space, quota_bytes = engine.replica.space, engine.settings.quota_bytes
        if not space.would_exceed(txn, quota_bytes):
            return
        alarm = Alarm(AlarmKind.NOSPACE, engine.replica.identity.member_id)
        if alarm not in space.alarms:
            await engine.propose(alarm)
            log.error("store_quota_reached", live_bytes=space.live_bytes, quota_bytes=quota_bytes)
        raise NoSpaceError(
            f"the store holds {space.live_bytes} bytes and its quota is {quota_bytes}: what would grow it is "
            "refused. Delete what is not needed and run `gitkube store compact`, or start `gitkube serve` "
            "with a larger --store-quota."
        )

    # ------------------------------------------------------------------ the Store protocol: leases

    async def lease_grant(
        self, ttl_s: int, lease: LeaseId = NO_LEASE, *, origin: Origin | None = None
    ) -> Lease:
        ttl_s = self.engine.lessor.ttl_for(ttl_s)
        lease = lease or LeaseId(self.engine.rng.getrandbits(62) + 1)
        await self.engine.propose(LeaseGrant(lease, ttl_s), origin)
        return Lease(lease, ttl_s, float(ttl_s))

    async def lease_revoke(self, lease: LeaseId, *, origin: Origin | None = None) -> None:
        await self.engine.propose(LeaseRevoke(lease), origin)

    async def lease_keep_alive(self, lease: LeaseId) -> Lease:
        return rpc.lease_from_list(await self.engine.leadership.ask("lease_keep_alive", [lease]))

    async def lease_time_to_live(self, lease: LeaseId) -> Lease:
        return rpc.lease_from_list(await self.engine.leadership.ask("lease_time_to_live", [lease]))

    async def leases(self) -> Sequence[LeaseId]:
        await self.engine.current()
        return sorted(self.engine.replica.space.leases)

    def _lease_here(self, method: str, lease: LeaseId, asked: float) -> Lease:
        """Time is kept by the leader alone: nobody else may say that a lease lives."""
        engine = self.engine
        now = engine.clock.monotonic()
        left_s = engine.lessor.remaining_s(lease, now)
        if method == "lease_keep_alive":
            if left_s <= 0:
                raise lease_not_found(lease)
            engine.lessor.keep_alive(lease, asked)
            left_s = engine.lessor.remaining_s(lease, now)
        space = engine.replica.space
        return Lease(lease, space.leases[lease], left_s, space.keys_of_lease(lease))

    # ------------------------------------------------------------------ state

    async def status(self) -> StoreStatus:
        self.engine.check_alive()
        replica = self.engine.replica
        node, space, identity = replica.node, replica.space, replica.identity
        return StoreStatus(
            member=identity.name,
            is_leader=self.engine.is_leader,
            term=node.term,
            revision=space.revision,
            compact_revision=space.compact_revision,
            keys=len(space),
            size_bytes=replica.disk_bytes,
            cluster_id=identity.cluster_id,
            member_id=identity.member_id,
            leader_id=self.engine.leadership.leader_id,
            last_index=node.last_index,
            applied_index=node.applied,
            live_bytes=space.live_bytes,
            quota_bytes=self.engine.settings.quota_bytes,
            is_learner=identity.member_id in node.conf.learners,
            alarms=sorted({alarm.kind.name for alarm in space.alarms}),
        )

    def metrics(self) -> str:
        """In Prometheus' text format."""
        return self.engine.metrics_text()

    async def close(self) -> None:
        """Answer what is queued, hand over, release the directory."""
        engine = self.engine
        if engine.is_closed:
            return
        if engine.is_leader and not engine.replica.is_alone:
            await self.administration.hand_over(HANDOVER_TIMEOUT_S)
        await engine.close()
        os.close(self._lock)

    async def wait_failed(self) -> BaseException:
        """Return when the member cannot go on, with the reason. Its process should end then."""
        return await self.engine.wait_failed()

    async def _answer(self, method: str, arguments: Sequence[Any]) -> Any:
        """Answer what another member asks, or this one itself when it leads."""
        if method in _OF_LEADER:
            if not self.engine.is_leader:
                raise UnavailableError("this member does not lead any more")
            asked = self.engine.clock.monotonic()
            if method == "lease_keep_alive":
                # A leader that was deposed and does not know it must promise nothing.
                await self.engine.current()
                if not self.engine.is_leader:
                    raise UnavailableError("this member does not lead any more")
            return rpc.lease_to_list(self._lease_here(method, LeaseId(arguments[0]), asked))
        return await self.administration.answer(method, arguments)


def _only_reads(txn: Txn) -> bool:
    for operations in (txn.success, txn.failure):
        for operation in operations:
            if not isinstance(operation, Get):
                return False
    return True
