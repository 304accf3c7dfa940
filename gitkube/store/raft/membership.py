"""Changing the members while the cluster works: when a change may be proposed, and what applying it does.

A change is an entry like any other and takes effect on each member when that member *applies* it. Three rules
make that safe (thesis, section 4, and the correction of its single-server change of 2015):

1. One at a time: no change is proposed before the one before it is applied here (`pending_conf_index`); a
   new leader takes its whole uncommitted log for a possible change.
2. A leader proposes none before it has committed an entry of its own term: until then an older leader's
   change may be committed that it knows nothing of, and majorities of the two changes would not meet.
3. A member with a committed change that it hasn't applied doesn't campaign (`election.may_campaign`).

A joint configuration is left by the leader itself, with an empty change, as soon as it is applied. A leader
that is no voter any more steps down once it applies that: the entry is committed without it being needed.
"""

from __future__ import annotations

from gitkube.store.raft import configuration, reading, replication, roles
from gitkube.store.raft.state import RaftState
from gitkube.store.raft.types import NOBODY, ConfChange, ConfState, EntryKind, ProposalDropped, Role


def propose(state: RaftState, change: ConfChange) -> None:
    """As leader, write a change of the members into the log.

    Raises:
        ProposalDropped: not now.
        ConfChangeError: not ever, with the members as they are.
    """
    replication.refuse_while_transferring(state)
    if not state.has_committed_own_term:
        raise ProposalDropped(
            "the leader is new and hasn't committed an entry of its own term yet; try again"
        )
    if state.pending_conf_index > state.log.applied:
        raise ProposalDropped(
            f"a change of the members may be pending up to entry {state.pending_conf_index}, and only "
            f"{state.log.applied} is applied; try again when it is done"
        )
    configuration.changed(state.conf, change)
    _append(state, change)


def _append(state: RaftState, change: ConfChange) -> None:
    replication.append(state, [change.encode()], EntryKind.CONF_CHANGE)
    state.pending_conf_index = state.log.last_index


def apply(state: RaftState, change: ConfChange) -> ConfState:
    """Let a committed change take effect.

    Raises:
        ConfChangeError: it doesn't fit the configuration; it is so on every member, and changes nothing.
    """
    adopt(state, configuration.changed(state.conf, change))
    return state.conf


def adopt(state: RaftState, conf: ConfState) -> None:
    """Work with this configuration from now on."""
    state.set_conf(conf)
    if state.role is not Role.LEADER:
        return
    if not state.is_voter:
        roles.become_follower(state, state.term, NOBODY)
        return
    if state.transferee and state.transferee not in state.quorum.voters:
        state.transferee = NOBODY
    # Fewer voters may have made a majority of what was none, for entries as for reads.
    replication.commit_what_a_majority_has(state)
    reading.serve_confirmed(state)
    state.append_is_due = True


def leave_joint_when_applied(state: RaftState) -> None:
    """As leader of a joint configuration that is applied, propose to leave it."""
    if state.conf.auto_leave and state.log.applied >= state.pending_conf_index:
        _append(state, ConfChange())
