"""PodDisruptionBudgets on a cluster in memory: how many pods there should be, are healthy, and may go."""

from __future__ import annotations

from typing import Any

import pytest

from gitkube.clock import rfc3339
from gitkube.objects import conditions
from gitkube.objects.kinds import DEPLOYMENT, EVENT, JOB, POD_DISRUPTION_BUDGET
from gitkube.objects.types import Object
from tests.support.cluster import deployment
from tests.unit.control.conftest import Cluster


def budget(**spec: Any) -> Object:
    selector = {"matchLabels": {"app": "web"}}
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": selector, **spec},
    }


async def current(cluster: Cluster) -> Object:
    return await cluster.client.get(POD_DISRUPTION_BUDGET, "web", "default")


async def counts(cluster: Cluster) -> tuple[int, int, int, int]:
    status = (await current(cluster))["status"]
    return (
        status["expectedPods"],
        status["desiredHealthy"],
        status["currentHealthy"],
        status["disruptionsAllowed"],
    )


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"minAvailable": 1}, (3, 1, 3, 2)),
        ({"minAvailable": 5}, (3, 5, 3, 0)),
        ({"minAvailable": "50%"}, (3, 2, 3, 1)),
        ({"maxUnavailable": 1}, (3, 2, 3, 1)),
        ({"maxUnavailable": "34%"}, (3, 1, 3, 2)),
        ({"maxUnavailable": 0}, (3, 3, 3, 0)),
    ],
)
async def test_what_a_budget_allows(
    cluster: Cluster, spec: Object, expected: tuple[int, int, int, int]
) -> None:
    await cluster.start_all()
    await cluster.client.create(DEPLOYMENT, deployment())
    await cluster.client.create(POD_DISRUPTION_BUDGET, budget(**spec))
    await cluster.clock.advance(10)
    assert await counts(cluster) == expected
    found = await current(cluster)
    assert conditions.status_of(found, "DisruptionAllowed") == str(expected[3] > 0)
    assert found["status"]["observedGeneration"] == found["metadata"]["generation"]


async def test_the_scale_counts_and_not_the_pods_that_are_there(cluster: Cluster) -> None:
    await cluster.start_all()
    await cluster.client.create(DEPLOYMENT, deployment())
    await cluster.client.create(POD_DISRUPTION_BUDGET, budget(maxUnavailable=1))
    await cluster.clock.advance(10)
    cluster.kubelet.broken.add("web:1")
    await cluster.patch(DEPLOYMENT, "web", {"spec": {"replicas": 6}})
    await cluster.clock.advance(10)
    assert await counts(cluster) == (6, 5, 3, 0)


async def test_a_pod_that_the_api_evicted_is_not_healthy_until_it_is_overdue(cluster: Cluster) -> None:
    await cluster.start_all()
    await cluster.client.create(DEPLOYMENT, deployment())
    await cluster.client.create(POD_DISRUPTION_BUDGET, budget(minAvailable=2))
    await cluster.clock.advance(10)
    name = (await cluster.pods())[0]["metadata"]["name"]
    noted = {"disruptedPods": {name: rfc3339(cluster.clock.now())}}
    await cluster.client.patch(
        POD_DISRUPTION_BUDGET, "web", "default", {"status": noted}, subresource="status"
    )
    await cluster.clock.advance(60)
    assert await counts(cluster) == (3, 2, 2, 0)
    await cluster.clock.advance(70)
    assert await counts(cluster) == (3, 2, 3, 1)
    assert "disruptedPods" not in (await current(cluster))["status"]
    assert "NotDeleted" in {one["reason"] for one in await cluster.all(EVENT)}


async def test_pods_that_nobody_scales_allow_nothing_where_a_share_is_asked_for(cluster: Cluster) -> None:
    await cluster.start_all()
    container = {"name": "main", "image": "forever:1"}
    template = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"restartPolicy": "Never", "containers": [container]},
    }
    metadata = {"name": "odd", "namespace": "default"}
    await cluster.client.create(JOB, {"metadata": metadata, "spec": {"template": template}})
    await cluster.client.create(POD_DISRUPTION_BUDGET, budget(maxUnavailable=1))
    await cluster.clock.advance(5)
    found = await current(cluster)
    condition = conditions.get_condition(found, "DisruptionAllowed")
    assert condition is not None
    assert condition["reason"] == "SyncFailed"
    assert condition["message"].startswith('found no controllers for pod "odd-')
    assert found["status"]["disruptionsAllowed"] == 0


async def test_a_budget_without_pods_allows_nothing(cluster: Cluster) -> None:
    await cluster.start_all()
    await cluster.client.create(POD_DISRUPTION_BUDGET, budget(minAvailable=0))
    await cluster.clock.advance(1)
    assert await counts(cluster) == (0, 0, 0, 0)
