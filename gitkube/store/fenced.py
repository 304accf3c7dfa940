"""A store for one leadership: what it writes is written only while that leadership lasts.

Whoever leads holds a key, and its modification revision is the leadership's fencing token. Each write is
compared with it, in the same transaction, so a leader that was deposed without noticing (frozen, cut off,
slow) changes nothing any more, whatever it still believes. Kleppmann, "How to do distributed locking" (2016),
and etcd's own documentation of locks, say why a lease alone cannot do that.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from gitkube.store.protocol import (
    NO_LEASE,
    Compare,
    EventType,
    Get,
    Lease,
    LeaseId,
    Op,
    Operation,
    RangeResult,
    Revision,
    Store,
    StoreStatus,
    Target,
    TxnResult,
    UnavailableError,
    WatchBatch,
)

NOW = Revision(0)


class DeposedError(UnavailableError):
    """This leadership is over: another controller leads, and the write was not made."""


class FencedStore:
    """A `Store`.

    Args:
        key: what the leadership holds.
        token: its modification revision while the leadership lasts.
    """

    def __init__(self, store: Store, key: bytes, token: int) -> None:
        self._store = store
        self._key = key
        self._fence = Compare(key, Target.MOD, Op.EQUAL, token)

    async def txn(
        self,
        compare: Sequence[Compare],
        success: Sequence[Operation],
        failure: Sequence[Operation] = (),
        *,
        previous: bool = False,
    ) -> TxnResult:
        """As `Store.txn`.

        Raises:
            DeposedError: the leadership is over.
        """
        result = await self._store.txn(
            [*compare, self._fence],
            success,
            [*failure, Get(self._key, keys_only=True)],
            previous=previous,
        )
        if result.succeeded:
            return result
        *others, held = result.results
        assert isinstance(held, RangeResult)
        if not held.kvs or held.kvs[0].mod_revision != self._fence.value:
            raise DeposedError("this controller leads no more; another one has taken over")
        return TxnResult(False, result.revision, others)

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
        return await self._store.range(
            key,
            end,
            limit=limit,
            revision=revision,
            keys_only=keys_only,
            count_only=count_only,
            serializable=serializable,
        )

    async def read(self, get: Get, *, serializable: bool = False) -> RangeResult:
        return await self._store.read(get, serializable=serializable)

    def watch(
        self,
        key: bytes,
        end: bytes | None = None,
        *,
        start_revision: Revision = NOW,
        previous: bool = False,
        without: frozenset[EventType] = frozenset(),
        progress_s: float = 0.0,
    ) -> AsyncIterator[WatchBatch]:
        return self._store.watch(
            key,
            end,
            start_revision=start_revision,
            previous=previous,
            without=without,
            progress_s=progress_s,
        )

    async def lease_grant(self, ttl_s: int, lease: LeaseId = NO_LEASE) -> Lease:
        return await self._store.lease_grant(ttl_s, lease)

    async def lease_keep_alive(self, lease: LeaseId) -> Lease:
        return await self._store.lease_keep_alive(lease)

    async def lease_revoke(self, lease: LeaseId) -> None:
        await self._store.lease_revoke(lease)

    async def lease_time_to_live(self, lease: LeaseId) -> Lease:
        return await self._store.lease_time_to_live(lease)

    async def leases(self) -> Sequence[LeaseId]:
        return await self._store.leases()

    async def compact(self, revision: Revision) -> None:
        await self._store.compact(revision)

    async def status(self) -> StoreStatus:
        return await self._store.status()

    async def close(self) -> None:
        """Nothing: whoever made the store beneath closes it."""
