"""Runs pods until enough of them have succeeded.

A look: claim the pods that are ours, count what has ended (`job_status.py`), decide whether the Job is over
(`job_endings.py`); if not, create what is missing (not before the pause that failures ask for) or delete what
is too much. A Job that is over stops its last pods, keeps them for their logs, and goes itself when its time
to live has passed. One that `managedBy` gives to somebody else is left alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gitkube.api.client import Propagation
from gitkube.api.errors import StatusError, is_conflict, is_not_found
from gitkube.clock import rfc3339
from gitkube.control import job_status
from gitkube.control.claims import claim
from gitkube.control.context import BY_CONTROLLER, Context, Controller, controller_key
from gitkube.control.expectations import UNSEEN_RETRY_S, Expectations
from gitkube.control.job_endings import Ending, ending
from gitkube.control.job_failures import FAILURES, IGNORED_FAILURES, INDEX, has_limit_per_index
from gitkube.control.job_status import Tally
from gitkube.control.pod_control import create_pods, delete_pods, pod_from_template
from gitkube.objects import conditions, meta, pods
from gitkube.objects.kinds import JOB, POD
from gitkube.objects.labels import selector_of
from gitkube.objects.types import Object

JOB_NAME = "batch.kubernetes.io/job-name"
CONTROLLER_UID = "batch.kubernetes.io/controller-uid"
MANAGER = "kubernetes.io/job-controller"
"""What `managedBy` calls this controller."""
_LEGACY_LABELS = {"job-name": JOB_NAME, "controller-uid": CONTROLLER_UID}


class JobController(Controller):
    name = "job-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._jobs = context.informer(JOB)
        self._pods = context.informer(POD)
        self._expectations = Expectations(context.clock)
        self._events = context.recorder(self.name)
        self._jobs.add_handler(self.enqueue_changed)
        self._pods.add_handler(self._on_pod)

    async def reconcile(self, key: str) -> float | None:
        """One look at one Job."""
        namespace, name = meta.split_key(key)
        job = self._jobs.get(name, namespace)
        if job is None:
            self._expectations.forget(key)
            return None
        if meta.is_deleting(job) or job["spec"].get("managedBy", MANAGER) != MANAGER:
            return None
        if (finished_s := finished_at_s(job)) is not None:
            return await self._expire(job, finished_s)
        owned = await self._owned(job)
        active = [pod for pod in owned if pods.is_active(pod)]
        leaving = job_status.terminating(owned)
        now = self.clock.now()
        done = job_status.tally(job, owned)
        if not self._expectations.are_met(key):
            return UNSEEN_RETRY_S  # what was done last is not visible yet; its event brings us back sooner
        over = ending(job, done, active, now)
        # Totals first: what is counted must be on record before anything is deleted or created on its base.
        await self._write_status(job, new_status(job, done, active, leaving, over, now), over)
        if over is not None:
            await self._stop(job, active)
            return None
        if has_limit_per_index(job):
            pause_s = job_status.index_backoff_left_s(done, now)
            may_create = True
        else:
            pause_s = job_status.backoff_left_s(owned, now) or None
            may_create = pause_s is None
        await self._scale(job, done, active, leaving, may_create=may_create)
        waits = [one for one in (pause_s, job_status.deadline_left_s(job, now)) if one is not None]
        return min(waits) + 0.1 if waits else None

    async def _owned(self, job: Object) -> list[Object]:
        """The Job's pods, after taking orphans that its selector means and letting go of what it does not."""
        namespace = meta.namespace(job)
        own = self._pods.by_index(BY_CONTROLLER, controller_key(namespace, meta.uid(job)))
        if job["spec"].get("selector") is None:
            return own
        orphans = self._pods.by_index(BY_CONTROLLER, controller_key(namespace, ""))
        selector = selector_of(job["spec"]["selector"])
        return await claim(self.client, JOB, job, POD, selector, [*own, *orphans])

    async def _scale(
        self,
        job: Object,
        done: Tally,
        active: Sequence[Object],
        leaving: Sequence[Object],
        *,
        may_create: bool,
    ) -> None:
        wanted = job_status.wanted_active(job, done, len(active))
        taken = [*active, *leaving] if job_status.waits_for_the_last(job) else active
        missing = min(wanted - len(taken), self.context.settings.burst_replicas)
        if missing > 0 and may_create:
            made = new_pods(job, done, taken, missing, self.clock.now())
            await create_pods(self.client, self._events, self._expectations, job, made)
        elif wanted < len(active):
            doomed = sorted(active, key=lambda pod: (pods.is_ready(pod), -meta.created_at_s(pod)))
            await self._stop(job, doomed[: len(active) - wanted])

    async def _stop(self, job: Object, doomed: Sequence[Object]) -> None:
        if doomed:
            await delete_pods(self.client, self._events, self._expectations, job, doomed)

    async def _expire(self, job: Object, finished_s: float) -> float | None:
        left_s = job_status.ttl_left_s(job, finished_s, self.clock.now())
        if left_s is None:
            return None
        if left_s > 0:
            return left_s
        try:
            await self.client.delete(
                JOB,
                meta.name(job),
                meta.namespace(job),
                uid=meta.uid(job),
                resource_version=meta.resource_version(job),
                propagation=Propagation.BACKGROUND,
            )
        except StatusError as error:
            if not is_not_found(error) and not is_conflict(error):
                raise
        return None

    async def _write_status(self, job: Object, wanted: dict[str, Any], over: Ending | None) -> None:
        before = job.get("status") or {}
        if all(before.get(key) == value for key, value in wanted.items()):
            return
        patch = {
            "metadata": {"uid": meta.uid(job), "resourceVersion": meta.resource_version(job)},
            "status": wanted,
        }
        await self.client.patch(JOB, meta.name(job), meta.namespace(job), patch, subresource="status")
        await self._tell(job, {**job, "status": wanted}, over)

    async def _tell(self, before: Object, after: Object, over: Ending | None) -> None:
        """The events of a status that changed."""
        if over is not None and finished_at_s(after) is not None:
            if over.is_complete:
                await self._events.event(before, "Normal", "Completed", "Job completed")
            else:
                await self._events.event(before, "Warning", over.reason, over.message)
        was, now = (conditions.status_of(one, "Suspended") for one in (before, after))
        if now == conditions.TRUE and was != now:
            await self._events.event(before, "Normal", "Suspended", "Job suspended")
        elif was == conditions.TRUE and now == conditions.FALSE:
            await self._events.event(before, "Normal", "Resumed", "Job resumed")

    def _on_pod(self, before: Object | None, after: Object | None) -> None:
        owner, owner_before = _owner_key(after), _owner_key(before)
        if owner_before is not None and owner_before != owner:
            assert before is not None
            self._expectations.deleted(owner_before, meta.uid(before))
            self.queue.add(owner_before)
        if after is None:
            return
        if owner is None:
            if meta.controller_of(after) is None:
                self._enqueue_adopters(after)
            return
        if before is None:
            self._expectations.created(owner)
        if meta.is_deleting(after):
            self._expectations.deleted(owner, meta.uid(after))
        self.queue.add(owner)

    def _enqueue_adopters(self, pod: Object) -> None:
        """An orphan: every Job that its labels fit may want it."""
        for job in self._jobs.list(meta.namespace(pod)):
            if selector_of(job["spec"].get("selector")).matches(meta.labels(pod)):
                self.enqueue(job)


def _owner_key(pod: Object | None) -> str | None:
    controller = meta.controller_of(pod) if pod is not None else None
    if pod is None or controller is None or controller.get("kind") != JOB.kind:
        return None
    return meta.key_of(meta.namespace(pod), str(controller["name"]))


def new_pods(job: Object, done: Tally, taken: Sequence[Object], count: int, now_s: float) -> list[Object]:
    """Pods to create, labelled so that people find them, and numbered in an indexed Job."""
    template = job["spec"]["template"]
    labels = {JOB_NAME: meta.name(job), CONTROLLER_UID: meta.uid(job)}
    labels |= {legacy: labels[current] for legacy, current in _LEGACY_LABELS.items()}
    template_labels = (template.get("metadata") or {}).get("labels") or {}
    template = {
        **template,
        "metadata": {**(template.get("metadata") or {}), "labels": template_labels | labels},
    }
    if not job_status.is_indexed(job):
        return [pod_from_template(job, template) for _ in range(count)]
    indexes = job_status.missing_indexes(job, done, taken, count, now_s)
    return [_indexed(job, done, pod_from_template(job, template), index) for index in indexes]


def _indexed(job: Object, done: Tally, pod: Object, index: int) -> Object:
    metadata, spec = pod["metadata"], pod["spec"]
    variable = {"name": "JOB_COMPLETION_INDEX", "value": str(index)}

    def with_index(container: Object) -> Object:
        return {**container, "env": [*(container.get("env") or ()), variable]}

    new_spec = {**spec, "containers": [with_index(one) for one in spec["containers"]]}
    if spec.get("initContainers"):
        new_spec["initContainers"] = [with_index(one) for one in spec["initContainers"]]
    new_spec.setdefault("hostname", f"{meta.name(job)}-{index}")
    annotations = {INDEX: str(index)}
    if has_limit_per_index(job):
        failures = done.failures.get(index)
        annotations[FAILURES] = str(failures.counted if failures else 0)
        if failures and failures.ignored:
            annotations[IGNORED_FAILURES] = str(failures.ignored)
    return {
        **pod,
        "metadata": {
            **metadata,
            "generateName": f"{meta.name(job)}-{index}-",
            "labels": {**metadata.get("labels", {}), INDEX: str(index)},
            "annotations": {**metadata.get("annotations", {}), **annotations},
        },
        "spec": new_spec,
    }


def new_status(
    job: Object,
    done: Tally,
    active: Sequence[Object],
    leaving: Sequence[Object],
    over: Ending | None,
    now_s: float,
) -> dict[str, Any]:
    """What is seen of a Job. None takes a field away."""
    before = job.get("status") or {}
    is_stopped = over is not None or job_status.is_suspended(job)
    started = before.get("startTime") or rfc3339(now_s)
    status: dict[str, Any] = {
        "active": 0 if is_stopped else len(active),
        "ready": 0 if is_stopped else sum(pods.is_ready(pod) for pod in active),
        "terminating": len(leaving) + (len(active) if is_stopped else 0),
        "succeeded": done.succeeded,
        "failed": done.failed,
        "uncountedTerminatedPods": {
            "succeeded": list(done.counted_succeeded),
            "failed": list(done.counted_failed),
        },
        "startTime": None if job_status.is_suspended(job) else started,
    }
    if job_status.is_indexed(job):
        status["completedIndexes"] = job_status.format_indexes(done.completed_indexes)
        if has_limit_per_index(job):
            status["failedIndexes"] = job_status.format_indexes(done.failed_indexes)
    found = _with_suspended(job, conditions.conditions(job), now_s)
    if over is not None:
        is_final = not active and not leaving
        for type_ in _condition_types(over, is_final=is_final):
            condition = conditions.make(type_, True, over.reason, over.message)
            condition["lastProbeTime"] = rfc3339(now_s)
            if conditions.find(found, type_) is None:
                found = conditions.with_condition(found, condition, now_s)
        if over.is_complete and is_final:
            status["completionTime"] = rfc3339(now_s)
    if found or before.get("conditions"):
        status["conditions"] = found
    return status


def _condition_types(over: Ending, *, is_final: bool) -> tuple[str, ...]:
    """The decision, and the end once the last pod is gone."""
    if over.is_complete:
        return ("SuccessCriteriaMet", "Complete") if is_final else ("SuccessCriteriaMet",)
    return ("FailureTarget", "Failed") if is_final else ("FailureTarget",)


def _with_suspended(
    job: Object, found: list[conditions.Condition], now_s: float
) -> list[conditions.Condition]:
    if job_status.is_suspended(job):
        condition = conditions.make("Suspended", True, "JobSuspended", "Job suspended")
    elif conditions.is_true(job, "Suspended"):
        condition = conditions.make("Suspended", False, "JobResumed", "Job resumed")
    else:
        return found
    return conditions.with_condition(found, condition, now_s)


def finished_at_s(job: Object) -> float | None:
    """When the Job ended; None while it goes on."""
    for type_ in ("Complete", "Failed"):
        condition = conditions.get_condition(job, type_)
        if condition is not None and condition.get("status") == conditions.TRUE:
            return meta.time_s(condition.get("lastTransitionTime"))
    return None
