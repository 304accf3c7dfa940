"""Majorities, and two of them at once.

A decision needs a majority of the voters; while the members change it needs one of the old voters and one of
the new (thesis, section 4.3), so that no two decisions can be made by disjoint halves at any time. Everything
that is counted is counted here: how far entries are on disks, which reads are confirmed, who is elected, and
whether a leader still hears from enough.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping
from typing import NamedTuple

from gitkube.store.raft.types import MemberId

EVERYTHING = (1 << 63) - 1
"""What a majority of nobody has agreed to: the empty half of a configuration never holds the other up."""


class VoteResult(enum.Enum):
    PENDING = "pending"
    WON = "won"
    LOST = "lost"


def agreed(values: list[int]) -> int:
    """The highest value that a majority has reached, where each voter has reached one of `values`."""
    if not values:
        return EVERYTHING
    values.sort()
    return values[(len(values) - 1) // 2]


class Quorum(NamedTuple):
    """The voters of a configuration: `outgoing` is empty unless the members are just changing."""

    voters: frozenset[MemberId]
    outgoing: frozenset[MemberId] = frozenset()

    def agreed(self, reached: Mapping[MemberId, int]) -> int:
        """The highest value that both majorities have reached; who is missing has reached 0."""
        index = agreed([reached.get(member, 0) for member in self.voters])
        if self.outgoing:
            index = min(index, agreed([reached.get(member, 0) for member in self.outgoing]))
        return index

    def vote_result(self, votes: Mapping[MemberId, bool]) -> VoteResult:
        """What these votes have decided; votes of others than the voters don't count."""
        results = {_majority_vote(half, votes) for half in self}
        if VoteResult.LOST in results:
            return VoteResult.LOST
        return VoteResult.PENDING if VoteResult.PENDING in results else VoteResult.WON

    def is_reached_by(self, members: Collection[MemberId]) -> bool:
        """Whether these members make both majorities."""
        return self.vote_result(dict.fromkeys(members, True)) is VoteResult.WON


def _majority_vote(voters: frozenset[MemberId], votes: Mapping[MemberId, bool]) -> VoteResult:
    needed = len(voters) // 2 + 1 if voters else 0
    cast = [votes[voter] for voter in voters if voter in votes]
    granted = sum(cast)
    if granted >= needed:
        return VoteResult.WON
    return VoteResult.PENDING if granted + len(voters) - len(cast) >= needed else VoteResult.LOST
