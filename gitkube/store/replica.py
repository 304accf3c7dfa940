"""One member without a loop, a socket or a clock: consensus core, log, snapshots and key space in one step.

This is all of a member that can be right or wrong about the data, so it is what the simulation drives; the
shell around it (`member.py`) only decides when, and on which thread. The order of a turn is the whole of the
durability argument:

    ready()    what the core wants done; its early messages may leave now
    persist()  blocks on the disk: a received snapshot, entries and hard state, one sync; the messages that
               need the disk may leave after it
    finish()   applies what is committed, and only then gives out answers (and those messages, once more, for
               who has not sent them)

Between `ready` and `finish` messages may be stepped and ticks may pass; a second `ready` may not be taken.

Invariants: nothing that `finish` gives out depends on bytes that are not on the disk; the key space is at the
core's applied index whenever no turn is under way; equal indices have equal state hashes on all members, and
one that sees another hash for an index of its own raises `DivergedError` and must stop.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from gitkube.store import command, log_length
from gitkube.store.command import Command, Compact, Origin
from gitkube.store.directory import SNAPSHOTS, WAL, Identity
from gitkube.store.disk import Disk
from gitkube.store.member_state import load_state, parts_of
from gitkube.store.membership import Membership
from gitkube.store.mvcc import KeySpace, Result
from gitkube.store.protocol import CorruptError
from gitkube.store.raft import ConfChangeError, RaftConfig, RaftNode
from gitkube.store.raft.types import (
    ConfChange,
    EntryKind,
    MemberId,
    Message,
    MessageKind,
    ReadState,
    Ready,
    Role,
    SnapshotMeta,
    SoftState,
)
from gitkube.store.snapshot import (
    SnapshotReceiver,
    newest_snapshot,
    snapshot_bytes,
    snapshot_chunks,
    write_snapshot,
)
from gitkube.store.wal import SEGMENT_BYTES, Wal

HASHES_KEPT = 8192
"""How many applied entries back a leader's hash can still be compared: more than a heartbeat's delay."""


class DivergedError(CorruptError):
    """This member's state differs from the leader's at the same index: it must not answer anything any
    more.
    """


@dataclass(frozen=True, slots=True)
class ReplicaSettings:
    segment_bytes: int = SEGMENT_BYTES
    snapshot_entries: int = 20_000
    """A snapshot is due after so many applied entries: bounds both the log's size and the time of a start."""
    keep_entries: int = 5_000
    """Entries kept in memory behind a snapshot, for a follower that is a little behind: cheaper than the
    state.
    """
    election_ticks: int = 10
    heartbeat_ticks: int = 1


@dataclass(slots=True)
class Turn:
    """One `Ready` on its way through the disk."""

    ready: Ready
    received: SnapshotReceiver | None = None
    loaded: tuple[KeySpace, Membership] | None = None

    @property
    def changes_state(self) -> bool:
        """Whether it moves the key space on, or changes who leads; else it is talk between members."""
        ready = self.ready
        return bool(ready.committed) or ready.soft_state is not None or ready.snapshot is not None


@dataclass(slots=True)
class Outcome:
    """What a finished turn gives out."""

    messages: Sequence[Message]
    applied: list[tuple[Origin, Command, Result]] = field(default_factory=list)
    changes: list[int] = field(default_factory=list)
    """Numbers of the requests whose change of the members is in force now."""
    reads: list[ReadState] = field(default_factory=list)
    """Reads that may be served from the key space as it is now."""
    soft_state: SoftState | None = None
    replaced: bool = False
    """The key space is another object now: another member's snapshot was taken over."""


class OwnSnapshot(NamedTuple):
    """A state to be written by whoever has the time; its parts were copied, so that it may be another
    thread.
    """

    meta: SnapshotMeta
    parts: Iterator[list[Any]]


class Replica:
    """See the module's text. Make one with `open`."""

    def __init__(
        self,
        disk: Disk,
        directory: Path,
        identity: Identity,
        wal: Wal,
        node: RaftNode,
        space: KeySpace,
        membership: Membership,
        settings: ReplicaSettings,
        snapshot: SnapshotMeta,
    ) -> None:
        self.identity = identity
        self.node = node
        self.space = space
        self.membership = membership
        self.snapshot = snapshot
        """The newest that is durable here."""
        self.before_compaction: Callable[[], None] = lambda: None
        """Called before history is forgotten, for those who still have to look at it."""
        self.decode: Callable[[bytes], tuple[Command, Origin]] = command.decode
        """What an entry's data say; replaced by whoever knows that of some without decoding them again."""
        self._disk = disk
        self._directory = directory
        self._wal = wal
        self._settings = settings
        self._received: dict[SnapshotMeta, SnapshotReceiver] = {}
        """States whose bytes are here; the core says in its next `Ready` whether it takes one, and which."""
        self._turn: Turn | None = None
        self._waiting_reads: list[ReadState] = []
        self._applied_bytes = 0
        """Of all entries that were applied since the start."""
        self._snapshot_at_bytes = 0
        """What that was at the newest snapshot; 0 for one of before the start."""
        self._forget_to = 0
        """Entries up to here are forgotten bit by bit."""
        self._taken = (0, 0)
        """Index of the state taken last, and `_applied_bytes` there."""
        self._hashes: dict[int, int] = {snapshot.index: space.state_hash}
        self._leaders_hash: tuple[int, int] | None = None
        """The newest (index, hash) that the leader told and we have not reached yet."""

    @classmethod
    def open(
        cls,
        disk: Disk,
        directory: Path,
        identity: Identity,
        *,
        rng: random.Random,
        settings: ReplicaSettings | None = None,
    ) -> Replica:
        """The member whose data lies in a directory, as it was when it last ran.

        Raises:
            CorruptError: damage that a crash cannot explain; nothing was changed.
        """
        settings = settings or ReplicaSettings()
        meta = newest_snapshot(disk, directory / SNAPSHOTS) or SnapshotMeta()
        space, membership = KeySpace(), Membership()
        if meta.index:
            space, membership = load_state(disk, directory, meta)
        wal = Wal(disk, directory / WAL, segment_bytes=settings.segment_bytes)
        entries = wal.open(meta.index, meta.term)
        node = RaftNode(
            RaftConfig(
                id=MemberId(identity.member_id),
                election_ticks=settings.election_ticks,
                heartbeat_ticks=settings.heartbeat_ticks,
            ),
            rng=rng,
            hard_state=wal.hard_state,
            snapshot=meta,
            entries=entries,
            applied=meta.index,
        )
        return cls(disk, directory, identity, wal, node, space, membership, settings, meta)

    # ------------------------------------------------------------------ what comes in

    def tick(self) -> None:
        """One unit of time has passed."""
        self.node.tick()
        first = self.node.first_index
        if first <= self._forget_to:
            self.node.compact(min(self._forget_to, first + log_length.FORGOTTEN_PER_TICK))

    def step(self, message: Message) -> None:
        """Take a message of another member. A SNAPSHOT needs `receive` before.

        Raises:
            DivergedError: the leader has another state where we are.
        """
        if message.kind is MessageKind.HEARTBEAT and message.state_index:
            self._compare(message.state_index, message.state_hash)
        if message.kind is MessageKind.SNAPSHOT and message.snapshot not in self._received:
            return  # its bytes have been lost; the leader will send them again
        self.node.step(message)

    def receive(self, receiver: SnapshotReceiver, message: Message) -> None:
        """Take another member's state, whose bytes are complete and verified."""
        meta = message.snapshot
        is_being_installed = self._turn is not None and self._turn.received is not None
        if meta is None or is_being_installed or meta in self._received:
            receiver.abort()
            return
        self._received[meta] = receiver
        self.step(message)

    def snapshot_receiver(self, meta: SnapshotMeta) -> SnapshotReceiver:
        """Where the bytes of a state that another member sends go."""
        return SnapshotReceiver(self._disk, self._directory / SNAPSHOTS, meta)

    # ------------------------------------------------------------------ a turn

    def ready(self) -> Turn | None:
        """The next turn, or None when there is nothing to do."""
        assert self._turn is None, "a turn is under way"
        if not self.node.has_ready():
            return None
        self._turn = Turn(self.node.ready())
        if self._turn.ready.snapshot is not None:
            self._turn.received = self._received.pop(self._turn.ready.snapshot)
        for receiver in self._received.values():
            receiver.abort()  # the core did not want it: it was older than what we have
        self._received.clear()
        return self._turn

    def persist(self, turn: Turn) -> None:
        """Put on the disk what the turn needs there. May run in another thread.

        Raises:
            OSError: the disk failed. The member must stop: nobody knows what is on it.
            CorruptError: the received state is not what was announced.
        """
        ready = turn.ready
        if ready.snapshot is not None:
            assert turn.received is not None
            turn.received.install()
            turn.loaded = load_state(self._disk, self._directory, ready.snapshot)
            self._wal.reset(ready.snapshot.index, ready.snapshot.term)
        if ready.entries or ready.hard_state is not None:
            self._wal.append(ready.entries, ready.hard_state)
        if ready.must_sync or ready.snapshot is not None:
            self._wal.sync()

    def finish(self, turn: Turn) -> Outcome:
        """Apply what is committed, and give out what may be given out now.

        Raises:
            DivergedError: the leader has another state where we have arrived.
            CorruptError: an entry is no command that this version knows.
        """
        assert turn is self._turn
        ready = turn.ready
        outcome = Outcome(ready.messages, soft_state=ready.soft_state)
        if turn.loaded is not None:
            assert ready.snapshot is not None
            self.space, self.membership = turn.loaded
            self.snapshot = ready.snapshot
            self._hashes = {ready.snapshot.index: self.space.state_hash}
            outcome.replaced = True
        for entry in ready.committed:
            if entry.kind is EntryKind.CONF_CHANGE:
                outcome.changes.append(self._change_members(ConfChange.decode(entry.data)))
            elif entry.data:
                asked, origin = self.decode(entry.data)
                if isinstance(asked, Compact):
                    self.before_compaction()
                outcome.applied.append((origin, asked, self.space.apply(asked, origin)))
            self._applied_bytes += len(entry.data)
            self._remember_hash(entry.index)
        self.node.advance()
        self._turn = None
        if ready.committed:
            self.node.set_applied_hash(self.node.applied, self.space.state_hash)
            self._compare_with_leaders()
        self._waiting_reads += ready.read_states
        if self._waiting_reads:
            applied = self.node.applied
            outcome.reads = [read for read in self._waiting_reads if read.index <= applied]
            self._waiting_reads = [read for read in self._waiting_reads if read.index > applied]
        return outcome

    def _change_members(self, change: ConfChange) -> int:
        try:
            self.node.apply_conf_change(change)
        except ConfChangeError:
            return 0  # it did not fit any more when its turn came; so it is for every member
        return self.membership.apply(change)

    # ------------------------------------------------------------------ snapshots and the log's length

    def snapshot_is_due(self) -> bool:
        """Whether the log behind the newest snapshot has grown long, and large beside the state."""
        return log_length.is_due(
            self.node.applied - self.snapshot.index,
            self._applied_bytes - self._snapshot_at_bytes,
            self.space.live_bytes,
            max_entries=self._settings.snapshot_entries,
            voters=self.node.conf.voters,
            member=self.node.id,
        )

    def take_snapshot(self) -> OwnSnapshot:
        """The state as it is now, to be written by `write_own`."""
        assert self._turn is None, "the state is between two entries"
        meta = SnapshotMeta(self.node.applied, self.node.term_of(self.node.applied), self.node.conf)
        self._taken = (meta.index, self._applied_bytes)
        return OwnSnapshot(meta, parts_of(self.membership, self.space))

    def write_own(self, own: OwnSnapshot) -> None:
        """Write a state durably. May run in another thread.

        Raises:
            OSError: the disk failed or is full; what was there still is, and the log has everything.
        """
        write_snapshot(self._disk, self._directory / SNAPSHOTS, own.meta, own.parts)

    def snapshot_written(self, meta: SnapshotMeta) -> None:
        """A state is durable: the log before it is forgotten from now on, and `trim_log` may follow."""
        if meta.index <= self.snapshot.index:
            return  # a newer one of another member came in between
        self.snapshot = meta
        if meta.index == self._taken[0]:
            self._snapshot_at_bytes = self._taken[1]
        self.node.set_snapshot(meta)
        until = max(0, meta.index - self.node.first_index + 1)
        entries = self.node.entries()[:until]
        self._forget_to = meta.index - log_length.kept(entries, self._settings.keep_entries)

    def trim_log(self) -> None:
        """Remove what the newest snapshot has from the log on the disk. May run in another thread."""
        self._wal.trim(self.snapshot.index)

    def prepare_log(self, pause: Callable[[], object] = lambda: None) -> None:
        """Make the log's next segment ahead of its need. May run in another thread.

        Args:
            pause: called between its pieces.
        """
        self._wal.prepare_next(pause)

    def snapshot_pieces(self, meta: SnapshotMeta, piece_bytes: int) -> Iterator[bytes]:
        """The bytes of a durable state, for another member's `snapshot_receiver`.

        Raises:
            OSError: a newer one has replaced it.
        """
        return snapshot_chunks(self._disk, self._directory / SNAPSHOTS, meta, piece_bytes)

    @property
    def disk_bytes(self) -> int:
        """Of log and snapshots."""
        return self._wal.size_bytes + snapshot_bytes(self._disk, self._directory / SNAPSHOTS)

    def close(self) -> None:
        self._wal.close()

    # ------------------------------------------------------------------ facts

    @property
    def is_leader(self) -> bool:
        return self.node.role is Role.LEADER

    @property
    def leads(self) -> bool:
        """Whether this member leads and has applied all that leaders before it committed."""
        return self.node.role is Role.LEADER and self.node.term_of(self.node.applied) == self.node.term

    @property
    def is_alone(self) -> bool:
        """Whether this member is its own quorum."""
        conf = self.node.conf
        return conf.voters == (self.node.id,) and not conf.voters_outgoing

    # ------------------------------------------------------------------ divergence

    def _remember_hash(self, index: int) -> None:
        self._hashes[index] = self.space.state_hash
        self._hashes.pop(index - HASHES_KEPT, None)

    def _compare(self, index: int, leaders_hash: int) -> None:
        ours = self._hashes.get(index)
        if ours is None:
            if index > self.node.applied:
                self._leaders_hash = (index, leaders_hash)
            return
        if ours != leaders_hash:
            raise DivergedError(
                f"the state of member {self.identity.name} at log entry {index} has hash {ours:08x}, the "
                f"leader's {leaders_hash:08x}: they have diverged. This member stops so that nobody reads "
                f"from it. Keep its directory {self._directory} for a report, and let it rejoin empty."
            )

    def _compare_with_leaders(self) -> None:
        if self._leaders_hash is not None and self._leaders_hash[0] <= self.node.applied:
            (index, leaders_hash), self._leaders_hash = self._leaders_hash, None
            self._compare(index, leaders_hash)
