"""`EtcdStore` where things go wrong: members gone, connections broken, clusters mixed up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from gitkube.clock import SystemClock
from gitkube.store.door import Door, DoorTls, serve_door
from gitkube.store.etcd import ClientTls, EtcdStore, connection, feed
from gitkube.store.member import Member
from gitkube.store.protocol import (
    CompactedError,
    IdentityError,
    InvalidRequestError,
    Put,
    Revision,
    Store,
    StoreError,
    UnavailableError,
    WatchBatch,
)
from tests.support.etcd_server import MISSING, etcd_server, is_installed
from tests.support.ports import free_ports
from tests.support.real_api import SMALL_STORE
from tests.support.store_certificates import Authority

pytestmark = pytest.mark.slow

DEADLINE_S = 60.0
REFUSED = "refuses our certificate|a client certificate that it trusts"
"""As etcd's and as gRPC's end of the connection look from here."""


@pytest.fixture
async def member(tmp_path: Path) -> AsyncIterator[Member]:
    member = await Member.open(tmp_path / "data", rng=random.Random(5), settings=SMALL_STORE)
    yield member
    await member.close()


async def open_door(member: Member, address: str = "127.0.0.1:0") -> Door:
    return await serve_door(member, member.administration, address, clock=SystemClock())


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody will ever answer."""
    monkeypatch.setattr(connection, "REQUEST_PATIENCE_S", 1.0)


@asynccontextmanager
async def store_on(*endpoints: str, tls: ClientTls | None = None) -> AsyncIterator[EtcdStore]:
    store = EtcdStore(endpoints, clock=SystemClock(), tls=tls)
    try:
        yield store
    finally:
        await store.close()


async def put(store: Store, key: bytes) -> Revision:
    return (await store.txn([], [Put(key, b"x")])).revision


async def keys_until(batches: AsyncIterator[WatchBatch], revision: int) -> list[bytes]:
    """The keys of all events up to a revision, as they come."""
    seen: list[bytes] = []
    async with asyncio.timeout(DEADLINE_S):
        async for batch in batches:
            seen += [event.kv.key for event in batch.events]
            if batch.revision >= revision:
                return seen
    raise AssertionError("the watch ended")


async def test_a_member_that_is_gone_is_passed_over(member: Member) -> None:
    door = await open_door(member)
    (dead,) = free_ports(1)
    async with store_on(f"127.0.0.1:{dead}", door.address) as store:
        revision = await put(store, b"a")
        assert (await store.range(b"a")).kvs[0].mod_revision == revision
    await door.close()


async def test_a_watch_goes_on_where_it_was_when_its_connection_breaks(member: Member) -> None:
    door = await open_door(member)
    async with store_on(door.address) as store:
        watch = store.watch(b"w/", b"w0", start_revision=Revision(2))
        revision = await put(store, b"w/1")
        assert await keys_until(watch, revision) == [b"w/1"]
        await door.close()
        await put(member, b"w/2")
        await put(member, b"other")
        door = await open_door(member, door.address)
        revision = await put(member, b"w/3")
        assert await keys_until(watch, revision) == [b"w/2", b"w/3"]
    await door.close()


async def test_a_watch_moves_to_another_member_and_misses_nothing(member: Member) -> None:
    first, second = await open_door(member), await open_door(member)
    async with store_on(first.address, second.address) as store:
        watch = store.watch(b"w/", b"w0")
        await anext(watch)
        revision = await put(store, b"w/1")
        await first.close()
        assert await keys_until(watch, revision) == [b"w/1"]
        revision = await put(member, b"w/2")
        assert await keys_until(watch, revision) == [b"w/2"]
    await second.close()


async def test_a_watch_that_was_away_during_a_compaction_is_told_so(member: Member) -> None:
    door = await open_door(member)
    async with store_on(door.address) as store:
        watch = store.watch(b"w/", b"w0")
        await anext(watch)
        await keys_until(watch, await put(store, b"w/1"))
        await door.close()
        for number in range(3):
            revision = await put(member, b"w/%d" % number)
        await member.compact(revision)
        door = await open_door(member, door.address)
        with pytest.raises(CompactedError) as caught:
            await keys_until(watch, revision)
        assert caught.value.compact_revision == revision
        again = store.watch(b"w/", b"w0")
        await anext(again)
        assert await keys_until(again, await put(store, b"w/new")) == [b"w/new"]
    await door.close()


async def test_an_event_that_cannot_be_read_is_told_to_every_watch_and_the_next_one_goes_on(
    member: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = await open_door(member)
    async with store_on(door.address) as store:
        watch = store.watch(b"w/", b"w0")
        await anext(watch)

        def fail(message: object) -> None:
            raise ValueError("no event")

        with monkeypatch.context() as failing, pytest.raises(StoreError, match="no event"):
            failing.setattr("gitkube.store.etcd.feed.convert.event", fail)
            await keys_until(watch, await put(store, b"w/1"))
        again = store.watch(b"w/", b"w0")
        await anext(again)
        assert await keys_until(again, await put(store, b"w/2")) == [b"w/2"]
    await door.close()


async def test_a_compaction_that_is_not_told_in_time_is_an_error_of_the_store(
    member: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = await open_door(member)
    async with store_on(door.address) as store:
        await put(store, b"a")
        await member.compact(await put(store, b"a"))

        async def silent(stream: object) -> None:
            await asyncio.Event().wait()

        monkeypatch.setattr(connection, "REQUEST_TIMEOUT_S", 0.5)
        monkeypatch.setattr(connection.Stream, "read", silent)
        with pytest.raises(UnavailableError, match="in time"):
            await store.range(b"a", revision=Revision(1))
    await door.close()


async def test_a_reader_slower_than_the_feed_remembers_reads_the_past_by_itself(
    member: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "KEPT_REVISIONS", 3)
    door = await open_door(member)
    async with store_on(door.address) as store:
        slow, fast = (store.watch(b"w/", b"w0") for _ in range(2))
        await anext(slow)
        await anext(fast)
        for number in range(20):
            revision = await put(store, b"w/%02d" % number)
        wanted = [b"w/%02d" % number for number in range(20)]
        assert await keys_until(fast, revision) == wanted
        assert await keys_until(slow, revision) == wanted
    await door.close()


async def test_without_any_member_a_request_says_which_were_tried(impatient: None) -> None:
    (dead,) = free_ports(1)
    async with store_on(f"127.0.0.1:{dead}") as store:
        with pytest.raises(UnavailableError, match=f"127.0.0.1:{dead}"):
            await put(store, b"a")
        with pytest.raises(UnavailableError):
            await store.range(b"a")
    with pytest.raises(InvalidRequestError, match="endpoint"):
        EtcdStore([], clock=SystemClock())


async def test_a_certificate_of_ours_is_shown_and_theirs_is_checked(
    member: Member, tmp_path: Path, impatient: None
) -> None:
    ours, other = Authority(tmp_path / "ours"), Authority(tmp_path / "other")
    (tmp_path / "text").write_text("hello")
    served, own, foreign = ours.issue("door"), ours.issue("own"), other.issue("own")
    expired = ours.issue("expired", days=-1)
    tls = DoorTls(served.certificate, served.key, served.ca)
    door = await serve_door(member, member.administration, "127.0.0.1:0", clock=SystemClock(), tls=tls)
    good = ClientTls(own.ca, own.certificate, own.key)
    async with store_on(door.address, tls=good) as store:
        assert await put(store, b"a") == 2
    for refused, reason in (
        (ClientTls(own.ca), REFUSED),
        (replace(good, certificate=foreign.certificate, key=foreign.key), REFUSED),
        (replace(good, certificate=expired.certificate, key=expired.key), REFUSED),
        (replace(good, authority=foreign.ca), "give the authority that signed it"),
        (None, "it wants TLS"),
    ):
        async with store_on(door.address, tls=refused) as store:
            with pytest.raises(UnavailableError, match=reason):
                await put(store, b"b")
    async with store_on(door.address, tls=replace(good, authority=foreign.ca)) as store:
        with pytest.raises(UnavailableError, match="give the authority that signed it"):
            await store.range(b"a")
    for wrong, reason in (
        (ClientTls(tmp_path / "nowhere.crt"), r"nowhere\.crt.* cannot be read: No such file"),
        (ClientTls(tmp_path / "text"), "text, .* holds no certificate in PEM form"),
        (replace(good, key=own.certificate), "holds no private key in PEM form"),
    ):
        async with store_on(door.address, tls=wrong) as store:
            with pytest.raises(InvalidRequestError, match=reason):
                await put(store, b"c")
    assert (await member.status()).revision == 2
    await door.close()


@pytest.mark.skipif(not is_installed(), reason=MISSING)
async def test_a_real_etcd_that_is_restarted_loses_no_event_of_a_watch(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    async with store_on(f"127.0.0.1:{port}") as store:
        async with etcd_server(tmp_path / "etcd", port=port, election_ms=200):
            watch = store.watch(b"w/", b"w0")
            await anext(watch)
            assert await keys_until(watch, await put(store, b"w/1")) == [b"w/1"]
        async with etcd_server(tmp_path / "etcd", port=port, election_ms=200):
            await put(store, b"w/2")
            await put(store, b"other")
            assert await keys_until(watch, await put(store, b"w/3")) == [b"w/2", b"w/3"]
            status = await store.status()
            assert (status.member, status.is_leader, status.keys) == ("default", True, 4)


@pytest.mark.skipif(not is_installed(), reason=MISSING)
async def test_members_of_two_clusters_are_not_taken_for_one(tmp_path: Path) -> None:
    async with etcd_server(tmp_path / "other", election_ms=200) as other:
        async with etcd_server(tmp_path / "one", election_ms=200) as one:
            store = EtcdStore([one, other], clock=SystemClock())
            await put(store, b"a")
        with pytest.raises(IdentityError, match="members of one cluster"):
            await store.range(b"a")
        await store.close()
