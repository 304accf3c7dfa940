"""Deletes pods from hosts whose NoExecute taints they tolerate not, or no longer.

When a pod must go is computed from the taints' `timeAdded` and its tolerations' `tolerationSeconds`, never
from a timer's start, so a restart of the control side gives nobody extra time and takes nobody's away.
Source: Kubernetes' taint manager (tainteviction).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from gitkube.api.errors import StatusError, is_conflict, is_not_found
from gitkube.api.informers import BY_NODE
from gitkube.clock import rfc3339
from gitkube.control.context import Context, Controller
from gitkube.objects import conditions, meta, pods
from gitkube.objects.kinds import NODE, POD
from gitkube.objects.types import Object

NEVER = math.inf


class TaintEvictionController(Controller):
    name = "taint-eviction-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._nodes = context.informer(NODE)
        self._pods = context.informers.pods_by_node()
        self._events = context.recorder(self.name)
        self._first_seen: dict[tuple[str, str, str], float] = {}
        """Host, key and value of a taint without `timeAdded`, as people set them -> since when it is known.
        After a restart these count anew, as in Kubernetes."""
        self._nodes.add_handler(self._on_node)
        self._pods.add_handler(self._on_pod)

    async def reconcile(self, key: str) -> float | None:
        """One look at one pod."""
        namespace, name = meta.split_key(key)
        pod = self._pods.get(name, namespace)
        node = self._nodes.get(pods.node_name(pod)) if pod is not None else None
        if pod is None or node is None or meta.is_deleting(pod) or pods.is_terminal(pod):
            return None
        now = self.clock.now()
        evict_at = eviction_time_s(self._dated(node, now), pods.spec(pod).get("tolerations") or (), now)
        if evict_at == NEVER:
            return None
        if evict_at > now:
            return evict_at - now
        await self._evict(pod, node)
        return None

    def _dated(self, node: Object, now_s: float) -> list[Mapping[str, Any]]:
        """The host's taints, each with a time from which on it counts."""
        dated = []
        for taint in _no_execute(node):
            if not taint.get("timeAdded"):
                seen_s = self._first_seen.setdefault(_identity(meta.name(node), taint), now_s)
                taint = {**taint, "timeAdded": rfc3339(seen_s)}
            dated.append(taint)
        return dated

    async def _evict(self, pod: Object, node: Object) -> None:
        await self._events.event(
            pod, "Normal", "TaintManagerEviction", f"Marking for deletion Pod {meta.key(pod)}"
        )
        message = f"Taint manager: deleting due to NoExecute taint on {meta.name(node)}"
        condition = conditions.make("DisruptionTarget", True, "DeletionByTaintManager", message)
        present = conditions.conditions(pod)
        patch = {
            "metadata": {"uid": meta.uid(pod)},
            "status": {"conditions": conditions.with_condition(present, condition, self.clock.now())},
        }
        try:
            await self.client.patch(POD, meta.name(pod), meta.namespace(pod), patch, subresource="status")
            await self.client.delete(POD, meta.name(pod), meta.namespace(pod), uid=meta.uid(pod))
        except StatusError as error:
            if not is_not_found(error) and not is_conflict(error):
                raise

    def _on_node(self, before: Object | None, after: Object | None) -> None:
        host = meta.name(after or before or {})
        present = {_identity(host, taint) for taint in _no_execute(after or {})}
        for gone in [one for one in self._first_seen if one[0] == host and one not in present]:
            del self._first_seen[gone]
        if after is None or (before is not None and _no_execute(before) == _no_execute(after)):
            return
        for pod in self._pods.by_index(BY_NODE, meta.name(after)):
            self.enqueue(pod)

    def _on_pod(self, before: Object | None, after: Object | None) -> None:
        if after is None or not pods.node_name(after):
            return
        node = self._nodes.get(pods.node_name(after))
        if node is not None and _no_execute(node):
            self.enqueue(after)


def eviction_time_s(
    taints: Sequence[Mapping[str, Any]], tolerations: Sequence[Mapping[str, Any]], now_s: float
) -> float:
    """When a pod must go, in seconds since the epoch; NEVER when it may stay.

    Of several tolerations that fit, the shortest counts, as in Kubernetes; one without seconds is for ever.
    """
    earliest = NEVER
    for taint in taints:
        fitting = [one for one in tolerations if tolerates(one, taint)]
        added_at = meta.time_s(taint.get("timeAdded")) or now_s
        if not fitting:
            return now_s
        seconds = [one["tolerationSeconds"] for one in fitting if one.get("tolerationSeconds") is not None]
        if seconds:
            earliest = min(earliest, added_at + max(min(seconds), 0))
    return earliest


def tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    """Source: k8s.io/api/core/v1, Toleration.ToleratesTaint."""
    if toleration.get("effect") and toleration["effect"] != taint["effect"]:
        return False
    if toleration.get("key") and toleration["key"] != taint["key"]:
        return False
    if toleration.get("operator") == "Exists":
        return True
    return (toleration.get("value") or "") == (taint.get("value") or "")


def _identity(host: str, taint: Mapping[str, Any]) -> tuple[str, str, str]:
    return host, str(taint.get("key")), str(taint.get("value") or "")


def _no_execute(node: Object) -> list[Mapping[str, Any]]:
    taints = (node.get("spec") or {}).get("taints") or ()
    return [taint for taint in taints if taint.get("effect") == "NoExecute"]
