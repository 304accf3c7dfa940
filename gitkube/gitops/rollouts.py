"""The rollouts of the newest commits, by commit, for whoever waits for one.

A push is announced when it is noticed, begins when its commit is deployed, and ends the story of every commit
before it. Who pushed waits here until the rollout of that commit is there. Only the last MAX_ROLLOUTS are
kept: nobody waits for an older one.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from gitkube.clock import Clock
from gitkube.gitops.rollout import Rollout
from gitkube.gitops.source import Commit, CommitId

MAX_ROLLOUTS = 32


class Rollouts:
    """See the module's text."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._by_commit: OrderedDict[CommitId, Rollout] = OrderedDict()
        self._announced: OrderedDict[CommitId, float] = OrderedDict()
        self._added = asyncio.Event()

    @property
    def newest(self) -> Rollout | None:
        return next(reversed(self._by_commit.values())) if self._by_commit else None

    def announce(self, commit: CommitId) -> None:
        """A push of this commit was noticed: from now on its time counts."""
        self._announced.setdefault(commit, self._clock.monotonic())
        if len(self._announced) > MAX_ROLLOUTS:
            self._announced.popitem(last=False)

    def begin(self, commit: Commit) -> Rollout:
        """Watch this commit, and no other any more."""
        now_s = self._clock.monotonic()
        for other in self._by_commit.values():
            other.supersede(commit, now_s)
        rollout = Rollout(commit, started_s=self._announced.get(commit.id, now_s))
        self._by_commit[commit.id] = rollout
        self._by_commit.move_to_end(commit.id)
        if len(self._by_commit) > MAX_ROLLOUTS:
            self._by_commit.popitem(last=False)
        self._added.set()
        return rollout

    async def of(self, commit: CommitId) -> Rollout:
        """The rollout of a commit, as soon as it has begun."""
        while commit not in self._by_commit:
            self._added.clear()
            await self._added.wait()
        return self._by_commit[commit]
