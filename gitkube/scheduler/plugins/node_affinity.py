"""Node selectors and node affinity: which hosts a pod must, and would rather, run on."""

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
from gitkube.scheduler.pod_info import PodInfo
from gitkube.scheduler.snapshot import NodeInfo, Snapshot


class NodeAffinity:
    name = "NodeAffinity"

    def filter(self, state: CycleState, pod: PodInfo, nodes: Snapshot) -> Mask | None:
        """See `framework.Filter`."""
        return matching_nodes(pod, nodes)

    def explain(self, state: CycleState, pod: PodInfo, nodes: Snapshot, node: NodeInfo) -> Status:
        """See `framework.Filter`."""
        if _matches(pod, node):
            return SUCCESS
        missing = [
            str(requirement)
            for requirement in pod.node_selector.requirements
            if not requirement.matches(node.labels)
        ]
        detail = f"lacks label {', '.join(missing)}" if missing else "matches no term of the node affinity"
        reason = "node(s) didn't match Pod's node affinity/selector"
        return Status(Code.UNRESOLVABLE, (reason,), detail, self.name)

    def score(self, state: CycleState, pod: PodInfo, nodes: Snapshot, feasible: Mask) -> Scores | None:
        """The sum of the weights of the preferences that the host meets."""
        if not pod.preferred_nodes:
            return None
        scores: Scores = nodes.column(
            ("preferred", pod.preferred_nodes),
            lambda node: sum(
                item.weight for item in pod.preferred_nodes if item.term.matches(node.name, node.labels)
            ),
            np.float64,
        )
        return scores

    def normalize(self, state: CycleState, pod: PodInfo, scores: Scores, feasible: Mask) -> Scores:
        """See `framework.NormalizeScore`."""
        return normalize_to_max(scores, feasible)


def matching_nodes(pod: PodInfo, nodes: Snapshot) -> Mask | None:
    """Where selector and required affinity allow the pod; None is everywhere."""
    if pod.node_selector.is_everything and pod.node_affinity is None:
        return None
    mask: Mask = nodes.column(
        ("affinity", pod.node_selector, pod.node_affinity), lambda node: _matches(pod, node), np.bool_
    )
    return mask


def _matches(pod: PodInfo, node: NodeInfo) -> bool:
    if not pod.node_selector.matches(node.labels):
        return False
    return pod.node_affinity is None or any(
        term.matches(node.name, node.labels) for term in pod.node_affinity
    )
