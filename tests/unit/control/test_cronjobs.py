"""CronJobs on a cluster in memory: every start once, policies kept, old Jobs gone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from gitkube.clock import rfc3339
from gitkube.control.cron_starts import starts
from gitkube.objects import meta
from gitkube.objects.cron import next_start_s, parse_schedule
from gitkube.objects.kinds import CRON_JOB, EVENT, JOB, NAMESPACE
from gitkube.objects.types import Object
from tests.unit.control.conftest import Cluster


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("schedule", "zone", "after", "expected"),
    [
        ("*/15 * * * *", "UTC", "2026-01-01T00:00:00Z", "2026-01-01T00:15:00Z"),
        ("*/15 * * * *", "UTC", "2026-01-01T00:14:59Z", "2026-01-01T00:15:00Z"),
        ("5/20 * * * *", "UTC", "2026-01-01T00:06:00Z", "2026-01-01T00:25:00Z"),
        ("0 0 1 1 *", "UTC", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"),
        ("0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
        ("0 9 * * mon-fri", "UTC", "2026-11-27T09:00:00Z", "2026-11-30T09:00:00Z"),
        ("0 0 13 * fri", "UTC", "2026-11-01T00:00:00Z", "2026-11-06T00:00:00Z"),
        ("0 0 13 * */2", "UTC", "2026-11-01T00:00:00Z", "2026-11-03T00:00:00Z"),
        ("@daily", "America/New_York", "2026-06-01T00:00:00Z", "2026-06-01T04:00:00Z"),
        ("@every 90s", "UTC", "2026-01-01T00:00:10Z", "2026-01-01T00:01:40Z"),
        ("@every 1h30m", "UTC", "2026-01-01T00:00:00Z", "2026-01-01T01:30:00Z"),
        # New York's clocks skip 2:30 on 8 March 2026, and show 1:30 twice on 1 November.
        ("30 2 * * *", "America/New_York", "2026-03-08T05:00:00Z", "2026-03-09T06:30:00Z"),
        ("30 1 * * *", "America/New_York", "2026-11-01T04:00:00Z", "2026-11-01T05:30:00Z"),
        ("30 1 * * *", "America/New_York", "2026-11-01T05:30:00Z", "2026-11-01T06:30:00Z"),
        ("0 0 * * *", "America/Sao_Paulo", "2018-11-04T01:00:00Z", "2018-11-05T02:00:00Z"),
    ],
)
def test_the_next_start_is_the_one_that_robfig_cron_finds(
    schedule: str, zone: str, after: str, expected: str
) -> None:
    found = next_start_s(parse_schedule(schedule), at(after), ZoneInfo(zone))
    assert found is not None
    assert rfc3339(found) == expected


def test_a_schedule_that_never_comes_has_no_start() -> None:
    assert next_start_s(parse_schedule("0 0 30 2 *"), at("2026-01-01T00:00:00Z")) is None


@pytest.mark.parametrize(
    ("schedule", "created", "now", "due", "missed"),
    [
        ("0 * * * *", "2026-01-01T00:30:00Z", "2026-01-01T00:59:59Z", None, 0),
        ("0 * * * *", "2026-01-01T00:30:00Z", "2026-01-01T01:00:00Z", "2026-01-01T01:00:00Z", 1),
        ("0 * * * *", "2026-01-01T00:30:00Z", "2026-01-01T04:10:00Z", "2026-01-01T04:00:00Z", 4),
        ("* * * * *", "2026-01-01T00:00:00Z", "2026-02-01T00:00:30Z", "2026-02-01T00:00:00Z", 44_640),
        ("0 9 * * 1-5", "2025-01-01T00:00:00Z", "2026-11-29T12:00:00Z", "2026-11-27T09:00:00Z", 698),
        ("@every 7m", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", "2026-01-01T23:55:00Z", 205),
    ],
)
def test_the_last_start_that_is_due_is_made_and_those_before_it_are_missed(
    schedule: str, created: str, now: str, due: str | None, missed: int
) -> None:
    cron_job = {"metadata": {"creationTimestamp": created}, "spec": {"schedule": schedule}}
    found = starts(cron_job, parse_schedule(schedule), UTC, at(now))
    assert (found.due_s and rfc3339(found.due_s), found.missed) == (due, missed)


def cron_job(*, image: str = "ok:1", schedule: str = "*/5 * * * *", **spec: Any) -> Object:
    pod = {"restartPolicy": "Never", "containers": [{"name": "main", "image": image}]}
    job = {"completions": 1, "parallelism": 1, "backoffLimit": 0, "template": {"spec": pod}}
    return {
        "metadata": {"name": "tick", "namespace": "default"},
        "spec": {
            "schedule": schedule,
            "concurrencyPolicy": "Allow",
            "suspend": False,
            "successfulJobsHistoryLimit": 3,
            "failedJobsHistoryLimit": 1,
            "jobTemplate": {"metadata": {"labels": {"from": "tick"}}, "spec": job},
            **spec,
        },
    }


async def start(cluster: Cluster, wanted: Object) -> None:
    cluster.kubelet.ending |= {"ok:1": "Succeeded", "bad:1": "Failed"}
    await cluster.start_all()
    await cluster.client.create(CRON_JOB, wanted)


async def current(cluster: Cluster) -> Object:
    return await cluster.client.get(CRON_JOB, "tick", "default")


async def said(cluster: Cluster) -> dict[str, str]:
    events = await cluster.all(EVENT)
    return {
        one["reason"]: one["message"] for one in events if one["source"]["component"] == "cronjob-controller"
    }


async def test_each_start_makes_one_job_whose_name_tells_the_minute(cluster: Cluster) -> None:
    await start(cluster, cron_job())
    await cluster.clock.advance(300)
    (job,) = await cluster.all(JOB)
    scheduled_s = int(cluster.clock.now()) // 300 * 300
    assert meta.name(job) == f"tick-{scheduled_s // 60}"
    assert meta.labels(job) == {"from": "tick"}
    assert meta.annotations(job) == {"batch.kubernetes.io/cronjob-scheduled-timestamp": rfc3339(scheduled_s)}
    await cluster.clock.advance(60)
    status = (await current(cluster))["status"]
    assert status["lastScheduleTime"] == rfc3339(scheduled_s)
    assert meta.time_s(status["lastSuccessfulTime"]) > scheduled_s
    assert "active" not in status
    reasons = await said(cluster)
    assert reasons["SuccessfulCreate"] == f"Created job {meta.name(job)}"
    assert reasons["SawCompletedJob"] == f"Saw completed job: {meta.name(job)}, condition: Complete"


async def test_a_restarted_controller_makes_no_start_twice(cluster: Cluster) -> None:
    await start(cluster, cron_job(successfulJobsHistoryLimit=100))
    for _ in range(12):
        await cluster.clock.advance(150)
        await cluster.stop_manager()
        cluster.start_manager()
    created = [one for one in cluster.client.writes if one[:2] == ("create", JOB)]
    assert len(created) == len(await cluster.all(JOB)) == 6


async def test_only_the_last_jobs_of_each_ending_are_kept(cluster: Cluster) -> None:
    await start(cluster, cron_job(successfulJobsHistoryLimit=2))
    await cluster.clock.advance(1500)
    assert len(await cluster.all(JOB)) == 2
    failing = cron_job(image="bad:1")["spec"]["jobTemplate"]
    await cluster.patch(CRON_JOB, "tick", {"spec": {"jobTemplate": failing}})
    await cluster.clock.advance(1500)
    assert len(await cluster.all(JOB)) == 3


async def test_forbid_leaves_a_start_out_while_the_one_before_runs(cluster: Cluster) -> None:
    await start(cluster, cron_job(image="forever:1", concurrencyPolicy="Forbid"))
    await cluster.clock.advance(900)
    (job,) = await cluster.all(JOB)
    (entry,) = (await current(cluster))["status"]["active"]
    assert (entry["kind"], entry["name"], entry["uid"]) == ("Job", meta.name(job), meta.uid(job))
    assert "JobAlreadyActive" in await said(cluster)


async def test_replace_ends_the_running_job_for_the_new_one(cluster: Cluster) -> None:
    await start(cluster, cron_job(image="forever:1", concurrencyPolicy="Replace"))
    await cluster.clock.advance(300)
    (first,) = await cluster.all(JOB)
    await cluster.clock.advance(300)
    (second,) = await cluster.all(JOB)
    assert meta.name(first) != meta.name(second)
    assert [one["name"] for one in (await current(cluster))["status"]["active"]] == [meta.name(second)]


async def test_allow_runs_them_side_by_side(cluster: Cluster) -> None:
    await start(cluster, cron_job(image="forever:1"))
    await cluster.clock.advance(900)
    assert len(await cluster.all(JOB)) == len((await current(cluster))["status"]["active"]) == 3


async def test_a_suspended_one_starts_nothing_and_makes_up_for_the_last_when_it_goes_on(
    cluster: Cluster,
) -> None:
    await start(cluster, cron_job(suspend=True))
    await cluster.clock.advance(900)
    assert await cluster.all(JOB) == []
    await cluster.patch(CRON_JOB, "tick", {"spec": {"suspend": False}})
    await cluster.clock.advance(1)
    assert len(await cluster.all(JOB)) == 1


async def test_a_start_later_than_its_deadline_is_left_out(cluster: Cluster) -> None:
    await start(cluster, cron_job(startingDeadlineSeconds=20, suspend=True))
    # The clock begins 200 s after a start, so there was one 100 s ago.
    await cluster.clock.advance(500)
    await cluster.patch(CRON_JOB, "tick", {"spec": {"suspend": False}})
    await cluster.clock.advance(1)
    assert await cluster.all(JOB) == []
    await cluster.clock.advance(300)
    assert len(await cluster.all(JOB)) == 1


async def test_more_than_a_hundred_missed_starts_are_said_and_the_last_is_made(cluster: Cluster) -> None:
    await start(cluster, cron_job(schedule="* * * * *", suspend=True))
    await cluster.clock.advance(60 * 150)
    await cluster.patch(CRON_JOB, "tick", {"spec": {"suspend": False}})
    await cluster.clock.advance(1)
    assert len(await cluster.all(JOB)) == 1
    assert "too many missed start times" in (await said(cluster))["TooManyMissedTimes"]


async def test_an_unknown_zone_is_said_once_and_starts_nothing(cluster: Cluster) -> None:
    await start(cluster, cron_job(timeZone="Mars/Olympus"))
    await cluster.clock.advance(600)
    assert await cluster.all(JOB) == []
    assert "unknown time zone Mars/Olympus" in (await said(cluster))["UnknownTimeZone"]


async def test_jobs_go_with_their_cron_job(cluster: Cluster) -> None:
    await cluster.client.create(NAMESPACE, {"metadata": {"name": "default"}})
    await start(cluster, cron_job(image="forever:1"))
    await cluster.clock.advance(300)
    await cluster.client.delete(CRON_JOB, "tick", "default")
    await cluster.clock.advance(30)
    assert await cluster.all(JOB) == []
