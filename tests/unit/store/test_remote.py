"""The client of a member's socket: what its users notice when the process behind it goes and comes back."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import pytest

from gitkube.clock import SystemClock
from gitkube.store.member import Member
from gitkube.store.protocol import Event, Put, Revision, UnavailableError, prefix_end
from gitkube.store.remote import CONNECT_TIMEOUT_S, RemoteStore
from gitkube.store.served import StoreServer
from tests.support.fake_clock import FakeClock
from tests.support.real_api import SMALL_STORE


async def test_a_watch_sees_each_change_once_and_in_order_however_often_the_connection_breaks(
    tmp_path: Path,
) -> None:
    member = await Member.open(tmp_path / "data", rng=random.Random(7), settings=SMALL_STORE)
    server = StoreServer(member, tmp_path / "s")
    await server.start()
    client = RemoteStore(tmp_path / "s", clock=SystemClock())
    first = (await client.txn([], [Put(b"k/first", b"")])).revision
    begins = asyncio.Event()

    async def seen(start: int) -> list[int]:
        events: list[Event] = []
        watch = client.watch(b"k/", prefix_end(b"k/"), start_revision=Revision(start), progress_s=0.01)
        async with aclosing(cast(Any, watch)) as batches:
            async for batch in batches:
                begins.set()
                assert not events or batch.revision >= events[-1].kv.mod_revision
                events += batch.events
                if events and events[-1].kv.key == b"k/last":
                    return [event.kv.mod_revision for event in events]
        raise AssertionError("a watch has no end")

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        from_now, from_first = group.create_task(seen(0)), group.create_task(seen(first))
        await begins.wait()
        for number in range(200):
            await client.txn([], [Put(b"k/%d" % number, b"")])
            if number % 20 == 10:
                await server.close()
                await server.start()
        last = (await client.txn([], [Put(b"k/last", b"")])).revision
    assert from_first.result() == list(range(first, last + 1))
    assert from_now.result() == list(range(from_now.result()[0], last + 1))
    await client.close()
    await server.close()
    await member.close()


async def test_a_write_that_cannot_even_be_sent_keeps_no_later_one_waiting_to_be_forgotten(
    tmp_path: Path,
) -> None:
    """The key space keeps the answers of all writes behind the oldest that is still open."""
    member = await Member.open(tmp_path / "data", rng=random.Random(7), settings=SMALL_STORE)
    server = StoreServer(member, tmp_path / "s")
    await server.start()
    client = RemoteStore(tmp_path / "s", clock=SystemClock())
    with pytest.raises(TypeError):
        await client.txn([], [Put(b"a", cast(Any, object()))])
    await client.txn([], [Put(b"a", b"")])
    origin = client._origins.new()
    assert origin.sequence == origin.acknowledged
    await client.close()
    await server.close()
    await member.close()


async def test_all_who_wait_for_a_process_that_is_gone_are_told_after_the_same_time(tmp_path: Path) -> None:
    """Not one after the other: the hundredth would hear of it in a quarter of an hour."""
    clock = FakeClock()
    client = RemoteStore(tmp_path / "nobody", clock=clock)
    reads = [asyncio.create_task(client.range(b"a")) for _ in range(20)]
    await clock.advance(CONNECT_TIMEOUT_S + 1)
    assert all(read.done() for read in reads)
    for read in reads:
        with pytest.raises(UnavailableError, match="does not answer"):
            read.result()
    await client.close()
