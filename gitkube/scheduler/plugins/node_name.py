"""A pod that names its host goes there or nowhere."""

from __future__ import annotations

import numpy as np

from gitkube.scheduler.framework import SUCCESS, Code, CycleState, Mask, Status
from gitkube.scheduler.pod_info import PodInfo
from gitkube.scheduler.snapshot import NodeInfo, Snapshot


class NodeName:
    name = "NodeName"

    def filter(self, state: CycleState, pod: PodInfo, nodes: Snapshot) -> Mask | None:
        """See `framework.Filter`."""
        if not pod.node_name:
            return None
        mask: Mask = np.zeros(nodes.capacity, np.bool_)
        node = nodes.node(pod.node_name)
        if node is not None:
            mask[node.slot] = True
        return mask

    def explain(self, state: CycleState, pod: PodInfo, nodes: Snapshot, node: NodeInfo) -> Status:
        """See `framework.Filter`."""
        if not pod.node_name or pod.node_name == node.name:
            return SUCCESS
        return Status(
            Code.UNRESOLVABLE,
            ("node(s) didn't match the requested node name",),
            f"the pod asks for host {pod.node_name}",
            self.name,
        )
