"""Jobs with opinions about failure: policies, limits per index, replacement, and other managers."""

from __future__ import annotations

from typing import Any

import pytest

from gitkube.control.job_failures import Action, verdict
from gitkube.objects import conditions, meta
from gitkube.objects.kinds import EVENT, JOB, POD
from gitkube.objects.types import Object
from tests.support.cluster import pod
from tests.unit.control.conftest import Cluster
from tests.unit.control.test_jobs import job, start, status


async def current(cluster: Cluster) -> Object:
    return await cluster.client.get(JOB, "seed", "default")


async def end(cluster: Cluster, index: int, phase: str, exit_code: int = 1) -> None:
    """End the running pod of an index as a host would."""
    for one in await cluster.pods():
        if meta.annotations(one)["batch.kubernetes.io/job-completion-index"] == str(index):
            ended = {"exitCode": exit_code, "reason": "Error"}
            seen = {"name": "main", "state": {"terminated": ended}}
            patch = {"status": {"phase": phase, "containerStatuses": [seen]}}
            await cluster.client.patch(POD, meta.name(one), "default", patch, subresource="status")
            return
    raise AssertionError(f"no pod of index {index} runs")


def why(found: Object, type_: str) -> tuple[str, str]:
    condition = conditions.get_condition(found, type_)
    assert condition is not None, f"no condition {type_}: {found['status']}"
    return condition["reason"], condition["message"]


FAILED = {
    "metadata": {"name": "a", "namespace": "default"},
    "status": {
        "phase": "Failed",
        "conditions": [{"type": "DisruptionTarget", "status": "True"}],
        "containerStatuses": [
            {"name": "main", "state": {"terminated": {"exitCode": 42}}},
            {"name": "side", "state": {"terminated": {"exitCode": 0}}},
        ],
    },
}


@pytest.mark.parametrize(
    ("rules", "action", "message"),
    [
        ([], Action.COUNT, ""),
        (
            [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [1, 42]}}],
            Action.FAIL_JOB,
            "Container main for pod default/a failed with exit code 42 matching FailJob rule at index 0",
        ),
        ([{"action": "FailJob", "onExitCodes": {"operator": "NotIn", "values": [42]}}], Action.COUNT, ""),
        (
            [
                {
                    "action": "FailJob",
                    "onExitCodes": {"containerName": "side", "operator": "NotIn", "values": [1]},
                },
                {
                    "action": "Ignore",
                    "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                },
            ],
            Action.IGNORE,
            "Pod default/a has condition DisruptionTarget matching Ignore rule at index 1",
        ),
    ],
)
def test_the_first_rule_that_fits_says_what_a_failure_means(
    rules: list[Object], action: Action, message: str
) -> None:
    found = verdict({"spec": {"podFailurePolicy": {"rules": rules}}}, FAILED)
    assert (found.action, found.message) == (action, message)


def indexed(**spec: Any) -> Object:
    defaults = {"completions": 3, "parallelism": 3, "completionMode": "Indexed", "image": "forever:1"}
    return job(**{**defaults, **spec})


async def test_a_failure_that_ends_the_job_stops_the_rest_first(cluster: Cluster) -> None:
    await start(cluster)
    rule = {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}
    await cluster.client.create(JOB, indexed(podFailurePolicy={"rules": [rule]}))
    await cluster.clock.advance(5)
    await end(cluster, 1, "Failed", 42)
    await cluster.clock.advance(0.5)
    found = await current(cluster)
    assert why(found, "FailureTarget")[0] == "PodFailurePolicy"
    assert conditions.get_condition(found, "Failed") is None, "its pods are still being stopped"
    assert found["status"]["terminating"] == 2
    await cluster.clock.advance(5)
    reason, message = why(await current(cluster), "Failed")
    assert reason == "PodFailurePolicy"
    assert message.endswith("failed with exit code 42 matching FailJob rule at index 0")
    assert await cluster.pods() == []
    assert (await current(cluster))["status"]["failed"] == 1


async def test_an_ignored_failure_is_not_counted_and_its_index_is_tried_again(cluster: Cluster) -> None:
    await start(cluster)
    rule = {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [3]}}
    policy = {"rules": [rule]}
    await cluster.client.create(JOB, indexed(podFailurePolicy=policy, backoffLimit=0))
    await cluster.clock.advance(5)
    await end(cluster, 0, "Failed", 3)
    await cluster.clock.advance(20)
    assert (await status(cluster))["failed"] == 0
    assert len(await cluster.pods()) == 3


async def test_an_index_that_failed_too_often_is_given_up_and_the_others_go_on(cluster: Cluster) -> None:
    await start(cluster)
    await cluster.client.create(JOB, indexed(backoffLimit=2**31 - 1, backoffLimitPerIndex=1))
    await cluster.clock.advance(5)
    await end(cluster, 1, "Failed")
    await cluster.clock.advance(5)
    assert len(await cluster.pods()) == 2, "the next try of the index waits for 10 s"
    await cluster.clock.advance(10)
    retried = [one for one in await cluster.pods() if meta.name(one).startswith("seed-1-")]
    counts = [
        meta.annotations(one)["batch.kubernetes.io/job-index-failure-count"] for one in await cluster.pods()
    ]
    assert (len(retried), sorted(counts)) == (1, ["0", "0", "1"])
    await end(cluster, 1, "Failed")
    await cluster.clock.advance(60)
    found = await status(cluster)
    assert (found["failed"], found["failedIndexes"], len(await cluster.pods())) == (2, "1", 2)
    await end(cluster, 0, "Succeeded", 0)
    await end(cluster, 2, "Succeeded", 0)
    await cluster.clock.advance(5)
    assert why(await current(cluster), "Failed") == ("FailedIndexes", "Job has failed indexes")
    assert (await status(cluster))["completedIndexes"] == "0,2"


async def test_more_failed_indexes_than_allowed_end_the_job(cluster: Cluster) -> None:
    await start(cluster)
    wanted = indexed(backoffLimit=2**31 - 1, backoffLimitPerIndex=0, maxFailedIndexes=1)
    await cluster.client.create(JOB, wanted)
    await cluster.clock.advance(5)
    await end(cluster, 0, "Failed")
    await cluster.clock.advance(2)
    assert len(await cluster.pods()) == 2
    await end(cluster, 2, "Failed")
    await cluster.clock.advance(5)
    assert why(await current(cluster), "Failed")[0] == "MaxFailedIndexesExceeded"
    assert (await status(cluster))["failedIndexes"] == "0,2"


@pytest.mark.parametrize(
    "rule",
    [{"succeededIndexes": "0"}, {"succeededCount": 1}, {"succeededIndexes": "0-1", "succeededCount": 1}],
)
async def test_a_success_policy_ends_the_job_before_all_is_done(cluster: Cluster, rule: Object) -> None:
    await start(cluster)
    unmet = {"succeededIndexes": "2"}
    await cluster.client.create(JOB, indexed(successPolicy={"rules": [unmet, rule]}))
    await cluster.clock.advance(5)
    await end(cluster, 0, "Succeeded", 0)
    await cluster.clock.advance(0.5)
    found = await current(cluster)
    assert why(found, "SuccessCriteriaMet") == ("SuccessPolicy", "Matched rules at index 1")
    assert "completionTime" not in found["status"]
    await cluster.clock.advance(5)
    found = await current(cluster)
    assert why(found, "Complete") == ("SuccessPolicy", "Matched rules at index 1")
    assert "completionTime" in found["status"]
    assert await cluster.pods() == []


async def test_a_pod_is_replaced_when_it_is_deleted_or_only_when_it_has_ended(cluster: Cluster) -> None:
    await start(cluster)
    cluster.kubelet.stop_s = 30.0
    await cluster.client.create(JOB, job(image="forever:1"))
    await cluster.client.create(JOB, job("slow", image="forever:1", podReplacementPolicy="Failed"))
    await cluster.clock.advance(5)
    for one in await cluster.pods():
        await cluster.client.delete(POD, meta.name(one), "default", grace_period_s=60)
    await cluster.clock.advance(5)
    assert [meta.name(one).rpartition("-")[0] for one in await cluster.pods()] == ["seed"]
    waiting = await status(cluster, "slow")
    assert (waiting["active"], waiting["terminating"]) == (0, 1)
    await cluster.clock.advance(40)
    assert len(await cluster.pods()) == 2


async def test_a_job_that_somebody_else_manages_is_left_alone(cluster: Cluster) -> None:
    await start(cluster)
    await cluster.client.create(JOB, job(managedBy="example.org/queue"))
    await cluster.client.create(JOB, job("ours", managedBy="kubernetes.io/job-controller"))
    await cluster.clock.advance(10)
    assert "status" not in await current(cluster) or "startTime" not in await status(cluster)
    assert (await status(cluster, "ours"))["succeeded"] == 1


async def test_an_orphan_is_adopted_and_a_pod_that_no_longer_fits_is_let_go(cluster: Cluster) -> None:
    await start(cluster)
    selector = {"matchLabels": {"app": "seed"}}
    await cluster.client.create(JOB, job(image="forever:1", selector=selector, parallelism=2, completions=2))
    await cluster.clock.advance(5)
    first, second = await cluster.pods()
    await cluster.client.patch(POD, meta.name(first), "default", {"metadata": {"ownerReferences": None}})
    await cluster.clock.advance(2)
    adopted = await cluster.client.get(POD, meta.name(first), "default")
    assert meta.is_controlled_by(adopted, await current(cluster))
    await cluster.client.patch(POD, meta.name(second), "default", {"metadata": {"labels": {"app": "x"}}})
    await cluster.clock.advance(5)
    released = await cluster.client.get(POD, meta.name(second), "default")
    assert meta.controller_of(released) is None
    ours = [one for one in await cluster.pods() if meta.controller_of(one) is not None]
    assert len(ours) == 2


async def test_a_stranger_that_fits_no_selector_stays_one(cluster: Cluster) -> None:
    await start(cluster)
    await cluster.client.create(POD, pod("lonely", labels={"app": "other"}, image="forever:1"))
    await cluster.client.create(JOB, job(image="forever:1", selector={"matchLabels": {"app": "seed"}}))
    await cluster.clock.advance(5)
    assert meta.controller_of(await cluster.client.get(POD, "lonely", "default")) is None


async def test_suspending_and_resuming_are_told(cluster: Cluster) -> None:
    await start(cluster)
    await cluster.client.create(JOB, job(image="forever:1", suspend=True))
    await cluster.clock.advance(2)
    await cluster.patch(JOB, "seed", {"spec": {"suspend": False}})
    await cluster.clock.advance(2)
    told = [one["reason"] for one in await cluster.all(EVENT) if one["involvedObject"]["kind"] == "Job"]
    assert {"Suspended", "Resumed"} <= set(told)
