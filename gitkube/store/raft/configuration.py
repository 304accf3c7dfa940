"""From one configuration and a change to the next: a pure function, the same on every member.

One step is a *simple* change: at most one voter comes or goes, so every majority of the old voters meets
every majority of the new ones (thesis, section 4.1). More steps go through a *joint* configuration, in which
the old voters (`voters_outgoing`) and the new ones both must agree (thesis, section 4.3); an empty change
leaves it. A voter of the old half that shall be a learner waits in `learners_next` till then, as nobody may
be voter and learner at once.

When a change may be proposed is decided in `membership.py`.
"""

from __future__ import annotations

from collections.abc import Iterable

from gitkube.store.raft.types import NOBODY, ConfChange, ConfChangeKind, ConfChangeStep, ConfState, MemberId


class ConfChangeError(ValueError):
    """A change that this configuration can't take, such as the removal of its last voter."""


def changed(conf: ConfState, change: ConfChange) -> ConfState:
    """The configuration after the change.

    Raises:
        ConfChangeError: it can't be made; the text says why.
    """
    if not conf.voters:
        raise ConfChangeError("there is no configuration to change: this member must get a snapshot first")
    if not change.steps:
        return _left(conf)
    if conf.voters_outgoing:
        raise ConfChangeError("the members are just changing (joint configuration); wait until that is done")
    if len(change.steps) == 1:
        return _simply_changed(conf, change.steps[0])
    return _entered(conf, change.steps)


def is_joint(conf: ConfState) -> bool:
    return bool(conf.voters_outgoing)


def members_of(conf: ConfState) -> frozenset[MemberId]:
    """All who take part in any way."""
    return frozenset((*conf.voters, *conf.voters_outgoing, *conf.learners))


def is_valid(conf: ConfState) -> bool:
    """Whether this can be anybody's configuration: there are voters, and each has one part in it."""
    voting = {*conf.voters, *conf.voters_outgoing}
    return (
        bool(conf.voters)
        and NOBODY not in members_of(conf)
        and voting.isdisjoint(conf.learners)
        and set(conf.learners_next) <= set(conf.voters_outgoing) - set(conf.voters)
        and (bool(conf.voters_outgoing) or not conf.auto_leave)
    )


def _simply_changed(conf: ConfState, step: ConfChangeStep) -> ConfState:
    voters, learners, learners_next = _after_steps(conf, [step])
    assert not learners_next and len(voters ^ set(conf.voters)) <= 1
    return ConfState(voters=_sorted(voters), learners=_sorted(learners))


def _entered(conf: ConfState, steps: Iterable[ConfChangeStep]) -> ConfState:
    joint = conf._replace(voters_outgoing=conf.voters)
    voters, learners, learners_next = _after_steps(joint, steps)
    return ConfState(
        voters=_sorted(voters),
        learners=_sorted(learners),
        voters_outgoing=conf.voters,
        learners_next=_sorted(learners_next),
        auto_leave=True,
    )


def _left(conf: ConfState) -> ConfState:
    if not conf.voters_outgoing:
        raise ConfChangeError("an empty change leaves a joint configuration, but this is none")
    return ConfState(voters=conf.voters, learners=_sorted({*conf.learners, *conf.learners_next}))


def _after_steps(
    conf: ConfState, steps: Iterable[ConfChangeStep]
) -> tuple[set[MemberId], set[MemberId], set[MemberId]]:
    """Voters, learners and learners to be, after each step in turn."""
    voters, learners, learners_next = set(conf.voters), set(conf.learners), set(conf.learners_next)
    for step in steps:
        if step.member == NOBODY:
            raise ConfChangeError("0 is no member id")
        for part in (voters, learners, learners_next):
            part.discard(step.member)
        if step.kind is ConfChangeKind.ADD_VOTER:
            voters.add(step.member)
        elif step.kind is ConfChangeKind.ADD_LEARNER:
            (learners_next if step.member in conf.voters_outgoing else learners).add(step.member)
    if not voters:
        raise ConfChangeError("the last voter can't go: nobody could decide anything any more")
    return voters, learners, learners_next


def _sorted(members: Iterable[MemberId]) -> tuple[MemberId, ...]:
    return tuple(sorted(members))
