"""One member of the consensus core: messages, ticks and proposals go in, a `Ready` comes out.

```
 tick() step() propose() read_index() …            the caller: disk, network, state machine
        │                                                      ▲
        ▼   rules (election, replication, …) on RaftState      │ persist, send, apply
   RaftState ────────────────── ready() ───────────────────────┘
        ▲                                                      │
        └───────────────────── advance() ◀─────────────────────┘
```

Nothing here waits, reads a clock or touches a disk. Between `ready` and `advance` everything but a second
`ready` may be called, so messages are taken while the disk writes. What a peer sends can't harm: each message
first passes the rules of terms (Raft, section 5.1), then the rule for its kind and our role, if there is one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from gitkube.store.raft import (
    election,
    following,
    membership,
    reading,
    replication,
    roles,
    transfer,
)
from gitkube.store.raft.config import RaftConfig
from gitkube.store.raft.log import RaftLog, data_bytes
from gitkube.store.raft.progress import Progress
from gitkube.store.raft.state import RaftState
from gitkube.store.raft.types import (
    NOBODY,
    ConfChange,
    ConfState,
    Entry,
    EntryKind,
    HardState,
    MemberId,
    Message,
    MessageKind,
    ProposalDropped,
    Ready,
    Role,
    SnapshotMeta,
    SoftState,
)

_LEADER = Role.LEADER
_Rule = Callable[[RaftState, Message], None]


class RaftNode:
    """A member of a cluster. One thread at a time."""

    def __init__(
        self,
        config: RaftConfig,
        *,
        rng: random.Random,
        hard_state: HardState,
        snapshot: SnapshotMeta,
        entries: Sequence[Entry],
        applied: int = 0,
    ) -> None:
        """Start, or start again, with what is on the disk.

        Args:
            config: who we are and how we behave.
            rng: draws the election timeouts.
            hard_state: the newest durable one; the default for a member that never ran.
            snapshot: the newest durable state, with the configuration there. A cluster's first members start
                with one that names them, at the same index. A member that joins starts with the default, and
                gets a snapshot from the leader first.
            entries: the durable log behind the snapshot, without gap.
            applied: the index of the caller's state, if it is further than the snapshot.
        """
        log = RaftLog(snapshot, entries, committed=hard_state.commit, applied=applied)
        self._state = RaftState(config, rng=rng, hard_state=hard_state, snapshot=snapshot, log=log)
        for entry in log.between(log.offset, log.applied):
            if entry.kind == EntryKind.CONF_CHANGE:
                membership.apply(self._state, ConfChange.decode(entry.data))
        self._outstanding: Ready | None = None
        self._told_hard_state = hard_state
        self._told_role = Role.FOLLOWER
        self._told_leader = NOBODY

    # ------------------------------------------------------------------ what goes in
    def tick(self) -> None:
        """A tick has passed."""
        if self._state.role is _LEADER:
            election.tick_leader(self._state)
        else:
            election.tick(self._state)

    def step(self, message: Message) -> None:
        """Take a message of another member; one that makes no sense changes nothing."""
        state = self._state
        if message.to != state.id or message.sender in (NOBODY, state.id):
            return
        if message.term != state.term and not _passes_terms(state, message):
            return
        rule = _RULES[state.role].get(message.kind)
        if rule is not None:
            rule(state, message)

    def propose(self, datas: Sequence[bytes]) -> None:
        """Ask that these be committed, one entry each; they may still get lost with a leader.

        Raises:
            ProposalDropped: there is no leader, it hands over, or too much waits to be committed.
        """
        state = self._state
        if state.role is _LEADER:
            replication.propose(state, datas)
        else:
            self._forward([Entry(0, 0, data) for data in datas])

    def propose_conf_change(self, change: ConfChange) -> None:
        """Ask for a change of the members; a follower passes it on, and is not told what became of it.

        Raises:
            ProposalDropped: there is no leader, it hands over, is new, or another change is pending.
            ConfChangeError: the members as they are can't be changed so.
        """
        if self._state.role is _LEADER:
            membership.propose(self._state, change)
        else:
            self._forward([Entry(0, 0, change.encode(), EntryKind.CONF_CHANGE)])

    def _forward(self, entries: list[Entry]) -> None:
        state = self._state
        if not state.leader:
            raise ProposalDropped("there is no leader now; try again")
        message = Message(MessageKind.PROPOSE, state.leader, state.id, entries=tuple(entries))
        state.early_messages.append(message)

    def read_index(self, context: bytes) -> None:
        """Ask at which index a read may be served; the answer comes in `Ready.read_states`.

        A read is forgotten when the leader changes; ask again then.

        Raises:
            ProposalDropped: there is no leader.
        """
        reading.read_index(self._state, context)

    def transfer_leadership(self, to: MemberId) -> None:
        """Let `to` lead; it is given up after an election timeout (see `pending_transfer`).

        Raises:
            ProposalDropped: there is no leader, or `to` is no voter.
        """
        transfer.transfer_leadership(self._state, to)

    def campaign(self) -> None:
        """Try to become leader now, if this member may."""
        election.campaign(self._state)

    def report_unreachable(self, member: MemberId) -> None:
        """The last message to `member` could not be sent."""
        if self._state.role is _LEADER:
            replication.report_unreachable(self._state, member)

    def report_snapshot(self, member: MemberId, *, ok: bool) -> None:
        """The state that a SNAPSHOT message announced has been handed to `member`, or could not be.

        Each SNAPSHOT message must be followed by this or by the member's answer, else it gets nothing more.
        """
        if self._state.role is _LEADER:
            replication.report_snapshot(self._state, member, ok=ok)

    def tell_commit(self, index: int) -> bool:
        """Let the followers hear of commits up to `index`, though no entries follow them.

        Call it a little after a commit: its followers apply it by then, if not before.

        Returns:
            Whether there is anybody to tell, and a word to be sent.
        """
        return self._state.role is _LEADER and replication.tell_commit(self._state, index)

    def compact(self, index: int) -> None:
        """Forget the entries up to `index`, which must be in the snapshot given by `set_snapshot`."""
        assert index <= self._state.snapshot.index, "entries go only when a durable snapshot has them"
        self._state.log.compact(index)

    def set_snapshot(self, meta: SnapshotMeta) -> None:
        """A state of our own is durable; members whose entries are compacted will be sent it."""
        assert meta.index <= self._state.log.applied, "a state of our own can't be ahead of what is applied"
        if meta.index > self._state.snapshot.index:
            self._state.snapshot = meta
            self._state.append_is_due = self._state.role is _LEADER

    def set_applied_hash(self, index: int, state_hash: int) -> None:
        """The hash of our state at an applied index, which a leader's next heartbeats carry."""
        self._state.applied_hash = (index, state_hash)

    # ------------------------------------------------------------------ what comes out
    def has_ready(self) -> bool:
        """Whether `ready` has anything to say, and may be called."""
        if self._outstanding is not None:
            return False
        state = self._state
        log = state.log
        return bool(
            state.append_is_due
            or state.messages
            or state.early_messages
            or state.read_states
            or log.stable < log.last_index
            or log.committed > log.applied
            or log.snapshot is not None
            or self._told_hard_state != (state.term, state.vote, log.committed)
            or state.role is not self._told_role
            or state.leader != self._told_leader
            or (state.role is _LEADER and reading.needs_round(state))
        )

    def ready(self) -> Ready:
        """What is to be done now, in the order that `Ready` tells; then call `advance`."""
        assert self._outstanding is None, "the Ready before has not been advanced"
        state = self._state
        log = state.log
        if state.role is _LEADER:
            if state.append_is_due:
                replication.send_appends(state)
            if reading.needs_round(state):
                reading.start_round_with_heartbeats(state)
        ready = Ready(
            entries=log.unstable(),
            snapshot=log.snapshot,
            committed=log.to_apply(state.config.max_committed_entries),
            early_messages=state.early_messages,
            messages=state.messages,
            read_states=state.read_states,
        )
        state.early_messages, state.messages, state.read_states = [], [], []
        self._add_hard_and_soft_state(ready)
        if ready.snapshot is not None:
            membership.adopt(state, ready.snapshot.conf)
        self._outstanding = ready
        return ready

    def _add_hard_and_soft_state(self, ready: Ready) -> None:
        state = self._state
        before = self._told_hard_state
        # Whoever is told that the members have changed may take a removed one's machine away: that it is
        # committed must be known after a restart then, or a majority of members that are gone is asked for.
        ready.must_sync = bool(ready.entries) or any(
            entry.kind is EntryKind.CONF_CHANGE for entry in ready.committed
        )
        if before != (state.term, state.vote, state.log.committed):
            ready.hard_state = HardState(state.term, state.vote, state.log.committed)
            ready.must_sync |= before.term != state.term or before.vote != state.vote
            self._told_hard_state = ready.hard_state
        if state.role is not self._told_role or state.leader != self._told_leader:
            ready.soft_state = SoftState(state.leader, state.role)
            self._told_role, self._told_leader = state.role, state.leader

    def advance(self) -> None:
        """The Ready is done: all of it is on the disk, sent and applied."""
        ready = self._outstanding
        assert ready is not None, "there is no Ready to advance"
        self._outstanding = None
        state = self._state
        log = state.log
        state.durable_term = self._told_hard_state.term
        if ready.snapshot is not None:
            log.installed(ready.snapshot)
            state.snapshot = ready.snapshot
        if ready.entries:
            log.written()
        if ready.committed:
            log.applied_to(ready.committed[-1].index)
        if state.role is _LEADER:
            if ready.committed:
                state.uncommitted_bytes = max(0, state.uncommitted_bytes - data_bytes(ready.committed))
                membership.leave_joint_when_applied(state)
            if ready.entries:
                replication.own_entries_are_durable(state)
        elif state.role is Role.CANDIDATE:
            election.own_vote_is_durable(state)

    def apply_conf_change(self, change: ConfChange) -> ConfState:
        """A CONF_CHANGE entry of `Ready.committed` is applied now; call it for each, in order.

        Returns:
            The configuration from here on, which the state's snapshots must carry.

        Raises:
            ConfChangeError: it doesn't fit (the same on every member); nothing has changed.
        """
        return membership.apply(self._state, change)

    # ------------------------------------------------------------------ looking in
    @property
    def id(self) -> MemberId:
        return self._state.id

    @property
    def term(self) -> int:
        return self._state.term

    @property
    def vote(self) -> MemberId:
        """Whom this member has given its vote in this term."""
        return self._state.vote

    @property
    def leader(self) -> MemberId:
        """`NOBODY` while there is none, as far as this member knows."""
        return self._state.leader

    @property
    def role(self) -> Role:
        return self._state.role

    @property
    def committed(self) -> int:
        return self._state.log.committed

    @property
    def applied(self) -> int:
        return self._state.log.applied

    @property
    def last_index(self) -> int:
        return self._state.log.last_index

    def term_of(self, index: int) -> int:
        """Of the entry with that index; 0 if it is not known (any more)."""
        return self._state.log.term(index) or 0

    @property
    def first_index(self) -> int:
        """Of the oldest entry that is not compacted."""
        return self._state.log.first_index

    @property
    def conf(self) -> ConfState:
        return self._state.conf

    @property
    def pending_transfer(self) -> MemberId:
        """To whom this leader is handing over; `NOBODY` if it isn't."""
        return self._state.transferee

    def progress(self) -> Mapping[MemberId, Progress]:
        """Of all members, as this leader sees them; empty on others."""
        return MappingProxyType(self._state.progress if self._state.role is _LEADER else {})

    def entries(self) -> Sequence[Entry]:
        """The entries that are not compacted, for tests and for looking in; don't change them."""
        return self._state.log.entries


# ---------------------------------------------------------------------- terms (Raft, section 5.1)
_TERMLESS = frozenset({MessageKind.PROPOSE, MessageKind.READ_INDEX, MessageKind.TRANSFER_LEADER})
_OF_LEADERS = frozenset({MessageKind.APPEND, MessageKind.HEARTBEAT, MessageKind.SNAPSHOT})
_VOTE_REQUESTS = frozenset({MessageKind.VOTE, MessageKind.PRE_VOTE})


def _passes_terms(state: RaftState, message: Message) -> bool:
    """Settle what a message of another term means; whether it is to be looked at further."""
    if message.kind in _TERMLESS:
        return message.term == 0
    if message.term < state.term:
        if message.kind in _OF_LEADERS:
            following.answer_older_term(state, message)
        elif message.kind in _VOTE_REQUESTS:
            election.reject_vote_of_older_term(state, message)
        return False
    if state.role is _LEADER and message.sender not in state.progress:
        return False  # whoever is no member can't depose a leader, whatever it answers or asks
    if message.kind in _VOTE_REQUESTS and election.has_lease(state) and message.context != election.TRANSFER:
        return False
    if message.kind is MessageKind.PRE_VOTE:
        return True
    if message.kind is MessageKind.PRE_VOTE_ANSWER and not message.reject:
        return True
    leader = message.sender if message.kind in _OF_LEADERS else NOBODY
    roles.become_follower(state, message.term, leader)
    return True


def _on_propose(state: RaftState, message: Message) -> None:
    """A follower passes proposals on; what can't be taken is dropped, and whoever proposed it asks again."""
    if message.sender not in state.progress:
        return
    try:
        for entry in message.entries:
            if entry.kind == EntryKind.CONF_CHANGE:
                membership.propose(state, ConfChange.decode(entry.data))
        datas = [entry.data for entry in message.entries if entry.kind == EntryKind.NORMAL]
        if datas:
            replication.propose(state, datas)
        replication.await_commit(state, message.sender, state.log.last_index)
    except (ProposalDropped, ValueError):
        return


_VOTES: dict[MessageKind, _Rule] = {
    MessageKind.VOTE: election.on_vote_request,
    MessageKind.PRE_VOTE: election.on_vote_request,
}
_FROM_LEADER: dict[MessageKind, _Rule] = {
    MessageKind.APPEND: following.on_append,
    MessageKind.HEARTBEAT: following.on_heartbeat,
    MessageKind.SNAPSHOT: following.on_snapshot,
    MessageKind.TIMEOUT_NOW: transfer.on_timeout_now,
}
_RULES: dict[Role, dict[MessageKind, _Rule]] = {
    Role.FOLLOWER: {
        **_VOTES,
        **_FROM_LEADER,
        MessageKind.READ_INDEX_ANSWER: reading.on_read_index_answer,
    },
    Role.PRE_CANDIDATE: {
        **_VOTES,
        **_FROM_LEADER,
        MessageKind.PRE_VOTE_ANSWER: election.on_vote_answer,
    },
    Role.CANDIDATE: {
        **_VOTES,
        **_FROM_LEADER,
        MessageKind.VOTE_ANSWER: election.on_vote_answer,
    },
    Role.LEADER: {
        **_VOTES,
        MessageKind.APPEND_ANSWER: replication.on_append_answer,
        MessageKind.HEARTBEAT_ANSWER: replication.on_heartbeat_answer,
        MessageKind.PROPOSE: _on_propose,
        MessageKind.READ_INDEX: reading.on_read_index,
        MessageKind.TRANSFER_LEADER: transfer.on_transfer_leader,
    },
}
