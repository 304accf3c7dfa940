"""Checks of StatefulSets, DaemonSets, ReplicationControllers, CronJobs, PodTemplates and their revisions.

Source: k8s.io/kubernetes/pkg/apis/{apps,batch,core}/validation. One thing is stricter than there: the pod
template of a StatefulSet is checked as everybody else's, with its claims counted as volumes; a template of
which no pod can be made is better refused than stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gitkube.objects.cron import schedule_error, zone_named
from gitkube.objects.labels import SelectorError, selector_of
from gitkube.objects.types import Object
from gitkube.objects.validation.causes import Causes
from gitkube.objects.validation.metadata import check_labels
from gitkube.objects.validation.pods import check_template
from gitkube.objects.validation.selectors import check_label_selector, check_workload_selector
from gitkube.objects.validation.workloads import check_job_spec, check_share, is_zero

_POLICIES = ("Allow", "Forbid", "Replace")
_RETENTIONS = ("Delete", "Retain")
_MAX_CRON_NAME = 52
"""A Job's name is the CronJob's, a dash and ten digits, and its pods' labels have 63 characters at most."""
_STATEFUL_SET_CHANGES = (
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
)


def check_stateful_set(causes: Causes, stateful_set: Object) -> None:
    spec = stateful_set.get("spec") or {}
    policy = spec.get("podManagementPolicy") or ""
    if not policy:
        causes.required("spec.podManagementPolicy")
    elif policy not in ("OrderedReady", "Parallel"):
        causes.invalid("spec.podManagementPolicy", policy, "must be 'OrderedReady' or 'Parallel'")
    _check_stateful_strategy(causes, spec.get("updateStrategy") or {})
    retention = spec.get("persistentVolumeClaimRetentionPolicy") or {}
    for field in ("whenDeleted", "whenScaled"):
        causes.one_of(
            f"spec.persistentVolumeClaimRetentionPolicy.{field}",
            retention.get(field),
            _RETENTIONS,
            is_required=False,
        )
    for field in ("replicas", "minReadySeconds", "revisionHistoryLimit"):
        causes.not_negative(f"spec.{field}", spec.get(field))
    causes.not_negative("spec.ordinals.start", (spec.get("ordinals") or {}).get("start"))
    check_workload_selector(causes, spec, "spec", noun="statefulset")
    claims: list[Object] = [
        {"name": (claim.get("metadata") or {}).get("name"), "emptyDir": {}}
        for claim in spec.get("volumeClaimTemplates") or ()
    ]
    _check_lasting_template(causes, spec.get("template") or {}, "spec.template", claims, "StatefulSet")


def _check_stateful_strategy(causes: Causes, strategy: Mapping[str, Any]) -> None:
    path, rolling = "spec.updateStrategy", strategy.get("rollingUpdate")
    match strategy.get("type"):
        case "OnDelete":
            if rolling is not None:
                causes.invalid(
                    f"{path}.rollingUpdate", rolling, "only allowed for updateStrategy 'RollingUpdate'"
                )
        case "RollingUpdate":
            if rolling is not None:
                causes.not_negative(f"{path}.rollingUpdate.partition", rolling.get("partition"))
                if (unavailable := rolling.get("maxUnavailable")) is not None:
                    check_share(causes, unavailable, f"{path}.rollingUpdate.maxUnavailable")
                    if is_zero(unavailable):
                        causes.invalid(f"{path}.rollingUpdate.maxUnavailable", unavailable, "cannot be 0")
        case None | "":
            causes.required(path)
        case _:
            causes.invalid(path, dict(strategy), "must be 'RollingUpdate' or 'OnDelete'")


def check_stateful_set_update(causes: Causes, stateful_set: Object, old: Object) -> None:
    spec, before = stateful_set.get("spec") or {}, old.get("spec") or {}
    fields = (spec.keys() | before.keys()) - set(_STATEFUL_SET_CHANGES)
    if any(spec.get(field) != before.get(field) for field in fields):
        *most, last = (f"'{field}'" for field in _STATEFUL_SET_CHANGES)
        causes.forbidden(
            "spec",
            f"updates to statefulset spec for fields other than {', '.join(most)} and {last} are forbidden",
        )


def check_daemon_set(causes: Causes, daemon_set: Object) -> None:
    spec = daemon_set.get("spec") or {}
    selector = spec.get("selector")
    template = spec.get("template") or {}
    check_label_selector(causes, selector, "spec.selector")
    try:
        is_selected = selector is not None and selector_of(selector).matches(_labels(template))
    except SelectorError:
        is_selected = True  # named above, with its field
    if not is_selected:
        message = "`selector` does not match template `labels`"
        causes.invalid("spec.template.metadata.labels", _labels(template), message)
    if selector is not None and not selector.get("matchLabels") and not selector.get("matchExpressions"):
        causes.invalid("spec.selector", selector, "empty selector is invalid for daemonset")
    _check_lasting_template(causes, template, "spec.template", [], "DaemonSet")
    for field in ("minReadySeconds", "revisionHistoryLimit"):
        causes.not_negative(f"spec.{field}", spec.get(field))
    _check_daemon_strategy(causes, spec.get("updateStrategy") or {})


def _check_daemon_strategy(causes: Causes, strategy: Mapping[str, Any]) -> None:
    path, rolling = "spec.updateStrategy", strategy.get("rollingUpdate")
    match strategy.get("type"):
        case "OnDelete":
            return
        case "RollingUpdate":
            if rolling is None:
                causes.required(f"{path}.rollingUpdate")
                return
            unavailable, surge = rolling.get("maxUnavailable"), rolling.get("maxSurge")
            check_share(causes, unavailable, f"{path}.rollingUpdate.maxUnavailable")
            check_share(causes, surge, f"{path}.rollingUpdate.maxSurge")
            if is_zero(unavailable) and is_zero(surge):
                message = "cannot be 0 when maxSurge is 0"
                causes.invalid(f"{path}.rollingUpdate.maxUnavailable", unavailable, message)
            elif not is_zero(unavailable) and not is_zero(surge):
                message = "may not be set when maxUnavailable is non-zero"
                causes.invalid(f"{path}.rollingUpdate.maxSurge", surge, message)
        case _:
            causes.not_supported(path, dict(strategy), ("RollingUpdate", "OnDelete"))


def check_daemon_set_update(causes: Causes, daemon_set: Object, old: Object) -> None:
    _selector_stays(causes, daemon_set, old)


def check_replication_controller(causes: Causes, controller: Object) -> None:
    spec = controller.get("spec") or {}
    for field in ("minReadySeconds", "replicas"):
        causes.not_negative(f"spec.{field}", spec.get(field))
    selector, template = spec.get("selector") or {}, spec.get("template")
    if not selector:
        causes.required("spec.selector")
    check_labels(causes, selector, "spec.selector")
    if template is None:
        causes.required("spec.template")
        return
    if selector and not selector.items() <= _labels(template).items():
        message = "`selector` does not match template `labels`"
        causes.invalid("spec.template.metadata.labels", _labels(template), message)
    _check_lasting_template(causes, template, "spec.template", [], "ReplicationController")


def check_pod_template(causes: Causes, pod_template: Object) -> None:
    check_template(causes, pod_template.get("template") or {}, "template")


def check_controller_revision(causes: Causes, revision: Object) -> None:
    if revision.get("data") is None:
        causes.required("data", "data is mandatory")
    causes.not_negative("revision", revision.get("revision"))


def check_controller_revision_update(causes: Causes, revision: Object, old: Object) -> None:
    causes.immutable("data", revision.get("data"), old.get("data"))


def check_cron_job(causes: Causes, cron_job: Object) -> None:
    spec = cron_job.get("spec") or {}
    schedule = spec.get("schedule") or ""
    if not schedule:
        causes.required("spec.schedule")
    elif "TZ" in schedule:
        message = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
        causes.invalid("spec.schedule", schedule, message)
    elif error := schedule_error(schedule):
        causes.invalid("spec.schedule", schedule, error)
    causes.not_negative("spec.startingDeadlineSeconds", spec.get("startingDeadlineSeconds"))
    zone = spec.get("timeZone")
    if zone == "":
        causes.invalid("spec.timeZone", zone, "must be nil or non-empty string")
    elif zone is not None and (zone.lower() == "local" or not _is_zone(zone)):
        causes.invalid("spec.timeZone", zone, f"unknown time zone {zone}")
    causes.one_of("spec.concurrencyPolicy", spec.get("concurrencyPolicy"), _POLICIES)
    job_spec = (spec.get("jobTemplate") or {}).get("spec") or {}
    path = "spec.jobTemplate.spec"
    if job_spec.get("selector") is not None:
        causes.invalid(f"{path}.selector", job_spec["selector"], "`selector` will be auto-generated")
    if job_spec.get("manualSelector"):
        causes.not_supported(f"{path}.manualSelector", True, ("nil", "false"))
    check_job_spec(causes, job_spec, path)
    for field in ("successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
        causes.not_negative(f"spec.{field}", spec.get(field))
    name = (cron_job.get("metadata") or {}).get("name") or ""
    if len(name) > _MAX_CRON_NAME:
        causes.invalid("metadata.name", name, f"must be no more than {_MAX_CRON_NAME} characters")


def _is_zone(zone: str) -> bool:
    try:
        zone_named(zone)
    except ValueError:
        return False
    return True


def _check_lasting_template(
    causes: Causes, template: Mapping[str, Any], path: str, volumes: list[Object], kind: str
) -> None:
    """The template of pods that are replaced for ever, with volumes that come from elsewhere."""
    pod_spec = template.get("spec") or {}
    if volumes:
        named = {volume["name"] for volume in volumes}
        own = [volume for volume in pod_spec.get("volumes") or () if volume.get("name") not in named]
        template = {**template, "spec": {**pod_spec, "volumes": [*own, *volumes]}}
    check_template(causes, template, path)
    policy = pod_spec.get("restartPolicy") or "Always"
    if policy in ("OnFailure", "Never"):
        causes.not_supported(f"{path}.spec.restartPolicy", policy, ("Always",))
    if pod_spec.get("activeDeadlineSeconds") is not None:
        message = f"activeDeadlineSeconds in {kind} is not Supported"
        causes.forbidden(f"{path}.spec.activeDeadlineSeconds", message)


def _labels(template: Mapping[str, Any]) -> Mapping[str, str]:
    return (template.get("metadata") or {}).get("labels") or {}


def _selector_stays(causes: Causes, obj: Object, old: Object) -> None:
    selector = (obj.get("spec") or {}).get("selector")
    causes.immutable("spec.selector", selector, (old.get("spec") or {}).get("selector"))
