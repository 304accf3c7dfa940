"""What a pod's failure means for its Job: counted, ignored, or the end of an index or of all. Pure.

The rules of `podFailurePolicy` are asked in order; the first that fits says what is done. With
`backoffLimitPerIndex` each index has a count of its own, which travels from pod to pod in an annotation: the
pod that is made in place of a failed one carries one more.
Source: Kubernetes' job/pod_failure_policy.go and job/indexed_job_utils.go.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gitkube.objects import conditions, meta, pods
from gitkube.objects.types import Object

INDEX = "batch.kubernetes.io/job-completion-index"
FAILURES = "batch.kubernetes.io/job-index-failure-count"
IGNORED_FAILURES = "batch.kubernetes.io/job-index-ignored-failure-count"


class Action(enum.Enum):
    """What a rule asks for."""

    COUNT = "Count"
    IGNORE = "Ignore"
    FAIL_INDEX = "FailIndex"
    FAIL_JOB = "FailJob"


@dataclass(frozen=True, slots=True)
class Verdict:
    action: Action
    message: str = ""
    """Why the Job fails."""


_COUNTED = Verdict(Action.COUNT)


def verdict(job: Object, pod: Object) -> Verdict:
    """What a failed pod means."""
    for number, rule in enumerate((job["spec"].get("podFailurePolicy") or {}).get("rules") or ()):
        action = Action(rule["action"])
        found = _fits_exit_codes(rule.get("onExitCodes"), pod) or _fits_conditions(rule, pod)
        if not found or (action is Action.FAIL_INDEX and not has_limit_per_index(job)):
            continue
        return Verdict(action, f"{found} matching {action.value} rule at index {number}")
    return _COUNTED


def _fits_exit_codes(wanted: Mapping[str, Any] | None, pod: Object) -> str:
    if wanted is None:
        return ""
    status = pods.status(pod)
    for one in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        code = ((one.get("state") or {}).get("terminated") or {}).get("exitCode")
        if not code or wanted.get("containerName") not in (None, one.get("name")):
            continue
        is_listed = code in (wanted.get("values") or ())
        if is_listed is (wanted.get("operator") == "In"):
            return f"Container {one.get('name')} for pod {meta.key(pod)} failed with exit code {code}"
    return ""


def _fits_conditions(rule: Mapping[str, Any], pod: Object) -> str:
    for pattern in rule.get("onPodConditions") or ():
        type_, status = str(pattern.get("type")), str(pattern.get("status") or "True")
        if conditions.status_of(pod, type_) == status:
            return f"Pod {meta.key(pod)} has condition {type_}"
    return ""


def has_limit_per_index(job: Object) -> bool:
    return job["spec"].get("backoffLimitPerIndex") is not None


def index_of(pod: Object) -> int:
    """A pod's completion index; -1 without."""
    text = meta.annotations(pod).get(INDEX, "")
    return int(text) if text.isdigit() else -1


@dataclass(frozen=True, slots=True)
class IndexFailures:
    """What has failed of one index so far."""

    counted: int = 0
    ignored: int = 0
    last_s: float = 0.0
    """When its last pod failed."""
    is_over: bool = False
    """It is not tried again."""


def failures_by_index(
    job: Object, failed: Sequence[Object], ends_s: Iterable[float]
) -> dict[int, IndexFailures]:
    """The failures of each index.

    Args:
        failed: the pods that failed.
        ends_s: when each of them did.
    """
    limit = int(job["spec"].get("backoffLimitPerIndex") or 0)
    found: dict[int, IndexFailures] = {}
    for pod, end_s in zip(failed, ends_s, strict=True):
        index, action = index_of(pod), verdict(job, pod).action
        before = found.get(index, IndexFailures())
        counted = _number(pod, FAILURES) + (action is not Action.IGNORE)
        ignored = _number(pod, IGNORED_FAILURES) + (action is Action.IGNORE)
        counted = max(before.counted, counted)
        found[index] = IndexFailures(
            counted,
            max(before.ignored, ignored),
            max(before.last_s, end_s),
            before.is_over or action is Action.FAIL_INDEX or counted > limit,
        )
    found.pop(-1, None)
    return found


def _number(pod: Object, annotation: str) -> int:
    text = meta.annotations(pod).get(annotation, "")
    return int(text) if text.isdigit() else 0
