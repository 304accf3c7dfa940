"""Becoming follower, pre-candidate, candidate or leader (Raft, figure 4), and what each change resets.

Invariants: the term never falls, and the vote changes only with the term or from nobody to somebody.
"""

from __future__ import annotations

from gitkube.store.raft import replication
from gitkube.store.raft.log import data_bytes
from gitkube.store.raft.read_only import ReadOnly
from gitkube.store.raft.state import RaftState
from gitkube.store.raft.types import NOBODY, MemberId, Role


def become_follower(state: RaftState, term: int, leader: MemberId) -> None:
    """Follow `leader`, or nobody yet, in `term`."""
    _start_term(state, term)
    state.role = Role.FOLLOWER
    state.leader = leader


def become_pre_candidate(state: RaftState) -> None:
    """Ask whether an election could be won; term and vote stay as they are (thesis, section 9.6)."""
    assert state.role is not Role.LEADER
    state.role = Role.PRE_CANDIDATE
    state.leader = NOBODY
    # Asking is nothing to be forgotten over a restart, so our own voice counts at once.
    state.votes = {state.id: True}


def become_candidate(state: RaftState) -> None:
    """Stand in a new term and vote for ourselves; that vote counts once it is on our disk."""
    assert state.role is not Role.LEADER
    _start_term(state, state.term + 1)
    state.role = Role.CANDIDATE
    state.vote = state.id


def become_leader(state: RaftState) -> None:
    """Lead the term, and open it with an empty entry: only with it can older ones be committed (5.4.2)."""
    assert state.role is Role.CANDIDATE and state.durable_term == state.term
    _start_term(state, state.term)
    state.role = Role.LEADER
    state.leader = state.id
    state.set_progress({member: state.new_progress() for member in state.progress})
    for member in state.conf.learners:
        state.progress[member].is_learner = True
    log = state.log
    # What is not committed may hold a change of the members: no other one before all of it is applied.
    state.pending_conf_index = log.last_index
    state.uncommitted_bytes = data_bytes(log.between(max(log.applied, log.offset), log.last_index))
    replication.append(state, [b""])


def _start_term(state: RaftState, term: int) -> None:
    """Forget what belongs to an office; in a new term the vote is free again."""
    assert term >= state.term
    if term != state.term:
        state.term = term
        state.vote = NOBODY
    state.leader = NOBODY
    state.election_elapsed = state.heartbeat_elapsed = 0
    state.draw_election_timeout()
    state.accepted_index = 0
    state.votes = {}
    state.reads = ReadOnly()
    state.transferee = NOBODY
    state.pending_conf_index = 0
    state.uncommitted_bytes = 0
    state.append_is_due = False
