"""sig-apps: Jobs and CronJobs."""

from __future__ import annotations

import datetime
from typing import Any

from tests.conformance.api import MERGE_PATCH, STRATEGIC_PATCH, Object, at
from tests.conformance.checks.common import (
    condition,
    eviction,
    job,
    lifecycle,
    phase,
    pod_spec,
    pods_of,
    until_pods,
)
from tests.conformance.harness import Trial, check, require

JOBS = "batch/v1/jobs"
CRON_JOBS = "batch/v1/cronjobs"
INDEX = "batch.kubernetes.io/job-completion-index"
LONG = {"hollow.gitkube.dev/run-ms": "600000"}


def _ended(kind: str) -> Any:
    return lambda one: condition(one, kind).get("status") == "True"


async def _until_complete(t: Trial, name: str) -> Object:
    return await t.until_object(f"job {name} is complete", at(JOBS, t.namespace, name), _ended("Complete"))


async def _until_failed(t: Trial, name: str) -> Object:
    return await t.until_object(f"job {name} has failed", at(JOBS, t.namespace, name), _ended("Failed"))


async def _job_pods(t: Trial, name: str) -> list[Object]:
    return await t.api.items(at("v1/pods", t.namespace), labelSelector=f"batch.kubernetes.io/job-name={name}")


@check("Job should run a job to completion when tasks sometimes fail and are locally restarted")
async def restarted_tasks_complete(t: Trial) -> None:
    await t.hosts()
    obj = job("restarting", "exit 0", completions=4, parallelism=2)
    obj["spec"]["template"]["spec"]["restartPolicy"] = "OnFailure"
    await t.api.create(at(JOBS, t.namespace), obj)
    done = await _until_complete(t, "restarting")
    require(done["status"]["succeeded"] == 4, f"{done['status']['succeeded']} of 4 succeeded")
    require(len(await _job_pods(t, "restarting")) == 4, "there are more pods than completions")


@check("Job should create pods for an Indexed job with completion indexes and specified hostname")
async def each_pod_has_its_index(t: Trial) -> None:
    await t.hosts()
    obj = job("indexed", "exit 0", completions=4, parallelism=2, completionMode="Indexed")
    await t.api.create(at(JOBS, t.namespace), obj)
    await _until_complete(t, "indexed")
    pods = await _job_pods(t, "indexed")
    found = sorted(one["metadata"]["annotations"][INDEX] for one in pods)
    require(found == ["0", "1", "2", "3"], f"the indexes are {found}")
    for one in pods:
        index = one["metadata"]["annotations"][INDEX]
        require(
            one["spec"]["hostname"] == f"indexed-{index}", f"index {index} is {one['spec'].get('hostname')}"
        )
        env = {var["name"]: var for var in one["spec"]["containers"][0].get("env", ())}
        require("JOB_COMPLETION_INDEX" in env, "the index is not in the environment")


@check("Job should adopt matching orphans and release non-matching pods")
async def a_job_adopts_and_releases(t: Trial) -> None:
    await t.hosts()
    await t.api.create(at(JOBS, t.namespace), job("adopting", annotations=LONG, parallelism=2, completions=2))

    async def active() -> list[Object]:
        return [one for one in await _job_pods(t, "adopting") if one["metadata"].get("ownerReferences")]

    async def two() -> bool:
        return len(await active()) == 2

    await t.until("two pods are there", two)
    first = (await active())[0]
    path = at("v1/pods", t.namespace, first["metadata"]["name"])
    await t.api.patch(path, {"metadata": {"ownerReferences": None}}, MERGE_PATCH)
    await t.until_object("the orphan is adopted", path, lambda one: one["metadata"].get("ownerReferences"))
    labels = dict.fromkeys(first["metadata"]["labels"], None)
    await t.api.patch(path, {"metadata": {"labels": labels}}, MERGE_PATCH)
    await t.until_object("the pod is released", path, lambda one: not one["metadata"].get("ownerReferences"))


@check("Job should delete a job")
async def a_deleted_job_takes_its_pods(t: Trial) -> None:
    obj = job("deleted", annotations=LONG, parallelism=2, completions=2)
    obj["spec"]["template"]["metadata"]["labels"] = {"app": "deleted"}
    await t.api.create(at(JOBS, t.namespace), obj)
    await until_pods(t, "deleted", 2)
    path = at(JOBS, t.namespace, "deleted")
    await t.api.delete(path, {"propagationPolicy": "Foreground"})
    await t.until_gone(path)
    require(not await pods_of(t, "deleted"), "pods are left")


@check("Job should apply changes to a job status")
async def a_jobs_status_is_changed(t: Trial) -> None:
    await t.api.create(at(JOBS, t.namespace), job("status", annotations=LONG, suspend=True))
    one = {"type": "CustomConditionType", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    path = at(JOBS, t.namespace, "status")
    await t.until_object("it is suspended", path, _ended("Suspended"))
    read = await t.api.get(f"{path}/status")
    read["status"]["conditions"].append(one)
    updated = await t.api.put(f"{path}/status", read)
    require(condition(updated, "CustomConditionType"), "an update of the status was lost")
    again = {**one, "type": "AnotherConditionType"}
    patch = {"metadata": {"annotations": {"patchedstatus": "true"}}, "status": {"conditions": [again]}}
    patched = await t.api.patch(f"{path}/status", patch, MERGE_PATCH)
    require(condition(patched, "AnotherConditionType"), "a patch of the status was lost")
    require(patched["metadata"]["annotations"]["patchedstatus"] == "true", "the annotation was lost")


@check("Job should manage the lifecycle of a job")
async def a_jobs_life(t: Trial) -> None:
    await t.hosts()
    mark = t.unique("job")
    obj = job("life", completions=2, parallelism=2, suspend=True)
    obj["metadata"]["labels"] = {mark: "true"}
    path = at(JOBS, t.namespace, "life")
    async with t.api.watch(at(JOBS, t.namespace), labelSelector=f"{mark}=true") as watch:
        await t.api.create(at(JOBS, t.namespace), obj)
        await watch.expect("ADDED", name="life")
        await t.until_object("it is suspended", path, _ended("Suspended"))
        require(not await _job_pods(t, "life"), "a suspended job has pods")
        await t.api.patch(path, {"metadata": {"labels": {"patched": "yes"}}}, STRATEGIC_PATCH)
        read = await t.api.get(path)
        read["metadata"]["annotations"] = {"updated": "true"}
        read["spec"]["suspend"] = False
        await t.api.put(path, read)
        await _until_complete(t, "life")
        listed = await t.api.items(at(JOBS), labelSelector=f"{mark}=true")
        require(len(listed) == 1, "it is not listed in all namespaces")
        policy = {"propagationPolicy": "Background"}
        await t.api.delete(at(JOBS, t.namespace), policy, labelSelector=f"{mark}=true")
        await watch.until("DELETED", "life")


@check("should allow to use the pod failure policy on exit code to fail the job early")
async def an_exit_code_fails_the_job(t: Trial) -> None:
    await t.hosts()
    rule = {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}
    obj = job("early", "exit 42", completions=4, parallelism=2, podFailurePolicy={"rules": [rule]})
    await t.api.create(at(JOBS, t.namespace), obj)
    failed = await _until_failed(t, "early")
    require(
        condition(failed, "Failed")["reason"] == "PodFailurePolicy",
        f"it failed for {condition(failed, 'Failed')}",
    )


@check("should allow to use a pod failure policy to ignore failure matching on DisruptionTarget condition")
async def an_eviction_is_no_failure(t: Trial) -> None:
    await t.hosts()
    rule = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    long_enough = {"hollow.gitkube.dev/run-ms": "5000"}
    obj = job("evicted", annotations=long_enough, backoffLimit=0, podFailurePolicy={"rules": [rule]})
    await t.api.create(at(JOBS, t.namespace), obj)

    async def running() -> str:
        pods = await _job_pods(t, "evicted")
        return next((one["metadata"]["name"] for one in pods if phase(one) == "Running"), "")

    first = await t.until("its pod runs", running)
    await t.api.create(at("v1/pods", t.namespace, first, "eviction"), eviction(first, t.namespace))
    done = await _until_complete(t, "evicted")
    require(not done["status"].get("failed"), f"the eviction counted as a failure: {done['status']}")
    pods = await _job_pods(t, "evicted")
    others = [one["metadata"]["name"] for one in pods if phase(one) == "Succeeded"]
    require(len(others) == 1 and others[0] != first, f"after {first}, {others} succeeded")


@check("should mark indexes as failed when the FailIndex action is matched in podFailurePolicy")
async def an_exit_code_fails_its_index(t: Trial) -> None:
    await t.hosts()
    rule = {"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [42]}}
    obj = job(
        "index", "exit 42", completions=2, parallelism=2, completionMode="Indexed", backoffLimitPerIndex=1,
        podFailurePolicy={"rules": [rule]},
    )  # fmt: skip
    await t.api.create(at(JOBS, t.namespace), obj)
    failed = await _until_failed(t, "index")
    require(
        failed["status"].get("failedIndexes") == "0,1", f"failed are {failed['status'].get('failedIndexes')}"
    )
    require(len(await _job_pods(t, "index")) == 2, "an index was tried again")


@check("should execute all indexes despite some failing when using backoffLimitPerIndex")
async def other_indexes_go_on(t: Trial) -> None:
    await t.hosts()
    obj = job(
        "per-index", "exit 1", completions=2, parallelism=1, completionMode="Indexed", backoffLimitPerIndex=0
    )
    await t.api.create(at(JOBS, t.namespace), obj)
    failed = await _until_failed(t, "per-index")
    require(
        failed["status"].get("failedIndexes") == "0,1", f"failed are {failed['status'].get('failedIndexes')}"
    )
    require(
        condition(failed, "Failed")["reason"] == "FailedIndexes",
        f"it failed for {condition(failed, 'Failed')}",
    )


@check("should terminate job execution when the number of failed indexes exceeds maxFailedIndexes")
async def too_many_failed_indexes_end_it(t: Trial) -> None:
    await t.hosts()
    obj = job(
        "max-failed", "exit 1", completions=10, parallelism=1, completionMode="Indexed",
        backoffLimitPerIndex=0, maxFailedIndexes=1,
    )  # fmt: skip
    await t.api.create(at(JOBS, t.namespace), obj)
    failed = await _until_failed(t, "max-failed")
    reason = condition(failed, "Failed")["reason"]
    require(reason == "MaxFailedIndexesExceeded", f"it failed for {reason}")
    require(len(await _job_pods(t, "max-failed")) <= 3, "it went on")


async def _succeeds_early(t: Trial, rule: Object, *, completions: int, ends: bool) -> None:
    await t.hosts()
    obj = job(
        "success", "exit 0", completions=completions, parallelism=completions if ends else 1,
        completionMode="Indexed", successPolicy={"rules": [rule]},
    )  # fmt: skip
    await t.api.create(at(JOBS, t.namespace), obj)
    done = await _until_complete(t, "success")
    require(condition(done, "SuccessCriteriaMet").get("status") == "True", "no SuccessCriteriaMet")


@check("with successPolicy should succeeded when all indexes succeeded")
async def all_indexes_are_a_success(t: Trial) -> None:
    await _succeeds_early(t, {"succeededIndexes": "0-1"}, completions=2, ends=True)


@check("with successPolicy succeededIndexes rule should succeeded even when some indexes remain pending")
async def the_named_indexes_are_enough(t: Trial) -> None:
    await _succeeds_early(t, {"succeededIndexes": "0"}, completions=5, ends=False)
    done = await t.api.get(at(JOBS, t.namespace, "success"))
    require(
        condition(done, "Complete")["reason"] == "SuccessPolicy",
        f"complete for {condition(done, 'Complete')}",
    )


@check("with successPolicy succeededCount rule should succeeded even when some indexes remain pending")
async def the_count_is_enough(t: Trial) -> None:
    await _succeeds_early(t, {"succeededCount": 1}, completions=5, ends=False)


# ---------------------------------------------------------------------------------------------- CronJobs

EVERY_MINUTE = "*/1 * * * ?"


def cron_job(name: str, command: str = "sleep 300", **spec: Any) -> Object:
    template = {"spec": {"template": {"spec": pod_spec(command, restartPolicy="OnFailure")}}}
    return {
        "metadata": {"name": name},
        "spec": {"schedule": EVERY_MINUTE, "jobTemplate": template, **spec},
    }


async def _active(t: Trial, name: str) -> list[Object]:
    read = await t.api.get(at(CRON_JOBS, t.namespace, name))
    found: list[Object] = read["status"].get("active") or []
    return found


@check("CronJob should schedule multiple jobs concurrently")
async def starts_overlap(t: Trial) -> None:
    await t.api.create(at(CRON_JOBS, t.namespace), cron_job("concurrent", concurrencyPolicy="Allow"))

    async def two() -> bool:
        return len(await _active(t, "concurrent")) >= 2

    await t.until("two jobs are active", two, timeout_s=200)
    require(len(await t.api.items(at(JOBS, t.namespace))) >= 2, "there are fewer jobs than active ones")


@check("CronJob should not schedule jobs when suspended")
async def a_suspended_schedule_rests(t: Trial) -> None:
    await t.api.create(at(CRON_JOBS, t.namespace), cron_job("suspended", suspend=True))
    await _rest_of_the_minute(t)
    require(not await t.api.items(at(JOBS, t.namespace)), "a suspended CronJob made a job")


@check("CronJob should not schedule new jobs when ForbidConcurrent")
async def a_start_waits_for_the_one_before(t: Trial) -> None:
    await t.hosts()
    await t.api.create(at(CRON_JOBS, t.namespace), cron_job("forbid", concurrencyPolicy="Forbid"))

    async def one() -> bool:
        return len(await _active(t, "forbid")) == 1

    await t.until("a job is active", one, timeout_s=150)
    await _rest_of_the_minute(t)
    require(len(await _active(t, "forbid")) == 1, "a second job was started")
    require(len(await t.api.items(at(JOBS, t.namespace))) == 1, "there is a second job")


@check("CronJob should replace jobs when ReplaceConcurrent")
async def a_start_replaces_the_one_before(t: Trial) -> None:
    await t.hosts()
    await t.api.create(at(CRON_JOBS, t.namespace), cron_job("replace", concurrencyPolicy="Replace"))

    async def first() -> str:
        active = await _active(t, "replace")
        return str(active[0]["name"]) if len(active) == 1 else ""

    name = await t.until("a job is active", first, timeout_s=150)

    async def another() -> bool:
        found = await first()
        return bool(found) and found != name

    await t.until("another job has its place", another, timeout_s=150)
    await t.until_gone(at(JOBS, t.namespace, name))


async def _rest_of_the_minute(t: Trial) -> None:
    """Until the schedule has had its time once more, and some seconds on top."""
    began = datetime.datetime.now(datetime.UTC)
    due = began.replace(second=0, microsecond=0) + datetime.timedelta(seconds=66)

    async def is_past() -> bool:
        return datetime.datetime.now(datetime.UTC) > due

    await t.until("the minute is over", is_past, timeout_s=90)


@check("CronJob should support CronJob API operations", quick=True)
async def cron_jobs_are_kept(t: Trial) -> None:
    obj = cron_job("kept", suspend=True, concurrencyPolicy="Allow")
    await lifecycle(t, CRON_JOBS, obj, status={"lastScheduleTime": "2026-01-01T00:00:00Z"})
