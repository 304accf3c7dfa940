"""A cluster of store members in memory: one key space that all of them see, and a membership to play with.

Each controller of a test holds a `MemoryStore`, which is a `Store` and a `StoreAdmin`. Who leads is set by
the test; one that is cut off raises `UnavailableError`, as the real one does without a quorum.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from gitkube.store.command import LeaseGrant, LeaseRevoke, Txn
from gitkube.store.mvcc import KeySpace
from gitkube.store.protocol import (
    NO_LEASE,
    Compare,
    Event,
    EventType,
    Get,
    Lease,
    LeaseId,
    MemberInfo,
    MembershipError,
    Operation,
    RangeResult,
    Revision,
    StateHash,
    StoreError,
    StoreStatus,
    TxnResult,
    UnavailableError,
    WatchBatch,
)

NOW = Revision(0)
CLUSTER_ID = 0xC105


class MemoryCluster:
    """What all members agree on."""

    def __init__(self, *names: str) -> None:
        self.space = KeySpace()
        self.members = [
            MemberInfo(number, name, f"{name}:2380", (f"https://{name}:6443",))
            for number, name in enumerate(names, start=1)
        ]
        self.leader_id = 1
        self.term = 1
        self.behind: set[int] = set()
        """Learners that have not caught up."""
        self.changed = asyncio.Condition()

    def member(self, name: str) -> MemoryStore:
        return MemoryStore(self, next(one.id for one in self.members if one.name == name))

    def lead(self, name: str) -> None:
        """Let another one lead; "" is nobody."""
        self.leader_id = next((one.id for one in self.members if one.name == name), 0)
        self.term += 1


class MemoryStore:
    """One member, as its controller sees it."""

    def __init__(self, cluster: MemoryCluster, member_id: int) -> None:
        self._cluster = cluster
        self.member_id = member_id
        self.is_cut = False

    def _check(self) -> None:
        if self.is_cut:
            raise UnavailableError("no quorum")

    # ------------------------------------------------------------------ Store

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
        if not serializable:
            self._check()
        await asyncio.sleep(0)
        return self._cluster.space.read(get)

    async def txn(
        self,
        compare: Sequence[Compare],
        success: Sequence[Operation],
        failure: Sequence[Operation] = (),
        *,
        previous: bool = False,
    ) -> TxnResult:
        self._check()
        await asyncio.sleep(0)
        txn = Txn(tuple(compare), tuple(success), tuple(failure))
        self._cluster.space.check(txn)
        result = self._cluster.space.apply(txn)
        if isinstance(result, StoreError):
            raise result
        assert isinstance(result, TxnResult)
        async with self._cluster.changed:
            self._cluster.changed.notify_all()
        return result if previous else result.without_previous()

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
        cluster = self._cluster
        at = start_revision or Revision(cluster.space.revision + 1)
        yield WatchBatch(Revision(at - 1))
        while True:
            async with cluster.changed:
                while cluster.space.revision < at:
                    await cluster.changed.wait()
            for revision, events in cluster.space.events_since(at, 1000):
                at = Revision(revision + 1)
                wanted = tuple(one for one in events if _is_in(one, key, end) and one.type not in without)
                if wanted:
                    yield WatchBatch(revision, wanted)

    async def lease_grant(self, ttl_s: int, lease: LeaseId = NO_LEASE) -> Lease:
        self._check()
        made = lease or LeaseId(max(self._cluster.space.leases, default=0) + 1)
        self._cluster.space.apply(LeaseGrant(made, ttl_s))
        return Lease(made, ttl_s, float(ttl_s))

    async def lease_keep_alive(self, lease: LeaseId) -> Lease:
        ttl_s = self._cluster.space.leases[lease]
        return Lease(lease, ttl_s, float(ttl_s))

    async def lease_revoke(self, lease: LeaseId) -> None:
        self._cluster.space.apply(LeaseRevoke(lease))

    async def lease_time_to_live(self, lease: LeaseId) -> Lease:
        return await self.lease_keep_alive(lease)

    async def leases(self) -> Sequence[LeaseId]:
        return list(self._cluster.space.leases)

    async def compact(self, revision: Revision) -> None:
        self._cluster.space.versions.compact(revision)

    async def status(self) -> StoreStatus:
        self._check()
        cluster = self._cluster
        own = next((one for one in cluster.members if one.id == self.member_id), None)
        return StoreStatus(
            member=own.name if own else "",
            is_leader=cluster.leader_id == self.member_id,
            term=cluster.term,
            revision=cluster.space.revision,
            compact_revision=cluster.space.compact_revision,
            keys=len(cluster.space),
            size_bytes=0,
            cluster_id=CLUSTER_ID,
            member_id=self.member_id,
            leader_id=cluster.leader_id,
            is_learner=own is not None and own.is_learner,
        )

    async def close(self) -> None:
        """Nothing to close."""

    # ------------------------------------------------------------------ StoreAdmin

    async def members(self) -> Sequence[MemberInfo]:
        self._check()
        return list(self._cluster.members)

    async def member_add(
        self, name: str, peer_address: str, *, client_urls: Sequence[str] = (), is_learner: bool = True
    ) -> MemberInfo:
        self._check()
        if any(name == one.name for one in self._cluster.members):
            raise MembershipError(f"the name {name} is taken")
        number = max(one.id for one in self._cluster.members) + 1
        added = MemberInfo(number, name, peer_address, tuple(client_urls), is_learner)
        self._cluster.members.append(added)
        return added

    async def member_update(
        self, member: int, *, peer_address: str = "", client_urls: Sequence[str] | None = None
    ) -> MemberInfo:
        self._check()
        return self._change(
            member,
            lambda one: replace(
                one,
                peer_address=peer_address or one.peer_address,
                client_urls=one.client_urls if client_urls is None else tuple(client_urls),
            ),
        )

    async def member_promote(self, member: int) -> MemberInfo:
        self._check()
        if member in self._cluster.behind:
            raise MembershipError("it is too far behind")
        return self._change(member, lambda one: replace(one, is_learner=False))

    async def member_remove(self, member: int) -> None:
        self._check()
        self._cluster.members = [one for one in self._cluster.members if one.id != member]

    async def transfer_leadership(self, member: int = 0) -> int:
        self._check()
        self._cluster.leader_id = member
        self._cluster.term += 1
        return member

    async def backup(self) -> AsyncIterator[bytes]:
        yield b""

    async def hash(self, revision: Revision = NOW) -> StateHash:
        self._check()
        return self._cluster.space.hash_at(revision)

    async def disarm(self) -> None:
        """There are no alarms."""

    def _change(self, member: int, change) -> MemberInfo:  # type: ignore[no-untyped-def]
        for at, one in enumerate(self._cluster.members):
            if one.id == member:
                self._cluster.members[at] = change(one)
                return self._cluster.members[at]
        raise MembershipError(f"there is no member {member}")


def _is_in(event: Event, key: bytes, end: bytes | None) -> bool:
    if end is None:
        return event.kv.key == key
    return key <= event.kv.key and (end == b"\x00" or event.kv.key < end)
