"""Bad luck: what goes wrong in a life, how often, and for how long.

Each life draws a plan: which kinds of faults it has, and their rates. Not all kinds at once: many faults
only show where others leave room ("swarm testing", Groce et al. 2012), so each kind is left out of many
lives. While the plan is in force every kind strikes by itself, at random times. Afterwards all is repaired,
and what is left must converge.

Invariant: no more disks are damaged at a time than the members of a cluster can lose for good, one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gitkube.sim.member import SimMember
from gitkube.sim.network import Weather
from gitkube.sim.schedule import MILLISECOND_US, SECOND_US
from gitkube.sim.world import World
from gitkube.store.raft.types import MemberId
from gitkube.store.replica import ReplicaSettings


@dataclass(frozen=True, slots=True)
class Plan:
    """One life, as it was drawn."""

    members: int
    settings: ReplicaSettings
    weather: Weather
    clients: int
    duration_us: int
    rates: dict[str, float] = field(default_factory=dict)
    """Kind of fault -> how often in a second, on average."""

    def __str__(self) -> str:
        rates = " ".join(f"{kind}={rate:.2f}" for kind, rate in self.rates.items())
        return (
            f"{self.members} members, {self.clients} clients, {self.duration_us / SECOND_US:.0f} s; {rates}"
        )


_RATES = {
    "power": 0.25,
    "fuse": 0.3,
    "kill": 0.15,
    "power_of_all": 0.05,
    "partition": 0.25,
    "one_way": 0.15,
    "isolate_leader": 0.12,
    "slow_link": 0.2,
    "slow_disk": 0.2,
    "stop": 0.15,
    "jump": 0.2,
    "full_disk": 0.06,
    "failing_sync": 0.06,
    "flip": 0.08,
    "membership": 0.3,
    "transfer": 0.2,
    "campaign": 0.1,
}


def draw_plan(rng: random.Random) -> Plan:
    """Which life it shall be."""
    members = rng.choices((1, 2, 3, 4, 5), (4, 2, 64, 6, 24))[0]
    election_ticks = rng.randrange(5, 11)
    settings = ReplicaSettings(
        segment_bytes=rng.choice((1024, 2048, 4096, 16384)),
        snapshot_entries=rng.choice((10, 20, 40, 100)),
        keep_entries=rng.choice((0, 5, 20, 60)),
        election_ticks=election_ticks,
        heartbeat_ticks=rng.randrange(1, 3),
    )
    is_harsh = rng.random() < 0.5
    weather = Weather(
        loss=rng.choice((0.0, 0.01, 0.05, 0.15)) if is_harsh else 0.0,
        duplicate=rng.choice((0.0, 0.02, 0.1)) if is_harsh else 0.0,
        delay_mean_us=rng.choice((500, 2_000, 10_000, 50_000)),
        tail=rng.choice((0.0, 0.0, 0.005, 0.03)),
        in_order=rng.random() < 0.3,
        tells_unreachable=rng.choice((0.0, 0.5, 1.0)),
    )
    rates = {kind: rate * rng.uniform(0.1, 1.3) for kind, rate in _RATES.items() if rng.random() < 0.5}
    return Plan(
        members=members,
        settings=settings,
        weather=weather,
        clients=rng.randrange(2, 7),
        duration_us=rng.randrange(8, 25) * SECOND_US,
        rates=rates,
    )


class Cluster(Protocol):
    """What faults happen to."""

    @property
    def world(self) -> World: ...

    def present(self) -> Sequence[SimMember]:
        """All members whose machines are there, up or not."""
        ...

    def leader(self) -> SimMember | None: ...

    def may_damage(self, member: SimMember) -> bool:
        """Whether the cluster can lose that disk for good."""
        ...

    def change_members(self) -> None: ...


class Faults:
    """See the module's text. It strikes from `begin` until `end`."""

    def __init__(self, cluster: Cluster, plan: Plan) -> None:
        self._cluster = cluster
        self._world = cluster.world
        self._plan = plan
        self._is_over = False
        self._kinds: dict[str, Callable[[], None]] = {
            "power": lambda: self._on_one(SimMember.crash),
            "fuse": self._burn_fuse,
            "kill": lambda: self._on_one(SimMember.kill),
            "power_of_all": self._crash_all,
            "partition": self._partition,
            "one_way": self._one_way,
            "isolate_leader": self._isolate_leader,
            "slow_link": self._slow_link,
            "slow_disk": self._slow_disk,
            "stop": lambda: self._on_one(lambda member: member.stop(self._duration_us(2.0))),
            "jump": lambda: self._on_one(lambda member: member.jump(self._world.rng.randrange(1, 25))),
            "full_disk": self._fill_disk,
            "failing_sync": self._fail_syncs,
            "flip": self._flip,
            "membership": cluster.change_members,
            "transfer": self._transfer,
            "campaign": lambda: self._on_one(_campaign),
        }

    def begin(self) -> None:
        for kind in self._plan.rates:
            self._wait(kind)

    def end(self) -> None:
        """Repair everything but what lies broken on the disks."""
        self._is_over = True
        self._heal()
        self._world.network.weather = Weather()
        for member in self._cluster.present():
            self._repair(member)

    def _wait(self, kind: str) -> None:
        delay_s = self._world.rng.expovariate(self._plan.rates[kind])
        self._world.schedule.after(int(delay_s * SECOND_US), self._strike, kind)

    def _strike(self, kind: str) -> None:
        if not self._is_over:
            self._kinds[kind]()
            self._wait(kind)

    def _duration_us(self, mean_s: float) -> int:
        return int(self._world.rng.expovariate(1.0 / mean_s) * SECOND_US)

    def _on_one(self, harm: Callable[[SimMember], None]) -> None:
        """Leaders are more interesting."""
        leader = self._cluster.leader()
        if leader is not None and self._world.chance(0.3):
            harm(leader)
            return
        up = [member for member in self._cluster.present() if member.is_up]
        if up:
            harm(self._world.rng.choice(up))

    # ------------------------------------------------------------------ machines

    def _burn_fuse(self) -> None:
        def burn(member: SimMember) -> None:
            member.disk.cut_power_after = self._world.rng.randrange(12)

        self._on_one(burn)

    def _crash_all(self) -> None:
        self._world.note("power", "goes everywhere")
        for member in self._cluster.present():
            member.crash()

    def _slow_disk(self) -> None:
        def slow(member: SimMember) -> None:
            member.pace.stall_us = self._world.rng.choice((100, 500, 3000)) * MILLISECOND_US
            self._world.note(member.name, f"has a slow disk: {member.pace.stall_us / SECOND_US} s")
            self._world.schedule.after(self._duration_us(2.0), self._repair, member)

        self._on_one(slow)

    def _fill_disk(self) -> None:
        def fill(member: SimMember) -> None:
            self._world.note(member.name, "has a full disk")
            member.disk.is_full = True
            self._world.schedule.after(self._duration_us(1.0), self._repair, member)

        self._on_one(fill)

    def _fail_syncs(self) -> None:
        def fail(member: SimMember) -> None:
            self._world.note(member.name, "has a failing disk")
            member.disk.syncs_fail = True
            self._world.schedule.after(self._duration_us(0.5), self._repair, member)

        self._on_one(fail)

    def _repair(self, member: SimMember) -> None:
        member.pace.stall_us = 0
        member.disk.is_full = False
        member.disk.syncs_fail = False

    def _flip(self) -> None:
        """Damage at rest: the power goes, and when it is back a bit is another."""
        present = self._cluster.present()
        candidates = [
            member for member in present if not member.is_damaged and self._cluster.may_damage(member)
        ]
        if not candidates:
            return
        member = self._world.rng.choice(candidates)
        member.crash()
        try:
            path, offset = member.disk.flip_bit()
        except ValueError:
            return  # nothing is on it yet
        member.is_damaged = True
        self._world.counts.damaged += 1
        self._world.note(member.name, f"gets a bit flipped in {path} at {offset}")

    # ------------------------------------------------------------------ the network

    def _heal(self) -> None:
        self._world.network.heal()

    def _cut(self, sources: Sequence[MemberId], targets: Sequence[MemberId], *, both: bool) -> None:
        network = self._world.network
        self._world.counts.partitions += 1
        self._world.note("network", f"cut from {sources} to {targets}{' and back' if both else ''}")
        network.cut(sources, targets)
        if both:
            network.cut(targets, sources)
        self._world.schedule.after(self._duration_us(1.5), self._heal)

    def _partition(self) -> None:
        ids = [member.id for member in self._cluster.present()]
        self._world.rng.shuffle(ids)
        at = self._world.rng.randrange(len(ids) + 1)
        self._cut(ids[:at], ids[at:], both=True)

    def _one_way(self) -> None:
        ids = [member.id for member in self._cluster.present()]
        self._world.rng.shuffle(ids)
        at = self._world.rng.randrange(len(ids) + 1)
        self._cut(ids[:at], ids[at:], both=False)

    def _isolate_leader(self) -> None:
        leader = self._cluster.leader()
        if leader is not None:
            others = [member.id for member in self._cluster.present() if member is not leader]
            if self._world.chance(0.3):
                self._cut(others, [leader.id], both=False)
            else:
                self._cut([leader.id], others, both=True)

    def _slow_link(self) -> None:
        ids = [member.id for member in self._cluster.present()]
        if len(ids) < 2:
            return
        source, target = self._world.rng.sample(ids, 2)
        extra_us = self._world.rng.choice((20, 200, 2000)) * MILLISECOND_US
        self._world.network.slow_down(source, target, extra_us)
        self._world.schedule.after(self._duration_us(2.0), self._heal)

    # ------------------------------------------------------------------ leadership

    def _transfer(self) -> None:
        leader = self._cluster.leader()
        if leader is not None:
            to = self._world.rng.choice([member.id for member in self._cluster.present()])
            self._world.counts.transfers += 1
            leader.transfer_leadership(to)


def _campaign(member: SimMember) -> None:
    member.campaign()
