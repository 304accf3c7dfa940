"""The arithmetic of Jobs: what has been done, and how many pods should run. Pure.

A pod that ended is counted once and for ever: the status keeps the totals, and beside them the uids of
counted pods that still exist (in `uncountedTerminatedPods`, the field Kubernetes has for this bookkeeping). A
pod that is new in the copy and ended is added to the total; one that was deleted since leaves the list, not
the total. So deleting a finished pod, or restarting the controller, never runs work twice.

Invariant: succeeded and failed never go down.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gitkube.control.job_failures import (
    Action,
    IndexFailures,
    failures_by_index,
    has_limit_per_index,
    index_of,
    verdict,
)
from gitkube.objects import meta, pods
from gitkube.objects.types import Object

FIRST_BACKOFF_S = 10.0
MAX_BACKOFF_S = 600.0
MAX_REMEMBERED = 10_000
"""Counted pods that still exist; far more than pods are kept."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What has been done so far."""

    succeeded: int
    failed: int
    counted_succeeded: tuple[str, ...]
    counted_failed: tuple[str, ...]
    completed_indexes: frozenset[int] = frozenset()
    failed_indexes: frozenset[int] = frozenset()
    """Indexes that are not tried again."""
    failures: Mapping[int, IndexFailures] = field(default_factory=dict)
    """Of each index that has a limit of its own."""
    fatal: str = ""
    """Why a rule of the podFailurePolicy ends the Job."""


def tally(job: Object, owned: Sequence[Object]) -> Tally:
    """Bring the stored totals up to date with the pods there are."""
    status = job.get("status") or {}
    counted = status.get("uncountedTerminatedPods") or {}
    ended_well = [pod for pod in owned if pods.phase(pod) == "Succeeded"]
    ended_badly = sorted((pod for pod in owned if pods.phase(pod) == "Failed"), key=finished_at_s)
    verdicts = [verdict(job, pod) for pod in ended_badly]
    to_count = [
        pod for pod, one in zip(ended_badly, verdicts, strict=True) if one.action is not Action.IGNORE
    ]
    fatal = next((one.message for one in verdicts if one.action is Action.FAIL_JOB), "")
    succeeded, counted_succeeded = _count(status.get("succeeded"), counted.get("succeeded"), ended_well)
    failed, counted_failed = _count(status.get("failed"), counted.get("failed"), to_count)
    if not is_indexed(job):
        return Tally(succeeded, failed, counted_succeeded, counted_failed, fatal=fatal)
    done = parse_indexes(status.get("completedIndexes") or "")
    done |= {index for pod in ended_well if (index := index_of(pod)) >= 0}
    done = {index for index in done if index < (completions(job) or 0)}
    failures: dict[int, IndexFailures] = {}
    given_up: set[int] = set()
    if has_limit_per_index(job):
        failures = failures_by_index(job, ended_badly, map(finished_at_s, ended_badly))
        given_up = parse_indexes(status.get("failedIndexes") or "")
        given_up |= {index for index, one in failures.items() if one.is_over}
    return Tally(
        len(done),
        failed,
        counted_succeeded,
        counted_failed,
        frozenset(done),
        frozenset(given_up - done),
        failures,
        fatal,
    )


def _count(total: Any, counted: Iterable[str] | None, ended: Sequence[Object]) -> tuple[int, tuple[str, ...]]:
    known = set(counted or ())
    uids = [meta.uid(pod) for pod in ended]
    fresh = sum(uid not in known for uid in uids)
    return int(total or 0) + fresh, tuple(sorted(uids)[:MAX_REMEMBERED])


def wanted_active(job: Object, done: Tally, active: int) -> int:
    """How many pods should run now."""
    if is_suspended(job):
        return 0
    parallelism = job["spec"].get("parallelism")
    parallelism = 1 if parallelism is None else int(parallelism)
    wanted = completions(job)
    if wanted is None:
        # A work queue: once one pod has found it empty, no new ones are started.
        return min(active, parallelism) if done.succeeded else parallelism
    return min(parallelism, max(wanted - done.succeeded - len(done.failed_indexes), 0))


def terminating(owned: Iterable[Object]) -> list[Object]:
    """Pods that are being deleted and have not ended yet."""
    return [pod for pod in owned if meta.is_deleting(pod) and not pods.is_terminal(pod)]


def waits_for_the_last(job: Object) -> bool:
    """Whether a pod is replaced only when it has ended, not when it is being deleted."""
    return bool(job["spec"].get("podReplacementPolicy") == "Failed")


def missing_indexes(job: Object, done: Tally, taken: Sequence[Object], count: int, now_s: float) -> list[int]:
    """The first indexes that are neither done, nor given up, nor under way, and have waited long enough.

    Args:
        taken: pods whose indexes are under way.
    """
    under_way = {index_of(pod) for pod in taken} | done.failed_indexes
    under_way |= {index for index, one in done.failures.items() if _index_ready_s(one) > now_s}
    found: list[int] = []
    for index in range(completions(job) or 0):
        if len(found) >= count:
            break
        if index not in done.completed_indexes and index not in under_way:
            found.append(index)
    return found


def backoff_left_s(owned: Sequence[Object], now_s: float) -> float:
    """How long to wait before the next pod, after failures since the last success."""
    last_success = max((finished_at_s(pod) for pod in owned if pods.phase(pod) == "Succeeded"), default=0.0)
    failures = [finished_at_s(pod) for pod in owned if pods.phase(pod) == "Failed"]
    recent = [at for at in failures if at > last_success]
    if not recent:
        return 0.0
    return max(max(recent) + _pause_s(len(recent)) - now_s, 0.0)


def index_backoff_left_s(done: Tally, now_s: float) -> float | None:
    """When the next index that waits may be tried again; None: none waits."""
    waits = [
        _index_ready_s(one) - now_s
        for index, one in done.failures.items()
        if index not in done.failed_indexes and index not in done.completed_indexes
    ]
    return min((left_s for left_s in waits if left_s > 0), default=None)


def _index_ready_s(failures: IndexFailures) -> float:
    return failures.last_s + _pause_s(max(failures.counted + failures.ignored, 1))


def _pause_s(failures: int) -> float:
    return min(FIRST_BACKOFF_S * 2.0 ** min(failures - 1, 16), MAX_BACKOFF_S)


def finished_at_s(pod: Object) -> float:
    """When the pod ended, as well as its status says."""
    ends = [
        meta.time_s((one.get("state") or {}).get("terminated", {}).get("finishedAt"))
        for one in pods.status(pod).get("containerStatuses") or ()
    ]
    transitions = [
        meta.time_s(one.get("lastTransitionTime")) for one in pods.status(pod).get("conditions") or ()
    ]
    return max([end for end in ends if end] or [one for one in transitions if one] or [0.0]) or (
        meta.created_at_s(pod)
    )


def deadline_left_s(job: Object, now_s: float) -> float | None:
    """How long the Job may still be active; None for ever."""
    deadline = job["spec"].get("activeDeadlineSeconds")
    started = meta.time_s((job.get("status") or {}).get("startTime"))
    if deadline is None or not started or is_suspended(job):
        return None
    return started + float(deadline) - now_s


def ttl_left_s(job: Object, finished_s: float, now_s: float) -> float | None:
    """How long a finished Job is kept; None for ever."""
    ttl = job["spec"].get("ttlSecondsAfterFinished")
    return None if ttl is None else finished_s + float(ttl) - now_s


def completions(job: Object) -> int | None:
    """How many pods must succeed; None for a work queue."""
    value = job["spec"].get("completions")
    return None if value is None else int(value)


def is_indexed(job: Object) -> bool:
    return bool(job["spec"].get("completionMode") == "Indexed")


def is_suspended(job: Object) -> bool:
    return bool(job["spec"].get("suspend"))


def parse_indexes(text: str) -> set[int]:
    """`1,3-5,7` as numbers."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


def format_indexes(indexes: Iterable[int]) -> str:
    """Numbers as `1,3-5,7` (two neighbours stay apart by a comma, as in Kubernetes)."""
    parts: list[str] = []
    run: list[int] = []
    for index in [*sorted(indexes), None]:
        if run and index == run[-1] + 1:
            run.append(index)
            continue
        if len(run) > 2:
            parts.append(f"{run[0]}-{run[-1]}")
        else:
            parts.extend(str(one) for one in run)
        run = [index] if index is not None else []
    return ",".join(parts)


def has_restarted_too_often(job: Object, active: Sequence[Object], limit: int) -> bool:
    """With restartPolicy OnFailure a pod never fails; its containers' restarts count instead."""
    template: Mapping[str, Any] = (job["spec"].get("template") or {}).get("spec") or {}
    if template.get("restartPolicy") != "OnFailure":
        return False
    restarts = sum(pods.restarts(pod) for pod in active)
    return restarts > 0 if limit == 0 else restarts >= limit
