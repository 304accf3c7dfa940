"""Members of the consensus core in one thread, with pretend disks and a pretend network, and the promises.

A `PretendMember` does what a real one does with each Ready, but one phase at a time (take, persist, send,
apply, finish), so that a test can put anything between two of them, a crash above all: what was not synced
is lost. `Promises` watches every step: one leader a term, log matching, leader completeness, state-machine
safety (Raft, figure 3); and that nothing is called committed that isn't on the disks of a majority, no vote
or term leaves before it is durable, and no read is stale.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from gitkube.store.raft import (
    ConfChange,
    ConfState,
    Entry,
    EntryKind,
    HardState,
    MemberId,
    Message,
    MessageKind,
    RaftConfig,
    RaftNode,
    ReadState,
    Ready,
    Role,
    SnapshotMeta,
)

NOTHING = SnapshotMeta()
"""With what a member begins that joins: it knows nobody."""


@dataclass
class PretendDisk:
    """What a member would find after a crash, and what it has written since."""

    hard_state: HardState
    snapshot: SnapshotMeta
    entries: list[Entry] = field(default_factory=list)
    unsynced_hard_state: HardState | None = None

    def write(self, ready: Ready) -> None:
        """Steps 2 and 3 of a Ready; entries are synced, a mere commit index isn't."""
        if ready.snapshot is not None:
            self.snapshot, self.entries = ready.snapshot, []
        if ready.entries:
            keep = ready.entries[0].index - self.snapshot.index - 1
            assert 0 <= keep <= len(self.entries), "entries to persist leave a gap"
            self.entries[keep:] = ready.entries
        if ready.hard_state is not None:
            self.unsynced_hard_state = ready.hard_state
        if (ready.must_sync or ready.snapshot is not None) and self.unsynced_hard_state is not None:
            self.hard_state, self.unsynced_hard_state = self.unsynced_hard_state, None

    def crash(self, *, loses_unsynced: bool) -> None:
        if self.unsynced_hard_state is not None and not loses_unsynced:
            self.hard_state = self.unsynced_hard_state
        self.unsynced_hard_state = None

    def has(self, index: int, term: int) -> bool:
        """Whether the entry is durable here, in the log or in the snapshot."""
        position = index - self.snapshot.index - 1
        if position < 0:
            return True
        return position < len(self.entries) and self.entries[position].term == term


class Promises:
    """What must hold over the whole life of a cluster. Raises AssertionError where it doesn't."""

    def __init__(self) -> None:
        self.leaders: dict[int, MemberId] = {}
        """Of each term."""
        self.entries: dict[tuple[int, int], tuple[bytes, int]] = {}
        """(index, term) of every entry that ever was in a log -> its data and the term of the one before."""
        self.history: dict[int, Entry] = {}
        """Index -> the entry that was applied there, by anybody."""
        self.seen_committed: dict[int, int] = {}
        """Index -> the lowest term in which somebody was seen to have it committed."""
        self.committed = 0
        self.votes: dict[tuple[MemberId, int], MemberId] = {}

    def check_leader(self, member: PretendMember) -> None:
        node = member.node
        if node.role is not Role.LEADER:
            return
        known = self.leaders.get(node.term)
        if known is None:
            self.leaders[node.term] = node.id
            self._check_completeness(node)
        else:
            assert known == node.id, f"term {node.term} has two leaders: {known} and {node.id}"

    def _check_completeness(self, node: RaftNode) -> None:
        first, entries = node.first_index, node.entries()
        for index in range(self.committed, 0, -1):
            if self.seen_committed.get(index, node.term) >= node.term or index not in self.history:
                continue
            assert index <= node.last_index, f"leader {node.id} of term {node.term} lacks committed {index}"
            if index < first:
                break
            assert entries[index - first].term == self.history[index].term, f"leader {node.id}: {index}"

    def check_new_entries(self, member: PretendMember, ready: Ready) -> None:
        if not ready.entries:
            return
        before = ready.entries[0].index - 1
        first = member.node.first_index
        held = member.node.entries()
        if before >= first:
            previous = held[before - first].term
        else:
            previous = member.term_before_first()
        for entry in ready.entries:
            value = (entry.data, previous)
            known = self.entries.setdefault((entry.index, entry.term), value)
            assert known == value, f"log matching: {entry.index}/{entry.term} is {known} and {value}"
            previous = entry.term

    def check_commit(self, member: PretendMember, disks: dict[MemberId, PretendDisk]) -> None:
        node = member.node
        if node.committed <= member.checked_commit:
            return
        if node.role is Role.LEADER:
            term = next(e.term for e in reversed(node.entries()) if e.index == node.committed)
            assert term == node.term, "a leader counts only entries of its own term"
            for half in (node.conf.voters, node.conf.voters_outgoing):
                have = sum(disks[voter].has(node.committed, term) for voter in half)
                assert not half or have > len(half) // 2, f"{node.committed} is not on a majority of {half}"
        member.checked_commit = node.committed
        for index in range(node.committed, 0, -1):
            if self.seen_committed.get(index, node.term + 1) <= node.term:
                break
            self.seen_committed[index] = node.term
        self.committed = max(self.committed, node.committed)

    def check_applied(self, entry: Entry) -> None:
        known = self.history.setdefault(entry.index, entry)
        assert known == entry, f"state machine safety: {known} and {entry}"

    def check_message(self, member: PretendMember, message: Message) -> None:
        asks = message.kind in (MessageKind.PRE_VOTE, MessageKind.PRE_VOTE_ANSWER)
        disk = member.disk
        assert asks or message.term <= disk.hard_state.term, f"{message} before its term is durable"
        if message.kind is MessageKind.APPEND_ANSWER and not message.reject:
            # What it says is durable may since have been replaced, but it can't be beyond all of the disk.
            assert (
                message.index <= disk.snapshot.index + len(disk.entries)
                or message.term < disk.hard_state.term
            )
        granted = message.kind is MessageKind.VOTE_ANSWER and not message.reject
        if granted or message.kind is MessageKind.VOTE:
            vote = message.to if granted else message.sender
            if message.term == disk.hard_state.term:
                assert disk.hard_state.vote == vote, "a vote left before it was durable"
            known = self.votes.setdefault((member.id, message.term), vote)
            assert known == vote, f"{member.id} voted twice in {message.term}"


class PretendMember:
    """One member: a node, its disk, and the Ready it is working on."""

    def __init__(
        self,
        member: MemberId,
        *,
        make_config: Callable[[MemberId], RaftConfig],
        rng: random.Random,
        snapshot: SnapshotMeta = NOTHING,
    ) -> None:
        self.id = member
        self._make_config = make_config
        self._rng = rng
        self.disk = PretendDisk(HardState(term=snapshot.term, commit=snapshot.index), snapshot)
        self.checked_commit = snapshot.index
        self.conf_at: dict[int, ConfState] = {}
        self.read_states: list[ReadState] = []
        self.ready: Ready | None = None
        self.phase = 0
        self.is_up = True
        self.restart()

    def restart(self) -> None:
        """Start with what the disk has."""
        disk = self.disk
        self.node = RaftNode(
            self._make_config(self.id),
            rng=self._rng,
            hard_state=disk.hard_state,
            snapshot=disk.snapshot,
            entries=list(disk.entries),
        )
        self.ready, self.phase, self.is_up = None, 0, True
        self.checked_commit = self.node.committed
        self.conf_at = {disk.snapshot.index: disk.snapshot.conf}
        self.reads_wanted: dict[bytes, int] = {}

    def crash(self, *, loses_unsynced: bool) -> None:
        self.disk.crash(loses_unsynced=loses_unsynced)
        self.is_up = False
        self.ready = None

    def term_before_first(self) -> int:
        term = self.node._state.log.term(self.node.first_index - 1)
        assert term is not None
        return term

    def work(self, send: Callable[[Message], None], promises: Promises) -> bool:
        """Do the next phase of the Ready at hand, or take a new one; whether there was anything to do."""
        if self.ready is None:
            if not self.node.has_ready():
                return False
            self.ready, self.phase = self.node.ready(), 1
            promises.check_new_entries(self, self.ready)
            self._send(self.ready.early_messages, send, promises)
        elif self.phase == 1:
            self.disk.write(self.ready)
            if self.ready.snapshot is not None:
                self.conf_at[self.ready.snapshot.index] = self.ready.snapshot.conf
            self.phase = 2
        elif self.phase == 2:
            self._send(self.ready.messages, send, promises)
            self.phase = 3
        elif self.phase == 3:
            for entry in self.ready.committed:
                promises.check_applied(entry)
                if entry.kind is EntryKind.CONF_CHANGE:
                    self.conf_at[entry.index] = self.node.apply_conf_change(ConfChange.decode(entry.data))
            self._check_reads(self.ready)
            self.phase = 4
        else:
            self.ready = None
            self.node.advance()
        return True

    def _send(self, messages: list[Message], send: Callable[[Message], None], promises: Promises) -> None:
        for message in messages:
            promises.check_message(self, message)
            send(replace(message))

    def _check_reads(self, ready: Ready) -> None:
        for read in ready.read_states:
            wanted = self.reads_wanted.pop(read.context, None)
            if wanted is not None:
                assert read.index >= wanted, f"stale read at {read.index}, {wanted} was committed"
                self.read_states.append(read)

    def take_snapshot(self, keep_entries: int) -> None:
        """Make the applied state durable and forget entries that it has."""
        index = self.node.applied
        if index <= self.disk.snapshot.index or index < self.node.first_index or self.ready is not None:
            return
        entries = self.node.entries()
        term = entries[index - self.node.first_index].term
        conf = self.conf_at[max(at for at in self.conf_at if at <= index)]
        meta = SnapshotMeta(index, term, conf)
        del self.disk.entries[: index - self.disk.snapshot.index]
        self.disk.snapshot = meta
        # The log on disk may begin earlier than the snapshot; here the two are kept level.
        self.node.set_snapshot(meta)
        self.node.compact(max(index - keep_entries, self.node.first_index - 1))


def first_snapshot(*voters: int, learners: tuple[int, ...] = ()) -> SnapshotMeta:
    """With what the first members of a cluster begin: an empty state that names them."""
    conf = ConfState(voters=tuple(map(MemberId, voters)), learners=tuple(map(MemberId, learners)))
    return SnapshotMeta(index=1, term=1, conf=conf)
