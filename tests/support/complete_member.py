"""A lone member with what `Store` and `StoreAdmin` ask for beyond what it can do itself yet."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

from gitkube.store.command import LeaseGrant
from gitkube.store.member import Member
from gitkube.store.protocol import (
    NO_LEASE,
    Compare,
    EventType,
    Get,
    KeyValue,
    Lease,
    LeaseExistsError,
    LeaseId,
    LeaseNotFoundError,
    MemberInfo,
    MembershipError,
    Operation,
    RangeResult,
    Revision,
    SortBy,
    StateHash,
    StoreStatus,
    TxnResult,
    WatchBatch,
)

CLUSTER_ID, MEMBER_ID = 0xC1, 0x3E
_SORT_KEYS: dict[SortBy, Any] = {
    SortBy.KEY: lambda kv: kv.key,
    SortBy.VERSION: lambda kv: kv.version,
    SortBy.CREATE: lambda kv: kv.create_revision,
    SortBy.MOD: lambda kv: kv.mod_revision,
    SortBy.VALUE: lambda kv: kv.value,
}


class CompleteMember:
    def __init__(self, member: Member) -> None:
        self._member = member
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
        everything = await self._member.range(
            get.key, get.end, revision=Revision(max(0, get.revision)), count_only=get.count_only
        )
        kvs = [kv for kv in everything.kvs if _is_within(get, kv)]
        kvs.sort(key=_SORT_KEYS[get.sort_by], reverse=get.descending)
        more = 0 < get.limit < len(kvs)
        kvs = kvs[: get.limit] if get.limit > 0 else kvs
        if get.keys_only:
            kvs = [replace(kv, value=b"") for kv in kvs]
        return RangeResult(kvs, everything.revision, everything.count, more)

    async def txn(
        self, compare: Sequence[Compare], success: Sequence[Operation], failure: Sequence[Operation] = ()
    ) -> TxnResult:
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
        async for batch in self._member.watch(key, end, start_revision=start_revision, previous=previous):
            yield replace(batch, events=[event for event in batch.events if event.type not in without])

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
        space = self._member._space
        at = Revision(revision or space.revision)
        found = space.range(b"\0", b"\0", revision=at)
        return StateHash(at, space.compact_revision, zlib.crc32(repr(found.kvs).encode()))

    async def disarm(self) -> None:
        self.has_disarmed = True


def _is_within(get: Get, kv: KeyValue) -> bool:
    return (
        (not get.min_mod_revision or kv.mod_revision >= get.min_mod_revision)
        and (not get.max_mod_revision or kv.mod_revision <= get.max_mod_revision)
        and (not get.min_create_revision or kv.create_revision >= get.min_create_revision)
        and (not get.max_create_revision or kv.create_revision <= get.max_create_revision)
    )
