"""Checks of Deployments, ReplicaSets and Jobs. Source: k8s.io/kubernetes/pkg/apis/{apps,batch}/validation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from gitkube.objects import names
from gitkube.objects.labels import SelectorError, selector_of
from gitkube.objects.types import Object
from gitkube.objects.validation.causes import Causes
from gitkube.objects.validation.jobs import check_job_policies
from gitkube.objects.validation.pods import check_template
from gitkube.objects.validation.selectors import check_label_selector, check_workload_selector

_PERCENT = re.compile(r"[0-9]+%", re.ASCII)
_GENERATED_UID_LABEL = "batch.kubernetes.io/controller-uid"
_MAX_INDEXED = 100_000
"""Parallelism and completions of an indexed Job: its status lists the indexes."""


def check_deployment(causes: Causes, deployment: Object) -> None:
    spec = deployment.get("spec") or {}
    causes.not_negative("spec.replicas", spec.get("replicas"))
    check_workload_selector(causes, spec, "spec", noun="deployment")
    _check_replica_template(causes, spec)
    _check_strategy(causes, spec.get("strategy") or {}, "spec.strategy")
    for field in ("minReadySeconds", "revisionHistoryLimit"):
        causes.not_negative(f"spec.{field}", spec.get(field))
    deadline_s = spec.get("progressDeadlineSeconds")
    causes.not_negative("spec.progressDeadlineSeconds", deadline_s)
    if deadline_s is not None and deadline_s <= (spec.get("minReadySeconds") or 0):
        causes.invalid("spec.progressDeadlineSeconds", deadline_s, "must be greater than minReadySeconds")


def check_deployment_update(causes: Causes, deployment: Object, old: Object) -> None:
    _selector_stays(causes, deployment, old)
    if deployment.get("status") != old.get("status"):
        _check_replica_status(causes, deployment.get("status") or {})


def _check_replica_status(causes: Causes, status: Mapping[str, Any]) -> None:
    for field in ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas", "unavailableReplicas"):
        causes.not_negative(f"status.{field}", status.get(field))
    total, ready = status.get("replicas") or 0, status.get("readyReplicas") or 0
    for field in ("updatedReplicas", "readyReplicas", "availableReplicas"):
        if (status.get(field) or 0) > total:
            message = "cannot be greater than status.replicas"
            causes.invalid(f"status.{field}", status.get(field) or 0, message)
    if (status.get("availableReplicas") or 0) > ready:
        message = "cannot be greater than readyReplicas"
        causes.invalid("status.availableReplicas", status["availableReplicas"], message)


def check_replica_set(causes: Causes, replica_set: Object) -> None:
    spec = replica_set.get("spec") or {}
    causes.not_negative("spec.replicas", spec.get("replicas"))
    causes.not_negative("spec.minReadySeconds", spec.get("minReadySeconds"))
    check_workload_selector(causes, spec, "spec", noun="deployment")
    _check_replica_template(causes, spec)


def check_replica_set_update(causes: Causes, replica_set: Object, old: Object) -> None:
    _selector_stays(causes, replica_set, old)


def check_job(causes: Causes, job: Object) -> None:
    spec = job.get("spec") or {}
    check_job_spec(causes, spec, "spec")
    _check_job_selector(causes, job, spec)
    name = (job.get("metadata") or {}).get("name") or ""
    if len(name) > names.LABEL_MAX:
        # The name becomes the label by which the Job's pods are found.
        causes.invalid("spec.template.labels", name, f"must be no more than {names.LABEL_MAX} bytes")


def check_job_spec(causes: Causes, spec: Mapping[str, Any], path: str) -> None:
    """What a Job and the template in a CronJob have in common."""
    for field in (
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ):
        causes.not_negative(f"{path}.{field}", spec.get(field))
    template = spec.get("template") or {}
    check_template(causes, template, f"{path}.template")
    policy = (template.get("spec") or {}).get("restartPolicy") or "Always"
    if policy == "Always":
        causes.required(f"{path}.template.spec.restartPolicy", 'valid values: "OnFailure", "Never"')
    elif policy not in ("OnFailure", "Never"):
        causes.not_supported(f"{path}.template.spec.restartPolicy", policy, ("OnFailure", "Never"))
    _check_completion_mode(causes, spec, path)
    check_job_policies(causes, spec, path)
    causes.one_of(
        f"{path}.podReplacementPolicy",
        spec.get("podReplacementPolicy"),
        ("Failed", "TerminatingOrFailed"),
        is_required=False,
    )


def check_job_update(causes: Causes, job: Object, old: Object) -> None:
    spec, before = job.get("spec") or {}, old.get("spec") or {}
    for field in (
        "selector",
        "template",
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "successPolicy",
        "managedBy",
    ):
        value, previous = spec.get(field), before.get(field)
        if field == "template" and _waits(old):
            previous = _with_place_of(previous or {}, value or {})
        if value != previous:
            causes.invalid(f"spec.{field}", value, "field is immutable")
    is_elastic = spec.get("completionMode") == "Indexed" and spec.get("completions") == spec.get(
        "parallelism"
    )
    if not is_elastic:
        causes.immutable("spec.completions", spec.get("completions"), before.get("completions"))


def _waits(job: Object) -> bool:
    """Whether a Job is suspended and has no pods: who queues it may still say where it shall run."""
    status = job.get("status") or {}
    if not (job.get("spec") or {}).get("suspend"):
        return False
    is_suspended = any(
        one.get("type") == "Suspended" and one.get("status") == "True"
        for one in status.get("conditions") or ()
    )
    return not status.get("startTime") or (is_suspended and not status.get("active"))


def _with_place_of(previous: Mapping[str, Any], template: Mapping[str, Any]) -> dict[str, Any]:
    """The former template, with what tells the scheduler where to, and how much, of the new one."""
    spec, before = template.get("spec") or {}, previous.get("spec") or {}
    moved = _carried(before, spec, ("affinity", "nodeSelector", "tolerations", "schedulingGates"))
    for field in ("containers", "initContainers"):
        if len(spec.get(field) or ()) == len(before.get(field) or ()) and field in before:
            pairs = zip(before[field], spec[field], strict=True)
            moved[field] = [_carried(was, one, ("resources",)) for was, one in pairs]
    former = previous.get("metadata") or {}
    metadata = _carried(former, template.get("metadata") or {}, ("labels", "annotations"))
    whole = {**previous, "metadata": metadata, "spec": moved}
    if not metadata and "metadata" not in template:
        del whole["metadata"]
    return whole


def _carried(before: Mapping[str, Any], now: Mapping[str, Any], fields: tuple[str, ...]) -> dict[str, Any]:
    kept = {key: value for key, value in before.items() if key not in fields}
    return {**kept, **{field: now[field] for field in fields if field in now}}


def _check_job_selector(causes: Causes, job: Object, spec: Mapping[str, Any]) -> None:
    selector = spec.get("selector")
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    uid = (job.get("metadata") or {}).get("uid")
    if selector is None:
        if not uid and not spec.get("manualSelector"):
            return  # not stored yet: the server generates it
        causes.required("spec.selector")
    else:
        check_label_selector(causes, selector, "spec.selector")
        generated = {_GENERATED_UID_LABEL: uid}
        is_generated = (selector.get("matchLabels") or {}) == generated and not selector.get(
            "matchExpressions"
        )
        if not spec.get("manualSelector") and not is_generated:
            causes.invalid("spec.selector", selector, "`selector` not auto-generated")
    try:
        is_selected = selector_of(selector).matches(labels)
    except SelectorError:
        return  # named above, with its field
    if not is_selected:
        causes.invalid("spec.template.metadata.labels", labels, "`selector` does not match template `labels`")


def _check_completion_mode(causes: Causes, spec: Mapping[str, Any], path: str) -> None:
    mode = spec.get("completionMode")
    causes.one_of(f"{path}.completionMode", mode, ("Indexed", "NonIndexed"), is_required=False)
    if mode != "Indexed":
        for field in ("backoffLimitPerIndex", "maxFailedIndexes"):
            if spec.get(field) is not None:
                causes.invalid(f"{path}.{field}", spec[field], "requires indexed completion mode")
        return
    if spec.get("completions") is None:
        causes.required(f"{path}.completions", "when completion mode is Indexed")
    if (spec.get("parallelism") or 0) > _MAX_INDEXED:
        causes.invalid(
            f"{path}.parallelism",
            spec["parallelism"],
            f"must be less than or equal to {_MAX_INDEXED} when completion mode is Indexed",
        )


def _check_replica_template(causes: Causes, spec: Mapping[str, Any]) -> None:
    template = spec.get("template") or {}
    check_template(causes, template, "spec.template")
    pod_spec = template.get("spec") or {}
    policy = pod_spec.get("restartPolicy") or "Always"
    if policy in ("OnFailure", "Never"):
        causes.not_supported("spec.template.spec.restartPolicy", policy, ("Always",))
    if pod_spec.get("activeDeadlineSeconds") is not None:
        causes.forbidden(
            "spec.template.spec.activeDeadlineSeconds", "activeDeadlineSeconds in ReplicaSet is not Supported"
        )


def _check_strategy(causes: Causes, strategy: Mapping[str, Any], path: str) -> None:
    kind = strategy.get("type")
    rolling = strategy.get("rollingUpdate")
    match kind:
        case "Recreate":
            if rolling is not None:
                causes.forbidden(
                    f"{path}.rollingUpdate", "may not be specified when strategy `type` is 'Recreate'"
                )
        case "RollingUpdate":
            if rolling is None:
                causes.required(f"{path}.rollingUpdate", "this should be defaulted and never be nil")
                return
            unavailable, surge = rolling.get("maxUnavailable"), rolling.get("maxSurge")
            check_share(causes, unavailable, f"{path}.rollingUpdate.maxUnavailable")
            check_share(causes, surge, f"{path}.rollingUpdate.maxSurge")
            if is_zero(unavailable) and is_zero(surge):
                causes.invalid(
                    f"{path}.rollingUpdate.maxUnavailable", unavailable, "may not be 0 when `maxSurge` is 0"
                )
            if (
                isinstance(unavailable, str)
                and _PERCENT.fullmatch(unavailable)
                and int(unavailable[:-1]) > 100
            ):
                causes.invalid(
                    f"{path}.rollingUpdate.maxUnavailable", unavailable, "must not be greater than 100%"
                )
        case _:
            causes.not_supported(path, kind or "", ("Recreate", "RollingUpdate"))


def check_share(causes: Causes, value: Any, path: str) -> None:
    """A number of pods, or a percentage of them."""
    if isinstance(value, str):
        if not _PERCENT.fullmatch(value):
            causes.invalid(
                path,
                value,
                "a valid percent string must be a numeric string followed by an ending '%' "
                "(e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
            )
    else:
        causes.not_negative(path, value)


def is_zero(share: Any) -> bool:
    return share in (0, "0%", None)


def _selector_stays(causes: Causes, obj: Object, old: Object) -> None:
    selector = (obj.get("spec") or {}).get("selector")
    causes.immutable("spec.selector", selector, (old.get("spec") or {}).get("selector"))
