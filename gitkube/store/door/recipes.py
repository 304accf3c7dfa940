"""etcd's Lock and Election services: recipes over the store's own transactions, watches and leases.

Whoever wants the lock (or the office) puts a key `NAME/LEASE` that lives as long as its lease; the oldest key
under `NAME/` has it, and each other one waits for the one before to go. A key's create revision never
comes twice and only grows, so it is the *fencing token*: what the holder writes elsewhere should carry it,
and be refused there when a higher one was seen. A lock alone excludes nobody (Jepsen on etcd 3.4.3): its
holder may be asleep while the lease ends. So the key is looked at once more before a wait returns.

The keys and errors are those of etcd's own recipes (clientv3/concurrency), so that its clients, which run
them on their side, and those of this service queue up with each other.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any, cast

from gitkube.store.door.headers import Headers
from gitkube.store.etcd import convert, errors
from gitkube.store.etcd.errors import EtcdError, EtcdStatus
from gitkube.store.etcd.wire import election, grpc, lock
from gitkube.store.protocol import (
    NO_LEASE,
    CompactedError,
    Compare,
    Delete,
    EventType,
    Get,
    KeyValue,
    LeaseId,
    Op,
    Operation,
    Put,
    RangeResult,
    Revision,
    SortBy,
    Store,
    Target,
    prefix_end,
)

OWN_LEASE_TTL_S = 60
"""Of the lease that is made for a client that brought none; as etcd."""

_UNKNOWN = grpc.StatusCode.UNKNOWN
SESSION_EXPIRED = EtcdStatus(_UNKNOWN, "mutex: session is expired")
NOT_LEADER = EtcdStatus(_UNKNOWN, "election: not leader")
NO_LEADER = EtcdStatus(_UNKNOWN, "election: no leader")


@dataclass(frozen=True, slots=True)
class _Place:
    """A place in the queue of a name."""

    key: bytes
    create_revision: Revision
    lease: LeaseId
    value: bytes


class RecipeService:
    """See the module's text."""

    def __init__(self, store: Store, headers: Headers) -> None:
        self._store = store
        self._headers = headers

    # ------------------------------------------------------------------ v3lockpb.Lock

    async def lock(self, request: Any) -> Any:
        place = await self._wait_for_turn(request.name, LeaseId(request.lease), b"")
        return lock.LockResponse(header=await self._headers.now(), key=place.key)

    async def unlock(self, request: Any) -> Any:
        if not request.key:
            raise EtcdError(errors.EMPTY_KEY)
        result = await self._store.txn((), (Delete(request.key),))
        return lock.UnlockResponse(header=self._headers.at(result.revision))

    # ------------------------------------------------------------------ v3electionpb.Election

    async def campaign(self, request: Any) -> Any:
        place = await self._wait_for_turn(request.name, LeaseId(request.lease), request.value)
        leader = election.LeaderKey(
            name=request.name, key=place.key, rev=place.create_revision, lease=place.lease
        )
        return election.CampaignResponse(header=await self._headers.now(), leader=leader)

    async def proclaim(self, request: Any) -> Any:
        leader = request.leader
        result = await self._if_leader(leader, Put(leader.key, request.value, LeaseId(leader.lease)))
        return election.ProclaimResponse(header=self._headers.at(result))

    async def resign(self, request: Any) -> Any:
        if not request.leader.key:
            raise EtcdError(errors.EMPTY_KEY)
        result = await self._store.txn(
            [_created_at(request.leader.key, request.leader.rev)], [Delete(request.leader.key)]
        )
        return election.ResignResponse(header=self._headers.at(result.revision))

    async def leader(self, request: Any) -> Any:
        result = await self._first(request.name)
        if not result.kvs:
            raise EtcdError(NO_LEADER)
        return _leader_response(self._headers.at(result.revision), result.kvs[0])

    async def observe(self, context: Any) -> None:
        """A stream: who leads now, and each change of that or of what the leader proclaims."""
        data = await context.read()
        request = election.LeaderRequest.FromString(b"" if data is grpc.aio.EOF else data)
        told: tuple[bytes, Revision] | None = None
        async with aclosing(self._leaders(request.name)) as leaders:
            async for revision, kv in leaders:
                if told != (kv.key, kv.mod_revision):
                    told = (kv.key, kv.mod_revision)
                    response = _leader_response(self._headers.at(revision), kv)
                    await context.write(response.SerializeToString())

    async def _if_leader(self, leader: Any, operation: Operation) -> Revision:
        if not leader.key:
            raise EtcdError(errors.EMPTY_KEY)
        result = await self._store.txn([_created_at(leader.key, leader.rev)], [operation])
        if not result.succeeded:
            raise EtcdError(NOT_LEADER)
        return result.revision

    # ------------------------------------------------------------------ the queue

    async def _wait_for_turn(self, name: bytes, lease: LeaseId, value: bytes) -> _Place:
        """Take a place, and return when it is the first.

        Raises:
            EtcdError: the lease ended while waiting.
            LeaseNotFoundError: there is no such lease.
        """
        if lease == NO_LEASE:
            lease = (await self._store.lease_grant(OWN_LEASE_TTL_S)).id
        place = await self._take_place(name + b"/", lease, value)
        try:
            while (before := await self._one_before(name + b"/", place)) is not None:
                await self._wait_until_gone(*before)
            await self._store.lease_time_to_live(place.lease)
            kept = await self._store.range(place.key)
            if not kept.kvs or kept.kvs[0].create_revision != place.create_revision:
                raise EtcdError(SESSION_EXPIRED)
        except BaseException:
            # Whoever asked is gone, or the store is: a key left behind would stop all who come after.
            await self._store.txn([_created_at(place.key, place.create_revision)], [Delete(place.key)])
            raise
        return place

    async def _take_place(self, prefix: bytes, lease: LeaseId, value: bytes) -> _Place:
        key = prefix + b"%x" % lease
        result = await self._store.txn(
            [Compare(key, Target.CREATE, Op.EQUAL, 0)], [Put(key, value, lease)], [Get(key)]
        )
        if result.succeeded:
            return _Place(key, result.revision, lease, value)
        (found,) = cast(list[RangeResult], result.results)
        (kv,) = found.kvs
        if kv.value != value:
            await self._store.txn([_created_at(key, kv.create_revision)], [Put(key, value, lease)])
        return _Place(key, kv.create_revision, lease, value)

    async def _one_before(self, prefix: bytes, place: _Place) -> tuple[bytes, Revision] | None:
        """The key of the one before, and the revision at which it was there."""
        result = await self._store.read(
            Get(
                prefix,
                prefix_end(prefix),
                limit=1,
                keys_only=True,
                sort_by=SortBy.CREATE,
                descending=True,
                max_create_revision=place.create_revision - 1,
            )
        )
        return (result.kvs[0].key, result.revision) if result.kvs else None

    async def _wait_until_gone(self, key: bytes, seen: Revision) -> None:
        """Return when a key is gone that was there at a revision, or may be.

        Its own revision is no place to watch from: whoever holds a lock for longer than history is kept has
        a key that is older than all that can be read.
        """
        watch = self._store.watch(key, start_revision=Revision(seen + 1), without=frozenset({EventType.PUT}))
        with suppress(CompactedError):  # overtaken all the same: whoever asked looks again
            async with aclosing(cast(Any, watch)) as batches:
                async for batch in batches:
                    if batch.events:
                        return

    async def _first(self, name: bytes) -> RangeResult:
        prefix = name + b"/"
        return await self._store.read(Get(prefix, prefix_end(prefix), limit=1, sort_by=SortBy.CREATE))

    async def _leaders(self, name: bytes) -> AsyncGenerator[tuple[Revision, KeyValue], None]:
        """The first of the queue, whenever anything of the queue changed."""
        prefix = name + b"/"
        async with aclosing(cast(Any, self._store.watch(prefix, prefix_end(prefix)))) as changes:
            async for batch in changes:
                if batch.events or batch.revision:
                    result = await self._first(name)
                    if result.kvs:
                        yield result.revision, result.kvs[0]


def _created_at(key: bytes, revision: int) -> Compare:
    return Compare(key, Target.CREATE, Op.EQUAL, revision)


def _leader_response(header: Any, kv: KeyValue) -> Any:
    return election.LeaderResponse(header=header, kv=convert.key_value_message(kv))
