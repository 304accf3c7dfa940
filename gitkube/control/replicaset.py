"""Keeps as many pods of a template as a ReplicaSet asks for.

A look: claim the pods that are ours, count the active ones (neither over nor being deleted), create what is
missing or delete what is too much, and write down what is seen. Nothing is created or deleted while something
done earlier is not visible yet (`expectations.py`).

Invariant: a pod belongs by its owner reference, so two ReplicaSets never share one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gitkube.api.errors import StatusError, is_not_found
from gitkube.control.claims import claim
from gitkube.control.context import BY_CONTROLLER, Context, Controller, controller_key
from gitkube.control.expectations import UNSEEN_RETRY_S, Expectations
from gitkube.control.pod_control import create_pods, delete_pods, pod_from_template
from gitkube.control.ranking import pods_to_delete
from gitkube.objects import conditions, meta, pods
from gitkube.objects.kinds import POD, REPLICA_SET, Kind
from gitkube.objects.labels import Selector, selector_of
from gitkube.objects.types import Object


class ReplicaSetController(Controller):
    """Keeps the count for ReplicaSets, and for a kind that differs only in how it writes its selector."""

    name = "replicaset-controller"
    kind: Kind = REPLICA_SET

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._replica_sets = context.informer(self.kind)
        self._pods = context.informer(POD)
        self._expectations = Expectations(context.clock)
        self._events = context.recorder(self.name)
        self._replica_sets.add_handler(self.enqueue_changed)
        self._pods.add_handler(self._on_pod)

    async def reconcile(self, key: str) -> float | None:
        """One look at one ReplicaSet."""
        namespace, name = meta.split_key(key)
        replica_set = self._replica_sets.get(name, namespace)
        if replica_set is None:
            self._expectations.forget(key)
            return None
        selector = self.selector(replica_set)
        candidates = self._candidates(replica_set)
        owned = await claim(self.client, self.kind, replica_set, POD, selector, candidates)
        active = [pod for pod in owned if pods.is_active(pod)]
        failure: StatusError | None = None
        has_seen_all = self._expectations.are_met(key)
        if has_seen_all and not meta.is_deleting(replica_set):
            try:
                await self._scale(replica_set, active)
            except StatusError as error:
                failure = error
        leaving = sum(meta.is_deleting(pod) and not pods.is_terminal(pod) for pod in owned)
        await self._write_status(replica_set, active, leaving, failure)
        if failure is not None:
            raise failure
        again_s = next_availability_s(replica_set, active, self.clock.now())
        return again_s if has_seen_all else min(again_s or UNSEEN_RETRY_S, UNSEEN_RETRY_S)

    def selector(self, replica_set: Object) -> Selector:
        """Which pods it counts as its own."""
        return selector_of(replica_set["spec"].get("selector"))

    def _candidates(self, replica_set: Object) -> list[Object]:
        namespace = meta.namespace(replica_set)
        own = self._pods.by_index(BY_CONTROLLER, controller_key(namespace, meta.uid(replica_set)))
        return own + self._pods.by_index(BY_CONTROLLER, controller_key(namespace, ""))

    async def _scale(self, replica_set: Object, active: Sequence[Object]) -> None:
        desired = wanted_replicas(replica_set)
        burst = self.context.settings.burst_replicas
        missing = min(desired - len(active), burst)
        if missing > 0:
            template = replica_set["spec"]["template"]
            new_pods = [pod_from_template(replica_set, template) for _ in range(missing)]
            await create_pods(self.client, self._events, self._expectations, replica_set, new_pods)
        elif missing < 0:
            related = self._related(replica_set, active)
            doomed = pods_to_delete(active, related, min(-missing, burst), self.clock.now())
            await delete_pods(self.client, self._events, self._expectations, replica_set, doomed)

    def _related(self, replica_set: Object, active: Sequence[Object]) -> list[Object]:
        """Active pods of this and the sibling ReplicaSets (those of the same Deployment)."""
        controller = meta.controller_of(replica_set)
        if controller is None:
            return list(active)
        namespace = meta.namespace(replica_set)
        siblings = self._replica_sets.by_index(
            BY_CONTROLLER, controller_key(namespace, str(controller["uid"]))
        )
        return [
            pod
            for sibling in siblings
            for pod in self._pods.by_index(BY_CONTROLLER, controller_key(namespace, meta.uid(sibling)))
            if pods.is_active(pod)
        ]

    async def _write_status(
        self,
        replica_set: Object,
        active: Sequence[Object],
        leaving: int,
        failure: StatusError | None,
    ) -> None:
        status = new_status(replica_set, active, failure, self.clock.now())
        if self.kind is REPLICA_SET:  # a ReplicationController has no such field
            status["terminatingReplicas"] = leaving
        if status == _comparable(replica_set.get("status") or {}, status):
            return
        patch = {"metadata": {"uid": meta.uid(replica_set)}, "status": status}
        try:
            await self.client.patch(
                self.kind,
                meta.name(replica_set),
                meta.namespace(replica_set),
                patch,
                subresource="status",
            )
        except StatusError as error:
            if not is_not_found(error):
                raise

    def _on_pod(self, before: Object | None, after: Object | None) -> None:
        if after is None:
            assert before is not None
            self._note_end(before)
            return
        if before is None:
            key = self._owner_key(after)
            if key is not None:
                self._expectations.created(key)
                self.queue.add(key)
            elif meta.controller_of(after) is None:
                self._enqueue_adopters(after)
        elif self._owner_key(before) != self._owner_key(after):
            self._note_end(before)
        if meta.is_deleting(after):
            self._note_end(after)
        elif before is not None:
            key = self._owner_key(after)
            if key is not None:
                self.queue.add(key)
            elif meta.controller_of(after) is None:
                self._enqueue_adopters(after)

    def _note_end(self, pod: Object) -> None:
        key = self._owner_key(pod)
        if key is not None:
            self._expectations.deleted(key, meta.uid(pod))
            self.queue.add(key)

    def _owner_key(self, pod: Object) -> str | None:
        controller = meta.controller_of(pod)
        if controller is None or controller.get("kind") != self.kind.kind:
            return None
        return meta.key_of(meta.namespace(pod), str(controller["name"]))

    def _enqueue_adopters(self, pod: Object) -> None:
        """An orphan: every ReplicaSet that its labels fit may want it."""
        for replica_set in self._replica_sets.list(meta.namespace(pod)):
            if self.selector(replica_set).matches(meta.labels(pod)):
                self.enqueue(replica_set)


def wanted_replicas(workload: Object) -> int:
    """`spec.replicas`, which is 1 when it is missing."""
    replicas = workload["spec"].get("replicas")
    return 1 if replicas is None else int(replicas)


def new_status(
    replica_set: Object, active: Sequence[Object], failure: StatusError | None, now_s: float
) -> dict[str, Any]:
    """What is seen of a ReplicaSet."""
    min_ready_s = int(replica_set["spec"].get("minReadySeconds") or 0)
    template_labels = ((replica_set["spec"].get("template") or {}).get("metadata") or {}).get("labels") or {}
    fully_labeled = [
        pod
        for pod in active
        if all(meta.labels(pod).get(key) == value for key, value in template_labels.items())
    ]
    status: dict[str, Any] = {
        "replicas": len(active),
        "fullyLabeledReplicas": len(fully_labeled),
        "readyReplicas": sum(pods.is_ready(pod) for pod in active),
        "availableReplicas": sum(pods.is_available(pod, min_ready_s, now_s) for pod in active),
        "observedGeneration": meta.generation(replica_set),
    }
    previous = conditions.conditions(replica_set)
    if failure is not None:
        reason = "FailedCreate" if len(active) < wanted_replicas(replica_set) else "FailedDelete"
        condition = conditions.make("ReplicaFailure", True, reason, failure.message)
        status["conditions"] = conditions.with_condition(previous, condition, now_s)
    else:
        status["conditions"] = conditions.without_condition(previous, "ReplicaFailure")
    return status


def next_availability_s(workload: Object, active: Sequence[Object], now_s: float) -> float | None:
    """In how many seconds the next ready pod will have been so for minReadySeconds; None: nobody waits."""
    min_ready_s = int(workload["spec"].get("minReadySeconds") or 0)
    waits = [
        pods.ready_since_s(pod) + min_ready_s - now_s
        for pod in active
        if pods.is_ready(pod) and not pods.is_available(pod, min_ready_s, now_s)
    ]
    return max(min(waits), 0.0) + 0.1 if waits else None


def _comparable(current: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """The present status with the fields that zero leaves out filled in."""
    return {key: current.get(key, [] if key == "conditions" else 0) for key in wanted}
