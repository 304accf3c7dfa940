"""Rows of what runs pods: Deployments, ReplicaSets, Jobs and their kin."""

from __future__ import annotations

from gitkube.objects import conditions, meta
from gitkube.objects.meta import time_s
from gitkube.objects.tables.columns import (
    AGE,
    CONTAINERS,
    IMAGES,
    NAME,
    NONE,
    SELECTOR,
    Cells,
    Column,
    Table,
    containers_and_images,
    join_labels,
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


def _scale(obj: Object, now_s: float) -> Cells:
    wanted, present = (obj.get("spec") or {}).get("replicas"), (obj.get("status") or {}).get("replicas")
    return [
        meta.name(obj),
        wanted or 0,
        present or 0,
        age(meta.metadata(obj).get("creationTimestamp"), now_s),
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


def _stateful_set(stateful_set: Object, now_s: float) -> Cells:
    spec, status = stateful_set.get("spec") or {}, stateful_set.get("status") or {}
    return [
        meta.name(stateful_set),
        f"{status.get('readyReplicas') or 0}/{spec.get('replicas') or 0}",
        age(meta.metadata(stateful_set).get("creationTimestamp"), now_s),
        *containers_and_images(spec.get("template")),
    ]


def _daemon_set(daemon_set: Object, now_s: float) -> Cells:
    spec, status = daemon_set.get("spec") or {}, daemon_set.get("status") or {}
    template = spec.get("template") or {}
    return [
        meta.name(daemon_set),
        status.get("desiredNumberScheduled") or 0,
        status.get("currentNumberScheduled") or 0,
        status.get("numberReady") or 0,
        status.get("updatedNumberScheduled") or 0,
        status.get("numberAvailable") or 0,
        join_labels((template.get("spec") or {}).get("nodeSelector")),
        age(meta.metadata(daemon_set).get("creationTimestamp"), now_s),
        *containers_and_images(template),
        join_selector(spec.get("selector")),
    ]


def _replication_controller(controller: Object, now_s: float) -> Cells:
    spec, status = controller.get("spec") or {}, controller.get("status") or {}
    return [
        meta.name(controller),
        spec.get("replicas") or 0,
        status.get("replicas") or 0,
        status.get("readyReplicas") or 0,
        age(meta.metadata(controller).get("creationTimestamp"), now_s),
        *containers_and_images(spec.get("template")),
        join_labels(spec.get("selector")),
    ]


def _cron_job(cron_job: Object, now_s: float) -> Cells:
    spec, status = cron_job.get("spec") or {}, cron_job.get("status") or {}
    job_spec = (spec.get("jobTemplate") or {}).get("spec") or {}
    last = status.get("lastScheduleTime")
    return [
        meta.name(cron_job),
        spec.get("schedule") or "",
        spec.get("timeZone") or NONE,
        "True" if spec.get("suspend") else "False",
        len(status.get("active") or ()),
        age(last, now_s) if last else NONE,
        age(meta.metadata(cron_job).get("creationTimestamp"), now_s),
        *containers_and_images(job_spec.get("template")),
        join_selector(job_spec.get("selector")),
    ]


def _pod_template(pod_template: Object, now_s: float) -> Cells:
    template = pod_template.get("template") or {}
    labels = (template.get("metadata") or {}).get("labels")
    return [meta.name(pod_template), *containers_and_images(template), join_labels(labels)]


def _controller_revision(revision: Object, now_s: float) -> Cells:
    owner = meta.controller_of(revision)
    controller = NONE
    if owner is not None:
        group = str(owner.get("apiVersion") or "").rpartition("/")[0]
        kind = str(owner.get("kind") or "").lower()
        controller = f"{kind}.{group}/{owner.get('name')}" if group else f"{kind}/{owner.get('name')}"
    return [
        meta.name(revision),
        controller,
        revision.get("revision") or 0,
        age(meta.metadata(revision).get("creationTimestamp"), now_s),
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
SCALE_TABLE = Table(
    (
        NAME,
        Column("Desired", "integer", "Pods that there should be."),
        Column("Available", "integer", "Pods that there are."),
        AGE,
    ),
    _scale,
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
STATEFUL_SET_TABLE = Table(
    (NAME, Column("Ready", description="Pods that are ready, of those wanted."), AGE, CONTAINERS, IMAGES),
    _stateful_set,
)
DAEMON_SET_TABLE = Table(
    (
        NAME,
        Column("Desired", "integer", "Nodes that should run the pod."),
        Column("Current", "integer", "Nodes that run it."),
        Column("Ready", "integer", "Nodes whose pod is ready."),
        Column("Up-to-date", "integer", "Nodes whose pod is of the newest template."),
        Column("Available", "integer", "Nodes whose pod has been ready for long enough."),
        Column("Node Selector", description="Labels of the nodes that should run it."),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ),
    _daemon_set,
)
REPLICATION_CONTROLLER_TABLE = Table(
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
    _replication_controller,
)
CRON_JOB_TABLE = Table(
    (
        NAME,
        Column("Schedule", description="When a Job is started, in cron's notation."),
        Column("Timezone", description="In which the schedule is meant."),
        Column("Suspend", "boolean", "Whether no further Job is started."),
        Column("Active", "integer", "Jobs that run now."),
        Column("Last Schedule", description="When a Job was started the last time."),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ),
    _cron_job,
)
POD_TEMPLATE_TABLE = Table(
    (
        NAME,
        Column("Containers", description="Names of each container in the template."),
        Column("Images", description="Images referenced by each container in the template."),
        Column("Pod Labels", description="Labels that pods of the template get."),
    ),
    _pod_template,
)
CONTROLLER_REVISION_TABLE = Table(
    (
        NAME,
        Column("Controller", description="What the revision is of."),
        Column("Revision", description="Its number."),
        AGE,
    ),
    _controller_revision,
)
