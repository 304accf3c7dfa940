"""Whoever runs the cluster: adds, promotes, removes and replaces members, and gives them their machines.

Machines follow the newest configuration that any member has applied: who is new in it gets a machine with an
empty disk, who is not in it any more loses it after a while, so that removed members are around for some
time. A member whose disk is damaged is replaced: removed, its disk thrown away, and another one added.

Invariants: a machine is only taken away once a voter that stays has applied its removal; while a disk is
damaged no other change is asked for, so that a quorum of whole disks is always left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from gitkube.sim.member import SimMember
from gitkube.sim.schedule import SECOND_US
from gitkube.sim.world import World
from gitkube.store.membership import change_of, removal_of
from gitkube.store.protocol import MemberInfo
from gitkube.store.raft import ConfChange, ConfChangeKind, ConfChangeStep, ConfState, MemberId

MAX_MEMBERS = 6


class Machines(Protocol):
    """What the operator works on."""

    @property
    def world(self) -> World: ...

    @property
    def members(self) -> dict[MemberId, SimMember]: ...

    @property
    def has_membership_faults(self) -> bool: ...

    def add_machine(self, member: MemberId) -> None: ...

    def leader(self) -> SimMember | None: ...


class Operator:
    """See the module's text."""

    def __init__(self, machines: Machines, conf: ConfState, first_free: int) -> None:
        self.conf = conf
        """The newest that was applied anywhere."""
        self._index = 0
        self._machines = machines
        self._world = machines.world
        self._next = first_free
        self._leaving: set[MemberId] = set()

    # ------------------------------------------------------------------ machines

    def on_change(self, member: SimMember) -> None:
        """A member has applied a change."""
        node = member.running.node
        if node.applied > self._index:
            self._index, self.conf = node.applied, node.conf
            self._world.counts.membership_changes += 1
            self._world.note("operator", f"members are {self.conf}")
            for missing in sorted(everyone(self.conf) - self._machines.members.keys()):
                self._machines.add_machine(missing)
        if node.conf == self.conf and member.id in self.conf.voters:
            self._take_away_removed()

    def _take_away_removed(self) -> None:
        """Now that one who stays knows of the removal: before, the others might still ask for their votes."""
        inside = everyone(self.conf)
        for known in self._machines.members.values():
            if known.id not in inside and known.id not in self._leaving:
                self._leaving.add(known.id)
                delay_us = self._world.rng.choice((0, SECOND_US // 2, 4 * SECOND_US))
                self._world.schedule.after(delay_us, self._take_away, known)

    def _take_away(self, member: SimMember) -> None:
        if not member.is_destroyed:
            member.destroy()
            del self._machines.members[member.id]

    def may_damage(self, member: SimMember) -> bool:
        """Whether the disk of that member can be lost for good, whatever change is under way."""
        voters = self.conf.voters
        needed = 4 if self._machines.has_membership_faults else 3
        return (
            not self.conf.voters_outgoing
            and len(voters) >= needed
            and member.id in everyone(self.conf)
            and not self._damaged()
        )

    def _damaged(self) -> list[SimMember]:
        return [member for member in self._machines.members.values() if member.is_damaged]

    # ------------------------------------------------------------------ changes

    def change_something(self) -> None:
        """Ask the leader for some change that an operator may ask for."""
        damaged = [member for member in self._damaged() if member.id in everyone(self.conf)]
        if damaged:
            self.replace_damaged()
            return
        rng, conf = self._world.rng, self.conf
        voters, learners = list(conf.voters), list(conf.learners)
        choices: list[Callable[[], ConfChange]] = []
        if len(voters) + len(learners) < MAX_MEMBERS:
            choices.append(lambda: self._addition(ConfChangeKind.ADD_LEARNER))
            choices.append(lambda: self._addition(ConfChangeKind.ADD_LEARNER))
            choices.append(lambda: self._addition(ConfChangeKind.ADD_VOTER))
        if learners:
            choices.append(lambda: self._change(ConfChangeKind.ADD_VOTER, rng.choice(learners)))
            choices.append(lambda: self._change(ConfChangeKind.ADD_VOTER, rng.choice(learners)))
            choices.append(lambda: removal_of(rng.choice(learners), request=1))
        if len(voters) > 1:
            choices.append(lambda: removal_of(rng.choice(voters), request=1))
            choices.append(lambda: self._exchange(rng.choice(voters)))
        if len(voters) > 2:
            choices.append(lambda: self._change(ConfChangeKind.ADD_LEARNER, rng.choice(voters)))
        if choices:
            self._ask(rng.choice(choices)(), lambda: not self._damaged())

    def replace_damaged(self) -> None:
        """Have a damaged member removed; another one is added as its place is free."""
        inside = everyone(self.conf)
        for member in self._damaged():
            if member.id in inside and (member.has_refused or self._world.chance(0.3)):
                change = removal_of(member.id, request=1)
                if self._world.chance(0.3):
                    change = self._exchange(member.id)
                self._ask(change, lambda: True)
                return

    def _ask(self, change: ConfChange, is_still_wanted: Callable[[], bool]) -> None:
        leader = self._machines.leader()
        if leader is not None:
            leader.propose_conf_change(change, is_still_wanted)

    def _addition(self, kind: ConfChangeKind) -> ConfChange:
        self._next += 1
        return self._change(kind, MemberId(self._next))

    def _change(self, kind: ConfChangeKind, member: MemberId) -> ConfChange:
        return change_of(kind, MemberInfo(member, f"m{member}", f"m{member}:1"), request=1)

    def _exchange(self, old: MemberId) -> ConfChange:
        """One comes, one goes, in one step: through a joint configuration."""
        addition = self._addition(ConfChangeKind.ADD_VOTER)
        return ConfChange((*addition.steps, ConfChangeStep(ConfChangeKind.REMOVE, old)), addition.context)


def everyone(conf: ConfState) -> set[MemberId]:
    """All that take part in a configuration."""
    return {*conf.voters, *conf.learners, *conf.voters_outgoing, *conf.learners_next}
