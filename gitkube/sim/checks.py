"""What must hold, checked while it happens.

Each check is one of Raft's properties (Ongaro and Ousterhout 2014, figure 3) or a promise of the store:

- election safety: one leader a term, over all restarts (`on_leader`);
- log matching: an entry with the same index and term has the same content and the same predecessor wherever
  it is written; by induction the logs before it are the same (`on_ready`);
- leader completeness: a new leader has what was committed in earlier terms (`on_leader`);
- state-machine safety: the same entry, the same answer and the same state hash at each index on every member
  (`on_finish`), also when a snapshot brought it there;
- an acknowledged write is in the committed log, once, with the answer that the model gives, at a place in the
  order that fits real time; so are reads (`acknowledge_write`, `check_read`);
- watchers are in `workload`, since each of them carries its own place in the order.

Invariant: `committed[i]` is set by the first member that applies index i, and never changes after.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from gitkube.sim.model import Model, Verdict
from gitkube.store import command
from gitkube.store.command import Command, LeaseRevoke, Origin
from gitkube.store.mvcc import Result
from gitkube.store.protocol import (
    CompactedError,
    FutureRevisionError,
    Get,
    LeaseId,
    RangeResult,
    Revision,
    StoreError,
    TxnResult,
)
from gitkube.store.raft import RaftNode
from gitkube.store.raft.types import Entry, EntryKind, MemberId
from gitkube.store.replica import Outcome, Replica, Turn

FIRST_INDEX = 2
"""A cluster begins with a snapshot at entry 1, so the first entry of any log is this one."""


class Violation(Exception):
    """A promise was broken. The text says which, where, and what was seen instead."""


class Watched(Protocol):
    """A member, as the checks see it."""

    @property
    def name(self) -> str: ...

    @property
    def running(self) -> Replica: ...


@dataclass(frozen=True, slots=True)
class Committed:
    """The first application of an entry anywhere."""

    entry: Entry
    state_hash: int
    revision: Revision
    verdict: Verdict | None
    """None for an entry without a command, or one that repeats a command of its session."""
    by: str


class Checks:
    """See the module's text."""

    def __init__(self) -> None:
        self.model = Model()
        self.committed: list[Committed] = []
        self.floor = Revision(0)
        """The newest revision that any client has seen acknowledged."""
        self.acknowledged_writes = 0
        self.checked_reads = 0
        self.elections = 0
        self.expired: list[tuple[LeaseId, int]] = []
        """Leases that came to their end by a leader's clock, with the leader's term; for whoever checks
        that.
        """
        self._leaders: dict[int, tuple[MemberId, str]] = {}
        self._log: dict[tuple[int, int], tuple[EntryKind, bytes, int]] = {}
        self._committed_in_term: dict[int, int] = {}
        """Term of whoever first applied -> the highest index: it was committed in that term or before."""

    @property
    def last_committed(self) -> int:
        return len(self.committed) + FIRST_INDEX - 1

    def at(self, index: int) -> Committed:
        return self.committed[index - FIRST_INDEX]

    # ------------------------------------------------------------------ consensus

    def on_leader(self, member: Watched) -> None:
        """As soon as a member leads a term."""
        node = member.running.node
        term = node.term
        known = self._leaders.get(term)
        if known is None:
            self._leaders[term] = (node.id, member.name)
            self.elections += 1
            self._check_completeness(member, node)
        elif known[0] != node.id:
            raise Violation(f"election safety: {known[1]} and {member.name} both lead term {term}")

    def _check_completeness(self, member: Watched, node: RaftNode) -> None:
        needed = max(
            (index for term, index in self._committed_in_term.items() if term < node.term), default=0
        )
        if needed < max(FIRST_INDEX, node.first_index):
            return
        expected = self.at(needed)
        found = node.term_of(needed)
        if found != expected.entry.term:
            raise Violation(
                f"leader completeness: {member.name} leads term {node.term}, but its log has "
                f"{f'an entry of term {found}' if found else 'nothing'} at index {needed}, where "
                f"{expected.by} had applied one of term {expected.entry.term}"
            )

    def on_ready(self, member: Watched, turn: Turn) -> None:
        """Before entries are persisted."""
        entries = turn.ready.entries
        if not entries:
            return
        node = member.running.node
        previous_term = node.term_of(entries[0].index - 1)
        for entry in entries:
            key = (entry.index, entry.term)
            content = (entry.kind, entry.data, previous_term)
            known = self._log.setdefault(key, content)
            if known != content:
                what = "content" if known[:2] != content[:2] else "predecessor"
                raise Violation(
                    f"log matching: {member.name} writes entry {entry.index} of term {entry.term} with "
                    f"another {what} than another member's"
                )
            if entry.index <= node.applied:
                raise Violation(f"{member.name} writes entry {entry.index} anew, which it has applied")
            previous_term = entry.term

    # ------------------------------------------------------------------ the state machine

    def on_finish(self, member: Watched, turn: Turn, outcome: Outcome) -> None:
        """After entries were applied."""
        replica = member.running
        if outcome.replaced:
            assert turn.ready.snapshot is not None
            self.check_state_at(member.name, replica, turn.ready.snapshot.index)
        if not turn.ready.committed:
            return
        results = iter(outcome.applied)
        for entry in turn.ready.committed:
            has_command = entry.kind is EntryKind.NORMAL and bool(entry.data)
            applied = next(results) if has_command else None
            self._on_applied(member, replica, entry, applied)
        space = replica.space
        if space.revision != self.at(turn.ready.committed[-1].index).revision:
            raise Violation(f"{member.name} is at revision {space.revision} after {entry.index}")

    def _on_applied(
        self, member: Watched, replica: Replica, entry: Entry, applied: tuple[Origin, Command, Result] | None
    ) -> None:
        state_hash = replica._hashes.get(entry.index)
        assert state_hash is not None, "the replica remembers the hash of what it has just applied"
        if entry.index == self.last_committed + 1:
            verdict = None
            if applied is not None:
                asked, origin = command.decode(entry.data)
                verdict = self.model.apply(asked, origin)
                if isinstance(asked, LeaseRevoke) and not origin.session and verdict and not verdict.answer:
                    self.expired.append((asked.lease, entry.term))
            revision = self.model.revision
            self.committed.append(Committed(entry, state_hash, revision, verdict, member.name))
            term = replica.node.term
            self._committed_in_term[term] = max(entry.index, self._committed_in_term.get(term, 0))
        elif entry.index > self.last_committed:
            raise Violation(
                f"{member.name} applies {entry.index}; before it {self.last_committed} was the last"
            )
        known = self.at(entry.index)
        if known.entry != entry:
            raise Violation(
                f"state-machine safety: at index {entry.index} {member.name} applies an entry of term "
                f"{entry.term}, {known.by} had applied one of term {known.entry.term}"
            )
        if known.state_hash != state_hash:
            raise Violation(
                f"state-machine safety: after entry {entry.index} the state of {member.name} has hash "
                f"{state_hash:x}, that of {known.by} had {known.state_hash:x}"
            )
        if applied is not None and known.verdict is not None:
            self._compare(member.name, entry.index, known.verdict, applied[2])

    def check_state_at(self, name: str, replica: Replica, index: int) -> None:
        """A member has come to an index by loading a state."""
        if index < FIRST_INDEX:
            return
        if index > self.last_committed:
            raise Violation(f"{name} loads a state of entry {index}, which nobody has committed")
        expected, found = self.at(index).state_hash, replica._hashes.get(index, 0)
        if expected != found:
            raise Violation(
                f"the state that {name} loads at entry {index} has hash {found:x} instead of {expected:x}"
            )

    def _compare(self, name: str, index: int, verdict: Verdict, result: Result) -> None:
        expected = verdict.answer
        if isinstance(expected, TxnResult):
            if isinstance(result, TxnResult) and _equal(expected, result):
                return
        elif expected is None:
            if not isinstance(result, StoreError):
                return
        elif isinstance(result, expected):
            return
        raise Violation(f"{name} answers entry {index} with {result!r}; it must be {expected!r}")

    # ------------------------------------------------------------------ what clients see

    def acknowledge_write(self, origin: Origin, result: Result, floor: Revision, by: str) -> Verdict:
        """A client has got the answer to a write.

        Args:
            floor: `self.floor` as it was before the write was first sent.
        """
        verdict = self.model.verdicts.get((origin.session, origin.sequence))
        if verdict is None:
            raise Violation(f"{by} acknowledges write {origin}, which nobody has committed")
        self._compare(by, 0, verdict, result)
        if verdict.revision < floor + int(verdict.has_changed):
            raise Violation(
                f"real-time order: write {origin} has revision {verdict.revision}, but {floor} had been "
                f"acknowledged before it was sent"
            )
        self.acknowledged_writes += 1
        self.floor = max(self.floor, verdict.revision)
        return verdict

    def check_read(
        self, get: Get, result: RangeResult | StoreError, floor: Revision, by: str, *, serializable: bool
    ) -> None:
        """A client has got the answer to a read.

        Args:
            floor: `self.floor` as it was before this request was sent.
        """
        self.checked_reads += 1
        model = self.model
        if isinstance(result, CompactedError):
            if not 0 < get.revision < model.compact_revision:
                raise Violation(f"{by} calls {get} compacted; compacted is {model.compact_revision}")
            return
        if isinstance(result, FutureRevisionError) and serializable:
            return
        if isinstance(result, StoreError):
            raise Violation(f"{by} answers {get} with {result!r}")
        if not serializable and result.revision < floor:
            raise Violation(
                f"stale read: {by} answers a linearizable read at revision {result.revision}, but {floor} "
                f"had been acknowledged before it was sent"
            )
        if result.revision > model.revision:
            raise Violation(f"{by} answers a read at revision {result.revision}, which nobody has committed")
        expected = model.read(get, result.revision)
        if list(expected.kvs) != list(result.kvs) or (expected.count, expected.more) != (
            result.count,
            result.more,
        ):
            raise Violation(
                f"{by} answers {get} at revision {result.revision} with {result}; it must be {expected}"
            )
        if not serializable:
            self.floor = max(self.floor, result.revision)

    # ------------------------------------------------------------------ dear checks

    def check_log(self, member: Watched) -> None:
        """The whole log of a member against what was committed."""
        node = member.running.node
        for index in range(max(FIRST_INDEX, node.first_index), min(node.applied, self.last_committed) + 1):
            if node.term_of(index) != self.at(index).entry.term:
                raise Violation(f"{member.name} has applied {index}, but its log has another entry there")

    def check_whole_state(self, member: Watched) -> None:
        """Everything that can be read at the newest revision of a member."""
        space = member.running.space
        everything = Get(b"\x00", b"\x00")
        found, expected = space.range(b"\x00", b"\x00"), self.model.read(everything, space.revision)
        if list(found.kvs) != list(expected.kvs):
            raise Violation(f"at revision {space.revision} {member.name} has {found}; it must be {expected}")


def _equal(expected: TxnResult, result: TxnResult) -> bool:
    return (
        expected.succeeded is result.succeeded
        and expected.revision == result.revision
        and list(expected.results) == list(result.results)
    )
