"""A single node on the table: what it says, when, and what it doesn't take from anybody."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import pytest

from gitkube.store.raft import (
    NOBODY,
    ConfChange,
    ConfChangeKind,
    ConfChangeStep,
    ConfState,
    Entry,
    EntryKind,
    HardState,
    MemberId,
    Message,
    MessageKind,
    ProgressState,
    ProposalDropped,
    RaftConfig,
    RaftNode,
    Ready,
    Role,
    SnapshotMeta,
)

ONE, TWO, THREE, STRANGER = MemberId(1), MemberId(2), MemberId(3), MemberId(99)


def node_of(voters: Iterable[int] = (1, 2, 3), *, entries: Iterable[Entry] = (), **settings: Any) -> RaftNode:
    hard_state = settings.pop("hard_state", HardState())
    conf = ConfState(voters=tuple(map(MemberId, voters)))
    return RaftNode(
        RaftConfig(id=ONE, **settings),
        rng=random.Random(1),
        hard_state=hard_state,
        snapshot=SnapshotMeta(conf=conf),
        entries=list(entries),
    )


def do_ready(node: RaftNode) -> Ready:
    """One Ready, done without a hitch."""
    ready = node.ready()
    for entry in ready.committed:
        if entry.kind is EntryKind.CONF_CHANGE:
            node.apply_conf_change(ConfChange.decode(entry.data))
    node.advance()
    return ready


def drain(node: RaftNode) -> list[Message]:
    """All Readies that are there; what they send."""
    sent: list[Message] = []
    while node.has_ready():
        ready = do_ready(node)
        sent += ready.early_messages + ready.messages
    return sent


def answer(node: RaftNode, kind: MessageKind, sender: MemberId = TWO, **fields: Any) -> None:
    node.step(Message(kind, node.id, sender, **{"term": node.term, **fields}))


def leader_of(voters: Iterable[int] = (1, 2, 3), **settings: Any) -> RaftNode:
    """A leader whose first entry is committed."""
    node = node_of(voters, **settings)
    node.campaign()
    drain(node)
    answer(node, MessageKind.PRE_VOTE_ANSWER, term=1)
    drain(node)
    answer(node, MessageKind.VOTE_ANSWER)
    drain(node)
    assert node.role is Role.LEADER
    answer(node, MessageKind.APPEND_ANSWER, index=node.last_index)
    drain(node)
    assert node.committed == node.last_index
    return node


# ---------------------------------------------------------------------- Ready
def test_a_node_that_has_nothing_to_say_has_no_ready() -> None:
    node = node_of()
    assert not node.has_ready()
    node.tick()
    assert not node.has_ready()


def test_there_is_one_ready_at_a_time() -> None:
    node = leader_of()
    node.propose([b"foo"])
    node.ready()
    node.propose([b"bar"])
    assert not node.has_ready()
    with pytest.raises(AssertionError):
        node.ready()
    node.advance()
    assert [entry.data for entry in node.ready().entries] == [b"bar"]


def test_a_leaders_appends_leave_before_its_disk_has_written_and_answers_after() -> None:
    leader = leader_of()
    leader.propose([b"foo"])
    ready = leader.ready()
    assert {message.kind for message in ready.early_messages} == {MessageKind.APPEND}
    assert not ready.messages
    assert ready.must_sync
    follower = node_of()
    follower.step(Message(MessageKind.APPEND, ONE, TWO, 1, entries=(Entry(1, 1, b"foo"),)))
    ready = follower.ready()
    assert not ready.early_messages
    assert [message.kind for message in ready.messages] == [MessageKind.APPEND_ANSWER]


def test_a_vote_is_asked_for_and_given_only_after_the_disk() -> None:
    node = node_of(pre_vote=False)
    node.campaign()
    ready = do_ready(node)
    assert not ready.early_messages
    assert {message.kind for message in ready.messages} == {MessageKind.VOTE}
    assert ready.hard_state == HardState(1, ONE, 0)
    assert ready.must_sync


def test_a_new_commit_index_alone_needs_no_sync() -> None:
    leader = leader_of()
    leader.propose([b"foo"])
    do_ready(leader)
    answer(leader, MessageKind.APPEND_ANSWER, index=2)
    ready = leader.ready()
    assert ready.hard_state == HardState(1, ONE, 2)
    assert not ready.must_sync


def test_a_heartbeat_is_answered_before_the_disk_only_if_the_term_is_on_it() -> None:
    node = node_of()
    node.step(Message(MessageKind.HEARTBEAT, ONE, TWO, 1))
    ready = do_ready(node)
    assert [message.kind for message in ready.messages] == [MessageKind.HEARTBEAT_ANSWER]
    node.step(Message(MessageKind.HEARTBEAT, ONE, TWO, 1))
    assert [message.kind for message in node.ready().early_messages] == [MessageKind.HEARTBEAT_ANSWER]


def test_proposals_of_one_turn_share_one_append_to_each_follower() -> None:
    leader = leader_of()
    answer(leader, MessageKind.APPEND_ANSWER, THREE, index=1)
    for data in (b"a", b"b", b"c"):
        leader.propose([data])
    appends = leader.ready().early_messages
    assert [message.to for message in appends] == [TWO, THREE]
    assert [entry.data for entry in appends[0].entries] == [b"a", b"b", b"c"]
    assert appends[0].entries is appends[1].entries


def test_a_long_catch_up_is_applied_in_pieces() -> None:
    entries = [Entry(index, 1, b"") for index in range(1, 11)]
    node = node_of(entries=entries, hard_state=HardState(1, NOBODY, 10), max_committed_entries=4)
    assert [len(do_ready(node).committed) for _ in range(3)] == [4, 4, 2]
    assert not node.has_ready()


def test_a_member_that_starts_behind_its_snapshot_replays_the_changes_it_has_applied() -> None:
    change = ConfChange((ConfChangeStep(ConfChangeKind.ADD_VOTER, TWO),))
    node = RaftNode(
        RaftConfig(id=ONE),
        rng=random.Random(1),
        hard_state=HardState(1, ONE, 2),
        snapshot=SnapshotMeta(1, 1, ConfState(voters=(ONE,))),
        entries=[Entry(2, 1, change.encode(), EntryKind.CONF_CHANGE)],
        applied=2,
    )
    assert node.conf.voters == (ONE, TWO)
    assert not node.has_ready()


# ---------------------------------------------------------------------- leading
def test_proposals_beyond_the_limit_are_dropped_until_some_are_applied() -> None:
    leader = leader_of(max_uncommitted_bytes=10)
    leader.propose([b"x" * 20])  # the first always goes, however large
    with pytest.raises(ProposalDropped, match="20 bytes of proposals wait"):
        leader.propose([b"y"])
    do_ready(leader)
    answer(leader, MessageKind.APPEND_ANSWER, index=leader.last_index)
    drain(leader)
    leader.propose([b"y"])


def test_a_new_leader_counts_the_entries_it_inherits() -> None:
    node = node_of((1,), entries=[Entry(1, 1, b"x" * 20)], hard_state=HardState(1), max_uncommitted_bytes=10)
    node.campaign()
    do_ready(node)
    assert node.role is Role.LEADER
    with pytest.raises(ProposalDropped):
        node.propose([b"y"])
    drain(node)
    node.propose([b"y"])


def test_the_commit_index_in_a_heartbeat_is_bounded_by_what_the_follower_has() -> None:
    leader = leader_of()
    leader.tick()
    commits = {message.to: message.commit for message in leader.ready().early_messages}
    assert commits == {TWO: 1, THREE: 0}


def test_heartbeats_carry_the_hash_of_the_applied_state() -> None:
    leader = leader_of()
    leader.set_applied_hash(1, 0xABC)
    leader.tick()
    assert {(m.state_index, m.state_hash) for m in leader.ready().early_messages} == {(1, 0xABC)}


def test_a_follower_that_was_sent_a_state_gets_entries_again_when_it_answers_behind_it() -> None:
    leader = leader_of()
    leader.propose([b"foo"])
    do_ready(leader)
    answer(leader, MessageKind.APPEND_ANSWER, index=2)
    drain(leader)
    leader.set_snapshot(SnapshotMeta(2, 1, leader.conf))
    leader.compact(2)
    answer(leader, MessageKind.HEARTBEAT_ANSWER, THREE)
    answer(leader, MessageKind.APPEND_ANSWER, THREE, index=0, reject=True)
    assert [m.kind for m in drain(leader) if m.to == THREE] == [MessageKind.SNAPSHOT]
    assert leader.progress()[THREE].state is ProgressState.SNAPSHOT
    answer(leader, MessageKind.APPEND_ANSWER, THREE, index=1)
    assert leader.progress()[THREE].state is ProgressState.SNAPSHOT
    answer(leader, MessageKind.APPEND_ANSWER, THREE, index=2)
    assert leader.progress()[THREE].state is ProgressState.REPLICATE


def test_entries_are_compacted_only_behind_a_durable_snapshot() -> None:
    leader = leader_of()
    with pytest.raises(AssertionError, match="durable snapshot"):
        leader.compact(1)
    with pytest.raises(AssertionError, match="ahead of what is applied"):
        leader.set_snapshot(SnapshotMeta(5, 1, leader.conf))


def test_a_leader_that_hands_over_takes_no_proposals_and_may_change_its_mind() -> None:
    leader = leader_of()
    leader.transfer_leadership(TWO)
    assert leader.pending_transfer == TWO
    with pytest.raises(ProposalDropped, match="going to member 2"):
        leader.propose([b"foo"])
    leader.transfer_leadership(ONE)
    assert leader.pending_transfer == NOBODY
    leader.propose([b"foo"])


def test_reads_beyond_the_limit_are_dropped() -> None:
    leader = leader_of(max_waiting_reads=2)
    leader.read_index(b"a")
    leader.read_index(b"b")
    with pytest.raises(ProposalDropped, match="2 reads wait"):
        leader.read_index(b"c")


def test_only_a_leader_shows_the_progress_of_others() -> None:
    assert set(leader_of().progress()) == {ONE, TWO, THREE}
    assert not node_of().progress()


# ---------------------------------------------------------------------- what isn't taken
def test_an_append_that_asks_to_replace_a_committed_entry_is_rejected() -> None:
    node = node_of(entries=[Entry(1, 1, b"a"), Entry(2, 1, b"b")], hard_state=HardState(1, NOBODY, 2))
    node.step(Message(MessageKind.APPEND, ONE, TWO, 2, 0, 0, (Entry(1, 2, b"z"),)))
    node.step(Message(MessageKind.APPEND, ONE, TWO, 2, 1, 2, (Entry(5, 2, b"z"),)))
    assert [entry.data for entry in node.entries()] == [b"a", b"b"]


def test_a_second_leader_of_the_same_term_is_not_followed() -> None:
    node = node_of()
    node.step(Message(MessageKind.APPEND, ONE, TWO, 1, entries=(Entry(1, 1, b"a"),)))
    drain(node)
    node.step(Message(MessageKind.APPEND, ONE, THREE, 1, 1, 1, (Entry(2, 1, b"b"),)))
    assert node.leader == TWO
    assert node.last_index == 1


def test_a_stranger_can_neither_vote_nor_depose_nor_answer() -> None:
    node = node_of(pre_vote=False)
    node.campaign()
    drain(node)
    answer(node, MessageKind.VOTE_ANSWER, STRANGER)
    assert node.role is Role.CANDIDATE
    leader = leader_of()
    for kind in MessageKind:
        answer(leader, kind, STRANGER, term=9, context=b"transfer")
        answer(leader, kind, STRANGER, index=1)
    assert (leader.role, leader.term, leader.committed) == (Role.LEADER, 1, 1)


def test_a_message_of_an_older_term_is_answered_with_ours() -> None:
    node = node_of(hard_state=HardState(5))
    for kind, reply in [
        (MessageKind.APPEND, MessageKind.HEARTBEAT_ANSWER),
        (MessageKind.HEARTBEAT, MessageKind.HEARTBEAT_ANSWER),
        (MessageKind.SNAPSHOT, MessageKind.HEARTBEAT_ANSWER),
        (MessageKind.VOTE, MessageKind.VOTE_ANSWER),
        (MessageKind.PRE_VOTE, MessageKind.PRE_VOTE_ANSWER),
    ]:
        node.step(Message(kind, ONE, TWO, 3))
        (sent,) = drain(node)
        assert (sent.kind, sent.term, sent.to) == (reply, 5, TWO)
        assert sent.reject or reply is MessageKind.HEARTBEAT_ANSWER
    node.step(Message(MessageKind.APPEND_ANSWER, ONE, TWO, 3, index=1))
    assert not node.has_ready()


def test_a_vote_goes_to_one_candidate_a_term_and_to_it_again() -> None:
    node = node_of()
    answers = []
    for candidate in (TWO, THREE, TWO):
        node.step(Message(MessageKind.VOTE, ONE, candidate, 4))
        answers += [message.reject for message in drain(node)]
    assert answers == [False, True, False]


def test_an_answer_for_entries_that_were_never_written_here_is_ignored() -> None:
    leader = leader_of()
    answer(leader, MessageKind.APPEND_ANSWER, THREE, index=10**9)
    assert leader.progress()[THREE].match == 0
    assert leader.committed == 1


def random_message(rng: random.Random, term: int) -> Message:
    """Anything that the transport could decode, mostly nonsense."""
    small = [0, 1, 2, 3, 5, 8]

    def number() -> int:
        return rng.choice([*small, *small, -1, 2**62])

    first = number()
    entries = tuple(
        Entry(
            rng.choice([first + offset, number()]),
            number(),
            rng.choice([b"", b"x", b"\x01\x00\x01\x00" + bytes(7) + b"\x04"]),
            rng.choice(list(EntryKind)),
        )
        for offset in range(rng.choice([0, 0, 1, 2]))
    )
    members = tuple(MemberId(each) for each in (1, 2, 3, 4, 0))
    conf = ConfState(
        voters=tuple(rng.sample(members, rng.randrange(4))),
        learners=tuple(rng.sample(members, rng.randrange(3))),
        voters_outgoing=tuple(rng.sample(members, rng.randrange(3))),
        auto_leave=rng.random() < 0.5,
    )
    return Message(
        rng.choice(list(MessageKind)),
        ONE,
        rng.choice([ONE, TWO, THREE, STRANGER, NOBODY]),
        term=rng.choice([0, term, term, term, term + 1, term - 1]),
        log_term=number(),
        index=number(),
        entries=entries,
        commit=number(),
        reject=rng.random() < 0.3,
        reject_hint=number(),
        context=rng.choice([b"", b"transfer", bytes(7) + b"\x01", b"junk", bytes(8), b"\xff" * 9]),
        snapshot=rng.choice([None, SnapshotMeta(number(), number(), conf)]),
    )


@pytest.mark.parametrize("seed", range(100))
def test_no_message_of_a_peer_crashes_a_node(seed: int) -> None:
    rng = random.Random(seed)
    node = rng.choice([node_of, leader_of])(rng.choice([(1, 2), (1, 2, 3)]))
    term = committed = 0
    for _ in range(200):
        node.step(random_message(rng, node.term))
        if rng.random() < 0.1:
            node.campaign()
        if rng.random() < 0.5:
            node.tick()
        if node.has_ready() and rng.random() < 0.7:
            lenient_ready(node)
        assert node.term >= term
        assert node.committed >= committed
        term, committed = node.term, node.committed


def lenient_ready(node: RaftNode) -> None:
    """As a caller does: a change that can't be read or made is the same for all members, and skipped."""
    ready = node.ready()
    for entry in ready.committed:
        if entry.kind is EntryKind.CONF_CHANGE:
            try:
                node.apply_conf_change(ConfChange.decode(entry.data))
            except ValueError:
                continue
    node.advance()


def test_who_answered_in_the_last_interval_is_alive_whenever_one_asks() -> None:
    """Else a removal that came just after the count was refused, because nobody had been heard of yet."""
    node = leader_of()
    answer(node, MessageKind.HEARTBEAT_ANSWER)
    while node.progress()[TWO].recent_active:
        node.tick()
        drain(node)
    assert node.progress()[TWO].is_alive
    answer(node, MessageKind.HEARTBEAT_ANSWER, THREE)
    for _ in range(10):
        node.tick()
        drain(node)
    assert node.progress()[THREE].is_alive
    assert not node.progress()[TWO].is_alive
