"""What every implementation of `Store` must do; runs on the member itself and on a client of its socket."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gitkube.clock import SystemClock
from gitkube.store.member import Member
from gitkube.store.protocol import (
    CompactedError,
    Compare,
    Delete,
    DeleteResult,
    EventType,
    FutureRevisionError,
    Get,
    InvalidRequestError,
    LeaseNotFoundError,
    Op,
    Put,
    PutResult,
    RangeResult,
    Revision,
    Store,
    Target,
    prefix_end,
)
from gitkube.store.remote import RemoteStore
from gitkube.store.served import StoreServer
from tests.support.real_api import SMALL_STORE


@pytest.fixture(params=["member", "socket"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    member = await Member.open(tmp_path / "data", rng=random.Random(7), settings=SMALL_STORE)
    if request.param == "member":
        yield member
        await member.close()
        return
    server = StoreServer(member, tmp_path / "store.sock")
    await server.start()
    client = RemoteStore(tmp_path / "store.sock", clock=SystemClock())
    yield client
    await client.close()
    await server.close()
    await member.close()


async def put(store: Store, key: bytes, value: bytes) -> Revision:
    return (await store.txn([], [Put(key, value)])).revision


async def values(store: Store, prefix: bytes, revision: int = 0) -> dict[bytes, bytes]:
    result = await store.range(prefix, prefix_end(prefix), revision=Revision(revision))
    return {kv.key: kv.value for kv in result.kvs}


async def test_each_write_takes_the_next_revision_and_the_key_remembers_its_history(store: Store) -> None:
    first = await put(store, b"a", b"1")
    second = await put(store, b"a", b"2")
    (kv,) = (await store.range(b"a")).kvs
    assert second == first + 1
    assert (kv.value, kv.create_revision, kv.mod_revision, kv.version) == (b"2", first, second, 2)


async def test_a_key_that_was_deleted_begins_anew(store: Store) -> None:
    await put(store, b"a", b"1")
    await store.txn([], [Delete(b"a")])
    revision = await put(store, b"a", b"2")
    (kv,) = (await store.range(b"a")).kvs
    assert (kv.create_revision, kv.version) == (revision, 1)


async def test_deleting_nothing_changes_nothing(store: Store) -> None:
    before = await put(store, b"a", b"1")
    result = await store.txn([], [Delete(b"nothing")])
    assert result.revision == before
    assert result.results == [DeleteResult([])]


async def test_a_range_is_ordered_limited_and_counted(store: Store) -> None:
    for name in (b"p/c", b"p/a", b"q/x", b"p/b"):
        await put(store, name, name)
    result = await store.range(b"p/", prefix_end(b"p/"), limit=2)
    assert [kv.key for kv in result.kvs] == [b"p/a", b"p/b"]
    assert (result.count, result.more) == (3, True)
    keys = await store.range(b"p/", prefix_end(b"p/"), keys_only=True)
    assert [kv.value for kv in keys.kvs] == [b"", b"", b""]
    counted = await store.range(b"\x00", b"\x00", count_only=True)
    assert (counted.count, list(counted.kvs)) == (4, [])


async def test_the_past_can_be_read_until_it_is_compacted(store: Store) -> None:
    first = await put(store, b"k/a", b"1")
    await put(store, b"k/b", b"1")
    await store.txn([], [Delete(b"k/a"), Put(b"k/b", b"2")])
    now = await put(store, b"k/c", b"1")
    assert await values(store, b"k/", first) == {b"k/a": b"1"}
    assert await values(store, b"k/", first + 1) == {b"k/a": b"1", b"k/b": b"1"}
    await store.compact(Revision(first + 2))
    assert await values(store, b"k/", first + 2) == {b"k/b": b"2"}
    assert await values(store, b"k/") == {b"k/b": b"2", b"k/c": b"1"}
    with pytest.raises(CompactedError) as caught:
        await store.range(b"k/a", revision=first)
    assert caught.value.compact_revision == first + 2
    with pytest.raises(FutureRevisionError):
        await store.range(b"k/a", revision=Revision(now + 1))


async def test_a_transaction_happens_only_if_its_comparisons_hold(store: Store) -> None:
    absent = Compare(b"lock", Target.CREATE, Op.EQUAL, 0)
    won = await store.txn([absent], [Put(b"lock", b"ada")], [Get(b"lock")])
    lost = await store.txn([absent], [Put(b"lock", b"bob")], [Get(b"lock")])
    assert (won.succeeded, lost.succeeded) == (True, False)
    (got,) = lost.results
    assert isinstance(got, RangeResult)
    assert got.kvs[0].value == b"ada"
    assert lost.revision == won.revision


@pytest.mark.parametrize(
    ("target", "op", "value", "holds"),
    [
        (Target.VERSION, Op.EQUAL, 2, True),
        (Target.VERSION, Op.GREATER, 2, False),
        (Target.MOD, Op.GREATER, 2, True),
        (Target.CREATE, Op.LESS, 3, True),
        (Target.VALUE, Op.EQUAL, b"2", True),
        (Target.VALUE, Op.LESS, b"3", True),
        (Target.VALUE, Op.NOT_EQUAL, b"2", False),
        (Target.LEASE, Op.EQUAL, 0, True),
    ],
)
async def test_comparisons_are_etcds(
    store: Store, target: Target, op: Op, value: int | bytes, holds: bool
) -> None:
    await put(store, b"a", b"1")
    await put(store, b"a", b"2")
    result = await store.txn([Compare(b"a", target, op, value)], [], [])
    assert result.succeeded is holds


async def test_the_value_of_a_missing_key_compares_with_nothing(store: Store) -> None:
    result = await store.txn([Compare(b"none", Target.VALUE, Op.NOT_EQUAL, b"x")], [])
    assert not result.succeeded


@pytest.mark.parametrize("previous", [False, True])
async def test_what_was_there_before_a_put_is_told_to_whoever_asks(store: Store, previous: bool) -> None:
    await put(store, b"a", b"1")
    result = await store.txn([], [Put(b"a", b"2"), Put(b"new", b"2"), Get(b"a")], previous=previous)
    first, new, read = result.results
    assert isinstance(first, PutResult)
    assert first.previous is None if not previous else first.previous and first.previous.value == b"1"
    assert new == PutResult(None)
    assert isinstance(read, RangeResult)
    assert read.kvs[0].value == b"2"


async def test_all_changes_of_a_transaction_share_one_revision_and_one_batch(store: Store) -> None:
    watch = store.watch(b"t/", prefix_end(b"t/"))
    await anext(watch)
    revision = (await store.txn([], [Put(b"t/b", b"1"), Put(b"t/a", b"1")])).revision
    batch = await anext(watch)
    assert [(event.kv.key, event.kv.mod_revision) for event in batch.events] == [
        (b"t/b", revision),
        (b"t/a", revision),
    ]
    await watch.aclose()  # type: ignore[attr-defined]


async def test_a_watch_from_the_past_gives_everything_since_in_order(store: Store) -> None:
    start = await put(store, b"w/0", b"x")
    for number in range(1, 50):
        await put(store, b"w/%d" % number, b"x")
    await store.txn([], [Delete(b"w/0")])
    await put(store, b"other", b"x")
    seen = []
    async for batch in store.watch(b"w/", prefix_end(b"w/"), start_revision=start, previous=True):
        seen += batch.events
        if batch.revision == start + 51:
            break
    assert [event.kv.mod_revision for event in seen] == list(range(start, start + 51))
    assert seen[-1].type is EventType.DELETE
    assert seen[-1].previous is not None
    assert seen[-1].previous.value == b"x"


async def test_a_watch_tells_that_time_goes_on_even_when_nothing_matches(store: Store) -> None:
    watch = store.watch(b"mine", progress_s=0.05)
    await anext(watch)
    revision = await put(store, b"other", b"x")
    async with asyncio.timeout(30):
        while (batch := await anext(watch)).revision < revision:
            assert not batch.events
    assert (batch.revision, list(batch.events)) == (revision, [])


async def test_an_idle_watch_is_told_again_and_again_up_to_where_all_was_seen(store: Store) -> None:
    """From whichever revision it began: whoever waits for a sign of life gets one."""
    revision = await put(store, b"other", b"x")
    for start in (0, revision + 1):
        watch = store.watch(b"mine", start_revision=Revision(start), progress_s=0.01)
        async with asyncio.timeout(30):
            batches = [await anext(watch) for _ in range(4)]
        assert [(batch.revision, list(batch.events)) for batch in batches] == [(revision, [])] * 4


async def test_a_watch_from_before_the_compaction_is_refused(store: Store) -> None:
    start = await put(store, b"a", b"1")
    await put(store, b"a", b"2")
    await store.compact(Revision(start + 1))
    with pytest.raises(CompactedError):
        async for _ in store.watch(b"a", start_revision=start):
            pass


async def test_a_thousand_writes_at_once_are_each_seen_once_by_each_watcher(store: Store) -> None:
    start = (await store.status()).revision + 1

    async def read() -> list[bytes]:
        seen: list[bytes] = []
        async for batch in store.watch(b"n/", prefix_end(b"n/"), start_revision=Revision(start)):
            seen += [event.kv.key for event in batch.events]
            if len(seen) >= 1000:
                return seen
        raise AssertionError("the watch ended")

    async with asyncio.TaskGroup() as group:
        readers = [group.create_task(read()) for _ in range(5)]
        for number in range(1000):
            group.create_task(put(store, b"n/%d" % number, b"x"))
    for reader in readers:
        assert len(set(reader.result())) == 1000
        assert reader.result() == readers[0].result()


async def test_a_leases_keys_go_when_it_is_revoked(store: Store) -> None:
    lease = await store.lease_grant(60)
    await store.txn([], [Put(b"l/a", b"1", lease.id), Put(b"l/b", b"1")])
    assert (await store.lease_keep_alive(lease.id)).keys == [b"l/a"]
    await store.lease_revoke(lease.id)
    assert await values(store, b"l/") == {b"l/b": b"1"}
    with pytest.raises(LeaseNotFoundError):
        await store.lease_keep_alive(lease.id)
    with pytest.raises(LeaseNotFoundError):
        await store.txn([], [Put(b"l/c", b"1", lease.id)])


async def test_a_lease_that_nobody_keeps_alive_expires(store: Store) -> None:
    lease = await store.lease_grant(1)
    await store.txn([], [Put(b"l/a", b"1", lease.id)])
    async for batch in store.watch(b"l/a"):
        if batch.events:
            break
    assert batch.events[0].type is EventType.DELETE


@pytest.mark.parametrize(
    "operations",
    [
        [Put(b"", b"x")],
        [Put(b"k" * 5000, b"x")],
        [Put(b"k", b"x" * 2_000_000)],
        [Put(b"k", b"1"), Put(b"k", b"2")],
        [Put(b"k/a", b"1"), Delete(b"k/", b"k0")],
        [Put(b"k%d" % number, b"x") for number in range(200)],
    ],
)
async def test_what_no_store_should_take_is_refused_before_it_is_logged(
    store: Store, operations: list[Put | Delete]
) -> None:
    before = (await store.status()).revision
    with pytest.raises(InvalidRequestError):
        await store.txn([], operations)
    assert (await store.status()).revision == before
