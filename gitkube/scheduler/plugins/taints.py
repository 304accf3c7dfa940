"""Taints keep pods that don't tolerate them off a host; `PreferNoSchedule` only if there is another."""

from __future__ import annotations

import numpy as np

from gitkube.scheduler.framework import (
    SUCCESS,
    Code,
    CycleState,
    Mask,
    Scores,
    Status,
    normalize_to_max,
)
from gitkube.scheduler.pod_info import PodInfo, Taint, Toleration
from gitkube.scheduler.snapshot import NodeInfo, Snapshot

_FORBIDDING = ("NoSchedule", "NoExecute")
_DISCOURAGING = ("PreferNoSchedule",)


class TaintToleration:
    name = "TaintToleration"

    def filter(self, state: CycleState, pod: PodInfo, nodes: Snapshot) -> Mask | None:
        """See `framework.Filter`."""
        mask: Mask = nodes.column(
            ("tolerated", pod.tolerations),
            lambda node: _untolerated(node.taints, pod.tolerations, _FORBIDDING) is None,
            np.bool_,
        )
        return mask

    def explain(self, state: CycleState, pod: PodInfo, nodes: Snapshot, node: NodeInfo) -> Status:
        """See `framework.Filter`."""
        taint = _untolerated(node.taints, pod.tolerations, _FORBIDDING)
        if taint is None:
            return SUCCESS
        return Status(
            Code.UNRESOLVABLE,
            (f"node(s) had untolerated taint {{{taint.key}: {taint.value}}}",),
            f"has taint {taint}, not tolerated",
            self.name,
        )

    def score(self, state: CycleState, pod: PodInfo, nodes: Snapshot, feasible: Mask) -> Scores | None:
        """How many discouraging taints the host has that the pod does not tolerate."""
        scores: Scores = nodes.column(
            ("discouraging", pod.tolerations),
            lambda node: sum(
                _untolerated((taint,), pod.tolerations, _DISCOURAGING) is not None for taint in node.taints
            ),
            np.float64,
        )
        return scores if scores.any() else None

    def normalize(self, state: CycleState, pod: PodInfo, scores: Scores, feasible: Mask) -> Scores:
        """See `framework.NormalizeScore`."""
        return normalize_to_max(scores, feasible, reverse=True)


def _untolerated(
    taints: tuple[Taint, ...], tolerations: tuple[Toleration, ...], effects: tuple[str, ...]
) -> Taint | None:
    """The first taint of these effects that nothing tolerates."""
    for taint in taints:
        if taint.effect in effects and not any(toleration.tolerates(taint) for toleration in tolerations):
            return taint
    return None
