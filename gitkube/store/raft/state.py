"""All that one member's core holds, in one place: the variables of Raft's figure 2 and what surrounds them.

The rules are functions on this, in a file for each idea (`election`, `replication`, `following`, `reading`,
`membership`, `transfer`); `node.py` owns the one instance and calls them. What a rule wants of the world it
leaves here, in the outboxes, for the next `Ready`.

Which outbox: `early_messages` leave before the disk has written, so only what claims nothing about our own
disk goes there; all answers go to `messages`.
"""

from __future__ import annotations

import random

from gitkube.store.raft.config import RaftConfig
from gitkube.store.raft.configuration import members_of
from gitkube.store.raft.log import RaftLog
from gitkube.store.raft.progress import Progress
from gitkube.store.raft.quorum import Quorum, agreed
from gitkube.store.raft.read_only import ReadOnly
from gitkube.store.raft.types import (
    NOBODY,
    ConfState,
    HardState,
    MemberId,
    Message,
    ReadState,
    Role,
    SnapshotMeta,
)


class RaftState:
    """The state of a member; its invariants are with each attribute."""

    def __init__(
        self,
        config: RaftConfig,
        *,
        rng: random.Random,
        hard_state: HardState,
        snapshot: SnapshotMeta,
        log: RaftLog,
    ) -> None:
        self.config = config
        self.id = config.id
        self.rng = rng
        self.log = log

        # --- figure 2, persistent: nothing that depends on them leaves before they are on the disk
        self.term = hard_state.term
        self.vote = hard_state.vote
        self.durable_term = hard_state.term
        """The term that our disk has; behind `term` until the next `advance`."""

        # --- who we are
        self.role = Role.FOLLOWER
        self.leader: MemberId = NOBODY
        self.conf = ConfState()
        self.quorum = Quorum(frozenset())
        self.snapshot = snapshot
        """The newest durable state of our own: what a leader offers to those whose entries are compacted."""

        # --- ticks
        self.election_elapsed = 0
        """Follower: ticks since a word of the leader. Leader: ticks since it counted its quorum."""
        self.heartbeat_elapsed = 0
        self.election_timeout = 0
        """Drawn anew for each wait, in [election_ticks, 2 * election_ticks)."""

        # --- follower
        self.accepted_index = 0
        """The highest index for which an answer to the leader of this term is made."""

        # --- candidate
        self.votes: dict[MemberId, bool] = {}

        # --- leader
        self.progress: dict[MemberId, Progress] = {}
        """Of every member, ourselves included if we are one."""
        self.others: list[tuple[MemberId, Progress]] = []
        self.reads = ReadOnly()
        self.transferee: MemberId = NOBODY
        self.pending_conf_index = 0
        """No change of the members may be proposed before this entry is applied: it may be one."""
        self.uncommitted_bytes = 0
        """Of the data of own entries that are not applied yet."""
        self.applied_hash = (0, 0)
        """An applied index and the state's hash there."""

        # --- outboxes
        self.append_is_due = False
        """Whether a follower may have to be sent an APPEND when the next Ready is made."""
        self.early_messages: list[Message] = []
        self.messages: list[Message] = []
        self.read_states: list[ReadState] = []

        self._matching: list[Progress] = []
        self._matching_outgoing: list[Progress] = []
        self.set_conf(snapshot.conf)
        self.draw_election_timeout()

    # ------------------------------------------------------------------ members
    def set_conf(self, conf: ConfState) -> None:
        """Take up a configuration. Members that stay keep their progress, new ones start with a probe."""
        self.conf = conf
        self.quorum = Quorum(frozenset(conf.voters), frozenset(conf.voters_outgoing))
        progress: dict[MemberId, Progress] = {}
        for member in sorted(members_of(conf)):
            known = self.progress.get(member)
            if known is None:
                known = self.new_progress()
                # It had no time to answer yet: without this the leader might miss its quorum at once.
                known.recent_active = True
            known.is_learner = member in conf.learners
            progress[member] = known
        self.set_progress(progress)

    def new_progress(self) -> Progress:
        return Progress(next_index=self.log.last_index + 1, max_inflight=self.config.max_inflight)

    def set_progress(self, progress: dict[MemberId, Progress]) -> None:
        self.progress = progress
        self.others = [(member, known) for member, known in progress.items() if member != self.id]
        self._matching = [progress[member] for member in self.conf.voters]
        self._matching_outgoing = [progress[member] for member in self.conf.voters_outgoing]
        if self.id in progress:
            progress[self.id].accepted(self.log.stable)

    def agreed_match(self) -> int:
        """The highest index that is on the disks of a majority (of both, in a joint configuration)."""
        index = agreed([progress.match for progress in self._matching])
        if self._matching_outgoing:
            index = min(index, agreed([progress.match for progress in self._matching_outgoing]))
        return index

    @property
    def is_voter(self) -> bool:
        return self.id in self.quorum.voters or self.id in self.quorum.outgoing

    @property
    def is_only_voter(self) -> bool:
        return not self.quorum.outgoing and self.quorum.voters == {self.id}

    # ------------------------------------------------------------------ leader
    @property
    def has_committed_own_term(self) -> bool:
        """Whether this leader surely knows the commit index: it has committed an entry of its term (6.4)."""
        return self.log.term(self.log.committed) == self.term

    # ------------------------------------------------------------------ ticks
    def draw_election_timeout(self) -> None:
        ticks = self.config.election_ticks
        self.election_timeout = ticks + self.rng.randrange(ticks)
