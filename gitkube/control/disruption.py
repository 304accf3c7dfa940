"""Says for each PodDisruptionBudget how many of its pods may be disturbed now.

A look: select the budget's pods, find how many there should be (from the scale of what controls them, where a
share or maxUnavailable asks for that), count the healthy ones, and write down the difference. The API takes
disruptions off that number when it evicts, and notes the pods in `disruptedPods`; such a pod does not count
as healthy although this loop's copy may still show it so. One that is still there after two minutes was not
deleted after all, and counts again.
Invariant: a status is written only over the one it was computed from, so that no eviction is forgotten.
Source: Kubernetes' pkg/controller/disruption.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from gitkube.control.context import Context, Controller, unless_changed
from gitkube.objects import meta, pods
from gitkube.objects.budgets import with_allowance, with_condition
from gitkube.objects.kinds import (
    DEPLOYMENT,
    POD,
    POD_DISRUPTION_BUDGET,
    REPLICA_SET,
    REPLICATION_CONTROLLER,
    STATEFUL_SET,
    by_gvk,
)
from gitkube.objects.labels import selector_of
from gitkube.objects.types import Object

DELETION_TIMEOUT_S = 120.0
"""How long the API's note that a pod goes is believed."""
CONFLICT_RETRY_S = 0.1
_SCALED = (REPLICA_SET, DEPLOYMENT, STATEFUL_SET, REPLICATION_CONTROLLER)


class ScaleError(Exception):
    """Nobody says how many pods there should be."""


@dataclass(slots=True)
class Disrupted:
    """The pods that the API evicted and that are not seen to go yet."""

    since: dict[str, str] = field(default_factory=dict)
    overdue: list[Object] = field(default_factory=list)
    again_s: float | None = None


class DisruptionController(Controller):
    name = "disruption-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._budgets = context.informer(POD_DISRUPTION_BUDGET)
        self._pods = context.informer(POD)
        self._scaled = {kind: context.informer(kind) for kind in _SCALED}
        self._events = context.recorder("controllermanager")
        self._budgets.add_handler(self.enqueue_changed)
        self._pods.add_handler(self._on_pod)
        for informer in self._scaled.values():
            informer.add_handler(self._on_scale)

    async def reconcile(self, key: str) -> float | None:
        """One look at one budget."""
        namespace, name = meta.split_key(key)
        budget = self._budgets.get(name, namespace)
        if budget is None:
            return None
        now_s = self.clock.now()
        selector = selector_of((budget.get("spec") or {}).get("selector"))
        own = [pod for pod in self._pods.list(namespace) if selector.matches(meta.labels(pod))]
        if not own:
            await self._events.event(budget, "Normal", "NoPods", "No matching pods found")
        try:
            expected, desired = self._wanted(budget, own)
        except ScaleError as error:
            text = f"Failed to calculate the number of expected pods: {error}"
            await self._events.event(budget, "Warning", "CalculateExpectedPodCountFailed", text)
            return await self._write(budget, failed_status(budget, str(error), now_s))
        disrupted = still_disrupted(budget, own, now_s)
        for pod in disrupted.overdue:
            text = f"Pod was expected by PDB {namespace}/{name} to be deleted but it wasn't"
            await self._events.event(pod, "Warning", "NotDeleted", text)
        healthy = sum(
            pods.is_ready(pod) and not meta.is_deleting(pod) and meta.name(pod) not in disrupted.since
            for pod in own
        )
        wanted = counted_status(budget, expected, desired, healthy, disrupted.since, now_s)
        again_s = await self._write(budget, wanted)
        return disrupted.again_s if again_s is None else again_s

    def _wanted(self, budget: Object, own: Sequence[Object]) -> tuple[int, int]:
        """How many pods there should be, and how many of them healthy."""
        spec = budget.get("spec") or {}
        limit = spec.get("maxUnavailable")
        if limit is not None:
            expected = self._expected(own)
            return expected, max(expected - share_of(limit, expected), 0)
        least = spec.get("minAvailable", 1)
        if isinstance(least, str):
            expected = self._expected(own)
            return expected, share_of(least, expected)
        return len(own), int(least)

    def _expected(self, own: Iterable[Object]) -> int:
        """The scale of everything that controls the pods; a pod without a controller counts for nothing."""
        scales: dict[str, int] = {}
        for pod in own:
            reference = meta.controller_of(pod)
            if reference is None:
                continue
            top = self._top(reference, meta.namespace(pod))
            if top is None:
                raise ScaleError(f'found no controllers for pod "{meta.name(pod)}"')
            replicas = top["spec"].get("replicas")
            scales[meta.uid(top)] = 1 if replicas is None else int(replicas)
        return sum(scales.values())

    def _top(self, reference: Any, namespace: str) -> Object | None:
        """What a controller reference names, or the Deployment above it; None: it has no scale."""
        kind = by_gvk(str(reference.get("apiVersion")), str(reference.get("kind")))
        informer = self._scaled.get(kind) if kind is not None else None
        found = informer.get(str(reference.get("name")), namespace) if informer is not None else None
        if found is None or meta.uid(found) != reference.get("uid"):
            return None
        above = meta.controller_of(found)
        if kind is REPLICA_SET and above is not None and above.get("kind") == DEPLOYMENT.kind:
            return self._top(above, namespace)
        return found

    async def _write(self, budget: Object, wanted: Object) -> float | None:
        if wanted.get("status") == budget.get("status"):
            return None
        write = self.client.update(POD_DISRUPTION_BUDGET, wanted, subresource="status")
        return await unless_changed(write, CONFLICT_RETRY_S)

    def _on_pod(self, before: Object | None, after: Object | None) -> None:
        if before is not None and after is not None and not _matters(before, after):
            return
        for pod in (before, after):
            if pod is None:
                continue
            for budget in self._budgets.list(meta.namespace(pod)):
                if selector_of((budget.get("spec") or {}).get("selector")).matches(meta.labels(pod)):
                    self.enqueue(budget)

    def _on_scale(self, before: Object | None, after: Object | None) -> None:
        if before is not None and after is not None and _replicas(before) == _replicas(after):
            return
        obj = after if after is not None else before
        assert obj is not None
        for budget in self._budgets.list(meta.namespace(obj)):
            self.enqueue(budget)


def _matters(before: Object, after: Object) -> bool:
    """Whether a pod's change may change a budget."""
    return (
        pods.is_ready(before) != pods.is_ready(after)
        or meta.is_deleting(before) != meta.is_deleting(after)
        or meta.labels(before) != meta.labels(after)
        or meta.owner_references(before) != meta.owner_references(after)
    )


def _replicas(workload: Object) -> Any:
    return (workload.get("spec") or {}).get("replicas")


def share_of(value: Any, whole: int) -> int:
    """An IntOrString as a number; a share is rounded up."""
    if isinstance(value, str):
        return math.ceil(whole * int(value.removesuffix("%")) / 100)
    return int(value)


def still_disrupted(budget: Object, own: Iterable[Object], now_s: float) -> Disrupted:
    """Which of the API's notes still hold: the pod is there, not seen to go, and it is not too long ago."""
    noted = (budget.get("status") or {}).get("disruptedPods") or {}
    found = Disrupted()
    for pod in own:
        since = noted.get(meta.name(pod))
        if since is None or meta.is_deleting(pod):
            continue
        left_s = meta.time_s(since) + DELETION_TIMEOUT_S - now_s
        if left_s <= 0:
            found.overdue.append(pod)
            continue
        found.since[meta.name(pod)] = since
        found.again_s = left_s if found.again_s is None else min(found.again_s, left_s)
    return found


def counted_status(
    budget: Object, expected: int, desired: int, healthy: int, disrupted: dict[str, str], now_s: float
) -> Object:
    """The budget with what was counted."""
    # A budget that selects nothing allows nothing: its first pods may be there before the next look.
    allowed = max(healthy - desired, 0) if expected > 0 else 0
    status: dict[str, Any] = {
        "conditions": (budget.get("status") or {}).get("conditions") or [],
        "currentHealthy": healthy,
        "desiredHealthy": desired,
        "disruptionsAllowed": allowed,
        "expectedPods": expected,
        "observedGeneration": meta.generation(budget),
    }
    if disrupted:
        status["disruptedPods"] = disrupted
    return with_allowance({**budget, "status": status}, now_s)


def failed_status(budget: Object, why: str, now_s: float) -> Object:
    """The budget when nothing could be counted: it allows nothing."""
    before = budget.get("status") or {}
    counts = ("currentHealthy", "desiredHealthy", "expectedPods")
    status = {
        **before,
        **{name: before.get(name, 0) for name in counts},
        "disruptionsAllowed": 0,
        "observedGeneration": meta.generation(budget),
    }
    return with_condition({**budget, "status": status}, False, "SyncFailed", why, now_s)
