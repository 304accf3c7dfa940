"""What is decided about a branch that several controllers have, without touching any of it.

`decide` says who moved and who must follow; `forgettable` says which packs nobody needs any more. The loops
that look and act are in `replication.py`.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gitkube.gitops.ledger import MAX_KEPT_BYTES, MAX_KEPT_PUSHES
from gitkube.gitops.source import CommitId


class PushRefusedError(Exception):
    """A push cannot be accepted; the lines are for the pusher, and nothing was changed."""

    def __init__(self, *lines: str) -> None:
        super().__init__(lines[0])
        self.lines = lines


class Action(enum.Enum):
    SETTLED = "branch and head are the same"
    PUBLISH = "the branch moved here; tell the others"
    TAKE = "the head moved; follow it"
    WAIT = "somebody else must act first"


def decide(
    local: CommitId | None,
    synced: CommitId | None,
    truth: CommitId | None,
    *,
    is_leader: bool,
    is_moving: bool = False,
    continues: bool = False,
) -> Action:
    """What to do about a branch and a head.

    Args:
        local: where the branch is; None: it does not exist.
        synced: where both were when they were last the same, in this cluster.
        truth: where the head is; None: there is none yet.
        is_moving: git is about to move the branch to the head, after a push to this repository.
        continues: the branch's history contains the head.
    """
    if local == truth:
        return Action.SETTLED
    if truth is None:
        return Action.PUBLISH if is_leader else Action.WAIT
    if is_moving:
        return Action.WAIT
    moved_here = local is not None and (synced == truth or (synced is None and continues))
    return Action.PUBLISH if is_leader and moved_here else Action.TAKE


@dataclass(frozen=True, slots=True)
class Membership:
    """What replication must know of the controllers."""

    member: int
    members: Sequence[int]
    cluster: int

    @property
    def is_alone(self) -> bool:
        return len(self.members) <= 1


@dataclass(slots=True)
class GitsTurn:
    """What becomes of a push that is judged while git waits."""

    is_accepted: bool = False


class Truth(Protocol):
    """Where the branch is, as `Replica` knows it."""

    @property
    def is_replicated(self) -> bool: ...

    async def settle(self) -> CommitId | None:
        """The commit that is to be deployed; None: there is none, or it is not known now."""
        ...

    async def accept(self, old: CommitId | None, new: CommitId, *, extra_objects: Sequence[Path]) -> None:
        """Make a push durable; see `Replica.accept`."""
        ...

    def left_to_git(self, commits: Sequence[CommitId]) -> AbstractContextManager[GitsTurn]:
        """Git moves the branch itself; see `Replica.left_to_git`."""
        ...


def forgettable(kept: Sequence[tuple[int, int]], haves: Sequence[int]) -> int:
    """Up to which number pushes can be dropped.

    Those that every member has; and beyond the limits the oldest ones, as long as a majority has them: a
    member that is away for long asks for what it lacks.

    Args:
        kept: number and size in bytes of each, oldest first.
        haves: up to which number each member has them.
    """
    if not haves:
        return 0
    everybody = min(haves)
    majority = sorted(haves, reverse=True)[len(haves) // 2]
    up_to = everybody
    rest = [(number, size) for number, size in kept if number > everybody]
    size_bytes = sum(size for _, size in rest)
    while rest and (size_bytes > MAX_KEPT_BYTES or len(rest) > MAX_KEPT_PUSHES) and rest[0][0] <= majority:
        up_to, size = rest.pop(0)
        size_bytes -= size
    return up_to
