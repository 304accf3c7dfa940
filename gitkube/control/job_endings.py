"""Whether a Job is over, and why. Pure.

An end comes in two steps. First the decision, the condition `FailureTarget` or `SuccessCriteriaMet`, and the
last pods are stopped; when none is left, `Failed` or `Complete`. So whoever sees a Job that is over sees one
whose pods are over, too. A decision that is written down stays, whatever the pods say afterwards.
Source: Kubernetes' job_controller.go and job/success_policy.go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gitkube.control.job_failures import has_limit_per_index
from gitkube.control.job_status import (
    Tally,
    completions,
    deadline_left_s,
    has_restarted_too_often,
    is_indexed,
    parse_indexes,
)
from gitkube.objects import conditions
from gitkube.objects.types import Object


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a Job is over."""

    is_complete: bool
    reason: str
    message: str


def ending(job: Object, done: Tally, active: Sequence[Object], now_s: float) -> Ending | None:
    """Whether the Job is over, and why."""
    return (
        _decided(job)
        or _failed(job, done, active, now_s)
        or _succeeded_by_policy(job, done)
        or _failed_by_index(job, done)
        or _complete(job, done, active)
    )


def _decided(job: Object) -> Ending | None:
    for type_, is_complete in (("FailureTarget", False), ("SuccessCriteriaMet", True)):
        condition = conditions.get_condition(job, type_)
        if condition is not None and condition.get("status") == conditions.TRUE:
            return Ending(
                is_complete, str(condition.get("reason") or ""), str(condition.get("message") or "")
            )
    return None


def _failed(job: Object, done: Tally, active: Sequence[Object], now_s: float) -> Ending | None:
    if done.fatal:
        return Ending(False, "PodFailurePolicy", done.fatal)
    limit = job["spec"].get("backoffLimit", 6)
    if done.failed > limit or has_restarted_too_often(job, active, limit):
        return Ending(False, "BackoffLimitExceeded", "Job has reached the specified backoff limit")
    deadline_left = deadline_left_s(job, now_s)
    if deadline_left is not None and deadline_left <= 0:
        return Ending(False, "DeadlineExceeded", "Job was active longer than specified deadline")
    return None


def _succeeded_by_policy(job: Object, done: Tally) -> Ending | None:
    """The first rule of the successPolicy that is met."""
    if not is_indexed(job):
        return None
    for number, rule in enumerate((job["spec"].get("successPolicy") or {}).get("rules") or ()):
        meant = done.completed_indexes
        wanted = rule.get("succeededCount")
        if rule.get("succeededIndexes") is not None:
            named = parse_indexes(rule["succeededIndexes"])
            meant = meant & named
            wanted = len(named) if wanted is None else wanted
        if wanted is not None and len(meant) >= int(wanted):
            return Ending(True, "SuccessPolicy", f"Matched rules at index {number}")
    return None


def _failed_by_index(job: Object, done: Tally) -> Ending | None:
    if not has_limit_per_index(job):
        return None
    most = job["spec"].get("maxFailedIndexes")
    if most is not None and len(done.failed_indexes) > int(most):
        text = "Job has exceeded the specified maximal number of failed indexes"
        return Ending(False, "MaxFailedIndexesExceeded", text)
    tried = len(done.completed_indexes) + len(done.failed_indexes)
    if done.failed_indexes and tried >= (completions(job) or 0):
        return Ending(False, "FailedIndexes", "Job has failed indexes")
    return None


def _complete(job: Object, done: Tally, active: Sequence[Object]) -> Ending | None:
    wanted = completions(job)
    if wanted is None:
        is_complete = done.succeeded > 0 and not active
    else:
        is_complete = done.succeeded >= wanted
    if is_complete:
        return Ending(True, "CompletionsReached", "Reached expected number of succeeded pods")
    return None
