"""What the simulation has found, each as the shortest story that shows it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from gitkube.sim.disk import SimDisk
from gitkube.store import command
from gitkube.store.command import Txn
from gitkube.store.directory import SNAPSHOTS, Identity, create_member
from gitkube.store.membership import Membership, removal_of
from gitkube.store.mvcc import KeySpace
from gitkube.store.protocol import MemberInfo, Put
from gitkube.store.raft import (
    NOBODY,
    ConfChange,
    ConfState,
    Entry,
    EntryKind,
    HardState,
    MemberId,
    Message,
    MessageKind,
    RaftConfig,
    RaftNode,
    Role,
    SnapshotMeta,
)
from gitkube.store.replica import Outcome, Replica, ReplicaSettings
from gitkube.store.snapshot import newest_snapshot, read_snapshot, snapshot_chunks

DIRECTORY = Path("/member")
SEGMENT_BYTES = 4096
ONE, TWO, THREE = MemberId(1), MemberId(2), MemberId(3)
VOTERS = ConfState(voters=(ONE, TWO, THREE))


def a_follower(**settings: int) -> Replica:
    """Member 1 of three, which follows member 2 in term 2 as soon as it is spoken to."""
    disk = SimDisk(random.Random(1))
    identity = Identity(7, ONE, "m1")
    infos = {number: MemberInfo(number, f"m{number}", "") for number in (1, 2, 3)}
    parts = [Membership(infos).dump(), *KeySpace().dump()]
    create_member(disk, DIRECTORY, identity, SnapshotMeta(1, 1, VOTERS), parts, segment_bytes=SEGMENT_BYTES)
    return Replica.open(
        disk,
        DIRECTORY,
        identity,
        rng=random.Random(1),
        settings=ReplicaSettings(segment_bytes=SEGMENT_BYTES, **settings),
    )


def put(index: int) -> Entry:
    return Entry(index, 2, command.encode(Txn((), (Put(b"k", str(index).encode()),))))


def append(after: int, entries: Sequence[Entry], commit: int) -> Message:
    log_term = 2 if after > 1 else 1
    return Message(MessageKind.APPEND, ONE, TWO, 2, log_term, after, tuple(entries), commit)


def take_turns(replica: Replica) -> list[Outcome]:
    outcomes = []
    while (turn := replica.ready()) is not None:
        replica.persist(turn)
        outcomes.append(replica.finish(turn))
    return outcomes


def give_state(replica: Replica, pieces: Sequence[bytes], meta: SnapshotMeta) -> None:
    receiver = replica.snapshot_receiver(meta)
    for piece in pieces:
        receiver.add(receiver.received_bytes, piece)
    replica.receive(receiver, Message(MessageKind.SNAPSHOT, ONE, TWO, 2, snapshot=meta))


def a_state_of(entries: int) -> tuple[SnapshotMeta, list[bytes]]:
    """What a member sends that has applied so many entries."""
    replica = a_follower()
    last = entries + 1
    replica.step(append(1, [put(index) for index in range(2, last + 1)], commit=last))
    take_turns(replica)
    own = replica.take_snapshot()
    replica.write_own(own)
    pieces = list(snapshot_chunks(replica._disk, DIRECTORY / SNAPSHOTS, own.meta, 64))
    assert len(pieces) > 2
    return own.meta, pieces


def test_a_state_of_its_own_may_be_written_while_another_members_is_taken_over() -> None:
    """Seed 93 of the first day: an assertion ended the member."""
    replica = a_follower(keep_entries=0)
    replica.step(append(1, [put(2), put(3)], commit=3))
    take_turns(replica)
    own = replica.take_snapshot()
    replica.write_own(own)
    meta, pieces = a_state_of(9)
    give_state(replica, pieces, meta)

    replica.snapshot_written(own.meta)
    take_turns(replica)

    assert replica.node.applied == meta.index
    assert replica.space.revision == 10


def test_the_same_state_may_come_a_second_time_before_the_first_is_installed() -> None:
    """Seed 5054: the second transfer took over the file of the first, and half a state was installed."""
    replica = a_follower()
    meta, pieces = a_state_of(9)
    give_state(replica, pieces, meta)
    second = replica.snapshot_receiver(meta)
    second.add(0, pieces[0])

    take_turns(replica)
    second.abort()

    assert replica.node.applied == meta.index
    directory = DIRECTORY / SNAPSHOTS
    assert newest_snapshot(replica._disk, directory) == meta
    assert list(read_snapshot(replica._disk, directory, meta)), "it is whole"
    assert [name for name in replica._disk.names(directory) if name.endswith(".tmp")] == []


def test_an_older_state_that_comes_late_does_not_replace_the_newer_one() -> None:
    replica = a_follower()
    older, older_pieces = a_state_of(5)
    newer, newer_pieces = a_state_of(9)
    give_state(replica, newer_pieces, newer)
    give_state(replica, older_pieces, older)

    take_turns(replica)

    assert replica.node.applied == newer.index


def test_a_change_of_the_members_is_synced_as_committed_before_it_is_applied() -> None:
    """Seed 100190: the last one who knew of a removal forgot it, and asked the removed one for its vote."""
    replica = a_follower()
    change = Entry(2, 2, removal_of(THREE, request=1).encode(), EntryKind.CONF_CHANGE)
    replica.step(append(1, [change], commit=1))
    take_turns(replica)
    replica.step(append(2, [], commit=2))
    take_turns(replica)
    assert replica.node.conf.voters == (ONE, TWO)

    disk = replica._disk
    assert isinstance(disk, SimDisk)
    disk.crash()
    settings = ReplicaSettings(segment_bytes=SEGMENT_BYTES)
    again = Replica.open(disk, DIRECTORY, replica.identity, rng=random.Random(1), settings=settings)
    take_turns(again)

    assert again.node.conf.voters == (ONE, TWO)


def a_node(member: MemberId, entries: Sequence[Entry], commit: int) -> RaftNode:
    """Of a cluster that is leaving a joint configuration: 1 and 2 had it, 2 and 3 have it from entry 2 on."""
    joint = ConfState(voters=(TWO, THREE), voters_outgoing=(ONE, TWO), auto_leave=True)
    return RaftNode(
        RaftConfig(id=member),
        rng=random.Random(member),
        hard_state=HardState(2, NOBODY, commit),
        snapshot=SnapshotMeta(1, 1, joint),
        entries=entries,
        applied=1,
    )


def settle(nodes: dict[MemberId, RaftNode]) -> None:
    """Deliver everything; what is for somebody who is gone is lost."""
    is_settled = False
    while not is_settled:
        is_settled = True
        for node in nodes.values():
            if not node.has_ready():
                continue
            is_settled = False
            ready = node.ready()
            for entry in ready.committed:
                if entry.kind is EntryKind.CONF_CHANGE:
                    node.apply_conf_change(ConfChange.decode(entry.data))
            node.advance()
            for message in (*ready.early_messages, *ready.messages):
                if message.to in nodes:
                    nodes[message.to].step(message)


def test_who_has_the_longer_log_hears_of_a_removal_from_who_grants_its_vote() -> None:
    """Seed 556: member 1 led both into the new configuration, told 2 that it is left, and was taken away."""
    leave = Entry(2, 2, ConfChange().encode(), EntryKind.CONF_CHANGE)
    two = a_node(TWO, [leave], commit=2)
    three = a_node(THREE, [leave, Entry(3, 2, b"")], commit=1)
    nodes = {TWO: two, THREE: three}
    settle(nodes)
    assert not two.conf.voters_outgoing
    assert three.conf.voters_outgoing

    for _ in range(100):
        for node in nodes.values():
            node.tick()
            settle(nodes)

    assert not three.conf.voters_outgoing
    assert three.role is Role.LEADER
    assert two.leader == THREE
