"""One seed's life: a cluster is born, has bad luck for a while, is left in peace, and must be whole again.

    draw a plan ─▶ members, clients, watchers ─▶ faults (seconds of virtual time) ─▶ peace ─▶ convergence

In peace nothing is lost or late any more, and everybody is up: within `PEACE_US` there must be a leader,
every client must have its answer, damaged members must be replaced, all members must have the same state as
the model, a new write must be accepted, and the watchers must have seen everything. That is the liveness
half of the proof; the safety half is checked all along (`checks`).

Invariant: a life depends on its seed alone. Nothing here iterates over a set of something that isn't sorted.
"""

from __future__ import annotations

import random
import traceback
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gitkube.sim.checks import Checks, Violation
from gitkube.sim.clock import TICK_US, drifting_clock
from gitkube.sim.desk import earliest_expiry_us
from gitkube.sim.disk import SimDisk
from gitkube.sim.faults import Faults, Plan, draw_plan
from gitkube.sim.member import DIRECTORY, Hooks, SimMember
from gitkube.sim.network import Network
from gitkube.sim.operator import Operator, everyone
from gitkube.sim.schedule import SECOND_US, Schedule
from gitkube.sim.workload import Client, Habits, Watcher
from gitkube.sim.world import Counts, World
from gitkube.store.command import Txn
from gitkube.store.directory import Identity, create_member
from gitkube.store.membership import Membership
from gitkube.store.mvcc import KeySpace
from gitkube.store.protocol import LeaseId, MemberInfo, Put
from gitkube.store.raft import ConfState, MemberId, SnapshotMeta

CLUSTER_ID = 7
MAX_STEPS = 200_000
"""A life that has not come to its end by then is called stuck: some thousands are usual,
fifty thousand in the life of five busy members."""
PEACE_US = 60 * SECOND_US
"""In peace all must be well by then: some ten elections, and the slowest message of the time before."""
DEAR_CHECKS_EVERY_STEPS = 500


@dataclass(slots=True)
class Outcome:
    """What came of a life."""

    seed: int
    steps: int = 0
    virtual_s: float = 0.0
    peace_s: float = 0.0
    """How long it took to converge."""
    elections: int = 0
    acknowledged_writes: int = 0
    reads: int = 0
    entries: int = 0
    fingerprint: int = 0
    """Of everything that was committed: equal for equal seeds, in any process."""
    counts: Counts = field(default_factory=Counts)
    failure: str = ""
    """Empty when all was well."""
    details: str = ""
    """For a failure: where in the program it was noticed."""


class Life(Hooks):
    """See the module's text."""

    def __init__(
        self, seed: int, *, plan: Plan | None = None, tell: Callable[[str], None] | None = None
    ) -> None:
        self.seed = seed
        rng = random.Random(seed)
        self.plan = plan or draw_plan(rng)
        schedule = Schedule()
        network = Network(schedule, rng, self.plan.weather)
        self.world = World(schedule, rng, network, Checks(), tell)
        self.members: dict[MemberId, SimMember] = {}
        self._is_peaceful = False
        self._max_steps = MAX_STEPS
        self._answered_leases: dict[LeaseId, int] = {}
        """Lease -> the true time before which it may not be expired, by what clients were told."""
        self._expiries_asked: dict[tuple[LeaseId, int], int] = {}
        """Lease and term of the leader that asked -> when it first did."""
        ids = [MemberId(number) for number in range(1, self.plan.members + 1)]
        self.operator = Operator(self, ConfState(voters=tuple(ids)), len(ids))
        self.faults = Faults(self, self.plan)
        for member in ids:
            self._make_machine(member, self._first_state(ids))
        habits = Habits(keys=rng.choice((2, 8, 30)), loss=rng.choice((0.0, 0.02, 0.1)))
        self.clients = [
            Client(self.world, self, habits, session) for session in range(1, self.plan.clients + 1)
        ]
        self.watchers = [Watcher(self.world, self, f"w{number}") for number in range(2)]

    # ------------------------------------------------------------------ machines

    def _first_state(self, ids: Sequence[MemberId]) -> tuple[SnapshotMeta, list[Sequence[object]]]:
        infos = {int(member): MemberInfo(member, f"m{member}", f"m{member}:1") for member in ids}
        meta = SnapshotMeta(1, 1, ConfState(voters=tuple(ids)))
        return meta, [Membership(infos).dump(), *KeySpace().dump()]

    def _make_machine(
        self, member: MemberId, state: tuple[SnapshotMeta, list[Sequence[object]]] | None
    ) -> None:
        world = self.world
        disk = SimDisk(random.Random(world.rng.getrandbits(64)))
        identity = Identity(CLUSTER_ID, member, f"m{member}")
        meta, parts = state if state is not None else (None, [])
        create_member(disk, DIRECTORY, identity, meta, parts, segment_bytes=self.plan.settings.segment_bytes)
        made = SimMember(world, identity, disk, drifting_clock(world.rng), self.plan.settings, self)
        made.pace.sync_mean_us = world.rng.choice((300, 1_000, 5_000, 30_000))
        self.members[member] = made
        made.start()

    def add_machine(self, member: MemberId) -> None:
        self._make_machine(member, None)

    @property
    def has_membership_faults(self) -> bool:
        return "membership" in self.plan.rates

    def present(self) -> Sequence[SimMember]:
        return list(self.members.values())

    def anyone(self) -> SimMember | None:
        inside = [member for member in self.members.values() if member.id in everyone(self.operator.conf)]
        leader = self.leader()
        if leader is not None and self.world.chance(0.5):
            return leader
        return self.world.rng.choice(inside) if inside else None

    def leader(self) -> SimMember | None:
        leaders = [member for member in self.members.values() if member.is_up and member.running.is_leader]
        return max(leaders, key=lambda member: member.running.node.term, default=None)

    def may_damage(self, member: SimMember) -> bool:
        return self.operator.may_damage(member)

    def change_members(self) -> None:
        self.operator.change_something()

    # ------------------------------------------------------------------ hooks

    def on_down(self, member: SimMember) -> None:
        delay_us = 0
        if not self._is_peaceful:
            delay_us = min(5 * SECOND_US, int(self.world.rng.expovariate(1.0) * SECOND_US))
        self.world.schedule.after(delay_us, self._restart, member)

    def _restart(self, member: SimMember) -> None:
        if member.is_up or member.is_destroyed or member.has_refused:
            return
        if not self._is_peaceful and "fuse" in self.plan.rates and self.world.chance(0.2):
            member.disk.cut_power_after = self.world.rng.randrange(20)
        self.world.counts.restarts += 1
        member.start()

    def on_change(self, member: SimMember) -> None:
        self.operator.on_change(member)

    # ------------------------------------------------------------------ leases

    def note_lease_answered(self, lease: LeaseId, asked_us: int, ttl_s: int) -> None:
        safe_until_us = earliest_expiry_us(asked_us, ttl_s)
        self._answered_leases[lease] = max(safe_until_us, self._answered_leases.get(lease, 0))

    def on_expiry_asked(self, member: SimMember, lease: LeaseId) -> None:
        asked = (lease, member.running.node.term)
        self._expiries_asked.setdefault(asked, self.world.schedule.now_us)

    def _check_leases(self) -> None:
        """Only an expiry that came into the log counts: a deposed leader may ask in vain."""
        for lease, term in self.world.checks.expired:
            self.world.counts.leases_expired += 1
            asked_us = self._expiries_asked[(lease, term)]
            safe_until_us = self._answered_leases.get(lease, 0)
            if asked_us < safe_until_us:
                raise Violation(
                    f"lease {lease} was asked to expire at {asked_us / SECOND_US:.3f} s in term {term}, but "
                    f"a client was told that it lives until {safe_until_us / SECOND_US:.3f} s at least"
                )
        self.world.checks.expired.clear()

    # ------------------------------------------------------------------ the life

    def run(self, *, max_steps: int | None = None) -> Outcome:
        """Live it; at most `max_steps` of it, if they are given."""
        outcome = Outcome(self.seed)
        self._max_steps = max_steps or MAX_STEPS
        try:
            self.faults.begin()
            self._run_until(lambda: self.world.schedule.now_us >= self.plan.duration_us)
            self._make_peace()
            began_us = self.world.schedule.now_us
            self._run_until(self._has_converged, began_us + PEACE_US)
            self._accept_a_write(began_us + PEACE_US)
            outcome.peace_s = (self.world.schedule.now_us - began_us) / SECOND_US
            self._check_the_end()
        except Violation as violation:
            outcome.failure = str(violation)
        except Exception as error:
            outcome.failure = f"{type(error).__name__}: {error}"
            outcome.details = traceback.format_exc()
        return self._sum_up(outcome)

    def _run_until(self, is_enough: Callable[[], bool], deadline_us: int | None = None) -> None:
        schedule = self.world.schedule
        while not is_enough():
            if deadline_us is not None and schedule.now_us > deadline_us:
                raise Violation(
                    f"liveness: {PEACE_US / SECOND_US:.0f} s of peace, and {self._what_is_missing()}"
                )
            if schedule.steps >= self._max_steps:
                raise Violation(f"stuck: {self._max_steps} steps, and {self._what_is_missing()}")
            schedule.run_next()
            if schedule.steps % DEAR_CHECKS_EVERY_STEPS == 0:
                self._check_dearly()

    def _make_peace(self) -> None:
        self.world.note("peace", "begins")
        self._is_peaceful = True
        self.faults.end()
        for client in self.clients:
            client.is_stopping = True
        for member in self.present():
            self._restart(member)
        self.world.schedule.after(SECOND_US, self._replace_damaged)

    def _replace_damaged(self) -> None:
        self.operator.replace_damaged()
        self.world.schedule.after(SECOND_US, self._replace_damaged)

    def _has_converged(self) -> bool:
        return self.world.schedule.steps % 20 == 0 and not self._what_is_missing()

    def _what_is_missing(self) -> str:
        """The first thing that is not as it must be in the end; empty when all is well."""
        conf = self.operator.conf
        if conf.voters_outgoing:
            return f"the members are still {conf}"
        if not all(client.is_idle for client in self.clients):
            return "a client waits for its answer"
        leader = self.leader()
        if leader is None:
            return "there is no leader"
        last = leader.running.node.last_index
        for member in sorted(everyone(conf)):
            known = self.members[member]
            if known.has_refused:
                return f"{known.name} was refused and is not replaced"
            if not known.is_up:
                return f"{known.name} is down"
            node = known.running.node
            if node.applied < last or node.leader != leader.id:
                return f"{known.name} has applied {node.applied} of {last} and follows {node.leader}"
        return ""

    def _accept_a_write(self, deadline_us: int) -> None:
        accepted: list[int] = []
        habits = Habits(timeout_us=12 * TICK_US, loss=0.0)
        probe = Client(self.world, self, habits, 99)
        probe.is_stopping = True
        probe.write(Txn((), (Put(b"k-last", b"1"),)), lambda: accepted.append(1))
        self._run_until(lambda: bool(accepted) and self._has_converged(), deadline_us)

    # ------------------------------------------------------------------ checks

    def _check_dearly(self) -> None:
        self._check_leases()
        for member in self.members.values():
            if member.is_up:
                self.world.checks.check_log(member)
                self.world.checks.check_whole_state(member)

    def _check_the_end(self) -> None:
        self._check_dearly()
        checks = self.world.checks
        for member in sorted(everyone(self.operator.conf)):
            replica = self.members[member].running
            if replica.space.state_hash != checks.at(replica.node.applied).state_hash:
                raise Violation(
                    f"{self.members[member].name} does not have the state of the others in the end"
                )
            if replica.space.revision != checks.model.revision:
                raise Violation(f"{self.members[member].name} is not at the last revision in the end")
        for watcher in self.watchers:
            for _ in range(1000):
                if watcher.next > checks.model.revision:
                    break
                watcher.look()
            else:
                raise Violation(f"a watcher has not seen {watcher.next} in the end")

    def _sum_up(self, outcome: Outcome) -> Outcome:
        world, checks = self.world, self.world.checks
        outcome.steps = world.schedule.steps
        outcome.virtual_s = world.schedule.now_s
        outcome.elections = checks.elections
        outcome.acknowledged_writes = checks.acknowledged_writes
        outcome.reads = checks.checked_reads
        outcome.entries = len(checks.committed)
        outcome.counts = world.counts
        fingerprint = zlib.crc32(repr((world.schedule.steps, world.schedule.now_us)).encode())
        for committed in checks.committed:
            fingerprint = zlib.crc32(committed.entry.data, fingerprint ^ committed.state_hash & 0xFFFFFFFF)
        outcome.fingerprint = fingerprint
        return outcome


def live(seed: int, *, tell: Callable[[str], None] | None = None) -> Outcome:
    """The life of one seed."""
    return Life(seed, tell=tell).run()
