"""Linearizable reads without a write: ReadIndex (thesis, section 6.4).

A read is answered with the index that must be applied before it is served. A leader may give its commit index
once it has committed an entry of its own term (before, others may have committed more: such reads wait) and
once a majority has confirmed, after the read came, that it still leads. A follower passes reads on. A single
voter needs nobody's word. Reads that wait at a leader which steps down are forgotten; whoever asked sees the
change of the leader in `Ready.soft_state` and asks again.
"""

from __future__ import annotations

from gitkube.store.raft import replication
from gitkube.store.raft.read_only import Read
from gitkube.store.raft.state import RaftState
from gitkube.store.raft.types import Message, MessageKind, ProposalDropped, ReadState, Role


def read_index(state: RaftState, context: bytes) -> None:
    """Ask for the index at which a read may be served.

    Raises:
        ProposalDropped: nobody is there to ask, or too many reads wait.
    """
    if state.role is Role.LEADER:
        if len(state.reads.waiting) >= state.config.max_waiting_reads:
            raise ProposalDropped(
                f"{len(state.reads.waiting)} reads wait for a majority to confirm the leader; try again"
            )
        state.reads.waiting.append(Read(state.id, context))
    elif state.leader:
        message = Message(MessageKind.READ_INDEX, state.leader, state.id, context=context)
        state.early_messages.append(message)
    else:
        raise ProposalDropped("there is no leader to confirm a read; try again")


def on_read_index(state: RaftState, message: Message) -> None:
    """A follower passes a read on to us, the leader."""
    is_member = message.sender in state.progress
    if is_member and len(state.reads.waiting) < state.config.max_waiting_reads:
        state.reads.waiting.append(Read(message.sender, message.context))


def on_read_index_answer(state: RaftState, message: Message) -> None:
    """The leader has confirmed a read that we passed on."""
    if message.sender == state.leader:
        state.read_states.append(ReadState(message.index, message.context))


def needs_round(state: RaftState) -> bool:
    """Whether reads wait that a round of heartbeats could confirm, and none is under way."""
    reads = state.reads
    return bool(reads.waiting) and not reads.round_is_open and state.has_committed_own_term


def start_round_with_heartbeats(state: RaftState) -> None:
    """One round for all reads that wait; called for each Ready for which `needs_round` is true."""
    start_round(state)
    if state.reads.round_is_open:
        replication.send_heartbeats(state)


def start_round(state: RaftState) -> None:
    """Put all reads that wait into a round; the heartbeats that go out next confirm it."""
    if state.reads.waiting and state.has_committed_own_term:
        state.reads.start_round(state.log.committed)
        serve_confirmed(state)


def on_heartbeat_answer(state: RaftState, message: Message) -> None:
    if state.reads.note_answer(message.sender, message.context):
        serve_confirmed(state)


def serve_confirmed(state: RaftState) -> None:
    """Answer the reads whose round a majority has confirmed."""
    reads = state.reads
    confirmed = state.quorum.agreed({**reads.answered, state.id: reads.round})
    for index, read in reads.confirmed(confirmed):
        if read.member == state.id:
            state.read_states.append(ReadState(index, read.context))
        else:
            replication.await_commit(state, read.member, index)
            state.early_messages.append(
                Message(
                    MessageKind.READ_INDEX_ANSWER,
                    read.member,
                    state.id,
                    state.term,
                    index=index,
                    context=read.context,
                )
            )
