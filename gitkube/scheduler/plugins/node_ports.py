"""Two pods cannot have the same port of one host."""

from __future__ import annotations

import numpy as np

from gitkube.objects.pods import HostPort
from gitkube.scheduler.framework import SUCCESS, Code, CycleState, Mask, Status
from gitkube.scheduler.pod_info import PodInfo
from gitkube.scheduler.snapshot import NodeInfo, Snapshot

_ANY_ADDRESS = ("0.0.0.0", "::", "")


class NodePorts:
    name = "NodePorts"

    def filter(self, state: CycleState, pod: PodInfo, nodes: Snapshot) -> Mask | None:
        """See `framework.Filter`."""
        if not pod.host_ports:
            return None
        mask: Mask = np.ones(nodes.capacity, np.bool_)
        for node in nodes.nodes():
            mask[node.slot] = _collision(pod, node) is None
        return mask

    def explain(self, state: CycleState, pod: PodInfo, nodes: Snapshot, node: NodeInfo) -> Status:
        """See `framework.Filter`."""
        collision = _collision(pod, node)
        if collision is None:
            return SUCCESS
        other, port = collision
        return Status(
            Code.UNSCHEDULABLE,
            ("node(s) didn't have free ports for the requested pod ports",),
            f"port {port.port}/{port.protocol} is taken by {other.key[0]}/{other.key[1]}",
            self.name,
        )


def _collision(pod: PodInfo, node: NodeInfo) -> tuple[PodInfo, HostPort] | None:
    for other in node.pods.values():
        for taken in other.host_ports:
            for wanted in pod.host_ports:
                if _collide(wanted, taken):
                    return other, wanted
    return None


def _collide(one: HostPort, other: HostPort) -> bool:
    if (one.protocol, one.port) != (other.protocol, other.port):
        return False
    return one.address == other.address or one.address in _ANY_ADDRESS or other.address in _ANY_ADDRESS
