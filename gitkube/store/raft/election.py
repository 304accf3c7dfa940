"""Who leads: campaigns, votes, and the check that a leader still has its quorum.

The way of an election: a follower hears nothing for its election timeout, asks in a *pre-vote* whether it
could win (thesis, section 9.6: a member that comes back from a partition does not raise the term), stands as
candidate in a new term (Raft, section 5.2), and leads with the votes of a majority. Invariant, with the vote
on the disk before it is sent: at most one leader a term.

A member that has a leader, and heard it within the shortest election timeout, votes for nobody (Raft, end of
section 6): so neither a removed member nor a badly connected one deposes a leader that works. In return a
leader that doesn't hear from a majority for as long steps down (thesis, section 6.2), so that whoever it
leads on is free to elect another.
"""

from __future__ import annotations

from gitkube.store.raft import replication, roles
from gitkube.store.raft.quorum import VoteResult
from gitkube.store.raft.state import RaftState
from gitkube.store.raft.types import NOBODY, EntryKind, Message, MessageKind, Role

TRANSFER = b"transfer"
"""The context of a VOTE that may break the leader's lease: the leader itself has asked for it (3.10)."""


def tick(state: RaftState) -> None:
    """One tick of a member that doesn't lead."""
    state.election_elapsed += 1
    if state.election_elapsed >= state.election_timeout and may_campaign(state):
        state.election_elapsed = 0
        campaign(state)


def may_campaign(state: RaftState) -> bool:
    """Whether this member could lead: a voter whose state is whole and whose configuration is up to date."""
    return (
        state.role is not Role.LEADER
        and state.is_voter
        and state.log.snapshot is None
        # A committed change that isn't applied may have moved the majority away from the one we know.
        and not state.log.has_conf_change_to_apply()
    )


def campaign(state: RaftState, *, for_transfer: bool = False) -> None:
    """Try to become leader; a campaign that the leader asks for goes without pre-vote and through leases."""
    if not may_campaign(state):
        return
    if state.config.pre_vote and not for_transfer:
        roles.become_pre_candidate(state)
        _ask(state, MessageKind.PRE_VOTE, state.term + 1)
        _count(state)
    else:
        _stand(state, TRANSFER if for_transfer else b"")


def _stand(state: RaftState, context: bytes = b"") -> None:
    roles.become_candidate(state)
    _ask(state, MessageKind.VOTE, state.term, context)


def _ask(state: RaftState, kind: MessageKind, term: int, context: bytes = b"") -> None:
    log = state.log
    voters = state.quorum.voters | state.quorum.outgoing
    for member in sorted(voters - {state.id}):
        state.messages.append(
            Message(
                kind, member, state.id, term, index=log.last_index, log_term=log.last_term, context=context
            )
        )


def own_vote_is_durable(state: RaftState) -> None:
    """The disk has the vote for ourselves: now it counts, for a single voter as for all."""
    if state.role is Role.CANDIDATE and state.durable_term == state.term:
        state.votes[state.id] = True
        _count(state)


def on_vote_request(state: RaftState, message: Message) -> None:
    """VOTE and PRE_VOTE: RequestVote of figure 2."""
    is_pre_vote = message.kind is MessageKind.PRE_VOTE
    is_free = (
        state.vote == message.sender
        or (state.vote == NOBODY and state.leader == NOBODY)
        or (is_pre_vote and message.term > state.term)
    )
    granted = is_free and state.log.is_up_to_date(message.index, message.log_term)
    if granted and not is_pre_vote:
        state.election_elapsed = 0
        state.vote = message.sender
    # A granted pre-vote answers for the term asked about, so that the asker's own check of terms lets it in.
    _answer_vote(state, message, term=message.term if granted else state.term, reject=not granted)


def reject_vote_of_older_term(state: RaftState, message: Message) -> None:
    """Tell a candidate of the past in which term we are, so that it comes back."""
    _answer_vote(state, message, term=state.term, reject=True)


def _answer_vote(state: RaftState, message: Message, *, term: int, reject: bool) -> None:
    is_pre_vote = message.kind is MessageKind.PRE_VOTE
    kind = MessageKind.PRE_VOTE_ANSWER if is_pre_vote else MessageKind.VOTE_ANSWER
    commit = state.log.committed
    answer = Message(
        kind,
        message.sender,
        state.id,
        term,
        log_term=state.log.term(commit) or 0,
        commit=commit,
        reject=reject,
    )
    state.messages.append(answer)


def on_vote_answer(state: RaftState, message: Message) -> None:
    """VOTE_ANSWER to a candidate, PRE_VOTE_ANSWER to a pre-candidate."""
    if message.kind is MessageKind.PRE_VOTE_ANSWER and not message.reject and message.term != state.term + 1:
        return  # granted for another term than the one we ask about now
    if _learns_of_other_members(state, message):
        roles.become_follower(state, state.term, NOBODY)
        return
    state.votes.setdefault(message.sender, not message.reject)
    _count(state)


def _learns_of_other_members(state: RaftState, message: Message) -> bool:
    """Take up the commit index of whoever answers us; whether that makes a change of the members effective.

    The paper needs no such rule, as its configurations count from when they are written; ours count from when
    they are committed. Without it a leader could commit its own demotion, tell nobody, and then, with entries
    that nobody else has, refuse its vote for ever to those who still believe that they need it. And with the
    last leader gone for good, one that knows of its removal may grant votes in vain to one that has a longer
    log, does not know of it, and waits for the vote of the removed one.
    """
    log = state.log
    if message.log_term and message.commit > log.committed and log.term(message.commit) == message.log_term:
        between = log.between(log.committed, message.commit)
        if message.reject or any(entry.kind is EntryKind.CONF_CHANGE for entry in between):
            log.commit_to(message.commit)
    return log.has_conf_change_to_apply()


def _count(state: RaftState) -> None:
    result = state.quorum.vote_result(state.votes)
    if result is VoteResult.LOST:
        roles.become_follower(state, state.term, NOBODY)
    elif result is VoteResult.WON and state.role is Role.PRE_CANDIDATE:
        _stand(state)
    elif result is VoteResult.WON and state.durable_term == state.term:
        roles.become_leader(state)


def has_lease(state: RaftState) -> bool:
    """Whether a leader works, as far as this member knows, so that nobody else gets its vote."""
    return (
        state.config.check_quorum
        and state.leader != NOBODY
        and state.election_elapsed < state.config.election_ticks
    )


def tick_leader(state: RaftState) -> None:
    """One tick of a leader: heartbeats, and each election timeout the count of who still answers."""
    state.heartbeat_elapsed += 1
    state.election_elapsed += 1
    if state.election_elapsed >= state.config.election_ticks:
        state.election_elapsed = 0
        # A transfer that took so long has failed; take proposals again (thesis, section 3.10).
        state.transferee = NOBODY
        if state.config.check_quorum and not _has_active_quorum(state):
            roles.become_follower(state, state.term, NOBODY)
            return
    if state.heartbeat_elapsed >= state.config.heartbeat_ticks:
        state.heartbeat_elapsed = 0
        replication.regular_heartbeat(state)


def _has_active_quorum(state: RaftState) -> bool:
    active = {state.id}
    for member, progress in state.others:
        if progress.recent_active:
            active.add(member)
        progress.was_active, progress.recent_active = progress.recent_active, False
    return state.quorum.is_reached_by(active)
