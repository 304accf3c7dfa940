"""Where a member's clients wait: writes until they are applied, reads until they may be served.

The shell of a real member does the same (`gitkube/store/member.py`). A write is proposed and answered when
an entry with its session and sequence is applied here, whoever's log it came through. Linearizable reads are
collected and share one read-index round (thesis, section 6.4); keep-alives of leases are such reads too,
since only a leader that is confirmed as one may promise time.

Invariant: the context of a read-index round is never used again, not even by a later run of this member: an
answer that was under way while it crashed must not confirm a read of the new run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from gitkube.sim.clock import MAX_DRIFT
from gitkube.store import command
from gitkube.store.command import Command, LeaseRevoke, Origin
from gitkube.store.leases import Lessor
from gitkube.store.mvcc import Result
from gitkube.store.protocol import (
    Get,
    Lease,
    LeaseId,
    LeaseNotFoundError,
    RangeResult,
    StoreError,
    UnavailableError,
)
from gitkube.store.raft.types import ProposalDropped
from gitkube.store.replica import Outcome, Replica

Answer = Result | RangeResult | Lease
Reply = Callable[[Answer], None]

MAX_WAITING_READS = 1024
MAX_EXPIRIES = 100


class TryAgain(StoreError):
    """The member cannot take the request now; nothing was written by it."""


@dataclass(slots=True)
class _Read:
    asked: Get | LeaseId
    reply: Reply
    asked_s: float


@dataclass(slots=True)
class Desk:
    """See the module's text. One for each run of a member."""

    replica: Replica
    run_name: str
    """Of this member and this run: makes the contexts of its reads its own."""
    lessor: Lessor = field(default_factory=lambda: Lessor(1))
    _counted: set[LeaseId] = field(default_factory=set)
    _leading_term: int = 0
    _writes: dict[tuple[int, int], Reply] = field(default_factory=dict)
    _queued_reads: list[_Read] = field(default_factory=list)
    _reads: dict[bytes, list[_Read]] = field(default_factory=dict)
    _rounds: int = 0

    def write(self, asked: Command, origin: Origin, reply: Reply) -> None:
        """Propose a command; `reply` hears its result, `TryAgain`, or nothing when it got lost."""
        try:
            self.replica.node.propose([command.encode(asked, origin)])
        except ProposalDropped as error:
            reply(TryAgain(str(error)))
            return
        self._writes[(origin.session, origin.sequence)] = reply

    def read(self, get: Get, reply: Reply, now_s: float) -> None:
        """Queue a linearizable read for the next round."""
        self._queued_reads.append(_Read(get, reply, now_s))

    def keep_alive(self, lease: LeaseId, reply: Reply, now_s: float) -> None:
        """Renew a lease, if this member leads and still does when a round is over."""
        if not self.replica.is_leader:
            reply(TryAgain("not the leader"))
            return
        self._queued_reads.append(_Read(lease, reply, now_s))

    def ask_for_reads(self) -> None:
        """Begin a round for the reads that have queued up."""
        if not self._queued_reads:
            return
        queued, self._queued_reads = self._queued_reads, []
        self._rounds += 1
        context = f"{self.run_name}:{self._rounds}".encode()
        try:
            self.replica.node.read_index(context)
        except ProposalDropped as error:
            for read in queued:
                read.reply(TryAgain(str(error)))
            return
        if len(self._reads) >= MAX_WAITING_READS:
            self._reads.pop(next(iter(self._reads)))  # its answer was lost long ago
        self._reads[context] = queued

    def on_outcome(self, outcome: Outcome, now_s: float) -> None:
        """Give out what a finished turn answers."""
        self.follow_leadership(now_s)
        if self.lessor.is_primary:
            self._follow_leases(now_s)
        for origin, _, result in outcome.applied:
            reply = self._writes.pop((origin.session, origin.sequence), None)
            if reply is not None:
                reply(result)
        for state in outcome.reads:
            for read in self._reads.pop(state.context, ()):
                if isinstance(read.asked, Get):
                    read.reply(self.serve(read.asked))
                else:
                    read.reply(self._renew(read.asked, read.asked_s, now_s))

    def serve(self, get: Get) -> RangeResult | StoreError:
        """A read of the state as it is here now."""
        try:
            return self.replica.space.read(get)
        except StoreError as error:
            return error

    # ------------------------------------------------------------------ leases

    def _renew(self, lease: LeaseId, asked_s: float, now_s: float) -> Lease | StoreError:
        self.follow_leadership(now_s)
        try:
            if self.lessor.remaining_s(lease, now_s) <= 0:
                raise LeaseNotFoundError(f"lease {lease:x} waits for its end in the log")
            ttl_s = self.lessor.keep_alive(lease, asked_s)
        except UnavailableError as error:
            return TryAgain(str(error))
        except StoreError as error:
            return error
        return Lease(lease, ttl_s, float(ttl_s))

    def _follow_leases(self, now_s: float) -> None:
        leases = self.replica.space.leases
        for lease in [lease for lease in self._counted if lease not in leases]:
            self._counted.discard(lease)
            self.lessor.revoked(lease)
        for lease, ttl_s in leases.items():
            if lease not in self._counted:
                self._counted.add(lease)
                self.lessor.granted(lease, ttl_s, now_s)

    def follow_leadership(self, now_s: float) -> None:
        """Begin to count leases down when a leadership of this member begins, and stop when it ends."""
        node = self.replica.node
        term = node.term if self.replica.leads else 0
        if term == self._leading_term:
            return
        self._leading_term = term
        if term:
            self._counted = set(self.replica.space.leases)
            self.lessor.promote(self.replica.space.leases, now_s)
        else:
            self.lessor.demote()

    def expire_leases(self, now_s: float) -> list[LeaseId]:
        """Ask the log to end the leases whose time has passed; gives those that were asked for."""
        self.follow_leadership(now_s)
        asked: list[LeaseId] = []
        if not self.lessor.is_primary:
            return asked
        for lease in self.lessor.expired(now_s, MAX_EXPIRIES):
            try:
                self.replica.node.propose([command.encode(LeaseRevoke(lease))])
            except ProposalDropped:
                break  # a hand-over is under way; whoever leads next gives them their time again
            asked.append(lease)
        return asked


def earliest_expiry_us(asked_us: int, ttl_s: int) -> int:
    """Before this true time no clock of this simulation may have a lease expired that was renewed then."""
    return asked_us + int(ttl_s * 1_000_000 / (1 + MAX_DRIFT))
