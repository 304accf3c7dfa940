"""Jobs on a cluster in memory: counted right, ended right, and never run twice."""

from __future__ import annotations

from typing import Any

import pytest

from gitkube.control.job_status import format_indexes, parse_indexes
from gitkube.objects import conditions, meta
from gitkube.objects.kinds import JOB, POD
from gitkube.objects.types import Object
from tests.unit.control.conftest import Cluster


def job(name: str = "seed", *, image: str = "ok:1", restart: str = "Never", **spec: Any) -> Object:
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "completions": 1,
            "parallelism": 1,
            "backoffLimit": 6,
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"restartPolicy": restart, "containers": [{"name": "main", "image": image}]},
            },
            **spec,
        },
    }


async def start(cluster: Cluster) -> None:
    cluster.kubelet.ending |= {"ok:1": "Succeeded", "bad:1": "Failed"}
    await cluster.start_all()


async def status(cluster: Cluster, name: str = "seed") -> Object:
    found: Object = (await cluster.client.get(JOB, name, "default"))["status"]
    return found


async def test_a_job_runs_to_completion_and_keeps_its_pods(cluster: Cluster) -> None:
    await start(cluster)
    await cluster.client.create(JOB, job(completions=5, parallelism=2))
    most = 0
    for _ in range(200):
        await cluster.clock.advance(0.1)
        most = max(most, len(await cluster.pods()))
    assert most == 2
    found = await status(cluster)
    assert (found["succeeded"], found["failed"], found["active"]) == (5, 0, 0)
    assert "completionTime" in found and "startTime" in found
    assert conditions.is_true(await cluster.client.get(JOB, "seed", "default"), "Complete")
    assert len(await cluster.all(POD)) == 5


async def test_failures_are_retried_with_pauses_until_the_limit(cluster: Cluster) -> None:
    await start(cluster)
    await cluster.client.create(JOB, job(image="bad:1", backoffLimit=2))
    await cluster.clock.advance(8)
    assert len(await cluster.all(POD)) == 1, "the next try waits for 10 s"
    await cluster.clock.advance(60)
    found = await cluster.client.get(JOB, "seed", "default")
    assert found["status"]["failed"] == 3
    failed = conditions.get_condition(found, "Failed")
    assert failed is not None and failed["reason"] == "BackoffLimitExceeded"
    await cluster.clock.advance(300)
    assert len(await cluster.all(POD)) == 3


async def test_deleting_a_finished_pod_does_not_run_its_work_again(cluster: Cluster) -> None:
    await start(cluster)
    await cluster.client.create(JOB, job(completions=3, parallelism=1))
    ran = 0
    for step in range(150):
        await cluster.clock.advance(0.2)
        for pod in await cluster.all(POD):
            if pod["status"]["phase"] == "Succeeded" and step % 5 == 0:
                ran += 1
                await cluster.client.delete(POD, meta.name(pod), "default")
                await cluster.stop_manager()
                cluster.start_manager()
    assert (await status(cluster))["succeeded"] == 3
    assert ran + len(await cluster.all(POD)) == 3


async def test_a_deadline_ends_a_job_and_its_pods(cluster: Cluster) -> None:
    await start(cluster)
    await cluster.client.create(JOB, job(image="forever:1", activeDeadlineSeconds=20))
    await cluster.clock.advance(15)
    assert len(await cluster.ready_pods()) == 1
    await cluster.clock.advance(10)
    assert await cluster.pods() == []
    failed = conditions.get_condition(await cluster.client.get(JOB, "seed", "default"), "Failed")
    assert failed is not None and failed["reason"] == "DeadlineExceeded"


async def test_a_finished_job_goes_with_its_pods_when_its_time_is_over(cluster: Cluster) -> None:
    await start(cluster)
    await cluster.client.create(JOB, job(ttlSecondsAfterFinished=30))
    await cluster.clock.advance(10)
    assert len(await cluster.all(JOB)) == 1
    await cluster.clock.advance(40)
    assert await cluster.all(JOB) == [] and await cluster.all(POD) == []


async def test_a_suspended_job_stops_and_goes_on_when_it_is_resumed(cluster: Cluster) -> None:
    await start(cluster)
    await cluster.client.create(JOB, job(image="forever:1", suspend=True))
    await cluster.clock.advance(5)
    assert await cluster.pods() == []
    await cluster.patch(JOB, "seed", {"spec": {"suspend": False}})
    await cluster.clock.advance(5)
    assert len(await cluster.ready_pods()) == 1
    await cluster.patch(JOB, "seed", {"spec": {"suspend": True}})
    await cluster.clock.advance(5)
    assert await cluster.pods() == [] and "startTime" not in await status(cluster)


async def test_an_indexed_job_runs_each_index_once(cluster: Cluster) -> None:
    await start(cluster)
    await cluster.client.create(JOB, job(completions=4, parallelism=3, completionMode="Indexed"))
    await cluster.clock.advance(20)
    found = await status(cluster)
    assert (found["succeeded"], found["completedIndexes"]) == (4, "0-3")
    indexes = [
        meta.annotations(pod)["batch.kubernetes.io/job-completion-index"] for pod in await cluster.all(POD)
    ]
    assert sorted(indexes) == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    ("indexes", "text"),
    [(set(), ""), ({0}, "0"), ({0, 1}, "0,1"), ({0, 1, 2}, "0-2"), ({1, 3, 4, 5, 7}, "1,3-5,7")],
)
def test_indexes_are_written_as_kubernetes_does(indexes: set[int], text: str) -> None:
    assert format_indexes(indexes) == text
    assert parse_indexes(text) == indexes
