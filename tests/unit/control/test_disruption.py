"""PodDisruptionBudgets on a cluster in memory: how many pods there should be, are healthy, and may go."""

from __future__ import annotations

from typing import Any

import pytest

from gitkube.clock import rfc3339
from gitkube.objects import conditions, meta
from gitkube.objects.kinds import DEPLOYMENT, EVENT, JOB, POD, POD_DISRUPTION_BUDGET
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
    assert condition["message"] == "jobs.batch does not implement the scale subresource"
    assert found["status"]["disruptionsAllowed"] == 0


def definition(name: str, *, is_scaled: bool) -> Object:
    version: Object = {
        "name": "v1", "served": True, "storage": True,
        "schema": {
            "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        },
    }  # fmt: skip
    if is_scaled:
        scale = {"specReplicasPath": ".spec.size.members", "statusReplicasPath": ".status.members"}
        version["subresources"] = {"scale": scale}
    plural = f"{name.lower()}s"
    return {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.example.org"},
        "spec": {
            "group": "example.org", "scope": "Namespaced", "versions": [version],
            "names": {"plural": plural, "singular": name.lower(), "kind": name, "listKind": f"{name}List"},
        },
        "status": {
            "acceptedNames": {"plural": plural, "singular": name.lower(), "kind": name},
            "conditions": [{"type": "Established", "status": "True"}],
        },
    }  # fmt: skip


async def owned_by(cluster: Cluster, kind: str, spec: Object) -> Object:
    """An object of a custom kind, and two pods that are ready and its own; the object."""
    served = cluster.registry.by_gvk("example.org/v1", kind)
    assert served is not None
    obj = {"apiVersion": "example.org/v1", "kind": kind, "metadata": {"name": "db", "namespace": "default"}}
    made = await cluster.client.create(served, {**obj, "spec": spec})
    reference = {
        "apiVersion": "example.org/v1", "kind": kind, "name": "db", "uid": meta.uid(made), "controller": True
    }  # fmt: skip
    for number in range(2):
        metadata: Object = {"name": f"db-{number}", "namespace": "default", "labels": {"app": "web"}}
        metadata["ownerReferences"] = [reference]
        container = {"name": "main", "image": "web:1"}
        await cluster.client.create(POD, {"metadata": metadata, "spec": {"containers": [container]}})
    return made


async def test_a_custom_resource_says_how_many_pods_there_should_be(cluster: Cluster) -> None:
    cluster.registry.define(definition("Ring", is_scaled=True))
    await cluster.start_all()
    ring = await owned_by(cluster, "Ring", {"size": {"members": 4}})
    await cluster.client.create(POD_DISRUPTION_BUDGET, budget(minAvailable="50%"))
    await cluster.clock.advance(10)
    assert await counts(cluster) == (4, 2, 2, 0)
    kind = cluster.registry.by_gvk("example.org/v1", "Ring")
    assert kind is not None
    await cluster.client.patch(kind, meta.name(ring), "default", {"spec": {"size": {"members": 2}}})
    await cluster.clock.advance(40)
    assert await counts(cluster) == (2, 1, 2, 1)


@pytest.mark.parametrize(
    ("is_scaled", "spec", "why"),
    [
        (False, {"size": {"members": 4}}, "rings.example.org does not implement the scale subresource"),
        (True, {}, 'Ring default/db: Internal error occurred: the spec replicas field ".spec.size.members"'),
    ],
)
async def test_why_a_custom_resource_does_not_say_it_is_in_the_condition(
    cluster: Cluster, is_scaled: bool, spec: Object, why: str
) -> None:
    cluster.registry.define(definition("Ring", is_scaled=is_scaled))
    await cluster.start_all()
    await owned_by(cluster, "Ring", spec)
    await cluster.client.create(POD_DISRUPTION_BUDGET, budget(maxUnavailable="50%"))
    await cluster.clock.advance(10)
    condition = conditions.get_condition(await current(cluster), "DisruptionAllowed")
    assert condition is not None
    assert (condition["reason"], condition["message"][: len(why)]) == ("SyncFailed", why)


async def test_pods_of_a_kind_that_is_not_served_allow_nothing(cluster: Cluster) -> None:
    cluster.registry.define(definition("Ring", is_scaled=True))
    await cluster.start_all()
    await owned_by(cluster, "Ring", {"size": {"members": 4}})
    cluster.registry.forget("rings.example.org")
    await cluster.client.create(POD_DISRUPTION_BUDGET, budget(maxUnavailable=1))
    await cluster.clock.advance(10)
    condition = conditions.get_condition(await current(cluster), "DisruptionAllowed")
    assert condition is not None
    assert condition["message"] == 'no matches for kind "Ring" in version "example.org/v1"'


async def test_a_budget_without_pods_allows_nothing(cluster: Cluster) -> None:
    await cluster.start_all()
    await cluster.client.create(POD_DISRUPTION_BUDGET, budget(minAvailable=0))
    await cluster.clock.advance(1)
    assert await counts(cluster) == (0, 0, 0, 0)
