"""Says for each PodDisruptionBudget how many of its pods may be disturbed now.

A look: select the budget's pods, find how many there should be (from the scale of what controls them, where a
share or maxUnavailable asks for that), count the healthy ones, and write down the difference. The API takes
disruptions off that number when it evicts, and notes the pods in `disruptedPods`; such a pod does not count
as healthy although this loop's copy may still show it so. One that is still there after two minutes was not
deleted after all, and counts again. The scale of a custom resource is read live, where its definition says.
Invariant: a status is written only over the one it was computed from, so that no eviction is forgotten.
Source: Kubernetes' pkg/controller/disruption.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gitkube.api.custom.scale import scale_of
from gitkube.api.errors import StatusError, is_not_found
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
    Kind,
)
from gitkube.objects.labels import selector_of
from gitkube.objects.types import Object

DELETION_TIMEOUT_S = 120.0
"""How long the API's note that a pod goes is believed."""
CONFLICT_RETRY_S = 0.1
CUSTOM_SCALE_S = 30.0
"""How often the scale of custom resources is looked at when nothing else changes: nobody watches it."""
_SCALED = (REPLICA_SET, DEPLOYMENT, STATEFUL_SET, REPLICATION_CONTROLLER)


class ScaleError(Exception):
    """Nobody says how many pods there should be."""


@dataclass(slots=True)
class Scales:
    """How many pods each controller wants."""

    replicas: dict[str, int] = field(default_factory=dict)
    """By uid."""
    again_s: float | None = None


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
            expected, desired, look_s = await self._wanted(budget, own)
        except ScaleError as error:
            text = f"Failed to calculate the number of expected pods: {error}"
            await self._events.event(budget, "Warning", "CalculateExpectedPodCountFailed", text)
            again_s = await self._write(budget, failed_status(budget, str(error), now_s))
            return CUSTOM_SCALE_S if again_s is None else again_s
        disrupted = still_disrupted(budget, own, now_s)
        for pod in disrupted.overdue:
            text = f"Pod was expected by PDB {namespace}/{name} to be deleted but it wasn't"
            await self._events.event(pod, "Warning", "NotDeleted", text)
        healthy = sum(
            pods.is_ready(pod) and not meta.is_deleting(pod) and meta.name(pod) not in disrupted.since
            for pod in own
        )
        wanted = counted_status(budget, expected, desired, healthy, disrupted.since, now_s)
        soon = (await self._write(budget, wanted), disrupted.again_s, look_s)
        return min((again_s for again_s in soon if again_s is not None), default=None)

    async def _wanted(self, budget: Object, own: Sequence[Object]) -> tuple[int, int, float | None]:
        """How many pods there should be, how many of them healthy, and after how long to look again."""
        spec = budget.get("spec") or {}
        limit = spec.get("maxUnavailable")
        least = spec.get("minAvailable", 1)
        if limit is None and not isinstance(least, str):
            return len(own), int(least), None
        scales = await self._scales(own)
        expected = sum(scales.replicas.values())
        if limit is not None:
            return expected, max(expected - share_of(limit, expected), 0), scales.again_s
        return expected, share_of(least, expected), scales.again_s

    async def _scales(self, own: Iterable[Object]) -> Scales:
        """The scale of everything that controls the pods; a pod without a controller counts for nothing."""
        scales = Scales()
        for pod in own:
            reference = meta.controller_of(pod)
            if reference is None or reference.get("uid") in scales.replicas:
                continue
            found = await self._scale(reference, pod, scales)
            if found is None:
                raise ScaleError(f'found no controllers for pod "{meta.name(pod)}"')
            scales.replicas[found[0]] = found[1]
        return scales

    async def _scale(
        self, reference: Mapping[str, Any], pod: Object, scales: Scales
    ) -> tuple[str, int] | None:
        """Uid and scale of what a controller reference names, or of the Deployment above it."""
        api_version, name = str(reference.get("apiVersion")), str(reference.get("kind"))
        kind = self.context.registry.by_gvk(api_version, name)
        if kind is None:
            raise ScaleError(f'no matches for kind "{name}" in version "{api_version}"')
        if kind in self._scaled:
            top = self._top(kind, reference, meta.namespace(pod))
            return None if top is None else (meta.uid(top), int(_replicas(top) or 0))
        if kind.custom is None or kind.custom.scale is None:
            resource = f"{kind.plural}.{kind.group}" if kind.group else kind.plural
            raise ScaleError(f"{resource} does not implement the scale subresource")
        scales.again_s = CUSTOM_SCALE_S
        obj = await self._custom(kind, reference, meta.namespace(pod))
        return None if obj is None else (meta.uid(obj), custom_replicas(kind, obj))

    def _top(self, kind: Kind, reference: Mapping[str, Any], namespace: str) -> Object | None:
        found = self._scaled[kind].get(str(reference.get("name")), namespace)
        if found is None or meta.uid(found) != reference.get("uid"):
            return None
        above = meta.controller_of(found)
        if kind is REPLICA_SET and above is not None and above.get("kind") == DEPLOYMENT.kind:
            return self._top(DEPLOYMENT, above, namespace)
        return found

    async def _custom(self, kind: Kind, reference: Mapping[str, Any], namespace: str) -> Object | None:
        try:
            found = await self.client.get(kind, str(reference.get("name")), namespace)
        except StatusError as error:
            if is_not_found(error):
                return None
            raise
        return found if meta.uid(found) == reference.get("uid") else None

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
    return (workload.get("spec") or {}).get("replicas", 1)


def custom_replicas(kind: Kind, obj: Object) -> int:
    """How many pods a custom resource wants, at the place that its definition names.

    Raises:
        ScaleError: there is nothing.
    """
    try:
        return int(scale_of(kind, obj)["spec"].get("replicas", 0))
    except StatusError as error:
        raise ScaleError(f"{kind.kind} {meta.key(obj)}: {error.message}") from error


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
