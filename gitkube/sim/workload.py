"""Clients: they write, read and watch, believe nobody, and check every answer.

Each client does one thing at a time, with a session: a write that got no answer is sent again, to any
member, under the same session and sequence, until some answer comes. Values are unique, so that a lost or
doubled write shows. What was acknowledged before a request was sent is remembered with the request
(`floor`): no answer may be older. Watchers read the events of one member's key space, move to another when
theirs goes, and go on where they were.

Invariant: an answer is checked whenever it comes, also a late one of an earlier attempt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from gitkube.sim.checks import Violation
from gitkube.sim.clock import TICK_US
from gitkube.sim.desk import Answer, Desk, Reply, TryAgain
from gitkube.sim.member import SimMember
from gitkube.sim.schedule import MILLISECOND_US
from gitkube.sim.world import World
from gitkube.store.command import Command, Compact, LeaseGrant, LeaseRevoke, Origin, Txn
from gitkube.store.protocol import (
    NO_LEASE,
    CompactedError,
    Compare,
    Delete,
    Event,
    Get,
    Lease,
    LeaseId,
    LeaseNotFoundError,
    Op,
    Operation,
    Put,
    RangeResult,
    Revision,
    SessionExpiredError,
    Target,
    TxnResult,
)

PREFIX, PREFIX_END = b"k", b"l"
WATCH_LIMIT = 20


class Members(Protocol):
    """Where clients send their requests."""

    def anyone(self) -> SimMember | None:
        """Some member that a client may try, up or not."""
        ...

    def note_lease_answered(self, lease: LeaseId, asked_us: int, ttl_s: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Habits:
    """What the clients of one life like to do."""

    keys: int = 8
    pause_mean_us: int = 40 * MILLISECOND_US
    timeout_us: int = 4 * TICK_US
    loss: float = 0.01
    """Of requests and of answers, between clients and members."""
    weights: Sequence[float] = (6, 2, 4, 2, 5, 3, 3, 1, 1)
    """Of: put, delete, compare-and-swap, several at once, read, serializable read, lease, compaction,
    increment.
    """


class Client:
    """See the module's text."""

    def __init__(self, world: World, members: Members, habits: Habits, session: int) -> None:
        self.is_idle = True
        self.is_stopping = False
        self._world = world
        self._members = members
        self._habits = habits
        self._session = session
        self._sequence = 0
        self._leases: list[LeaseId] = []
        self._counter = 0
        self._seen: dict[bytes, Revision] = {}
        """Key -> its newest mod revision that this client knows: what it compares with."""
        self._actions = (
            self._put, self._delete, self._swap, self._several, self._read, self._read_locally,
            self._use_lease, self._compact, self._increment,
        )  # fmt: skip
        self._pause()

    def _pause(self) -> None:
        self.is_idle = True
        delay_us = int(self._world.rng.expovariate(1.0) * self._habits.pause_mean_us)
        self._world.schedule.after(delay_us, self._act)

    def _act(self) -> None:
        if self.is_stopping:
            return
        self.is_idle = False
        self._world.rng.choices(self._actions, self._habits.weights)[0]()

    # ------------------------------------------------------------------ what it does

    def _key(self) -> bytes:
        return PREFIX + str(self._world.rng.randrange(self._habits.keys)).encode()

    def _value(self) -> bytes:
        size = self._world.rng.choice((0, 0, 0, 40, 300))
        return f"{self._session}.{self._sequence + 1}".encode() + b"." * size

    def _put(self) -> None:
        lease = NO_LEASE
        if self._leases and self._world.chance(0.4):
            lease = self._world.rng.choice(self._leases)
        self.write(Txn((), (Put(self._key(), self._value(), lease),)))

    def _delete(self) -> None:
        key = self._key()
        self.write(Txn((), (Delete(key, PREFIX_END if self._world.chance(0.15) else None),)))

    def _swap(self) -> None:
        key = self._key()
        known = self._seen.get(key, Revision(0))
        self.write(Txn((Compare(key, Target.MOD, Op.EQUAL, known),), (Put(key, self._value()),), (Get(key),)))

    def _several(self) -> None:
        keys = sorted({self._key() for _ in range(3)})
        operations: list[Operation] = [Put(key, self._value()) for key in keys]
        if self._world.chance(0.5):
            operations[0] = Delete(keys[0])
        self.write(
            Txn((Compare(keys[-1], Target.VERSION, Op.NOT_EQUAL, 3),), operations, (Delete(keys[-1]),))
        )

    def _increment(self) -> None:
        """A counter that counts only its own writes: the model's versions must add up to it."""
        self._counter += 1
        self.write(Txn((), (Put(f"n{self._session}".encode(), str(self._counter).encode()),)))

    def _compact(self) -> None:
        self._world.counts.compactions += 1
        floor = self._world.checks.floor
        self.write(Compact(Revision(max(1, floor - self._world.rng.randrange(30)))))

    def _use_lease(self) -> None:
        rng = self._world.rng
        if not self._leases or rng.random() < 0.3:
            lease = LeaseId(self._session * 1_000_000 + self._sequence + 1)
            asked_us, ttl_s = self._world.schedule.now_us, rng.randrange(1, 5)
            self.write(LeaseGrant(lease, ttl_s), lambda: self._granted(lease, asked_us, ttl_s))
        elif rng.random() < 0.2:
            self.write(LeaseRevoke(self._leases.pop()))
        else:
            self._keep_alive(rng.choice(self._leases))

    def _granted(self, lease: LeaseId, asked_us: int, ttl_s: int) -> None:
        self._leases.append(lease)
        self._members.note_lease_answered(lease, asked_us, ttl_s)

    # ------------------------------------------------------------------ writes

    def write(self, asked: Command, then: Callable[[], None] | None = None) -> None:
        """Send a command until there is an answer to it."""
        self._sequence += 1
        origin = Origin(self._session, self._sequence, self._sequence)
        floor = self._world.checks.floor
        is_done = False

        def attempt() -> None:
            if is_done:
                return
            self._send(lambda desk, reply: desk.write(asked, origin, reply), answered)
            self._world.schedule.after(self._habits.timeout_us, attempt)

        def answered(member: SimMember, answer: Answer) -> None:
            nonlocal is_done
            if isinstance(answer, TryAgain):
                return  # the next attempt is on its way
            assert not isinstance(answer, RangeResult | Lease)
            if is_done and isinstance(answer, SessionExpiredError):
                return  # this client had acknowledged the answer meanwhile
            self._world.checks.acknowledge_write(origin, answer, floor, member.name)
            if is_done:
                return
            is_done = True
            if isinstance(answer, TxnResult):
                self._learn(asked, answer)
            if then is not None:
                then()
            self._pause()

        attempt()

    def _learn(self, asked: Command, answer: TxnResult) -> None:
        if isinstance(asked, Txn):
            for operation in asked.success if answer.succeeded else asked.failure:
                if isinstance(operation, Put):
                    self._seen[operation.key] = answer.revision
                else:
                    self._seen.pop(operation.key, None)

    # ------------------------------------------------------------------ reads

    def _a_read(self) -> Get:
        rng = self._world.rng
        revision = Revision(0)
        if rng.random() < 0.2 and self._world.checks.floor:
            revision = Revision(max(1, self._world.checks.floor - rng.randrange(10)))
        if rng.random() < 0.5:
            return Get(self._key(), revision=revision)
        return Get(PREFIX, PREFIX_END, rng.choice((0, 0, 3)), revision, count_only=rng.random() < 0.1)

    def _read(self) -> None:
        get = self._a_read()
        self._ask(get, lambda desk, reply, now_s: desk.read(get, reply, now_s), is_serializable=False)

    def _read_locally(self) -> None:
        get = self._a_read()
        self._ask(get, lambda desk, reply, now_s: reply(desk.serve(get)), is_serializable=True)

    def _ask(self, get: Get, how: Callable[[Desk, Reply, float], None], *, is_serializable: bool) -> None:
        is_done = False

        def attempt() -> None:
            if is_done:
                return
            floor = self._world.checks.floor
            self._send_timed(how, lambda member, answer: answered(member, answer, floor))
            self._world.schedule.after(self._habits.timeout_us, attempt)

        def answered(member: SimMember, answer: Answer, floor: Revision) -> None:
            nonlocal is_done
            if isinstance(answer, TryAgain):
                return
            assert answer is not None and not isinstance(answer, TxnResult | Lease)
            checks = self._world.checks
            checks.check_read(get, answer, floor, member.name, serializable=is_serializable)
            if is_done:
                return
            is_done = True
            if isinstance(answer, RangeResult) and not get.revision:
                self._seen.update({kv.key: kv.mod_revision for kv in answer.kvs})
            self._pause()

        attempt()

    # ------------------------------------------------------------------ leases

    def _keep_alive(self, lease: LeaseId) -> None:
        """Once; whether it is answered or not."""
        asked_us = self._world.schedule.now_us

        def answered(member: SimMember, answer: Answer) -> None:
            if isinstance(answer, Lease):
                self._members.note_lease_answered(lease, asked_us, answer.granted_ttl_s)
            elif isinstance(answer, LeaseNotFoundError) and lease in self._leases:
                self._leases.remove(lease)

        self._send_timed(lambda desk, reply, now_s: desk.keep_alive(lease, reply, now_s), answered)
        self._pause()

    # ------------------------------------------------------------------ the way there and back

    def _send(
        self, how: Callable[[Desk, Reply], None], answered: Callable[[SimMember, Answer], None]
    ) -> None:
        self._send_timed(lambda desk, reply, now_s: how(desk, reply), answered)

    def _send_timed(
        self, how: Callable[[Desk, Reply, float], None], answered: Callable[[SimMember, Answer], None]
    ) -> None:
        world, loss = self._world, self._habits.loss
        member = self._members.anyone()
        if member is None or world.chance(loss):
            return

        def reply(answer: Answer) -> None:
            if not world.chance(loss):
                world.schedule.after(self._way_us(), answered, member, answer)

        def arrive() -> None:
            member.request(lambda desk: how(desk, reply, member.now_s))

        world.schedule.after(self._way_us(), arrive)

    def _way_us(self) -> int:
        return int(self._world.rng.expovariate(1.0) * 2 * MILLISECOND_US)


class Watcher:
    """Follows all changes from the first one on, over the members it finds."""

    def __init__(self, world: World, members: Members, name: str) -> None:
        self.next = Revision(2)
        self._world = world
        self._members = members
        self._name = name
        self._member: SimMember | None = None
        self._starts = 0
        self._wait()

    def _wait(self) -> None:
        self._world.schedule.after(int(self._world.rng.expovariate(1.0) * 4 * TICK_US), self._look)

    def _look(self) -> None:
        self.look()
        self._wait()

    def look(self) -> None:
        """Take what has come since the last time."""
        world, member = self._world, self._member
        if member is None or not member.is_up or member.starts != self._starts or world.chance(0.05):
            self._member = member = self._members.anyone()
            if member is None or not member.is_up:
                return
            self._starts = member.starts
        space = member.running.space
        if self.next > space.revision:
            return  # a member that is behind: what the watcher has seen will come there too
        model = world.checks.model
        try:
            found = space.events_since(self.next, WATCH_LIMIT)
        except CompactedError as error:
            if not self.next < error.compact_revision <= model.compact_revision:
                raise Violation(
                    f"watcher {self._name}: {member.name} says {error.compact_revision} is compacted; asked "
                    f"was {self.next}, and compacted is {model.compact_revision}"
                ) from error
            self.next = error.compact_revision
            return
        if not found:
            raise Violation(f"watcher {self._name}: {member.name} has no events from {self.next} on")
        for revision, events in found:
            if revision != self.next:
                raise Violation(
                    f"watcher {self._name}: {member.name} gives {revision} in place of {self.next}"
                )
            expected = model.events.get(revision)
            if expected is None or not _same(
                expected, events, has_previous=revision > space.compact_revision
            ):
                raise Violation(
                    f"watcher {self._name}: {member.name} gives {events} for revision {revision}; it must be "
                    f"{expected}"
                )
            self.next = Revision(revision + 1)
            world.counts.watched_events += len(events)


def _same(expected: Sequence[Event], events: Sequence[Event], *, has_previous: bool) -> bool:
    """What was before the compacted revision's own changes is not known any more."""
    if not has_previous:
        expected = [Event(event.type, event.kv) for event in expected]
    return list(expected) == list(events)
