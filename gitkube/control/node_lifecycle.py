"""Turns what is known of a host into taints, and its pods not ready when it is out of reach.

Condition Ready False gives the taint `not-ready`, Unknown gives `unreachable`, each twice: NoSchedule keeps
new pods away at once, NoExecute (with the time since when) starts the clock of `taint_eviction.py`. Pressure
conditions give NoSchedule taints. Taints that people set are never touched.

A pod on a host out of reach cannot tell how it is. It is marked Ready=False, so that Services leave it out;
when the host is back, its own next report says otherwise.
Source: Kubernetes' node lifecycle controller.
"""

from __future__ import annotations

from typing import Any

from gitkube.api.errors import StatusError, is_conflict, is_not_found
from gitkube.api.informers import BY_NODE
from gitkube.clock import rfc3339
from gitkube.control.context import Context, Controller
from gitkube.objects import conditions, meta, pods
from gitkube.objects.kinds import NODE, POD
from gitkube.objects.types import Object

NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
_PRESSURES = {
    "MemoryPressure": "node.kubernetes.io/memory-pressure",
    "DiskPressure": "node.kubernetes.io/disk-pressure",
    "PIDPressure": "node.kubernetes.io/pid-pressure",
    "NetworkUnavailable": "node.kubernetes.io/network-unavailable",
}
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
_OURS = {NOT_READY, UNREACHABLE, UNSCHEDULABLE, *_PRESSURES.values()}

Taint = dict[str, Any]


class NodeLifecycleController(Controller):
    name = "node-lifecycle-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._nodes = context.informer(NODE)
        self._pods = context.informers.pods_by_node()
        self._events = context.recorder(self.name)
        self._nodes.add_handler(self.enqueue_changed)
        self._pods.add_handler(self._on_pod)

    async def reconcile(self, key: str) -> float | None:
        """One look at one host."""
        node = self._nodes.get(key)
        if node is None:
            return None
        present = (node.get("spec") or {}).get("taints") or []
        wanted = wanted_taints(node, self.clock.now())
        if wanted != present:
            patch = {
                "metadata": {"uid": meta.uid(node), "resourceVersion": meta.resource_version(node)},
                "spec": {"taints": wanted or None},
            }
            await self.client.patch(NODE, key, "", patch)
        if is_unreachable(node):
            for pod in self._pods.by_index(BY_NODE, key):
                await self._mark_not_ready(pod)
        return None

    async def _mark_not_ready(self, pod: Object) -> None:
        if not conditions.is_true(pod, "Ready") or pods.is_terminal(pod):
            return
        condition = conditions.make("Ready", False, "NodeNotReady", "the host of this pod is out of reach")
        present = conditions.conditions(pod)
        patch = {
            "metadata": {"uid": meta.uid(pod), "resourceVersion": meta.resource_version(pod)},
            "status": {"conditions": conditions.with_condition(present, condition, self.clock.now())},
        }
        try:
            await self.client.patch(POD, meta.name(pod), meta.namespace(pod), patch, subresource="status")
        except StatusError as error:
            if is_not_found(error):
                return
            if is_conflict(error):
                self.queue.add_after(pods.node_name(pod), 0.1)
                return
            raise
        await self._events.event(pod, "Warning", "NodeNotReady", "Node is not ready")

    def _on_pod(self, before: Object | None, after: Object | None) -> None:
        if after is None or not pods.node_name(after) or not conditions.is_true(after, "Ready"):
            return
        node = self._nodes.get(pods.node_name(after))
        if node is not None and is_unreachable(node):
            self.queue.add(meta.name(node))


def is_unreachable(node: Object) -> bool:
    """Nothing is known of the host (or never was, which is another matter: then it has no pods)."""
    return conditions.status_of(node, "Ready") == conditions.UNKNOWN


def wanted_taints(node: Object, now_s: float) -> list[Taint]:
    """The host's taints as its conditions want them; those of others stay in place and order."""
    present: list[Taint] = list((node.get("spec") or {}).get("taints") or [])
    wanted = _taints_of_conditions(node)
    kept = [taint for taint in present if taint["key"] not in _OURS or _name(taint) in wanted]
    known = {_name(taint) for taint in kept}
    added: list[Taint] = []
    for key, effect in wanted:
        if (key, effect) in known:
            continue
        taint: Taint = {"key": key, "effect": effect}
        if effect == "NoExecute":
            taint["timeAdded"] = rfc3339(now_s)
        added.append(taint)
    return kept + added


def _taints_of_conditions(node: Object) -> list[tuple[str, str]]:
    wanted: list[tuple[str, str]] = []
    ready = conditions.status_of(node, "Ready")
    if ready == conditions.FALSE:
        wanted += [(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")]
    elif ready == conditions.UNKNOWN:
        wanted += [(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")]
    elif not ready:
        # A host that has not reported yet: nothing may be sent there, but nothing needs to be sent away.
        wanted += [(NOT_READY, "NoSchedule")]
    for condition, key in _PRESSURES.items():
        if conditions.is_true(node, condition):
            wanted.append((key, "NoSchedule"))
    if (node.get("spec") or {}).get("unschedulable"):
        wanted.append((UNSCHEDULABLE, "NoSchedule"))
    return wanted


def _name(taint: Taint) -> tuple[str, str]:
    return str(taint["key"]), str(taint["effect"])
