"""A lone member with what `Store` and `StoreAdmin` ask for beyond what it can do itself yet."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from gitkube.store.command import LeaseGrant, Txn
from gitkube.store.member import Member
from gitkube.store.protocol import (
    NO_LEASE,
    Compare,
    EventType,
    Get,
    Lease,
    LeaseExistsError,
    LeaseId,
    LeaseNotFoundError,
    MemberInfo,
    MembershipError,
    Operation,
    RangeResult,
    Revision,
    StateHash,
    StoreError,
    StoreStatus,
    TxnResult,
    WatchBatch,
)
from gitkube.store.watching import WatchHub

CLUSTER_ID, MEMBER_ID = 0xC1, 0x3E


class CompleteMember:
    def __init__(self, member: Member) -> None:
        self._member = member
        self._hub = WatchHub(member._space.versions)
        self.has_disarmed = False

    async def range(
        self,
        key: bytes,
        end: bytes | None = None,
        *,
        limit: int = 0,
        revision: Revision = Revision(0),  # noqa: B008
        keys_only: bool = False,
        count_only: bool = False,
        serializable: bool = False,
    ) -> RangeResult:
        return await self._member.range(
            key, end, limit=limit, revision=revision, keys_only=keys_only, count_only=count_only
        )

    async def read(self, get: Get, *, serializable: bool = False) -> RangeResult:
        return self._member._space.read(get)

    async def txn(
        self, compare: Sequence[Compare], success: Sequence[Operation], failure: Sequence[Operation] = ()
    ) -> TxnResult:
        if all(isinstance(operation, Get) for operation in (*success, *failure)):
            result = self._member._space.apply(Txn(tuple(compare), tuple(success), tuple(failure)))
            if isinstance(result, StoreError):
                raise result
            assert isinstance(result, TxnResult)
            return result
        return await self._member.txn(compare, success, failure)

    async def watch(
        self,
        key: bytes,
        end: bytes | None = None,
        *,
        start_revision: Revision = Revision(0),  # noqa: B008
        previous: bool = False,
        without: frozenset[EventType] = frozenset(),
        progress_s: float = 0.0,
    ) -> AsyncIterator[WatchBatch]:
        space, hub = self._member._space, self._hub
        hub.collect(space.revision)
        watcher = hub.add(key, end, start_revision=start_revision, previous=previous, without=without)
        try:
            yield WatchBatch(watcher.seen)
            while True:
                changed = self._member._changed
                hub.collect(space.revision)
                before = watcher.seen
                batch = watcher.take(1000)
                if batch.revision > before:
                    watcher.seen = batch.revision
                    yield batch
                else:
                    await changed.wait()
                    self._member._check_alive()
        finally:
            hub.remove(watcher)

    async def lease_grant(self, ttl_s: int, lease: LeaseId = NO_LEASE) -> Lease:
        if lease == NO_LEASE:
            return await self._member.lease_grant(ttl_s)
        if lease in self._member._space.leases:
            raise LeaseExistsError(f"lease {lease:x} exists")
        await self._member._propose(LeaseGrant(lease, ttl_s))
        self._member._deadlines[lease] = self._member._clock.monotonic() + ttl_s
        self._member._lease_added.set()
        return Lease(lease, ttl_s, float(ttl_s))

    async def lease_keep_alive(self, lease: LeaseId) -> Lease:
        return await self._member.lease_keep_alive(lease)

    async def lease_revoke(self, lease: LeaseId) -> None:
        await self._member.lease_revoke(lease)

    async def lease_time_to_live(self, lease: LeaseId) -> Lease:
        if lease not in self._member._space.leases:
            raise LeaseNotFoundError(f"lease {lease:x}")
        remaining_s = self._member._deadlines[lease] - self._member._clock.monotonic()
        keys = self._member._space.keys_of_lease(lease)
        return Lease(lease, self._member._space.leases[lease], remaining_s, keys)

    async def leases(self) -> Sequence[LeaseId]:
        return list(self._member._space.leases)

    async def compact(self, revision: Revision) -> None:
        await self._member.compact(revision)

    async def status(self) -> StoreStatus:
        status = await self._member.status()
        return replace(status, cluster_id=CLUSTER_ID, member_id=MEMBER_ID, leader_id=MEMBER_ID)

    async def close(self) -> None:
        await self._member.close()

    async def members(self) -> Sequence[MemberInfo]:
        return [MemberInfo(MEMBER_ID, "alone", "127.0.0.1:2380", ("https://127.0.0.1:2379",))]

    async def member_add(
        self, name: str, peer_address: str, *, client_urls: Sequence[str] = (), is_learner: bool = True
    ) -> MemberInfo:
        raise MembershipError("this member is alone and stays alone")

    async def member_update(
        self, member: int, *, peer_address: str = "", client_urls: Sequence[str] | None = None
    ) -> MemberInfo:
        raise MembershipError("this member is alone and stays alone")

    async def member_promote(self, member: int) -> MemberInfo:
        raise MembershipError("this member is alone and stays alone")

    async def member_remove(self, member: int) -> None:
        raise MembershipError("without it nobody is left")

    async def transfer_leadership(self, member: int = 0) -> int:
        if member not in (0, MEMBER_ID):
            raise MembershipError(f"member {member:x} is no voter")
        return MEMBER_ID

    async def backup(self) -> AsyncIterator[bytes]:
        yield b""

    async def hash(self, revision: Revision = Revision(0)) -> StateHash:  # noqa: B008
        return self._member._space.hash_at(revision)

    async def disarm(self) -> None:
        self.has_disarmed = True
