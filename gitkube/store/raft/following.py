"""The follower's side of replication: taking entries, heartbeats and states from the leader (figure 2, 7).

Answers go to `messages`, that is, after the disk: an answer at index *i* says that everything up to *i* is
durable here and equals the leader's log. Invariant: what is committed here is never replaced; a message that
asks for it comes from no leader and is refused.
"""

from __future__ import annotations

from gitkube.store.raft import configuration, roles
from gitkube.store.raft.log import are_consecutive
from gitkube.store.raft.state import RaftState
from gitkube.store.raft.types import Message, MessageKind, Role

_APPEND_ANSWER = MessageKind.APPEND_ANSWER


def hear_leader(state: RaftState, message: Message) -> bool:
    """Note that the leader of this term has spoken; whether `message` can be from it at all."""
    if state.leader == message.sender and state.role is Role.FOLLOWER:
        state.election_elapsed = 0
        return True
    if state.leader and state.role is Role.FOLLOWER:
        return False  # a term has one leader, and this is another member
    roles.become_follower(state, state.term, message.sender)
    return True


def on_append(state: RaftState, message: Message) -> None:
    """AppendEntries of figure 2."""
    if not hear_leader(state, message):
        return
    log = state.log
    if message.index < log.committed:
        # An old one. What it carries we have, or it has been decided otherwise: say how far we surely agree.
        _accept(state, message, log.committed)
        return
    entries = message.entries
    if not state.conf.voters and log.snapshot is None:
        # The first configuration is in no entry: without it we would count majorities of the wrong members.
        _reject(state, message, index=0, hint=0, hint_term=0)
        return
    if entries and not (
        entries[-1][1] <= message.term and are_consecutive(entries, message.index, message.log_term)
    ):
        return
    last_new = log.try_append(message.index, message.log_term, entries)
    if last_new is not None:
        is_news = log.commit_to(min(message.commit, last_new))
        if entries or not is_news or state.accepted_index < last_new:
            _accept(state, message, last_new)
        # Else it brought the commit index and nothing else, and our answer is under way already: a message
        # less for each proposal. Should that answer get lost, the next heartbeat leads to a new one.
        return
    hint, hint_term = log.last_index_of_term_at_most(message.log_term, message.index)
    _reject(state, message, index=message.index, hint=hint, hint_term=hint_term or 0)


def on_heartbeat(state: RaftState, message: Message) -> None:
    """The leader is there, and says how far we may apply."""
    if not hear_leader(state, message):
        return
    if message.commit <= state.log.last_index:
        state.log.commit_to(message.commit)
    answer = Message(
        MessageKind.HEARTBEAT_ANSWER, message.sender, state.id, state.term, context=message.context
    )
    # The answer says in which term we are, and nothing of entries: with that on the disk it need not wait.
    (state.early_messages if state.durable_term == state.term else state.messages).append(answer)


def on_snapshot(state: RaftState, message: Message) -> None:
    """InstallSnapshot (Raft, section 7); the caller has the bytes already."""
    if not hear_leader(state, message):
        return
    meta = message.snapshot
    if meta is None or meta.term > message.term or not configuration.is_valid(meta.conf):
        return
    log = state.log
    if meta.index > log.committed:
        if log.term(meta.index) == meta.term and state.conf.voters:
            # We have all these entries: they are committed, and applying them is cheaper.
            log.commit_to(meta.index)
        else:
            log.restore(meta)
    _accept(state, message, log.committed)


def answer_older_term(state: RaftState, message: Message) -> None:
    """Tell a leader of the past in which term we are, so that it steps down (Raft, section 5.1).

    A member that campaigned alone is in a later term than its leader, and takes nothing from it: this answer
    brings both together again. A heartbeat's answer does it, as it says nothing of entries.
    """
    state.messages.append(Message(MessageKind.HEARTBEAT_ANSWER, message.sender, state.id, state.term))


def _accept(state: RaftState, message: Message, index: int) -> None:
    state.accepted_index = max(state.accepted_index, index)
    state.messages.append(Message(_APPEND_ANSWER, message.sender, state.id, state.term, index=index))


def _reject(state: RaftState, message: Message, *, index: int, hint: int, hint_term: int) -> None:
    state.messages.append(
        Message(
            _APPEND_ANSWER,
            message.sender,
            state.id,
            state.term,
            log_term=hint_term,
            index=index,
            reject=True,
            reject_hint=hint,
        )
    )
