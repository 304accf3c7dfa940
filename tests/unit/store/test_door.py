"""The door's streams and recipes, by a plain gRPC client: watches, slow clients, locks, elections."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gitkube.clock import SystemClock
from gitkube.store.door import serve_door
from gitkube.store.etcd import convert
from gitkube.store.etcd.wire import election, grpc, rpc
from gitkube.store.member import Member
from gitkube.store.protocol import Delete, KeyValue, LeaseId, Put, Revision, UnavailableError
from gitkube.store.watching import MAX_MATCHED
from tests.support.door_client import DEADLINE_S, Client
from tests.support.real_api import SMALL_STORE


@pytest.fixture
async def member(tmp_path: Path) -> AsyncIterator[Member]:
    member = await Member.open(tmp_path / "data", rng=random.Random(9), settings=SMALL_STORE)
    yield member
    await member.close()


@pytest.fixture
async def client(member: Member) -> AsyncIterator[Client]:
    door = await serve_door(
        member, member.administration, "127.0.0.1:0", clock=SystemClock(), watch_progress_s=0.05
    )
    client = Client(door.address)
    yield client
    await client.channel.close()
    await door.close()


async def put(member: Member, key: bytes, value: bytes = b"x") -> Revision:
    return (await member.txn([], [Put(key, value)])).revision


def keys(response: Any) -> list[bytes]:
    return [event.kv.key for event in response.events]


# ---------------------------------------------------------------------- watches


async def test_many_watches_share_a_stream_and_each_is_told_its_own(member: Member, client: Client) -> None:
    watch = client.watch()
    ids = [(await watch.create(b"a/", b"a0")).watch_id, (await watch.create(b"b/", b"b0")).watch_id]
    ids.append((await watch.create(b"a/", b"b0", watch_id=77)).watch_id)
    assert ids == [0, 1, 77]
    await member.txn([], [Put(b"a/1", b""), Put(b"b/1", b"")])
    told = {response.watch_id: keys(response) for response in [await watch.read() for _ in ids]}
    assert told == {0: [b"a/1"], 1: [b"b/1"], 77: [b"a/1", b"b/1"]}
    await watch.write(cancel_request=rpc.WatchCancelRequest(watch_id=0))
    cancelled = await watch.read()
    assert (cancelled.watch_id, cancelled.canceled) == (0, True)
    await put(member, b"a/2")
    response = await watch.read()
    assert (response.watch_id, keys(response)) == (77, [b"a/2"])
    watch.close()


async def test_progress_is_told_after_all_that_came_before_it(member: Member, client: Client) -> None:
    watch = client.watch()
    await watch.create(b"a/", b"a0", start_revision=1)
    await watch.create(b"b/", b"b0", start_revision=1)
    for number in range(200):
        revision = await put(member, b"ab"[number % 2 : number % 2 + 1] + b"/%d" % number)
    await watch.write(progress_request=rpc.WatchProgressRequest())
    seen: list[bytes] = []
    while (response := await watch.read()).watch_id != -1:
        seen += keys(response)
    assert len(seen) == 200
    assert response.header.revision == revision
    watch.close()


async def test_a_watch_that_asked_for_it_is_told_that_time_goes_on(member: Member, client: Client) -> None:
    watch = client.watch()
    await watch.create(b"mine", progress_notify=True)
    for _ in range(2):
        revision = await put(member, b"other")
        response = await watch.read()
        while response.header.revision < revision:
            response = await watch.read()
        assert (response.watch_id, list(response.events)) == (0, [])
    watch.close()


async def test_progress_is_true_even_where_nothing_was_to_be_told(member: Member, client: Client) -> None:
    watch = client.watch()
    for number in range(150):
        await watch.create(b"mine/%d" % number)
    await put(member, b"mine/7")
    revision = await put(member, b"other")
    await watch.write(progress_request=rpc.WatchProgressRequest())
    assert keys(await watch.read()) == [b"mine/7"]
    progress = await watch.read()
    assert (progress.watch_id, progress.header.revision) == (-1, revision)
    watch.close()


@pytest.mark.parametrize(("fragment", "sizes"), [(True, [(1, True), (1, False)]), (False, [(2, False)])])
async def test_a_large_revision_is_divided_only_for_who_can_put_it_together(
    member: Member, client: Client, fragment: bool, sizes: list[tuple[int, bool]]
) -> None:
    watch = client.watch()
    await watch.create(b"a/", b"a0", fragment=fragment)
    large = b"x" * 1_200_000
    await member.txn([], [Put(b"a/1", large), Put(b"a/2", large)])
    responses = [await watch.read() for _ in sizes]
    assert [(len(response.events), response.fragment) for response in responses] == sizes
    watch.close()


async def test_a_filter_of_a_number_that_etcd_does_not_know_is_left_out(
    member: Member, client: Client
) -> None:
    watch = client.watch()
    await watch.create(b"a", filters=[7, -1, 1])
    await put(member, b"a")
    assert keys(await watch.read()) == [b"a"]
    watch.close()


async def test_a_large_answer_is_whole_and_lets_others_in_between(
    member: Member, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for start in range(0, 1000, 100):
        await member.txn([], [Put(b"k/%04d" % number, b"x") for number in range(start, start + 100)])
    monkeypatch.setattr("gitkube.store.door.keys.KEYS_PER_PIECE", 10)
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    encoded = convert.key_value_message
    seen: set[int] = set()

    def note_turn(kv: KeyValue) -> Any:
        seen.add(turns)
        return encoded(kv)

    monkeypatch.setattr(convert, "key_value_message", note_turn)
    counting = asyncio.create_task(count_turns())
    answer = await client.call("/etcdserverpb.KV/Range", key=b"k/", range_end=b"k0", limit=999)
    counting.cancel()
    assert [kv.key for kv in answer.kvs] == [b"k/%04d" % number for number in range(999)]
    assert (answer.count, answer.more, answer.header.revision) == (1000, True, 11)
    assert len(seen) >= 100
    await asyncio.gather(counting, return_exceptions=True)


@pytest.mark.parametrize(
    ("method", "fields", "sentence"),
    [
        ("Range", {"key": b"a", "sort_target": -1}, "invalid sort option"),
        ("Range", {"key": b"a", "sort_target": 5}, "invalid sort option"),
        ("Range", {"key": b"a", "sort_order": -2}, "invalid sort option"),
        ("Txn", {"compare": [rpc.Compare(key=b"a", target=9)]}, "a comparison has a target"),
        ("Txn", {"compare": [rpc.Compare(key=b"a", result=-1)]}, "a comparison has a target"),
    ],
)
async def test_a_number_that_etcd_has_no_word_for_is_refused(
    client: Client, method: str, fields: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match=sentence) as caught:
        await client.call(f"/etcdserverpb.KV/{method}", **fields)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_client_that_does_not_read_holds_up_nobody_and_loses_nothing(
    member: Member, client: Client
) -> None:
    slow, fast = client.watch(), client.watch()
    await slow.create(b"a/", b"a0")
    await fast.create(b"a/", b"a0")
    wanted = [b"a/%03d" % number for number in range(200)]
    for key in wanted:
        await put(member, key, b"x" * 100_000)
    for watch in (fast, slow):
        seen: list[bytes] = []
        while len(seen) < len(wanted):
            seen += keys(await watch.read())
        assert seen == wanted
        watch.close()


async def test_a_client_that_compaction_overtakes_is_told_where_to_read_again(
    member: Member, client: Client
) -> None:
    slow = client.watch()
    await slow.create(b"a/", b"a0")
    puts = 2 * MAX_MATCHED + 200  # the store keeps the last of them for a watcher, whatever is compacted
    for number in range(puts):
        revision = await put(member, b"a/%04d" % number, b"x" * 25_000)
    await member.compact(revision)
    seen: list[bytes] = []
    while not (response := await slow.read()).canceled:
        seen += keys(response)
    assert response.compact_revision == revision
    assert seen == [b"a/%04d" % number for number in range(len(seen))]
    assert len(seen) < puts
    slow.close()


# ---------------------------------------------------------------------- locks and elections


async def lease(member: Member, number: int) -> int:
    return (await member.lease_grant(600, LeaseId(number))).id


async def create_revision(member: Member, key: bytes) -> int:
    return (await member.range(key)).kvs[0].create_revision


async def waiting_places(member: Member, prefix: bytes, count: int) -> None:
    async with asyncio.timeout(DEADLINE_S):
        async for _ in member.watch(prefix, prefix[:-1] + b"0"):
            if (await member.range(prefix, prefix[:-1] + b"0")).count == count:
                return


async def test_a_lock_goes_from_one_to_the_next_with_a_growing_token(member: Member, client: Client) -> None:
    first = await client.call("/v3lockpb.Lock/Lock", name=b"m", lease=await lease(member, 0xA))
    assert first.key == b"m/a"
    token = await create_revision(member, first.key)
    second = asyncio.create_task(
        client.call("/v3lockpb.Lock/Lock", name=b"m", lease=await lease(member, 0xB))
    )
    await waiting_places(member, b"m/", 2)
    assert not second.done()
    await client.call("/v3lockpb.Lock/Unlock", key=first.key)
    assert (await second).key == b"m/b"
    assert await create_revision(member, b"m/b") > token


async def test_a_lock_that_is_held_for_longer_than_history_is_kept_is_waited_for(
    member: Member, client: Client
) -> None:
    first = await client.call("/v3lockpb.Lock/Lock", name=b"m", lease=await lease(member, 0xA))
    for _ in range(3):
        revision = await put(member, b"other")
    await member.compact(revision)
    second = asyncio.create_task(
        client.call("/v3lockpb.Lock/Lock", name=b"m", lease=await lease(member, 0xB))
    )
    queued = asyncio.create_task(waiting_places(member, b"m/", 2))
    await asyncio.wait({queued, second}, return_when=asyncio.FIRST_COMPLETED)
    assert not second.done(), second
    await client.call("/v3lockpb.Lock/Unlock", key=first.key)
    assert (await second).key == b"m/b"


async def test_who_stops_waiting_leaves_the_queue(member: Member, client: Client) -> None:
    await client.call("/v3lockpb.Lock/Lock", name=b"m", lease=await lease(member, 0xA))
    waiting = asyncio.create_task(
        client.call("/v3lockpb.Lock/Lock", name=b"m", lease=await lease(member, 0xB))
    )
    await waiting_places(member, b"m/", 2)
    waiting.cancel()
    await waiting_places(member, b"m/", 1)
    assert [kv.key for kv in (await member.range(b"m/", b"m0")).kvs] == [b"m/a"]


async def test_a_lease_that_ended_while_waiting_gets_no_lock(member: Member, client: Client) -> None:
    first = await client.call("/v3lockpb.Lock/Lock", name=b"m", lease=await lease(member, 0xA))
    waiting = asyncio.create_task(
        client.call("/v3lockpb.Lock/Lock", name=b"m", lease=await lease(member, 0xB))
    )
    await waiting_places(member, b"m/", 2)
    await member.lease_revoke(LeaseId(0xB))
    await client.call("/v3lockpb.Lock/Unlock", key=first.key)
    with pytest.raises(grpc.aio.AioRpcError, match="lease not found"):
        await waiting


async def test_a_lock_that_was_not_given_out_after_all_is_not_held(
    member: Member, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its turn had come, and then the store could not say whether the lease still lives."""

    asked: list[int] = []

    async def fail(lease: int) -> None:
        asked.append(lease)
        raise UnavailableError("no quorum")

    with monkeypatch.context() as failing, pytest.raises(grpc.aio.AioRpcError):
        failing.setattr(member, "lease_time_to_live", fail)
        await client.call("/v3lockpb.Lock/Lock", name=b"m", lease=await lease(member, 0xA))
    assert asked == [0xA]
    assert not (await member.range(b"m/a")).kvs


async def test_a_lock_without_a_lease_gets_one_that_ends(member: Member, client: Client) -> None:
    locked = await client.call("/v3lockpb.Lock/Lock", name=b"m")
    (kv,) = (await member.range(locked.key)).kvs
    assert (await member.lease_time_to_live(kv.lease)).granted_ttl_s == 60


async def test_an_election_hands_over_and_its_observers_see_each_leader(
    member: Member, client: Client
) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="election: no leader"):
        await client.call("/v3electionpb.Election/Leader", name=b"boss")
    observer = client.channel.unary_stream(
        "/v3electionpb.Election/Observe",
        request_serializer=election.LeaderRequest.SerializeToString,
        response_deserializer=election.LeaderResponse.FromString,
    )(election.LeaderRequest(name=b"boss"))

    async def observed() -> bytes:
        async with asyncio.timeout(DEADLINE_S):
            value: bytes = (await observer.read()).kv.value
            return value

    campaign = "/v3electionpb.Election/Campaign"
    ada = await client.call(campaign, name=b"boss", lease=await lease(member, 0xA), value=b"ada")
    assert await observed() == b"ada"
    assert ada.leader.rev == await create_revision(member, ada.leader.key)
    other = asyncio.create_task(
        client.call(campaign, name=b"boss", lease=await lease(member, 0xB), value=b"bob")
    )
    await waiting_places(member, b"boss/", 2)
    await client.call("/v3electionpb.Election/Proclaim", leader=ada.leader, value=b"ada is busy")
    assert await observed() == b"ada is busy"
    assert (await client.call("/v3electionpb.Election/Leader", name=b"boss")).kv.value == b"ada is busy"
    await client.call("/v3electionpb.Election/Resign", leader=ada.leader)
    bob = await other
    assert await observed() == b"bob"
    with pytest.raises(grpc.aio.AioRpcError, match="election: not leader"):
        await client.call("/v3electionpb.Election/Proclaim", leader=ada.leader, value=b"still me")
    assert bob.leader.rev > ada.leader.rev
    observer.cancel()


async def test_a_key_that_was_taken_from_its_holder_is_not_given_out(member: Member, client: Client) -> None:
    first = await client.call("/v3lockpb.Lock/Lock", name=b"m", lease=await lease(member, 0xA))
    waiting = asyncio.create_task(
        client.call("/v3lockpb.Lock/Lock", name=b"m", lease=await lease(member, 0xB))
    )
    await waiting_places(member, b"m/", 2)
    await member.txn([], [Delete(b"m/b")])
    await client.call("/v3lockpb.Lock/Unlock", key=first.key)
    with pytest.raises(grpc.aio.AioRpcError, match="session is expired"):
        await waiting
