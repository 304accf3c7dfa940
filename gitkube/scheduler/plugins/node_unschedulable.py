"""A cordoned host takes no new pods, but for those that tolerate it."""

from __future__ import annotations

import numpy as np

from gitkube.scheduler.framework import SUCCESS, Code, CycleState, Mask, Status
from gitkube.scheduler.pod_info import PodInfo, Taint
from gitkube.scheduler.snapshot import NodeInfo, Snapshot

_CORDON = Taint("node.kubernetes.io/unschedulable", "", "NoSchedule")


class NodeUnschedulable:
    name = "NodeUnschedulable"

    def filter(self, state: CycleState, pod: PodInfo, nodes: Snapshot) -> Mask | None:
        """See `framework.Filter`."""
        if _tolerates_cordon(pod):
            return None
        mask: Mask = nodes.column("schedulable", lambda node: not node.is_unschedulable, np.bool_)
        return mask

    def explain(self, state: CycleState, pod: PodInfo, nodes: Snapshot, node: NodeInfo) -> Status:
        """See `framework.Filter`."""
        if not node.is_unschedulable or _tolerates_cordon(pod):
            return SUCCESS
        return Status(
            Code.UNRESOLVABLE,
            ("node(s) were unschedulable",),
            f"is cordoned (kubectl uncordon {node.name} lifts it)",
            self.name,
        )


def _tolerates_cordon(pod: PodInfo) -> bool:
    return any(toleration.tolerates(_CORDON) for toleration in pod.tolerations)
