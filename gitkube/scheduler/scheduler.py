"""Gives every pod without a host one, as fast as the store takes it.

Three flows meet here. Informers keep the snapshot and the queue up to date. The loop takes the first pod of
the queue, decides (`cycle.py`, without waiting), and holds the place in the snapshot. The binding goes on in
a task of its own, so that the next pod is decided on while the disk writes the last one.

A pod that fits nowhere gets the condition PodScheduled=False with the reason for each host, and is tried
again when something happens that may help. Restarting loses nothing: all state comes back from the API, and
binding twice is refused by it.

Invariants: between decision and confirmation a pod is assumed in the snapshot, so no place is given twice. A
pod that fits nowhere waits in the queue from the moment of its decision, so no event passes it by.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

import structlog

from gitkube.api.client import Client
from gitkube.api.errors import StatusError, is_conflict, is_not_found
from gitkube.api.events import EventRecorder
from gitkube.api.informers import Informers
from gitkube.clock import Clock
from gitkube.objects import conditions, pods
from gitkube.objects.kinds import NAMESPACE, NODE, POD
from gitkube.objects.types import Object
from gitkube.scheduler import diagnosis
from gitkube.scheduler.cycle import Decision, SchedulingCycle
from gitkube.scheduler.framework import SUCCESS, Event, Profile, Status
from gitkube.scheduler.plugins.default_binder import DefaultBinder
from gitkube.scheduler.pod_info import DEFAULT_SCHEDULER, Key, PodInfo, pod_info
from gitkube.scheduler.profile import default_profile
from gitkube.scheduler.queue import QueuedPod, SchedulingQueue
from gitkube.scheduler.snapshot import Snapshot

MAX_BINDINGS = 128
"""Under way at once; enough to fill the store's group commit, and a bound for memory."""
BREATHE_EVERY = 8
"""Pods decided on before other tasks of the loop get their turn."""
EXPIRE_INTERVAL_S = 10.0
MAX_EVENTS_WAITING = 10_000
"""Events are written one by one beside the bindings, which matter more; what is beyond is dropped."""

log = structlog.get_logger(__name__)


class PlacementLost(Exception):
    """A plugin of the binding cycle refused what the scheduling cycle decided."""


class Scheduler:
    """See the module's text.

    Args:
        name: which `spec.schedulerName` it serves.
        profile: the rules; the default ones when None.
        informers: those that other loops use, too.
    """

    def __init__(
        self,
        client: Client,
        *,
        clock: Clock,
        rng: random.Random,
        name: str = DEFAULT_SCHEDULER,
        profile: Profile | None = None,
        informers: Informers | None = None,
    ) -> None:
        self._client = client
        self._clock = clock
        self._name = name
        self._profile = profile or default_profile(DefaultBinder(client))
        self._events = EventRecorder(client, name, clock=clock)
        self._informers = informers or Informers(client, clock=clock, rng=rng)
        self._nodes = self._informers.of(NODE)
        self._pods = self._informers.of(POD)
        self._namespaces = self._informers.of(NAMESPACE)
        self._nodes.add_handler(self._on_node)
        self._pods.add_handler(self._on_pod)
        self._namespaces.add_handler(self._on_namespace)
        self.snapshot = Snapshot()
        self._cycle = SchedulingCycle(self._profile, self.snapshot, rng)
        assert self._profile.queue_sort is not None, "a profile needs one QueueSort plugin"
        self.queue = SchedulingQueue(clock, self._profile.queue_sort, self._profile.hints)
        self._bindings = asyncio.Semaphore(MAX_BINDINGS)
        self._sayings: asyncio.Queue[tuple[PodInfo, str, str, str]] = asyncio.Queue(MAX_EVENTS_WAITING)

    async def run(self) -> None:
        """Schedule for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._informers.run(), name="scheduler informers")
            for informer in (self._nodes, self._namespaces, self._pods):
                await informer.wait_synced()
            log.info("scheduler_started", nodes=len(self.snapshot), pods_waiting=len(self.queue))
            group.create_task(self.queue.run(), name="scheduler queue")
            group.create_task(self._expire(), name="scheduler expiry")
            group.create_task(self._write_events(), name="scheduler events")
            await self._schedule(group)

    # ------------------------------------------------------------------ the loop

    async def _schedule(self, group: asyncio.TaskGroup) -> None:
        decided = 0
        while True:
            queued = await self.queue.pop()
            await self._bindings.acquire()
            task = self._start(queued)
            group.create_task(task, name="scheduler binding").add_done_callback(self._release)
            decided += 1
            if decided % BREATHE_EVERY == 0:
                await asyncio.sleep(0)

    def _release(self, task: asyncio.Task[None]) -> None:
        self._bindings.release()

    def _start(self, queued: QueuedPod) -> Coroutine[Any, Any, None]:
        """Decide, and hold the place; what is left to do is the coroutine returned."""
        pod = queued.pod
        decision = self._cycle.decide(pod)
        if not decision.node_name:
            # Here and not in the task: an event before the task's first turn would find the pod nowhere in
            # the queue, and the pod would then wait for one that has been.
            self.queue.failed(queued, decision.refusing_plugins or frozenset(("",)))
            return self._refuse(pod, decision)
        self.snapshot.assume(pod, decision.node_name)
        reserved = SUCCESS
        for _, reserve in self._profile.reserves:
            reserved = reserve.reserve(decision.state, pod, decision.node_name)
            if not reserved.is_success:
                break
        return self._bind(queued, decision, reserved)

    async def _refuse(self, pod: PodInfo, decision: Decision) -> None:
        """Say why the pod waits."""
        message = diagnosis.message(decision, len(self.snapshot))
        log.info("pod_unschedulable", namespace=pod.key[0], name=pod.key[1], message=message)
        await self._set_condition(pod, "Unschedulable", message)
        self._say(pod, "Warning", "FailedScheduling", message)

    async def _bind(self, queued: QueuedPod, decision: Decision, reserved: Status) -> None:
        pod, node_name, state = queued.pod, decision.node_name, decision.state
        try:
            self._check(reserved)
            for _, permit in self._profile.permits:
                self._check(await permit.permit(state, pod, node_name))
            for _, pre_bind in self._profile.pre_binds:
                self._check(await pre_bind.pre_bind(state, pod, node_name))
            for _, binder in self._profile.binds:
                await binder.bind(state, pod, node_name)
        except (StatusError, OSError, TimeoutError, PlacementLost) as error:
            self._undo(queued, decision, error)
            return
        self.snapshot.finish_binding(pod.key, self._clock.monotonic())
        self.queue.done(queued)
        for _, post_bind in self._profile.post_binds:
            await post_bind.post_bind(state, pod, node_name)
        namespace, name = pod.key
        log.debug("pod_bound", namespace=namespace, name=name, host=node_name)
        self._say(pod, "Normal", "Scheduled", f"Successfully assigned {namespace}/{name} to {node_name}")

    def _undo(self, queued: QueuedPod, decision: Decision, error: Exception) -> None:
        pod = queued.pod
        for _, reserve in reversed(self._profile.reserves):
            reserve.unreserve(decision.state, pod, decision.node_name)
        self.snapshot.forget(pod.key)
        if is_not_found(error) or (is_conflict(error) and self._is_settled(pod)):
            self.queue.done(queued)  # deleted, replaced or bound by somebody else: the informer says so
        else:
            log.warning(
                "binding_failed",
                namespace=pod.key[0],
                name=pod.key[1],
                host=decision.node_name,
                error=str(error),
            )
            self.queue.failed(queued)
        self.queue.move_all()  # the place that was held is free again

    def _is_settled(self, pod: PodInfo) -> bool:
        current = self._pods.get(pod.key[1], pod.key[0])
        return current is None or pod_info(current).uid != pod.uid or bool(current["spec"].get("nodeName"))

    @staticmethod
    def _check(status: Status) -> None:
        if not status.is_success:
            raise PlacementLost(", ".join(status.reasons) or "refused without a reason")

    async def _set_condition(self, pod: PodInfo, reason: str, message: str) -> None:
        """Write PodScheduled=False, if it says something new."""
        current = conditions.get_condition(pod.pod, "PodScheduled") or {}
        said = (current.get("status"), current.get("reason"), current.get("message"))
        if said == ("False", reason, message):
            return
        condition = conditions.make("PodScheduled", False, reason, message)
        patch = {
            "metadata": {"uid": pod.uid},
            "status": {
                "conditions": conditions.with_condition(
                    conditions.conditions(pod.pod), condition, self._clock.now()
                )
            },
        }
        try:
            await self._client.patch(POD, pod.key[1], pod.key[0], patch, subresource="status")
        except (StatusError, OSError, TimeoutError) as error:
            log.warning("condition_not_written", namespace=pod.key[0], name=pod.key[1], error=str(error))

    def _say(self, pod: PodInfo, type: str, reason: str, message: str) -> None:
        try:
            self._sayings.put_nowait((pod, type, reason, message))
        except asyncio.QueueFull:
            log.warning("event_dropped", namespace=pod.key[0], name=pod.key[1], reason=reason)

    async def _write_events(self) -> None:
        while True:
            pod, type_, reason, message = await self._sayings.get()
            await self._events.event(pod.pod, type_, reason, message)

    async def _expire(self) -> None:
        while True:
            await self._clock.sleep(EXPIRE_INTERVAL_S)
            for pod in self.snapshot.expire_assumed(self._clock.monotonic()):
                log.warning("assumed_pod_expired", namespace=pod.key[0], name=pod.key[1])
                current = self._pods.get(pod.key[1], pod.key[0])
                if current is not None:
                    self._on_pod(None, current)

    # ------------------------------------------------------------------ what the informers say

    def _on_namespace(self, before: Object | None, after: Object | None) -> None:
        namespace = after or before
        assert namespace is not None
        if after is None:
            self.snapshot.namespace_labels.pop(namespace["metadata"]["name"], None)
        else:
            labels = after["metadata"].get("labels") or {}
            self.snapshot.namespace_labels[after["metadata"]["name"]] = labels

    def _on_node(self, before: Object | None, after: Object | None) -> None:
        if after is None:
            assert before is not None
            self.snapshot.remove_node(before["metadata"]["name"])
            return
        self.snapshot.set_node(after)
        if before is None:
            self.queue.move_on(Event.NODE_ADDED, None, after)
        elif _schedulable_part(before) != _schedulable_part(after):
            self.queue.move_on(Event.NODE_CHANGED, before, after)

    def _on_pod(self, before: Object | None, after: Object | None) -> None:
        if after is None:
            assert before is not None
            key = _key(before)
            self.queue.discard(key)
            was_placed = self.snapshot.pod(key) is not None
            self.snapshot.remove_pod(key)
            if was_placed:
                self.queue.move_on(Event.POD_DELETED, before, None)
        elif after["spec"].get("nodeName"):
            self._on_placed_pod(before, after)
        else:
            self._on_waiting_pod(after)

    def _on_placed_pod(self, before: Object | None, after: Object) -> None:
        key = _key(after)
        if before is not None and _placed_part(before) == _placed_part(after):
            return
        pod = pod_info(after)
        self.queue.discard(key)
        known = self.snapshot.pod(key)
        if pod.has_ended:
            self.snapshot.remove_pod(key)
            if known is not None:
                self.queue.move_on(Event.POD_DELETED, before, None)
            return
        self.snapshot.set_pod(pod)
        is_new = before is None or not before["spec"].get("nodeName")
        self.queue.move_on(Event.POD_ADDED if is_new else Event.POD_CHANGED, before, after)

    def _on_waiting_pod(self, after: Object) -> None:
        key, spec = _key(after), after["spec"]
        is_ours = (spec.get("schedulerName") or DEFAULT_SCHEDULER) == self._name
        pod = pod_info(after)
        if not is_ours or pod.is_deleted or pod.has_ended or spec.get("schedulingGates"):
            self.queue.discard(key)
        elif not self.snapshot.is_assumed(key):
            self.queue.set(pod)


def _key(pod: Object) -> Key:
    return pod["metadata"].get("namespace", ""), pod["metadata"]["name"]


def _placed_part(pod: Object) -> tuple[object, ...]:
    """What of a placed pod matters to other pods; its status changes far more often than this."""
    metadata = pod["metadata"]
    return (
        metadata.get("uid"),
        metadata.get("labels"),
        "deletionTimestamp" in metadata,
        pods.is_terminal(pod),
        pod["spec"],
    )


def _schedulable_part(node: Object) -> tuple[object, ...]:
    spec, status = node.get("spec") or {}, node.get("status") or {}
    return (
        node["metadata"].get("labels"),
        spec.get("taints"),
        spec.get("unschedulable"),
        status.get("allocatable"),
    )
