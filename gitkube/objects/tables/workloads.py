"""Rows of Deployments, ReplicaSets and Jobs."""

from __future__ import annotations

from gitkube.objects import conditions, meta
from gitkube.objects.meta import time_s
from gitkube.objects.tables.columns import (
    AGE,
    CONTAINERS,
    IMAGES,
    NAME,
    SELECTOR,
    Cells,
    Column,
    Table,
    containers_and_images,
    join_selector,
)
from gitkube.objects.tables.durations import age, human_duration
from gitkube.objects.types import Object


def _deployment(deployment: Object, now_s: float) -> Cells:
    spec, status = deployment.get("spec") or {}, deployment.get("status") or {}
    return [
        meta.name(deployment),
        f"{status.get('readyReplicas') or 0}/{spec.get('replicas') or 0}",
        status.get("updatedReplicas") or 0,
        status.get("availableReplicas") or 0,
        age(meta.metadata(deployment).get("creationTimestamp"), now_s),
        *containers_and_images(spec.get("template")),
        join_selector(spec.get("selector")),
    ]


def _replica_set(replica_set: Object, now_s: float) -> Cells:
    spec, status = replica_set.get("spec") or {}, replica_set.get("status") or {}
    return [
        meta.name(replica_set),
        spec.get("replicas") or 0,
        status.get("replicas") or 0,
        status.get("readyReplicas") or 0,
        age(meta.metadata(replica_set).get("creationTimestamp"), now_s),
        *containers_and_images(spec.get("template")),
        join_selector(spec.get("selector")),
    ]


def _job(job: Object, now_s: float) -> Cells:
    spec, status = job.get("spec") or {}, job.get("status") or {}
    succeeded = status.get("succeeded") or 0
    parallelism = spec.get("parallelism") or 0
    if spec.get("completions") is not None:
        completions = f"{succeeded}/{spec['completions']}"
    elif parallelism > 1:
        completions = f"{succeeded}/1 of {parallelism}"
    else:
        completions = f"{succeeded}/1"
    return [
        meta.name(job),
        _job_status(job),
        completions,
        _job_duration(job, now_s),
        age(meta.metadata(job).get("creationTimestamp"), now_s),
        *containers_and_images(spec.get("template")),
        join_selector(spec.get("selector")),
    ]


def _job_status(job: Object) -> str:
    for condition in ("Complete", "Failed"):
        if conditions.is_true(job, condition):
            return condition
    if meta.is_deleting(job):
        return "Terminating"
    for condition in ("Suspended", "FailureTarget", "SuccessCriteriaMet"):
        if conditions.is_true(job, condition):
            return condition
    return "Running"


def _job_duration(job: Object, now_s: float) -> str:
    status = job.get("status") or {}
    if not status.get("startTime"):
        return ""
    end_s = time_s(status["completionTime"]) if status.get("completionTime") else now_s
    return human_duration(end_s - time_s(status["startTime"]))


DEPLOYMENT_TABLE = Table(
    (
        NAME,
        Column("Ready", description="Number of the pod with ready state"),
        Column("Up-to-date", description="Pods that run the newest template."),
        Column("Available", description="Pods that have been ready for long enough."),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ),
    _deployment,
)
REPLICA_SET_TABLE = Table(
    (
        NAME,
        Column("Desired", "integer", "Pods that there should be."),
        Column("Current", "integer", "Pods that there are."),
        Column("Ready", "integer", "Pods that are ready to serve."),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ),
    _replica_set,
)
JOB_TABLE = Table(
    (
        NAME,
        Column("Status", description="Status of the job."),
        Column("Completions", description="Pods that succeeded, of those that must."),
        Column("Duration", description="Time required to complete the job."),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ),
    _job,
)
