"""Handing the leadership over on purpose (thesis, section 3.10).

The leader takes no more proposals, brings the chosen voter's log level with its own, and tells it to campaign
at once (TIMEOUT_NOW). The vote then asked for may break the leader's lease. If that takes longer than an
election timeout the leader takes proposals again; should the other still win, it does so by the usual rules.
"""

from __future__ import annotations

from gitkube.store.raft import election
from gitkube.store.raft.progress import Progress
from gitkube.store.raft.state import RaftState
from gitkube.store.raft.types import NOBODY, MemberId, Message, MessageKind, ProposalDropped, Role

_ID_BYTES = 8


def transfer_leadership(state: RaftState, to: MemberId) -> None:
    """Hand over to `to`; a follower passes the wish on to its leader.

    Raises:
        ProposalDropped: there is no leader, or `to` is no voter, as far as is known here.
    """
    if to not in state.quorum.voters:
        raise ProposalDropped(
            f"member {to} is no voter, so it can't lead; the voters are {state.conf.voters}"
        )
    if state.role is Role.LEADER:
        _start(state, to)
    elif state.leader:
        context = to.to_bytes(_ID_BYTES, "big")
        message = Message(MessageKind.TRANSFER_LEADER, state.leader, state.id, context=context)
        state.early_messages.append(message)
    else:
        raise ProposalDropped("there is no leader that could hand over; try again")


def on_transfer_leader(state: RaftState, message: Message) -> None:
    """A member wishes that we hand over."""
    to = MemberId(int.from_bytes(message.context, "big"))
    if message.sender in state.progress and to in state.quorum.voters:
        _start(state, to)


def _start(state: RaftState, to: MemberId) -> None:
    if to == state.transferee:
        return
    if to == state.id:
        state.transferee = NOBODY
        return
    state.transferee = to
    state.election_elapsed = 0  # the transfer has one election timeout from here
    progress = state.progress[to]
    if not finish_if_level(state, progress):
        progress.append_is_owed = True
        state.append_is_due = True


def finish_if_level(state: RaftState, progress: Progress) -> bool:
    """Tell the transferee to campaign, if its log is level with ours."""
    if progress.match != state.log.last_index:
        return False
    state.early_messages.append(Message(MessageKind.TIMEOUT_NOW, state.transferee, state.id, state.term))
    return True


def on_timeout_now(state: RaftState, message: Message) -> None:
    """Our leader wants us to lead: campaign without waiting and without pre-vote."""
    if state.leader in (message.sender, NOBODY):
        election.campaign(state, for_transfer=True)
