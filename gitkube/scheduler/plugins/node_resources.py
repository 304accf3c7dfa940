"""Does the pod fit into what the host has left, and where does it sit best?

`Fit` refuses hosts whose free amount of any requested resource (with the number of pods as one) is too small.
`LeastAllocated` prefers emptier hosts, `BalancedAllocation` those whose cpu and memory are used to the same
share afterwards, so that neither is stranded. Formulas are kube-scheduler's.

Invariant: no host is ever given more than its allocatable amount of a resource that pods asked for.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gitkube.objects.types import Object
from gitkube.scheduler.framework import (
    MAX_SCORE,
    SUCCESS,
    Code,
    CycleState,
    Event,
    Hint,
    Mask,
    Scores,
    Status,
)
from gitkube.scheduler.pod_info import CPU, MEMORY, PODS, PodInfo
from gitkube.scheduler.snapshot import Amounts, NodeInfo, Snapshot


class Fit:
    name = "NodeResourcesFit"

    def filter(self, state: CycleState, pod: PodInfo, nodes: Snapshot) -> Mask | None:
        """See `framework.Filter`."""
        mask: Mask = np.ones(nodes.capacity, np.bool_)
        for resource, asked in pod.requests.items():
            if asked > 0:
                mask &= nodes.requested(resource) + asked <= nodes.allocatable(resource)
        return mask

    def explain(self, state: CycleState, pod: PodInfo, nodes: Snapshot, node: NodeInfo) -> Status:
        """See `framework.Filter`."""
        reasons: list[str] = []
        details: list[str] = []
        code = Code.UNSCHEDULABLE
        for resource, asked in pod.requests.items():
            total = int(nodes.allocatable(resource)[node.slot])
            free = total - int(nodes.requested(resource)[node.slot])
            if asked <= 0 or asked <= free:
                continue
            if asked > total:
                code = Code.UNRESOLVABLE
            reasons.append("Too many pods" if resource == PODS else f"Insufficient {resource}")
            details.append(_detail(resource, asked, free, total))
        if not reasons:
            return SUCCESS
        return Status(code, tuple(reasons), " and ".join(details), self.name)

    def hints(self) -> Mapping[Event, Hint]:
        """Room comes from hosts, or from pods that go."""
        return {
            Event.NODE_ADDED: _node_may_hold,
            Event.NODE_CHANGED: _node_may_hold,
            Event.POD_DELETED: lambda pod, before, after: True,
            Event.POD_CHANGED: lambda pod, before, after: True,
        }


class LeastAllocated:
    name = "NodeResourcesLeastAllocated"

    def score(self, state: CycleState, pod: PodInfo, nodes: Snapshot, feasible: Mask) -> Scores | None:
        """See `framework.Score`."""
        cpu = _free_share(nodes.allocatable(CPU), nodes.scored_cpu + pod.scored_cpu)
        memory = _free_share(nodes.allocatable(MEMORY), nodes.scored_memory + pod.scored_memory)
        scores: Scores = (cpu + memory) * (MAX_SCORE / 2)
        return scores


class BalancedAllocation:
    name = "NodeResourcesBalancedAllocation"

    def score(self, state: CycleState, pod: PodInfo, nodes: Snapshot, feasible: Mask) -> Scores | None:
        """See `framework.Score`."""
        cpu = 1 - _free_share(nodes.allocatable(CPU), nodes.requested(CPU) + pod.requests.get(CPU, 0))
        memory = 1 - _free_share(
            nodes.allocatable(MEMORY), nodes.requested(MEMORY) + pod.requests.get(MEMORY, 0)
        )
        # The standard deviation of two numbers is half their distance.
        scores: Scores = (1 - np.abs(cpu - memory) / 2) * MAX_SCORE
        return scores


def _free_share(total: Amounts, used: Amounts) -> Scores:
    share: Scores = 1.0 - used / np.maximum(total, 1)
    return np.clip(share, 0.0, 1.0)


def _node_may_hold(pod: PodInfo, before: Object | None, after: Object | None) -> bool:
    # Whether the host has room is for Filter to say; a host that gained nothing cannot have become better.
    if before is None or after is None:
        return after is not None
    old, new = (before.get("status") or {}).get("allocatable"), (after.get("status") or {}).get("allocatable")
    return bool(old != new)


def _detail(resource: str, asked: int, free: int, total: int) -> str:
    if resource == PODS:
        return f"holds {total - free} of at most {total} pods"
    if resource == CPU:
        unit = "core" if asked == 1000 else "cores"
        return f"needs {_number(asked / 1000)} {unit}, {_number(free / 1000)} of {_number(total / 1000)} free"
    if resource in (MEMORY, "ephemeral-storage"):
        return f"needs {_size(asked)} of {resource}, {_size(free)} of {_size(total)} free"
    return f"needs {asked} {resource}, {free} of {total} free"


def _number(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".")


def _size(size_bytes: int) -> str:
    value = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024:
            return f"{value:.1f}".rstrip("0").rstrip(".") + f" {unit}"
        value /= 1024
    return f"{value:.1f}".rstrip("0").rstrip(".") + " TiB"
