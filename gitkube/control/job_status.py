"""The arithmetic of Jobs: what has been done, how many pods should run, whether it is over. Pure.

A pod that ended is counted once and for ever: the status keeps the totals, and beside them the uids of
counted pods that still exist (in `uncountedTerminatedPods`, the field Kubernetes has for this bookkeeping). A
pod that is new in the copy and ended is added to the total; one that was deleted since leaves the list, not
the total. So deleting a finished pod, or restarting the controller, never runs work twice.

Invariant: succeeded and failed never go down.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gitkube.objects import meta, pods
from gitkube.objects.types import Object

INDEX = "batch.kubernetes.io/job-completion-index"
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


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a Job is over."""

    is_complete: bool
    reason: str
    message: str


def tally(job: Object, owned: Sequence[Object]) -> Tally:
    """Bring the stored totals up to date with the pods there are."""
    status = job.get("status") or {}
    counted = status.get("uncountedTerminatedPods") or {}
    succeeded = _count(status.get("succeeded"), counted.get("succeeded"), owned, "Succeeded")
    failed = _count(status.get("failed"), counted.get("failed"), owned, "Failed")
    if is_indexed(job):
        done = parse_indexes(status.get("completedIndexes") or "")
        done |= {index for pod in owned if pods.phase(pod) == "Succeeded" and (index := index_of(pod)) >= 0}
        done = {index for index in done if index < (completions(job) or 0)}
        return Tally(len(done), failed[0], succeeded[1], failed[1], frozenset(done))
    return Tally(succeeded[0], failed[0], succeeded[1], failed[1])


def _count(
    total: Any, counted: Iterable[str] | None, owned: Sequence[Object], phase: str
) -> tuple[int, tuple[str, ...]]:
    known = set(counted or ())
    ended = [meta.uid(pod) for pod in owned if pods.phase(pod) == phase]
    fresh = sum(uid not in known for uid in ended)
    return int(total or 0) + fresh, tuple(sorted(ended)[:MAX_REMEMBERED])


def ending(job: Object, done: Tally, active: Sequence[Object], now_s: float) -> Ending | None:
    """Whether the Job is over, and why."""
    spec = job["spec"]
    limit = spec.get("backoffLimit", 6)
    if done.failed > limit or _has_restarted_too_often(job, active, limit):
        return Ending(False, "BackoffLimitExceeded", "Job has reached the specified backoff limit")
    deadline_left = deadline_left_s(job, now_s)
    if deadline_left is not None and deadline_left <= 0:
        return Ending(False, "DeadlineExceeded", "Job was active longer than specified deadline")
    wanted = completions(job)
    if wanted is None:
        is_complete = done.succeeded > 0 and not active
    else:
        is_complete = done.succeeded >= wanted
    if is_complete:
        return Ending(True, "CompletionsReached", "Reached expected number of succeeded pods")
    return None


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
    return min(parallelism, max(wanted - done.succeeded, 0))


def missing_indexes(job: Object, done: Tally, active: Sequence[Object], count: int) -> list[int]:
    """The first indexes that are neither done nor under way."""
    under_way = {index_of(pod) for pod in active}
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
    pause_s = min(FIRST_BACKOFF_S * 2.0 ** min(len(recent) - 1, 16), MAX_BACKOFF_S)
    return max(max(recent) + pause_s - now_s, 0.0)


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


def index_of(pod: Object) -> int:
    """A pod's completion index; -1 without."""
    text = meta.annotations(pod).get(INDEX, "")
    return int(text) if text.isdigit() else -1


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


def _has_restarted_too_often(job: Object, active: Sequence[Object], limit: int) -> bool:
    """With restartPolicy OnFailure a pod never fails; its containers' restarts count instead."""
    template: Mapping[str, Any] = (job["spec"].get("template") or {}).get("spec") or {}
    if template.get("restartPolicy") != "OnFailure":
        return False
    restarts = sum(pods.restarts(pod) for pod in active)
    return restarts > 0 if limit == 0 else restarts >= limit
