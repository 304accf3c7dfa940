"""How long the log behind the newest snapshot gets: in entries, and in bytes where they are large."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from gitkube.store import command, log_length
from gitkube.store.command import Txn
from gitkube.store.disk import SystemDisk
from gitkube.store.protocol import Put
from gitkube.store.raft.types import MemberId
from gitkube.store.replica import Replica, ReplicaSettings
from gitkube.store.starting import open_replica

SMALL = 10_000
"""Bytes, in place of the megabytes of the real limits."""


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_length, "SMALL_STATE_BYTES", SMALL)
    monkeypatch.setattr(log_length, "SMALL_LOG_BYTES", 2 * SMALL)
    monkeypatch.setattr(log_length, "LARGE_LOG_BYTES", 4 * SMALL)
    monkeypatch.setattr(log_length, "KEPT_BYTES", SMALL)


def lone(directory: Path, *, snapshot_entries: int = 100, keep_entries: int = 50) -> Replica:
    disk = SystemDisk()
    disk.make_directory(directory)
    member = open_replica(
        disk, directory, name="m", rng=random.Random(1), join=None, peer_address="", client_urls=(),
        settings=ReplicaSettings(
            segment_bytes=64 * 1024, snapshot_entries=snapshot_entries, keep_entries=keep_entries
        ),
    )  # fmt: skip
    member.node.campaign()
    turn(member)
    return member


def turn(member: Replica) -> None:
    while (under_way := member.ready()) is not None:
        member.persist(under_way)
        member.finish(under_way)


def put(member: Replica, count: int, size_bytes: int, *, key: bytes = b"k") -> None:
    data = command.encode(Txn((), (Put(key, bytes(size_bytes)),)))
    for _ in range(count):
        member.node.propose([data])
    turn(member)


def write_snapshot(member: Replica) -> None:
    own = member.take_snapshot()
    member.write_own(own)
    member.snapshot_written(own.meta)
    member.trim_log()


@pytest.mark.usefixtures("limits")
def test_a_small_state_is_written_after_so_many_entries(tmp_path: Path) -> None:
    member = lone(tmp_path, snapshot_entries=20)
    put(member, 15, 1)
    assert not member.snapshot_is_due()
    put(member, 10, 1)
    assert member.space.live_bytes < SMALL
    assert member.snapshot_is_due()
    member.close()


@pytest.mark.usefixtures("limits")
def test_few_entries_with_large_values_make_it_due_too(tmp_path: Path) -> None:
    member = lone(tmp_path, snapshot_entries=1000)
    put(member, 3, SMALL)
    assert not member.snapshot_is_due()
    put(member, 2, SMALL)
    assert member.snapshot_is_due()
    write_snapshot(member)
    assert not member.snapshot_is_due()
    member.close()


@pytest.mark.usefixtures("limits")
def test_one_that_is_not_small_is_not_written_again_for_a_small_log(tmp_path: Path) -> None:
    member = lone(tmp_path, snapshot_entries=20)
    put(member, 40, 1)
    assert member.space.live_bytes > SMALL
    assert not member.snapshot_is_due()
    put(member, 60, SMALL // 10)
    assert member.snapshot_is_due()
    member.close()


@pytest.mark.usefixtures("limits")
def test_a_large_state_waits_for_a_log_of_half_its_size(tmp_path: Path) -> None:
    member = lone(tmp_path)
    put(member, 20, SMALL)
    write_snapshot(member)
    put(member, 9, SMALL)
    assert not member.snapshot_is_due()
    put(member, 14, SMALL)
    assert member.snapshot_is_due()
    member.close()


@pytest.mark.usefixtures("limits")
@pytest.mark.parametrize(
    ("size_bytes", "kept"),
    [pytest.param(10, 50, id="so many"), pytest.param(SMALL // 5, 4, id="so many bytes")],
)
def test_a_part_of_the_log_stays_for_followers_that_are_a_little_behind(
    tmp_path: Path, size_bytes: int, kept: int
) -> None:
    member = lone(tmp_path)
    put(member, 200, size_bytes)
    applied = member.node.applied
    write_snapshot(member)
    member.tick()
    assert member.node.first_index == applied - kept + 1
    put(member, 1, 1)
    member.close()


def test_members_with_one_log_write_their_states_one_after_the_other() -> None:
    voters = [MemberId(30), MemberId(10), MemberId(20)]
    places = {member: log_length.place_among(voters, member) for member in (*voters, MemberId(5))}
    assert len({places[member] for member in voters}) == 3
    assert places[MemberId(10)] == places[MemberId(5)] == 0
    due_at = [
        next(
            entries
            for entries in range(1000)
            if log_length.is_due(entries, 0, 0, max_entries=100, voters=voters, member=member)
        )
        for member in sorted(voters)
    ]
    assert due_at == [100, 117, 134]


def test_it_is_forgotten_bit_by_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_length, "FORGOTTEN_PER_TICK", 30)
    member = lone(tmp_path, keep_entries=0)
    put(member, 100, 1)
    applied, first = member.node.applied, member.node.first_index
    write_snapshot(member)
    seen = []
    for _ in range(6):
        member.tick()
        seen.append(member.node.first_index)
    assert seen[0] - first <= 31
    assert seen == sorted(seen)
    assert seen[-1] == applied + 1
    member.close()
