"""Pods of a group spread over hosts, zones or any other label, so that no one failure takes all.

Constraints that say DoNotSchedule filter: placing the pod must not leave its domain more than `maxSkew` above
the emptiest eligible domain. Those that say ScheduleAnyway score. A pod without constraints of its own gets
soft ones over hosts and zones, counting the pods of the same controller. Source: kube-scheduler's
PodTopologySpread.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gitkube.scheduler.counts import Counts
from gitkube.scheduler.framework import (
    MAX_SCORE,
    SUCCESS,
    Code,
    CycleState,
    Mask,
    Scores,
    Status,
)
from gitkube.scheduler.plugins.node_affinity import matching_nodes
from gitkube.scheduler.plugins.taints import TaintToleration
from gitkube.scheduler.pod_info import PodInfo, SpreadConstraint
from gitkube.scheduler.snapshot import NO_DOMAIN, Domains, NodeInfo, Snapshot

DEFAULT_SPREAD = (("kubernetes.io/hostname", 3), ("topology.kubernetes.io/zone", 5))
"""Topology key and maxSkew of the soft constraints that a pod gets when it has none."""

_SKEWED = "node(s) didn't match pod topology spread constraints"
_NO_LABEL = "node(s) didn't match pod topology spread constraints (missing required label)"
_STATE = "PodTopologySpread"


@dataclass(frozen=True, slots=True)
class _Spread:
    """One required constraint, worked out for one pod."""

    constraint: SpreadConstraint
    ids: Domains
    totals: NDArray[np.float64]
    """Per domain, the matching pods on eligible hosts."""
    least: float
    itself: int


class PodTopologySpread:
    name = "PodTopologySpread"

    def __init__(self) -> None:
        self._taints = TaintToleration()

    def pre_filter(self, state: CycleState, pod: PodInfo, nodes: Snapshot) -> Status:
        """Count each required constraint's domains once."""
        required = [constraint for constraint in pod.spread if constraint.is_required]
        if required:
            state.write(_STATE, [self._work_out(item, required, state, pod, nodes) for item in required])
        return SUCCESS

    def filter(self, state: CycleState, pod: PodInfo, nodes: Snapshot) -> Mask | None:
        """See `framework.Filter`."""
        spreads: list[_Spread] | None = state.read(_STATE)
        if spreads is None:
            return None
        mask: Mask = np.ones(nodes.capacity, np.bool_)
        for spread in spreads:
            skew = spread.totals[spread.ids] + spread.itself - spread.least
            mask &= (spread.ids != NO_DOMAIN) & (skew <= spread.constraint.max_skew)
        return mask

    def explain(self, state: CycleState, pod: PodInfo, nodes: Snapshot, node: NodeInfo) -> Status:
        """See `framework.Filter`."""
        for spread in state.read(_STATE) or ():
            domain = int(spread.ids[node.slot])
            key = spread.constraint.topology_key
            if domain == NO_DOMAIN:
                return Status(Code.UNRESOLVABLE, (_NO_LABEL,), f"has no label {key}", self.name)
            here = int(spread.totals[domain])
            if here + spread.itself - spread.least > spread.constraint.max_skew:
                detail = (
                    f"its {key.rpartition('/')[2]} has {here} of these pods, the emptiest has "
                    f"{int(spread.least)}; they may differ by {spread.constraint.max_skew}"
                )
                return Status(Code.UNSCHEDULABLE, (_SKEWED,), detail, self.name)
        return SUCCESS

    def score(self, state: CycleState, pod: PodInfo, nodes: Snapshot, feasible: Mask) -> Scores | None:
        """How crowded the host's domains are; less is better."""
        crowds = list(_soft(pod, nodes))
        if not crowds:
            return None
        scores: Scores = np.zeros(nodes.capacity, np.float64)
        for key, max_skew, counts in crowds:
            ids, number = nodes.domains(key)
            present = (ids != NO_DOMAIN) & nodes.valid
            if not number or not present.any():
                continue
            totals = np.bincount(ids[present], weights=counts[present], minlength=number)
            domains = np.count_nonzero(np.bincount(ids[feasible & present], minlength=number))
            # Fewer, larger domains weigh less, so that zones do not drown hosts.
            scores += np.where(present, totals[ids] * math.log(domains + 2) + (max_skew - 1), 0.0)
        return scores

    def normalize(self, state: CycleState, pod: PodInfo, scores: Scores, feasible: Mask) -> Scores:
        """See `framework.NormalizeScore`."""
        lowest, highest = float(scores[feasible].min()), float(scores[feasible].max())
        if highest == 0:
            return np.full_like(scores, MAX_SCORE)
        turned: Scores = (highest + lowest - scores) * (MAX_SCORE / highest)
        return turned

    def _work_out(
        self,
        constraint: SpreadConstraint,
        required: list[SpreadConstraint],
        state: CycleState,
        pod: PodInfo,
        nodes: Snapshot,
    ) -> _Spread:
        eligible: Mask = nodes.valid.copy()
        for other in required:  # a host counts only if it has every label that is spread over
            ids, _ = nodes.domains(other.topology_key)
            eligible &= ids != NO_DOMAIN
        if constraint.honours_affinity and (allowed := matching_nodes(pod, nodes)) is not None:
            eligible &= allowed
        if constraint.honours_taints and (allowed := self._taints.filter(state, pod, nodes)) is not None:
            eligible &= allowed
        ids, number = nodes.domains(constraint.topology_key)
        counts = nodes.counts.matching(
            frozenset((pod.namespace,)), constraint.selector, counts_deleting=False
        )
        totals = np.zeros(max(number, 1), np.float64)
        np.add.at(totals, ids[eligible], counts[eligible])
        present = np.unique(ids[eligible])
        is_enough = len(present) >= max(constraint.min_domains, 1)
        least = float(totals[present].min()) if is_enough else 0.0
        return _Spread(constraint, ids, totals, least, int(constraint.selector.matches(pod.labels)))


def _soft(pod: PodInfo, nodes: Snapshot) -> list[tuple[str, int, Counts]]:
    if pod.spread:
        home = frozenset((pod.namespace,))
        return [
            (
                item.topology_key,
                item.max_skew,
                nodes.counts.matching(home, item.selector, counts_deleting=False),
            )
            for item in pod.spread
            if not item.is_required
        ]
    if not pod.owner_uid:
        return []
    counts = nodes.counts.of_owner(pod)
    return [(key, max_skew, counts) for key, max_skew in DEFAULT_SPREAD]
