"""Makes a Job of each start of a schedule.

A look: strike Jobs that have ended off `status.active`, find the start that is due (`cron_starts.py`), heed
suspend, the deadline and the concurrency policy, make the Job, remove old ones, and write down what is seen.
A Job's name is told by its start's minute, so a look on an old copy, or a second controller, finds the name
taken instead of making the start twice.
Source: Kubernetes' cronjob_controllerv2.go, of which the events' words are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from email.utils import format_datetime
from typing import Any

from gitkube.api.client import Propagation
from gitkube.api.errors import StatusError, is_already_exists, is_conflict, is_not_found
from gitkube.clock import rfc3339
from gitkube.control.context import BY_CONTROLLER, Context, Controller, controller_key
from gitkube.control.cron_starts import MANY_MISSED, job_for, job_name, starts, until_next_s, zone_of
from gitkube.control.job import finished_at_s
from gitkube.control.pod_control import is_namespace_ending
from gitkube.objects import conditions, meta
from gitkube.objects.cron import Schedule, parse_schedule
from gitkube.objects.kinds import CRON_JOB, JOB
from gitkube.objects.types import Object

STALE_RETRY_S = 1.0
"""When the CronJob changed under us; its event normally comes first."""


@dataclass(slots=True)
class Look:
    """One look at one CronJob: what its status will say."""

    cron_job: Object
    active: list[Object]
    last_schedule: str
    last_successful: str
    is_changed: bool = False
    again_s: float | None = None
    failure: StatusError | None = None
    jobs: Sequence[Object] = field(default_factory=tuple)

    def status(self) -> dict[str, Any]:
        return {
            "active": self.active or None,
            "lastScheduleTime": self.last_schedule or None,
            "lastSuccessfulTime": self.last_successful or None,
        }

    def drop(self, uid: str) -> None:
        self.active = [one for one in self.active if one.get("uid") != uid]
        self.is_changed = True


class CronJobController(Controller):
    name = "cronjob-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._cron_jobs = context.informer(CRON_JOB)
        self._jobs = context.informer(JOB)
        self._events = context.recorder(self.name)
        self._cron_jobs.add_handler(self.enqueue_changed)
        self._jobs.add_handler(self._on_job)

    async def reconcile(self, key: str) -> float | None:
        """One look at one CronJob."""
        namespace, name = meta.split_key(key)
        cron_job = self._cron_jobs.get(name, namespace)
        if cron_job is None:
            return None
        status = cron_job.get("status") or {}
        look = Look(
            cron_job,
            list(status.get("active") or ()),
            str(status.get("lastScheduleTime") or ""),
            str(status.get("lastSuccessfulTime") or ""),
            jobs=self._jobs.by_index(BY_CONTROLLER, controller_key(namespace, meta.uid(cron_job))),
        )
        await self._note_ended(look)
        if not meta.is_deleting(cron_job) and not cron_job["spec"].get("suspend"):
            await self._start_due(look)
        await self._remove_old(look)
        if look.is_changed and not await self._write_status(look):
            return STALE_RETRY_S
        if look.failure is not None:
            raise look.failure
        return look.again_s

    # ------------------------------------------------------------------ what has ended

    async def _note_ended(self, look: Look) -> None:
        listed = {str(one.get("uid")) for one in look.active}
        for job in look.jobs:
            ending = ending_of(job)
            if meta.uid(job) in listed and ending:
                look.drop(meta.uid(job))
                text = f"Saw completed job: {meta.name(job)}, condition: {ending}"
                await self._events.event(look.cron_job, "Normal", "SawCompletedJob", text)
            elif meta.uid(job) not in listed and not ending:
                await self._note_unlisted(look, job)
            if ending == "Complete":
                self._note_success(look, job)
        seen = {meta.uid(job) for job in look.jobs}
        for entry in [one for one in look.active if one.get("uid") not in seen]:
            # The copy may lag: only what the API does not have either is gone.
            if not await self._exists(entry):
                look.drop(str(entry.get("uid")))
                text = f"Active job went missing: {entry.get('name')}"
                await self._events.event(look.cron_job, "Normal", "MissingJob", text)

    async def _note_unlisted(self, look: Look, job: Object) -> None:
        """A running Job that the status does not name: the copy lags, or somebody else made it."""
        try:
            current = await self.client.get(CRON_JOB, meta.name(look.cron_job), meta.namespace(look.cron_job))
        except StatusError as error:
            if is_not_found(error):
                return
            raise
        listed = {one.get("uid") for one in (current.get("status") or {}).get("active") or ()}
        if meta.uid(job) not in listed:
            text = f"Saw a job that the controller did not create or forgot: {meta.name(job)}"
            await self._events.event(look.cron_job, "Warning", "UnexpectedJob", text)

    def _note_success(self, look: Look, job: Object) -> None:
        completed = str((job.get("status") or {}).get("completionTime") or "")
        if completed and meta.time_s(completed) > meta.time_s(look.last_successful):
            look.last_successful = completed
            look.is_changed = True

    async def _exists(self, entry: Object) -> bool:
        try:
            job = await self.client.get(JOB, str(entry.get("name")), str(entry.get("namespace")))
        except StatusError as error:
            if is_not_found(error):
                return False
            raise
        return meta.uid(job) == entry.get("uid")

    # ------------------------------------------------------------------ what is to start

    async def _start_due(self, look: Look) -> None:
        cron_job, now_s = look.cron_job, self.clock.now()
        read = await self._read_schedule(cron_job)
        if read is None:
            return
        schedule, zone = read
        try:
            found = starts(cron_job, schedule, zone, now_s)
            look.again_s = until_next_s(cron_job, schedule, zone, now_s)
        except ValueError as error:
            text = f"invalid schedule: {cron_job['spec']['schedule']} : {error}"
            await self._events.event(cron_job, "Warning", "InvalidSchedule", text)
            return
        if found.due_s is None:
            return
        if found.missed > MANY_MISSED:
            text = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check "
            await self._events.event(cron_job, "Warning", "TooManyMissedTimes", f"{text}clock skew")
        deadline_s = cron_job["spec"].get("startingDeadlineSeconds")
        if deadline_s is not None and found.due_s + float(deadline_s) < now_s:
            moment = format_datetime(datetime.fromtimestamp(found.due_s, UTC))
            text = f"Missed scheduled time to start a job: {moment}"
            await self._events.event(cron_job, "Warning", "MissSchedule", text)
            return
        wanted = job_name(cron_job, found.due_s)
        if any(one.get("name") == wanted for one in look.active):
            return
        if meta.time_s(look.last_schedule) == found.due_s:
            return
        if await self._may_start(look):
            await self._start(look, found.due_s, zone)

    async def _read_schedule(self, cron_job: Object) -> tuple[Schedule, tzinfo] | None:
        spec = cron_job["spec"]
        try:
            zone = zone_of(cron_job)
        except ValueError as error:
            text = f'invalid timeZone: "{spec.get("timeZone")}": {error}'
            await self._events.event(cron_job, "Warning", "UnknownTimeZone", text)
            return None
        try:
            return parse_schedule(spec["schedule"]), zone
        except ValueError as error:
            text = f'unparseable schedule: "{spec["schedule"]}" : {error}'
            await self._events.event(cron_job, "Warning", "UnparseableSchedule", text)
            return None

    async def _may_start(self, look: Look) -> bool:
        """What the concurrency policy says, and does."""
        policy = look.cron_job["spec"].get("concurrencyPolicy")
        if policy == "Forbid" and look.active:
            text = "Not starting job because prior execution is running and concurrency policy is Forbid"
            await self._events.event(look.cron_job, "Normal", "JobAlreadyActive", text)
            return False
        if policy == "Replace":
            for entry in look.active:
                if not await self._delete(look, str(entry.get("name")), str(entry.get("uid"))):
                    return False
        return True

    async def _start(self, look: Look, start_s: float, zone: tzinfo) -> None:
        cron_job = look.cron_job
        wanted = job_for(cron_job, start_s, zone)
        try:
            job = await self.client.create(JOB, wanted)
            text = f"Created job {meta.name(job)}"
            await self._events.event(cron_job, "Normal", "SuccessfulCreate", text)
        except StatusError as error:
            if is_namespace_ending(error):
                return
            if not is_already_exists(error):
                text = f"Error creating job: {error.message}"
                await self._events.event(cron_job, "Warning", "FailedCreate", text)
                look.failure = error
                return
            # Made by an earlier look whose note was lost, or by somebody else, whose it stays.
            job = await self.client.get(JOB, meta.name(wanted), meta.namespace(wanted))
            if not meta.is_controlled_by(job, cron_job):
                return
        if not ending_of(job):
            look.active = [*look.active, reference_to(job)]
        look.last_schedule = rfc3339(start_s)
        look.is_changed = True

    # ------------------------------------------------------------------ what is to go

    async def _remove_old(self, look: Look) -> None:
        spec = look.cron_job["spec"]
        for ending, limit in (
            ("Complete", spec.get("successfulJobsHistoryLimit")),
            ("Failed", spec.get("failedJobsHistoryLimit")),
        ):
            if limit is None:
                continue
            ended = [job for job in look.jobs if ending_of(job) == ending and not meta.is_deleting(job)]
            surplus = len(ended) - int(limit)
            for job in sorted(ended, key=_age_key)[: max(surplus, 0)]:
                await self._delete(look, meta.name(job), meta.uid(job))

    async def _delete(self, look: Look, name: str, uid: str) -> bool:
        namespace = meta.namespace(look.cron_job)
        try:
            await self.client.delete(JOB, name, namespace, uid=uid, propagation=Propagation.BACKGROUND)
        except StatusError as error:
            if not is_not_found(error) and not is_conflict(error):
                text = f"Deleted job: {error.message}"
                await self._events.event(look.cron_job, "Warning", "FailedDelete", text)
                look.failure = error
                return False
        if any(one.get("uid") == uid for one in look.active):
            look.drop(uid)
        await self._events.event(look.cron_job, "Normal", "SuccessfulDelete", f"Deleted job {name}")
        return True

    async def _write_status(self, look: Look) -> bool:
        """False: it changed meanwhile, and the next look has to see that first."""
        cron_job = look.cron_job
        metadata = {"uid": meta.uid(cron_job), "resourceVersion": meta.resource_version(cron_job)}
        patch = {"metadata": metadata, "status": look.status()}
        try:
            await self.client.patch(
                CRON_JOB, meta.name(cron_job), meta.namespace(cron_job), patch, subresource="status"
            )
        except StatusError as error:
            if is_not_found(error):
                return True
            if is_conflict(error):
                return False
            raise
        return True

    def _on_job(self, before: Object | None, after: Object | None) -> None:
        job = after if after is not None else before
        assert job is not None
        controller = meta.controller_of(job)
        if controller is not None and controller.get("kind") == CRON_JOB.kind:
            self.queue.add(meta.key_of(meta.namespace(job), str(controller["name"])))


def ending_of(job: Object) -> str:
    """Complete or Failed; "" while it goes on."""
    if finished_at_s(job) is None:
        return ""
    return "Complete" if conditions.is_true(job, "Complete") else "Failed"


def reference_to(job: Object) -> Object:
    """What `status.active` says of a Job."""
    return {
        "apiVersion": JOB.api_version,
        "kind": JOB.kind,
        "namespace": meta.namespace(job),
        "name": meta.name(job),
        "uid": meta.uid(job),
        "resourceVersion": meta.resource_version(job),
    }


def _age_key(job: Object) -> tuple[float, str]:
    """The oldest first."""
    started = meta.time_s((job.get("status") or {}).get("startTime"))
    return (started or meta.created_at_s(job), meta.name(job))
