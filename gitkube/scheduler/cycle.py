"""One pod's scheduling cycle: which host, or why none.

Pure: it reads the snapshot and draws lots among equals, and changes nothing. It never awaits, which is what
makes the live snapshot a consistent one. Every filter narrows one mask; the scores of the rest are brought to
one scale, weighted and added up.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from gitkube.scheduler.framework import (
    Code,
    CycleState,
    Filter,
    Mask,
    Profile,
    Scores,
    Status,
)
from gitkube.scheduler.pod_info import PodInfo
from gitkube.scheduler.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Decision:
    node_name: str
    """"" when there is none."""
    state: CycleState
    refused: Mapping[str, Status] = field(default_factory=dict)
    """Host -> the first verdict against it, when there is no host."""
    pre_filter: Status | None = None
    """A verdict against the pod as a whole."""
    post_filter: Status | None = None

    @property
    def refusing_plugins(self) -> frozenset[str]:
        if self.pre_filter is not None:
            return frozenset((self.pre_filter.plugin,))
        return frozenset(status.plugin for status in self.refused.values())


class SchedulingCycle:
    def __init__(self, profile: Profile, snapshot: Snapshot, rng: random.Random) -> None:
        self._profile = profile
        self._snapshot = snapshot
        self._rng = rng

    def decide(self, pod: PodInfo) -> Decision:
        """The best host for a pod, or the verdict of each."""
        state = CycleState()
        for _, pre_filter in self._profile.pre_filters:
            verdict = pre_filter.pre_filter(state, pod, self._snapshot)
            if not verdict.is_success:
                return Decision("", state, pre_filter=verdict)
        feasible = self._filter(state, pod)
        slots = np.flatnonzero(feasible)
        if not len(slots):
            refused = self._explain(state, pod)
            return Decision("", state, refused, post_filter=self._post_filter(state, pod, refused))
        if len(slots) == 1:
            return Decision(self._snapshot.at(int(slots[0])).name, state)
        scores = self._score(state, pod, feasible)[slots]
        best = slots[scores >= scores.max() - 1e-9]
        chosen = int(best[self._rng.randrange(len(best))])
        return Decision(self._snapshot.at(chosen).name, state)

    def _filter(self, state: CycleState, pod: PodInfo) -> Mask:
        feasible = self._snapshot.valid.copy()
        for _, plugin in self._profile.filters:
            mask = plugin.filter(state, pod, self._snapshot)
            if mask is not None:
                feasible &= mask
                if not feasible.any():
                    break
        return feasible

    def _score(self, state: CycleState, pod: PodInfo, feasible: Mask) -> Scores:
        for _, pre_score in self._profile.pre_scores:
            pre_score.pre_score(state, pod, self._snapshot, feasible)
        total: Scores = np.zeros(self._snapshot.capacity, np.float64)
        for plugin, normalizer, weight in self._profile.scores:
            scores = plugin.score(state, pod, self._snapshot, feasible)
            if scores is None:
                continue
            if normalizer is not None:
                scores = normalizer.normalize(state, pod, scores, feasible)
            total += weight * scores
        return total

    def _explain(self, state: CycleState, pod: PodInfo) -> dict[str, Status]:
        """Each host's first verdict. The masks say which filter to ask, so each host is explained once."""
        refused: dict[str, Status] = {}
        open_slots = self._snapshot.valid.copy()
        for _, plugin in self._profile.filters:
            mask = plugin.filter(state, pod, self._snapshot)
            if mask is None:
                continue
            for slot in np.flatnonzero(open_slots & ~mask):
                node = self._snapshot.at(int(slot))
                refused[node.name] = _verdict(plugin, state, pod, self._snapshot, int(slot))
            open_slots &= mask
        return refused

    def _post_filter(self, state: CycleState, pod: PodInfo, refused: Mapping[str, Status]) -> Status | None:
        verdict = None
        for _, plugin in self._profile.post_filters:
            verdict = plugin.post_filter(state, pod, self._snapshot, refused)
            if verdict.is_success:
                return verdict
        return verdict


def _verdict(plugin: Filter, state: CycleState, pod: PodInfo, snapshot: Snapshot, slot: int) -> Status:
    node = snapshot.at(slot)
    verdict = plugin.explain(state, pod, snapshot, node)
    if verdict.is_success:
        name = type(plugin).__name__
        return Status(Code.UNSCHEDULABLE, (f"node(s) refused by {name}",), f"refused by {name}", name)
    return verdict
