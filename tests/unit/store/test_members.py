"""Several members in one process, over real connections with mutual TLS: what people run, and what they do
to it.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gitkube.store.config import JoinInfo
from gitkube.store.member import Member
from gitkube.store.peer_tls import PeerTls
from gitkube.store.protocol import (
    Compare,
    Delete,
    IdentityError,
    MemberInfo,
    MembershipError,
    NoSpaceError,
    Op,
    Put,
    Revision,
    StoreError,
    Target,
    UnavailableError,
    prefix_end,
)
from gitkube.store.settings import MemberSettings, PeerSettings
from tests.support.ports import free_port
from tests.support.store_certificates import Authority

SETTINGS = MemberSettings(
    segment_bytes=256 * 1024, snapshot_entries=200, keep_entries=20, tick_s=0.03, deadline_s=20.0
)


class Cluster:
    """Members by name, on loopback."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.members: dict[str, Member] = {}
        self.infos: dict[str, MemberInfo] = {}
        self._ports: dict[str, int] = {}
        self._authority = Authority(directory / "pki")

    def address(self, name: str) -> str:
        if name not in self._ports:
            self._ports[name] = free_port()
        return f"127.0.0.1:{self._ports[name]}"

    def peers(self, name: str, seeds: dict[int, str] | None = None) -> PeerSettings:
        files = self._authority.issue(name)
        return PeerSettings(
            self.address(name), PeerTls(files.ca, files.certificate, files.key), seeds=seeds or {}
        )

    async def start(
        self, name: str, *, join: JoinInfo | None = None, settings: MemberSettings = SETTINGS
    ) -> Member:
        seeds = {int(member): address for member, address in join.peers.items()} if join else {}
        member = await Member.open(
            self.directory / name,
            name=name,
            rng=random.Random(name),
            settings=settings,
            peers=self.peers(name, seeds),
            join=join,
        )
        self.members[name] = member
        return member

    async def add(self, name: str, *, settings: MemberSettings = SETTINGS) -> Member:
        """Record, start and promote a member, as an operator does."""
        info = await self.leader.administration.member_add(name, self.address(name))
        self.infos[name] = info
        member = await self.start(name, join=self.join_info(info), settings=settings)
        await eventually(lambda: self.leader.administration.member_promote(info.id))
        return member

    def join_info(self, info: MemberInfo) -> JoinInfo:
        leader = self.leader.engine
        cluster_id = leader.replica.identity.cluster_id
        known = {str(each.id): each.peer_address for each in leader.replica.membership.members.values()}
        return JoinInfo(cluster_id, info.id, known)

    @property
    def leader(self) -> Member:
        return next(member for member in self.members.values() if member.engine.is_leader)

    async def stop(self, name: str) -> None:
        await self.members.pop(name).close()

    async def wait_leader(self) -> Member:
        await until(lambda: any(member.engine.is_leader for member in self.members.values()))
        return self.leader

    async def close(self) -> None:
        for member in self.members.values():
            await member.close()


async def until(check: Callable[[], bool], timeout_s: float = 60.0) -> None:
    """Return when it is true."""
    async with asyncio.timeout(timeout_s):
        while not check():  # noqa: ASYNC110 - what it looks at tells nobody
            await asyncio.sleep(0.02)


async def eventually(attempt: Callable[[], Awaitable[object]], timeout_s: float = 60.0) -> None:
    """Try until it is not refused any more."""
    async with asyncio.timeout(timeout_s):
        while True:
            try:
                await attempt()
                return
            except (MembershipError, UnavailableError):
                await asyncio.sleep(0.05)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    made = Cluster(tmp_path)
    await made.start("a")
    yield made
    await made.close()


@pytest.fixture
async def three(cluster: Cluster) -> Cluster:
    await cluster.add("b")
    await cluster.add("c")
    return cluster


async def put(member: Member, key: bytes, value: bytes = b"") -> Revision:
    return (await member.txn([], [Put(key, value)])).revision


async def keys(member: Member, prefix: bytes, *, serializable: bool = False) -> list[bytes]:
    first, end = (prefix, prefix_end(prefix)) if prefix else (b"\0", b"\0")
    found = await member.range(first, end, serializable=serializable)
    return [kv.key for kv in found.kvs]


async def test_a_write_through_any_member_is_read_through_any_other(three: Cluster) -> None:
    for name, member in three.members.items():
        await put(member, b"k/" + name.encode())
    for member in three.members.values():
        assert await keys(member, b"k/") == [b"k/a", b"k/b", b"k/c"]
    hashes = {(await member.administration.hash()).hash for member in three.members.values()}
    assert len(hashes) == 1


async def test_a_leader_that_stops_hands_over_and_nothing_is_lost(three: Cluster) -> None:
    name = next(name for name, member in three.members.items() if member.engine.is_leader)
    await put(three.leader, b"before")
    await three.stop(name)
    survivor = next(iter(three.members.values()))
    await put(survivor, b"after")
    assert await keys(survivor, b"") == [b"after", b"before"]
    back = await three.start(name)
    assert await keys(back, b"") == [b"after", b"before"]


async def test_writes_that_are_under_way_when_the_leader_goes_are_done_once(three: Cluster) -> None:
    name = next(name for name, member in three.members.items() if member.engine.is_leader)
    survivor = next(member for other, member in three.members.items() if other != name)
    counter = b"counter"
    await put(survivor, counter, b"0")

    async def add_one() -> None:
        while True:
            (kv,) = (await survivor.range(counter)).kvs
            value = b"%d" % (int(kv.value) + 1)
            done = await survivor.txn(
                [Compare(counter, Target.MOD, Op.EQUAL, kv.mod_revision)], [Put(counter, value)]
            )
            if done.succeeded:
                return

    adding = [asyncio.create_task(add_one()) for _ in range(20)]
    await asyncio.sleep(0)
    await three.stop(name)
    await asyncio.gather(*adding)
    (kv,) = (await survivor.range(counter)).kvs
    assert (kv.value, kv.version) == (b"20", 21)


async def test_without_a_quorum_serializable_reads_go_on_and_writes_say_why_not(three: Cluster) -> None:
    await put(three.leader, b"kept")
    last = next(iter(three.members))
    await keys(three.members[last], b"")  # it has everything now
    impatient = replace(SETTINGS, deadline_s=1.0)
    three.members[last].engine.settings = impatient
    for name in [name for name in three.members if name != last]:
        await three.stop(name)
    survivor = three.members[last]
    assert await keys(survivor, b"", serializable=True) == [b"kept"]
    with pytest.raises(UnavailableError):
        await keys(survivor, b"")
    await until(lambda: "1 of 3 members can be reached" in survivor.engine.leadership.why_not())
    with pytest.raises(UnavailableError, match="no quorum"):
        await put(survivor, b"lost")


async def test_a_new_member_behind_the_logs_beginning_gets_the_state_whole(cluster: Cluster) -> None:
    for number in range(500):
        await put(cluster.leader, b"k/%03d" % number, b"x" * 200)
    await until(lambda: cluster.leader.engine.replica.node.first_index > 2)
    late = await cluster.add("b")
    assert len(await keys(late, b"k/")) == 500
    assert late.engine.replica.snapshot.index > 1
    assert await keys(await restarted(cluster, "b"), b"k/") == [b"k/%03d" % number for number in range(500)]


async def restarted(cluster: Cluster, name: str) -> Member:
    await cluster.stop(name)
    return await cluster.start(name)


async def test_a_watch_goes_on_over_a_state_that_was_sent_whole(cluster: Cluster) -> None:
    late = await cluster.add("b")
    await put(cluster.leader, b"w/first")
    seen: list[bytes] = []

    async def watching() -> None:
        async for batch in late.watch(b"w/", b"w0", start_revision=Revision(2)):
            seen.extend(event.kv.key for event in batch.events)
            if b"w/last" in seen:
                return

    task = asyncio.create_task(watching())
    for number in range(300):
        await put(cluster.leader, b"w/%03d" % number)
    await put(cluster.leader, b"w/last")
    async with asyncio.timeout(30):
        await task
    assert seen == [b"w/first", *(b"w/%03d" % number for number in range(300)), b"w/last"]


async def test_leadership_goes_where_it_is_asked_to_go(three: Cluster) -> None:
    target = next(member for member in three.members.values() if not member.engine.is_leader)
    wanted = target.engine.replica.identity.member_id
    await target.administration.transfer_leadership(wanted)
    await until(lambda: target.engine.is_leader)


async def test_a_removed_member_is_told_so_and_stops(three: Cluster) -> None:
    name, gone = next((name, member) for name, member in three.members.items() if not member.engine.is_leader)
    await three.leader.administration.member_remove(gone.engine.replica.identity.member_id)
    async with asyncio.timeout(30):
        error = await gone.wait_failed()
    assert isinstance(error, IdentityError)
    assert "was removed from the cluster" in str(error)
    await three.stop(name)
    assert {info.name for info in await three.leader.administration.members()} == {"a", "b", "c"} - {name}


async def test_a_leader_hands_over_before_it_is_removed(three: Cluster) -> None:
    """Whoever gets the answer may switch it off at once, so somebody who stays must know of the removal."""
    name, leader = next((name, member) for name, member in three.members.items() if member.engine.is_leader)
    gone = leader.engine.replica.identity.member_id
    await leader.administration.member_remove(gone)
    others = [member for member in three.members.values() if member is not leader]
    await until(lambda: any(member.engine.is_leader for member in others))
    successor = next(member for member in others if member.engine.is_leader)
    assert gone not in successor.engine.replica.node.conf.voters
    await three.stop(name)
    await put(successor, b"still writable")


async def test_a_member_that_would_cost_the_quorum_is_not_removed(cluster: Cluster) -> None:
    only = cluster.leader
    with pytest.raises(MembershipError, match="the only voter"):
        await only.administration.member_remove(only.engine.replica.identity.member_id)
    await cluster.add("b")
    await cluster.wait_leader()
    other = next(name for name, member in cluster.members.items() if not member.engine.is_leader)
    leader = cluster.leader
    with pytest.raises(MembershipError, match="there is no member"):
        await leader.administration.member_remove(12345)
    await cluster.stop(other)
    leader.engine.settings = replace(SETTINGS, deadline_s=1.0)
    with pytest.raises((UnavailableError, MembershipError)):
        await leader.administration.member_remove(leader.engine.replica.identity.member_id)
    assert len(leader.engine.replica.membership.members) == 2


async def test_a_learner_that_lacks_too_much_is_not_promoted(cluster: Cluster) -> None:
    info = await cluster.leader.administration.member_add("b", cluster.address("b"))
    with pytest.raises(MembershipError, match="has not been heard of"):
        await cluster.leader.administration.member_promote(info.id)
    await put(cluster.leader, b"still writable")


async def test_a_member_of_another_cluster_is_refused_by_name(cluster: Cluster, tmp_path: Path) -> None:
    info = await cluster.leader.administration.member_add("b", cluster.address("b"))
    wrong = replace(cluster.join_info(info), cluster_id=1)
    stranger = await cluster.start("b", join=wrong)
    async with asyncio.timeout(30):
        error = await stranger.wait_failed()
    assert "belongs to cluster" in str(error)
    await cluster.stop("b")
    with pytest.raises(IdentityError, match="was told to join cluster"):
        await cluster.start("b", join=cluster.join_info(info))


async def test_a_member_that_does_not_know_its_apis_address_leaves_the_recorded_one(cluster: Cluster) -> None:
    """A controller that takes a free port tells it once it has one; its member must not take it back."""
    member = cluster.members["a"]
    own = member.engine.replica.identity.member_id
    await member.administration.member_update(own, client_urls=["https://a:6443"])
    peers = member.engine.peers
    assert peers is not None
    member.engine.peers = replace(peers, advertise="a.test:2380", client_urls=())
    async with asyncio.timeout(30):
        await member.administration.announce_address()
    (info,) = await member.administration.members()
    assert (info.peer_address, info.client_urls) == ("a.test:2380", ("https://a:6443",))


async def test_a_member_that_cannot_listen_says_so_and_lets_its_directory_go(
    cluster: Cluster, tmp_path: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UnavailableError, match="cannot listen for other members"):
            await Member.open(tmp_path / "b", peers=replace(cluster.peers("b"), listen=address))
    member = await Member.open(tmp_path / "b", settings=replace(SETTINGS, lock_wait_s=0.0))
    await member.close()


async def test_what_would_pass_the_quota_is_refused_until_there_is_space_again(tmp_path: Path) -> None:
    small = replace(SETTINGS, quota_bytes=20_000)
    member = await Member.open(tmp_path / "m", settings=small)
    try:
        with pytest.raises(NoSpaceError, match="gitkube store compact"):
            for number in range(100):
                await put(member, b"k/%d" % number, b"x" * 1000)
        assert (await member.status()).alarms == ["NOSPACE"]
        assert await keys(member, b"k/0") == [b"k/0"]
        await delete_prefix(member, b"k/")
        with pytest.raises(NoSpaceError):
            await put(member, b"small")
        await member.compact((await member.status()).revision)
        await member.administration.disarm()
        await put(member, b"small")
    finally:
        await member.close()


async def delete_prefix(member: Member, prefix: bytes) -> None:
    await member.txn([], [Delete(prefix, prefix_end(prefix))])


async def test_leases_are_kept_by_the_leader_and_asked_for_anywhere(three: Cluster) -> None:
    follower = next(member for member in three.members.values() if not member.engine.is_leader)
    lease = await follower.lease_grant(60)
    await follower.txn([], [Put(b"leased", b"", lease.id)])
    kept = await follower.lease_keep_alive(lease.id)
    assert kept.remaining_ttl_s > 50
    assert (await three.leader.lease_time_to_live(lease.id)).keys == [b"leased"]
    await follower.lease_revoke(lease.id)
    assert await keys(three.leader, b"leased") == []
    with pytest.raises(StoreError, match="does not exist"):
        await follower.lease_keep_alive(lease.id)


async def test_a_lease_that_nobody_keeps_alive_ends_on_all_members(three: Cluster) -> None:
    lease = await three.leader.lease_grant(1)
    await three.leader.txn([], [Put(b"leased", b"", lease.id)])
    for member in three.members.values():
        await until(lambda member=member: not member.engine.replica.space.range(b"leased").kvs)  # type: ignore[misc]


async def test_a_member_counts_what_a_dashboard_asks_for(cluster: Cluster) -> None:
    await put(cluster.leader, b"k")
    text = cluster.leader.metrics()
    for line in (
        "gitkube_store_has_leader 1.0",
        "gitkube_store_is_leader 1.0",
        "gitkube_store_keys 1.0",
        "gitkube_store_proposals_pending 0.0",
        'gitkube_store_wal_fsync_duration_seconds_bucket{le="+Inf"}',
        'gitkube_store_commit_duration_seconds_bucket{le="+Inf"} 1.0',
    ):
        assert line in text, line
