"""The random schedules are worth something only if they notice a broken rule: here each is broken once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from gitkube.store.raft import (
    ConfChangeError,
    Entry,
    Message,
    Ready,
    Role,
    election,
    membership,
    reading,
    replication,
)
from gitkube.store.raft.configuration import changed
from gitkube.store.raft.log import RaftLog
from gitkube.store.raft.state import RaftState
from tests.support.raft_cluster import PretendDisk
from tests.unit.store.raft.test_random_schedules import live

pytestmark = pytest.mark.slow

SEEDS_AT_MOST = 500

Break = Callable[[pytest.MonkeyPatch], None]


def commit_entries_of_older_terms(patch: pytest.MonkeyPatch) -> None:
    def commit(state: RaftState) -> bool:
        state.append_is_due = True
        return state.log.commit_to(state.agreed_match())

    patch.setattr(replication, "commit_what_a_majority_has", commit)


def cut_off_what_follows_a_matching_append(patch: pytest.MonkeyPatch) -> None:
    original = RaftLog.try_append

    def try_append(log: RaftLog, index: int, term: int, entries: Sequence[Entry]) -> int | None:
        if log.committed <= index < log.last_index and log.term(index) == term:
            log._truncate(index)
        return original(log, index, term, entries)

    patch.setattr(RaftLog, "try_append", try_append)


def skip_the_consistency_check(patch: pytest.MonkeyPatch) -> None:
    original = RaftLog.try_append

    def try_append(log: RaftLog, index: int, term: int, entries: Sequence[Entry]) -> int | None:
        return original(log, index, log.term(index) or 0, entries)

    patch.setattr(RaftLog, "try_append", try_append)


def vote_for_whoever_asks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(RaftLog, "is_up_to_date", lambda log, index, term: True)


def vote_twice(patch: pytest.MonkeyPatch) -> None:
    original = election.on_vote_request

    def on_vote_request(state: RaftState, message: Message) -> None:
        state.vote = message.sender
        original(state, message)

    patch.setattr(election, "on_vote_request", on_vote_request)
    patch.setattr("gitkube.store.raft.node._RULES", _rules_with(on_vote_request))


def _rules_with(rule: Callable[[RaftState, Message], None]) -> object:
    from gitkube.store.raft import node

    return {
        role: {kind: rule if known.__name__ == rule.__name__ else known for kind, known in rules.items()}
        for role, rules in node._RULES.items()
    }


def forget_the_vote(patch: pytest.MonkeyPatch) -> None:
    original = PretendDisk.write

    def write(disk: PretendDisk, ready: Ready) -> None:
        if ready.hard_state is not None:
            ready.hard_state = ready.hard_state._replace(vote=0)
        original(disk, ready)

    patch.setattr(PretendDisk, "write", write)


def count_own_entries_before_they_are_durable(patch: pytest.MonkeyPatch) -> None:
    original = replication.append

    def append(state: RaftState, *arguments: object) -> None:
        original(state, *arguments)  # type: ignore[arg-type]
        state.progress[state.id].accepted(state.log.last_index)
        replication.commit_what_a_majority_has(state)

    patch.setattr(replication, "append", append)


def serve_reads_without_asking(patch: pytest.MonkeyPatch) -> None:
    def serve(state: RaftState) -> None:
        state.reads.answered = dict.fromkeys(state.progress, state.reads.round)
        original(state)

    original = reading.serve_confirmed
    patch.setattr(reading, "serve_confirmed", serve)


def count_only_the_new_half(patch: pytest.MonkeyPatch) -> None:
    original = RaftState.set_progress

    def set_progress(state: RaftState, progress: dict) -> None:  # type: ignore[type-arg]
        original(state, progress)
        state._matching_outgoing = []

    patch.setattr(RaftState, "set_progress", set_progress)


def change_members_at_any_time(patch: pytest.MonkeyPatch) -> None:
    def propose(state: RaftState, change: object) -> None:
        changed(state.conf, change)  # type: ignore[arg-type]
        membership._append(state, change)  # type: ignore[arg-type]

    patch.setattr(membership, "propose", propose)


def send_commit_beyond_what_matches(patch: pytest.MonkeyPatch) -> None:
    original = replication.send_heartbeats

    def send_heartbeats(state: RaftState) -> None:
        before = len(state.early_messages)
        original(state)
        for message in state.early_messages[before:]:
            message.commit = state.log.committed

    patch.setattr(replication, "send_heartbeats", send_heartbeats)


def lead_in_an_older_term(patch: pytest.MonkeyPatch) -> None:
    from gitkube.store.raft import node

    original = node._passes_terms

    def passes(state: RaftState, message: Message) -> bool:
        if state.role is Role.LEADER and message.term > state.term:
            return False
        return message.term < state.term or original(state, message)

    patch.setattr(node, "_passes_terms", passes)


BROKEN: list[Break] = [
    commit_entries_of_older_terms,
    cut_off_what_follows_a_matching_append,
    skip_the_consistency_check,
    vote_for_whoever_asks,
    vote_twice,
    forget_the_vote,
    count_own_entries_before_they_are_durable,
    serve_reads_without_asking,
    count_only_the_new_half,
    change_members_at_any_time,
    send_commit_beyond_what_matches,
    lead_in_an_older_term,
]


@pytest.mark.parametrize("break_rule", BROKEN, ids=lambda rule: rule.__name__)
def test_a_broken_rule_is_noticed(break_rule: Break, monkeypatch: pytest.MonkeyPatch) -> None:
    break_rule(monkeypatch)
    for seed in range(SEEDS_AT_MOST):
        try:
            live(seed)
        except (AssertionError, ConfChangeError) as error:
            print(f"seed {seed}: {error}")
            return
    pytest.fail(f"{SEEDS_AT_MOST} schedules noticed nothing")
