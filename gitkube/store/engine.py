"""One member at work: the event loop, the time and the sockets around `Replica`.

The driver gives all proposals that wait to the consensus core together, takes its turn, puts it on the disk
with one sync, applies what a quorum has, and only then answers. So one fsync serves all who came meanwhile
(group commit), and nothing is answered, shown to a reader or told to a watcher before it is durable on a
quorum.

A member that is alone is its own quorum and leads from the start. One of several passes proposals on to its
leader and answers them when they are applied here; a leader's death in between costs an election and is not
noticed otherwise, because proposals are sent again and applied once (`origins.py`).

An error of the disk ends the member: after a failed fsync nobody can say what is on the disk, so it must not
go on as if it knew. Its process ends then, and is started again from what the disk really has.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

import structlog

from gitkube.clock import Clock
from gitkube.store import command
from gitkube.store.command import Command, LeaseGrant, LeaseRevoke, Origin
from gitkube.store.disk_work import DiskWork
from gitkube.store.leadership import Leadership
from gitkube.store.leases import Lessor, min_ttl_s
from gitkube.store.metrics import MemberMetrics
from gitkube.store.mvcc import Result
from gitkube.store.origins import Origins
from gitkube.store.peer_side import PeerSide
from gitkube.store.proposals import Proposals
from gitkube.store.protocol import (
    IdentityError,
    SessionExpiredError,
    StoreError,
    UnavailableError,
)
from gitkube.store.raft.types import Message
from gitkube.store.reads import Reads
from gitkube.store.replica import Outcome, Replica, Turn
from gitkube.store.rounds import Rounds
from gitkube.store.settings import MemberSettings, PeerSettings
from gitkube.store.ticks import Ticks
from gitkube.store.transport import Transport
from gitkube.store.upkeep import Upkeep
from gitkube.store.waiting import Bell, Waiter
from gitkube.store.watches import Watches

log = structlog.get_logger()

T = TypeVar("T")
Answer = Callable[[str, Sequence[Any]], Awaitable[Any]]


class Engine:
    """See the module's text.

    Args:
        answer: answers what other members ask, by name and arguments.
    """

    def __init__(
        self,
        replica: Replica,
        *,
        settings: MemberSettings,
        clock: Clock,
        rng: random.Random,
        peers: PeerSettings | None,
        answer: Answer,
    ) -> None:
        self.replica = replica
        self.clock = clock
        self.settings = settings
        self.rng = rng
        self.metrics = MemberMetrics()
        self.watches = Watches(replica.space, clock, on_dropped=self.metrics.watcher_dropped)
        replica.before_compaction = self.watches.notify
        self.lessor = Lessor(min_ttl_s(settings.tick_s * settings.election_ticks))
        self._answer = answer
        self.transport: Transport | None = None
        if peers is not None:
            self.transport = Transport(
                PeerSide(self), replica.identity, listen=peers.listen, tls=peers.tls, clock=clock, rng=rng
            )
        self.peers = peers
        self._origins = Origins(rng)
        self.leadership = Leadership(self)
        why_not = self.leadership.why_not
        self.proposals = Proposals(retry_s=settings.retry_s, why_not=why_not)
        replica.decode = self.proposals.decode
        mark = replica.identity.member_id.to_bytes(8, "big") + rng.randbytes(8)
        self.reads = Reads(mark=mark, retry_s=settings.retry_s, why_not=why_not)
        self.upkeep = Upkeep(self)
        self.ticks = Ticks(self)
        self._changes: dict[int, asyncio.Future[None]] = {}
        self._wake = Bell()
        self.rounds = Rounds()
        self._failure: BaseException | None = None
        self._has_failed = asyncio.Event()
        self._is_closed = False
        self._tasks: list[asyncio.Task[None]] = []
        self._between_turns: deque[tuple[asyncio.Future[Any], Callable[[], Any]]] = deque()
        self.disk_work = DiskWork(clock)

    async def start(self) -> None:
        """Begin to work; a member that is alone leads when this returns.

        Raises:
            StoreError: it cannot. It is to be closed then.
        """
        if self.transport is not None:
            await self.transport.start()
        while self.replica.node.applied < self.replica.node.committed:
            self._take_turn_at_start()  # only then is it known who takes part
        if self.replica.is_alone:
            self.replica.node.campaign()  # nobody else can be meant, so nobody need be waited for
        self._wake.ring()
        self._tasks = [
            asyncio.create_task(self._guarded(work), name=name)
            for name, work in (
                ("store-driver", self._drive),
                ("store-ticks", self.ticks.run),
                ("store-commits", self.ticks.tell_commits),
                ("store-rounds", self.ticks.ask_the_spared),
                ("store-upkeep", self.upkeep.run),
            )
        ]
        while self.replica.is_alone and not self.is_leader:
            await self.leadership.wait_change()
            if isinstance(self._failure, StoreError):
                raise self._failure
            self.check_alive()
        log.info("store_opened", member=self.replica.identity.name, revision=self.replica.space.revision)

    def _take_turn_at_start(self) -> None:
        turn = self.replica.ready()
        assert turn is not None, "committed entries are to be applied"
        self.replica.persist(turn)
        self.send(turn.ready.messages)
        self._give_out(self.replica.finish(turn))

    # ------------------------------------------------------------------ what the member asks for

    async def current(self) -> None:
        """Return when the key space here has all that was acknowledged before the call.

        Raises:
            UnavailableError: no quorum confirms it in time.
        """
        confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.when_current(confirmed)
        await confirmed

    def when_current(self, ready: Waiter[None]) -> None:
        """Tell `ready` when the key space here has all that was acknowledged before the call, or that no
        quorum confirms it in time.

        Raises:
            UnavailableError: there is no hope that one will.
        """
        self.check_alive()
        if self.replica.is_alone and self.is_leader:
            ready.set_result(None)  # it acknowledged everything itself, after applying it
            return
        self.leadership.check_hope()
        self.reads.add(ready, self.clock.monotonic() + self.settings.deadline_s)
        self._wake.ring()

    async def propose(self, asked: Command, origin: Origin | None = None) -> Result:
        """The result of a command once it is durable on a quorum and applied here.

        Raises:
            UnavailableError: that did not come about in time; whether it still will is unknown.
            StoreError: the command's own error.
        """
        own = origin or self._origins.new()
        try:
            answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
            self.begin(command.encode(asked, own), own, answer)
            result = await answer
        except BaseException:
            self._origins.lost(own)
            raise
        self._origins.done(own)
        if isinstance(result, StoreError):
            if isinstance(result, SessionExpiredError):
                self._origins.lost(own)
            raise result
        return result

    def begin(
        self, data: bytes, origin: Origin, answer: Waiter[Result], decoded: Command | None = None
    ) -> None:
        """Tell `answer` a command's result, its own errors among them, once it is durable on a quorum and
        applied here; or that this did not come about in time.

        Args:
            data: the command with its origin, as `command.encode` gives it.
            decoded: the command, if it was decoded from `data` here.

        Raises:
            UnavailableError: it was not even begun.
        """
        self.check_alive()
        self.leadership.check_hope()
        now = self.clock.monotonic()
        deadline = now + self.settings.deadline_s
        self.proposals.add(origin, data, answer, now=now, deadline=deadline, decoded=decoded)
        self._wake.ring()

    async def answer(self, method: str, arguments: Sequence[Any]) -> Any:
        """Answer what another member asks, or this one itself when it leads."""
        return await self._answer(method, arguments)

    async def change(self, request: int, begin: Callable[[], None]) -> None:
        """Return when the change of the members that `begin` proposes with this number is in force."""
        self._changes[request] = asyncio.get_running_loop().create_future()
        try:
            begin()
            self._wake.ring()
            async with asyncio.timeout(self.settings.deadline_s):
                await self._changes[request]
        except TimeoutError as error:
            raise UnavailableError(self.leadership.why_not()) from error
        finally:
            self._changes.pop(request, None)

    # ------------------------------------------------------------------ state

    @property
    def is_leader(self) -> bool:
        """Whether this member leads and has applied all that earlier leaders committed."""
        return self.replica.leads

    def metrics_text(self) -> str:
        """In Prometheus' text format."""
        replica = self.replica
        return self.metrics.text(
            pending=len(self.proposals),
            revision=replica.space.revision,
            compact_revision=replica.space.compact_revision,
            keys=len(replica.space),
            live_bytes=replica.space.live_bytes,
            quota_bytes=self.settings.quota_bytes,
            disk_bytes=replica.disk_bytes,
            applied_index=replica.node.applied,
            term=replica.node.term,
            watchers=len(self.watches),
        )

    def check_alive(self) -> None:
        """Raises:
        UnavailableError: the member was closed or has failed.
        """
        if self.is_over:
            raise self.unavailable()

    @property
    def was_refused(self) -> bool:
        """Whether the other members have said that this one is none of them (any more)."""
        return isinstance(self._failure, IdentityError)

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    @property
    def is_over(self) -> bool:
        """Whether it is closed or has failed."""
        return self._failure is not None or self._is_closed

    def unavailable(self) -> UnavailableError:
        """Why nothing is answered any more: it is closed, or has failed."""
        if self._failure is None:
            return UnavailableError("the store is closed")
        return UnavailableError(f"the store has stopped: {self._failure}")

    async def close(self) -> None:
        """Answer what a lone member still has, refuse the rest, and stop."""
        if self._failure is None and self.replica.is_alone:
            await self.proposals.wait_empty()
        self._is_closed = True
        self._refuse_all()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.upkeep.finish()
        await self.disk_work.close()
        if self.transport is not None:
            await self.transport.close()
        self.replica.close()

    def _refuse_all(self) -> None:
        error = self.unavailable()
        self.reads.fail(error)
        self.proposals.fail(error)
        self.watches.fail(error)
        while self._between_turns:
            done, _ = self._between_turns.popleft()
            if not done.done():
                done.set_exception(error)

    async def wait_failed(self) -> BaseException:
        """Return when the member cannot go on, with the reason. Its process should end then."""
        await self._has_failed.wait()
        return self._failure or self.unavailable()

    # ------------------------------------------------------------------ the driver

    async def _drive(self) -> None:
        while True:
            await self._wake.wait()
            while True:
                self.proposals.flush(self.replica.node)
                if self.reads.has_next:
                    self.reads.flush(self.replica.node, self.clock.monotonic())
                while self._between_turns:
                    _do(*self._between_turns.popleft())
                turn = self.replica.ready()
                if turn is None:
                    break
                self._send_early(turn.ready.early_messages)
                await self._persist(turn)
                self.send(turn.ready.messages)  # a quorum need not wait for what is applied here
                outcome = self.replica.finish(turn)
                if turn.changes_state or outcome.reads:
                    self._give_out(outcome)

    async def _persist(self, turn: Turn) -> None:
        if not turn.ready.must_sync and turn.ready.snapshot is None:
            self.replica.persist(turn)
            return
        took_s = await self.disk_work.sync(
            lambda: self.replica.persist(turn), is_large=turn.ready.snapshot is not None
        )
        self.metrics.synced(took_s, len(turn.ready.entries))

    async def between_turns(self, work: Callable[[], T]) -> T:
        """The result of work that needs the state between two turns, when it is whole.

        Raises:
            UnavailableError: the member was closed or has failed.
        """
        self.check_alive()
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._between_turns.append((done, work))
        self._wake.ring()
        return await done

    def _give_out(self, outcome: Outcome) -> None:
        if outcome.replaced:
            self.watches.replace(self.replica.space)
        now = self.clock.monotonic()
        for origin, asked, result in outcome.applied:
            began = self.proposals.applied(origin, result)
            if began is not None:
                self.metrics.committed(now - began)
            if isinstance(asked, LeaseGrant) and result is None:
                self.lessor.granted(asked.lease, asked.ttl_s, now)
            elif isinstance(asked, LeaseRevoke):
                self.lessor.revoked(asked.lease)
        if outcome.applied:
            self.watches.notify()
            self.metrics.applied(len(outcome.applied))
            if self.replica.is_leader and not self.replica.is_alone:
                self.ticks.has_committed.set()
        for request in outcome.changes:
            if (waiting := self._changes.pop(request, None)) is not None and not waiting.done():
                waiting.set_result(None)
        if (outcome.changes or outcome.replaced) and self.transport is not None:
            self.transport.refresh()
        for read in outcome.reads:
            if self.reads.confirmed(read.context):
                self._wake.ring()
        self.leadership.follow(outcome)
        self.upkeep.after_turn()

    def _send_early(self, messages: Sequence[Message]) -> None:
        if self.transport is not None and messages:
            conf = self.replica.node.conf
            self.transport.send(self.rounds.to_send(messages, conf, self.transport.is_open))
            if self.rounds.is_holding:
                self.ticks.is_sparing.set()

    def send(self, messages: Iterable[Message]) -> None:
        """Send the core's messages to the other members."""
        if self.transport is not None and messages:
            self.transport.send(messages)

    def wake(self) -> None:
        """There is something for the driver to do."""
        self._wake.ring()

    # ------------------------------------------------------------------ failing

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self.fail(error)
            raise

    def fail(self, error: BaseException) -> None:
        """The member cannot go on: refuse everything, and let `wait_failed` tell why."""
        if self._failure is not None:
            return
        self._failure = error
        self._has_failed.set()
        log.critical("store_failed", error=str(error), member=self.replica.identity.name)
        self._refuse_all()
        self.leadership.announce()
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()


def _do(done: asyncio.Future[T], work: Callable[[], T]) -> None:
    """What fails here is theirs who asked for it, and not the driver's."""
    if done.done():
        return
    try:
        done.set_result(work())
    except Exception as error:
        done.set_exception(error)
