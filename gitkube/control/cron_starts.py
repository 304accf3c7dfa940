"""Which start of a CronJob is due, and when to look again. Pure.

What counts is the last start that was due: those before it that nobody made are missed, and not made up for.
The search begins at the last start that was made (or the CronJob's creation), but not before the starting
deadline. More than a hundred missed ones are not counted one by one; they are said to be many, as that hints
at a clock that jumped or a controller that was away. Source: Kubernetes' cronjob/utils.go.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, tzinfo

from gitkube.clock import rfc3339
from gitkube.objects import meta
from gitkube.objects.cron import Schedule, next_start_s, zone_named
from gitkube.objects.types import Object

MANY_MISSED = 100
SCHEDULED_AT = "batch.kubernetes.io/cronjob-scheduled-timestamp"
LATE_S = 0.1
"""Looking a moment after the start instead of a moment before."""


@dataclass(frozen=True, slots=True)
class Starts:
    """What a schedule comes to at a moment."""

    due_s: float | None
    """The last start that is due and was not made; None: there is none."""
    missed: int
    """How many starts are due, this one included; beyond MANY_MISSED an estimate."""


def zone_of(cron_job: Object) -> tzinfo:
    """The zone that the schedule is meant in; UTC unless it says.

    Raises:
        ValueError: there is no such zone in this host's tables.
    """
    return zone_named(cron_job["spec"].get("timeZone") or "")


def starts(
    cron_job: Object, schedule: Schedule, zone: tzinfo, now_s: float, *, heeds_deadline: bool = True
) -> Starts:
    """The start that is due now.

    Args:
        heeds_deadline: leave out what is later than startingDeadlineSeconds.

    Raises:
        ValueError: the schedule's starts are less than a second apart.
    """
    earliest_s = earliest(cron_job)
    deadline_s = cron_job["spec"].get("startingDeadlineSeconds")
    if heeds_deadline and deadline_s is not None:
        earliest_s = max(earliest_s, now_s - float(deadline_s))
    first_s = next_start_s(schedule, earliest_s, zone)
    if first_s is None or now_s < first_s:
        return Starts(None, 0)
    second_s = next_start_s(schedule, first_s, zone)
    if second_s is None or now_s < second_s:
        return Starts(first_s, 1)
    pause_s = round(second_s - first_s)
    if pause_s < 1:
        raise ValueError("time difference between two schedules is less than 1 second")
    missed = int((now_s - first_s) // pause_s) + 1
    due_s = first_s
    if schedule.pause_s:
        due_s = first_s + (missed - 1) * schedule.pause_s
    elif missed > MANY_MISSED:
        # Back from now in doubling steps until a start is found: pauses may be of any length.
        back_s = pause_s
        while back_s < now_s - first_s:
            found_s = next_start_s(schedule, now_s - back_s, zone)
            if found_s is not None and found_s <= now_s:
                due_s = found_s
                break
            back_s *= 2
    while (following_s := next_start_s(schedule, due_s, zone)) is not None and following_s <= now_s:
        due_s = following_s
    return Starts(due_s, missed)


def until_next_s(cron_job: Object, schedule: Schedule, zone: tzinfo, now_s: float) -> float | None:
    """In how many seconds the next start is due; None: never."""
    found = starts(cron_job, schedule, zone, now_s, heeds_deadline=False)
    base_s = now_s if found.missed > MANY_MISSED else found.due_s or earliest(cron_job)
    next_s = next_start_s(schedule, base_s, zone)
    return None if next_s is None else max(next_s - now_s, 0.0) + LATE_S


def earliest(cron_job: Object) -> float:
    """From when on starts count: the last that was made, or the creation."""
    last_s = meta.time_s((cron_job.get("status") or {}).get("lastScheduleTime"))
    return last_s or meta.created_at_s(cron_job)


def job_name(cron_job: Object, start_s: float) -> str:
    """The name of a start's Job: told by the minute, so that no start is made twice."""
    return f"{meta.name(cron_job)}-{int(start_s) // 60}"


def job_for(cron_job: Object, start_s: float, zone: tzinfo) -> Object:
    """The Job that a start makes."""
    template = cron_job["spec"].get("jobTemplate") or {}
    metadata = template.get("metadata") or {}
    moment = datetime.fromtimestamp(int(start_s), zone)
    at = rfc3339(start_s) if not moment.utcoffset() else moment.isoformat()
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job_name(cron_job, start_s),
            "namespace": meta.namespace(cron_job),
            "labels": dict(metadata.get("labels") or {}),
            "annotations": {**(metadata.get("annotations") or {}), SCHEDULED_AT: at},
            "ownerReferences": [meta.owner_reference(cron_job)],
        },
        "spec": template.get("spec") or {},
    }
