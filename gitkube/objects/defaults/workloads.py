"""Defaults of what runs pods: Deployments to CronJobs. Source: k8s.io/kubernetes/pkg/apis/{apps,batch}/v1."""

from __future__ import annotations

from typing import Any

from gitkube.objects.defaults.pods import default_template
from gitkube.objects.defaults.reading import fill, fill_zero, made_part, part, parts
from gitkube.objects.defaults.storage import default_claim
from gitkube.objects.patch.copying import clone
from gitkube.objects.types import Object

_NO_BACKOFF_LIMIT = 2**31 - 1
CONTROLLER_UID_LABEL = "batch.kubernetes.io/controller-uid"
JOB_NAME_LABEL = "batch.kubernetes.io/job-name"
_OLD_CONTROLLER_UID_LABEL = "controller-uid"
_OLD_JOB_NAME_LABEL = "job-name"


def default_deployment(deployment: Object) -> None:
    spec = made_part(deployment, "spec")
    default_template(spec)
    fill(spec, replicas=1, revisionHistoryLimit=10, progressDeadlineSeconds=600)
    strategy = made_part(spec, "strategy")
    fill_zero(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        fill(made_part(strategy, "rollingUpdate"), maxUnavailable="25%", maxSurge="25%")


def default_replica_set(replica_set: Object) -> None:
    spec = made_part(replica_set, "spec")
    default_template(spec)
    fill(spec, replicas=1)


def default_replication_controller(controller: Object) -> None:
    spec = made_part(controller, "spec")
    if "template" in spec:
        default_template(spec)
    labels = part(part(part(spec, "template"), "metadata"), "labels")
    if labels and not spec.get("selector"):
        spec["selector"] = dict(labels)
    _labels_from_template(controller, spec)
    fill(spec, replicas=1)


def default_stateful_set(stateful_set: Object) -> None:
    spec = made_part(stateful_set, "spec")
    default_template(spec)
    fill_zero(spec, podManagementPolicy="OrderedReady")
    fill(spec, replicas=1, revisionHistoryLimit=10)
    strategy = made_part(spec, "updateStrategy")
    fill_zero(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        fill(made_part(strategy, "rollingUpdate"), partition=0)
    fill_zero(
        made_part(spec, "persistentVolumeClaimRetentionPolicy"), whenDeleted="Retain", whenScaled="Retain"
    )
    for claim in parts(spec, "volumeClaimTemplates"):
        fill(claim, apiVersion="v1", kind="PersistentVolumeClaim")
        default_claim(claim)


def default_daemon_set(daemon_set: Object) -> None:
    spec = made_part(daemon_set, "spec")
    default_template(spec)
    fill(spec, revisionHistoryLimit=10)
    strategy = made_part(spec, "updateStrategy")
    fill_zero(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        fill(made_part(strategy, "rollingUpdate"), maxUnavailable=1, maxSurge=0)


def default_cron_job(cron_job: Object) -> None:
    spec = made_part(cron_job, "spec")
    fill_zero(spec, concurrencyPolicy="Allow")
    fill(spec, suspend=False, successfulJobsHistoryLimit=3, failedJobsHistoryLimit=1)
    default_template(part(part(spec, "jobTemplate"), "spec"))


def default_pod_template(pod_template: Object) -> None:
    default_template(pod_template)


def default_job(job: Object) -> None:
    spec = made_part(job, "spec")
    default_template(spec)
    if spec.get("completions") is None and spec.get("parallelism") is None:
        fill(spec, completions=1)
    fill(spec, parallelism=1)
    has_limit_per_index = spec.get("backoffLimitPerIndex") is not None
    fill(spec, backoffLimit=_NO_BACKOFF_LIMIT if has_limit_per_index else 6)
    has_failure_policy = spec.get("podFailurePolicy") is not None
    fill(
        spec,
        completionMode="NonIndexed",
        suspend=False,
        manualSelector=False,
        podReplacementPolicy="Failed" if has_failure_policy else "TerminatingOrFailed",
    )
    for rule in parts(part(spec, "podFailurePolicy"), "rules"):
        for pattern in parts(rule, "onPodConditions"):
            fill_zero(pattern, status="True")
    _labels_from_template(job, spec)


def with_generated_selector(job: Object) -> Object:
    """A Job with the selector and labels that tie its pods to its uid; unchanged when it brings its own.

    Done once, on create, when the uid is known: a Job made again under the same name must not adopt the pods
    of the one before.
    """
    spec = part(job, "spec")
    uid = part(job, "metadata").get("uid")
    if spec.get("manualSelector") or not uid or "template" not in spec:
        return job
    result = clone(job)
    spec = result["spec"]
    metadata = part(result, "metadata")
    name = metadata.get("name", "")
    template_metadata = made_part(part(spec, "template"), "metadata")
    labels = made_part(template_metadata, "labels")
    labels.update(
        {
            _OLD_CONTROLLER_UID_LABEL: uid,
            CONTROLLER_UID_LABEL: uid,
            _OLD_JOB_NAME_LABEL: name,
            JOB_NAME_LABEL: name,
        }
    )
    made_part(made_part(spec, "selector"), "matchLabels")[CONTROLLER_UID_LABEL] = uid
    _labels_from_template(result, spec)
    return result


def _labels_from_template(workload: Object, spec: dict[str, Any]) -> None:
    labels = part(part(part(spec, "template"), "metadata"), "labels")
    metadata = part(workload, "metadata")
    if labels and not metadata.get("labels"):
        metadata["labels"] = dict(labels)
