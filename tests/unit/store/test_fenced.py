"""The fence: a deposed leader writes nothing, and a leader in force does not notice that there is one."""

from __future__ import annotations

import pytest

from gitkube.store.fenced import DeposedError, FencedStore
from gitkube.store.protocol import Compare, Get, Op, Put, RangeResult, Store, Target
from tests.support.memory_cluster import MemoryCluster, MemoryStore

LOCK = b"/leader"


async def lead(store: MemoryStore, who: bytes) -> FencedStore:
    taken = await store.txn([], [Put(LOCK, who)])
    return FencedStore(store, LOCK, taken.revision)


async def test_a_leader_in_force_writes_as_ever() -> None:
    store = MemoryCluster("ctl-1").member("ctl-1")
    fenced: Store = await lead(store, b"a")
    assert (await fenced.txn([], [Put(b"k", b"1")])).succeeded
    absent = Compare(b"k", Target.VERSION, Op.EQUAL, 0)
    refused = await fenced.txn([absent], [Put(b"k", b"2")], [Get(b"k")])
    assert not refused.succeeded
    [found] = refused.results
    assert isinstance(found, RangeResult) and found.kvs[0].value == b"1"


@pytest.mark.parametrize("deposed_by", ["another", "itself again", "a deletion"])
async def test_a_deposed_leader_changes_nothing(deposed_by: str) -> None:
    store = MemoryCluster("ctl-1").member("ctl-1")
    old = await lead(store, b"a")
    if deposed_by == "a deletion":
        from gitkube.store.protocol import Delete

        await store.txn([], [Delete(LOCK)])
    else:
        await lead(store, b"a" if deposed_by == "itself again" else b"b")
    with pytest.raises(DeposedError, match="leads no more"):
        await old.txn([], [Put(b"k", b"late")])
    with pytest.raises(DeposedError):
        await old.txn([Compare(b"k", Target.VERSION, Op.EQUAL, 1)], [Put(b"k", b"late")])
    assert not (await store.range(b"k")).kvs
    assert not (await old.range(b"k")).kvs, "it may read"
