"""`EtcdStore`: our `Store` on an etcd v3 of one or more members.

Each method is one request of etcd's, and an error of its is raised as the contract's. The limits of the
contract (sizes of keys and values, operations a transaction, a key changed twice) are checked before anything
is sent, so that a program finds the same store behind both.

What etcd cannot keep, exactly:

- **A retried write is not applied once.** etcd's log has no sessions: when the connection breaks while a
  write is under way, `UnavailableError` is raised, and only reading tells whether it was done. Nothing is
  resent behind the caller's back.
- **The key space has one owner.** Watches follow the whole of it (see `feed.py`), so an etcd that others
  fill costs us their traffic too. Give gitkube an etcd of its own.
- **A lease lives for two seconds at least** (with etcd's default election timeout; it raises shorter ones),
  and expires up to a second late.
- **A watch at exactly the compacted revision** is not refused but gives what compaction left of it; from any
  earlier one `CompactedError` is raised, as here.
- **`lease_keep_alive` and its keys are two requests**; a key put between them is already in the answer.
- **`StoreStatus`** describes the member that is asked: `keys` is counted with a read of the index,
  `quota_bytes` is unknown (0), and `compact_revision` costs a watch that is refused. Call it rarely.
- Backup, membership and transfer are etcd's own (`etcdctl`): `EtcdStore` is no `StoreAdmin`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

from gitkube.clock import Clock
from gitkube.store.checks import check_command
from gitkube.store.command import Txn
from gitkube.store.etcd import convert
from gitkube.store.etcd.connection import ClientTls, Connection
from gitkube.store.etcd.feed import Feed
from gitkube.store.etcd.wire import rpc
from gitkube.store.mvcc import NOW
from gitkube.store.protocol import (
    NO_LEASE,
    Compare,
    Event,
    EventType,
    FutureRevisionError,
    Get,
    InvalidRequestError,
    Lease,
    LeaseId,
    LeaseNotFoundError,
    Operation,
    RangeResult,
    Revision,
    StoreStatus,
    TxnResult,
    WatchBatch,
)

_ALARMS = {1: "NOSPACE", 2: "CORRUPT"}


class EtcdStore:
    """See the module's text."""

    def __init__(self, endpoints: Sequence[str], *, clock: Clock, tls: ClientTls | None = None) -> None:
        """Args:
        endpoints: HOST:PORT of the cluster's members, the preferred one first.
        """
        self._connection = Connection(endpoints, clock=clock, tls=tls)
        self._feed = Feed(self._connection, clock=clock)
        self._clock = clock
        self._names: dict[int, str] = {}

    # ------------------------------------------------------------------ keys

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
        return await self.read(
            Get(key, end, limit, revision, keys_only, count_only), serializable=serializable
        )

    async def read(self, get: Get, *, serializable: bool = False) -> RangeResult:
        request = convert.range_message(get, serializable=serializable)
        return convert.range_result(await self._connection.read("KV", "Range", request))

    async def txn(
        self,
        compare: Sequence[Compare],
        success: Sequence[Operation],
        failure: Sequence[Operation] = (),
        *,
        previous: bool = False,
    ) -> TxnResult:
        check_command(Txn(tuple(compare), tuple(success), tuple(failure)))
        request = convert.txn_message(compare, success, failure, previous=previous)
        changes = any(not isinstance(operation, Get) for operation in (*success, *failure))
        send = self._connection.write if changes else self._connection.read
        answer = await send("KV", "Txn", request)
        return TxnResult(
            answer.succeeded,
            Revision(answer.header.revision),
            [convert.operation_result(each) for each in answer.responses],
        )

    async def compact(self, revision: Revision) -> None:
        await self._connection.write("KV", "Compact", rpc.CompactionRequest(revision=revision))

    # ------------------------------------------------------------------ watches

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
        now = await self._revision()
        if start_revision > now + 1:
            raise FutureRevisionError(f"cannot watch from {start_revision}; etcd is at {now}")
        start = Revision(start_revision or now + 1)
        yield WatchBatch(Revision(start - 1))
        seen, told_s = Revision(start - 1), self._clock.monotonic()
        async with aclosing(self._feed.changes(start, now, idle_s=progress_s)) as changes:
            async for found in changes:
                if found:
                    seen = found[-1][0]
                events = [
                    event if previous else Event(event.type, event.kv)
                    for _, each in found
                    for event in each
                    if _is_in_range(event.kv.key, key, end) and event.type not in without
                ]
                is_due = 0 < progress_s <= self._clock.monotonic() - told_s
                if events or is_due:
                    yield WatchBatch(seen, events)
                    told_s = self._clock.monotonic()

    async def _revision(self) -> Revision:
        """The store's, as a linearizable read sees it."""
        return (await self.read(Get(convert.ALL, count_only=True))).revision

    # ------------------------------------------------------------------ leases

    async def lease_grant(self, ttl_s: int, lease: LeaseId = NO_LEASE) -> Lease:
        if ttl_s <= 0:
            raise InvalidRequestError(f"a lease of {ttl_s} s; it must last for 1 s at least")
        answer = await self._connection.write(
            "Lease", "LeaseGrant", rpc.LeaseGrantRequest(TTL=ttl_s, ID=lease)
        )
        return Lease(LeaseId(answer.ID), answer.TTL, float(answer.TTL))

    async def lease_keep_alive(self, lease: LeaseId) -> Lease:
        async with self._connection.stream("Lease", "LeaseKeepAlive") as stream:
            await stream.write(rpc.LeaseKeepAliveRequest(ID=lease))
            answer = await stream.read()
        if answer.TTL <= 0:
            raise LeaseNotFoundError(f"lease {lease:x} does not exist or has expired")
        return await self.lease_time_to_live(lease)

    async def lease_revoke(self, lease: LeaseId) -> None:
        await self._connection.write("Lease", "LeaseRevoke", rpc.LeaseRevokeRequest(ID=lease))

    async def lease_time_to_live(self, lease: LeaseId) -> Lease:
        request = rpc.LeaseTimeToLiveRequest(ID=lease, keys=True)
        answer = await self._connection.read("Lease", "LeaseTimeToLive", request)
        if answer.TTL < 0:
            raise LeaseNotFoundError(f"lease {lease:x} does not exist or has expired")
        return Lease(lease, answer.grantedTTL, float(answer.TTL), sorted(answer.keys))

    async def leases(self) -> Sequence[LeaseId]:
        answer = await self._connection.read("Lease", "LeaseLeases", rpc.LeaseLeasesRequest())
        return [LeaseId(each.ID) for each in answer.leases]

    # ------------------------------------------------------------------ the store itself

    async def status(self) -> StoreStatus:
        status = await self._connection.read("Maintenance", "Status", rpc.StatusRequest())
        alarms = await self._connection.read("Maintenance", "Alarm", rpc.AlarmRequest())
        keys = await self.read(Get(convert.ALL, convert.ALL, count_only=True), serializable=True)
        member_id = status.header.member_id
        return StoreStatus(
            member=await self._name(member_id),
            is_leader=status.leader == member_id,
            term=status.raftTerm,
            revision=Revision(status.header.revision),
            compact_revision=await self._connection.compact_revision(),
            keys=keys.count,
            size_bytes=status.dbSize,
            cluster_id=status.header.cluster_id,
            member_id=member_id,
            leader_id=status.leader,
            last_index=status.raftIndex,
            applied_index=status.raftAppliedIndex,
            live_bytes=status.dbSizeInUse,
            is_learner=status.isLearner,
            alarms=sorted({_ALARMS.get(each.alarm, f"ALARM {each.alarm}") for each in alarms.alarms}),
        )

    async def _name(self, member_id: int) -> str:
        if member_id not in self._names:
            answer = await self._connection.read("Cluster", "MemberList", rpc.MemberListRequest())
            self._names = {each.ID: each.name for each in answer.members}
        return self._names.get(member_id, f"{member_id:x}")

    async def close(self) -> None:
        await self._feed.close()
        await self._connection.close()


def _is_in_range(key: bytes, start: bytes, end: bytes | None) -> bool:
    if end is None:
        return key == start
    return start <= key and (end == convert.ALL or key < end)
