"""ReplicationControllers on a cluster in memory: counted, adopted, let go, and honest about what fails."""

from __future__ import annotations

from gitkube.api.errors import StatusError
from gitkube.objects import conditions, meta
from gitkube.objects.kinds import POD, REPLICATION_CONTROLLER, Kind
from gitkube.objects.types import Object
from tests.support.cluster import pod
from tests.unit.control.conftest import Cluster


def replication_controller(replicas: int) -> Object:
    container = {"name": "main", "image": "web:1"}
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]}}
    return {
        "apiVersion": "v1",
        "kind": "ReplicationController",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"replicas": replicas, "selector": {"app": "web"}, "template": template},
    }


async def current(cluster: Cluster) -> Object:
    return await cluster.client.get(REPLICATION_CONTROLLER, "web", "default")


async def test_it_keeps_its_count_up_and_down(cluster: Cluster) -> None:
    await cluster.start_all()
    await cluster.client.create(REPLICATION_CONTROLLER, replication_controller(3))
    await cluster.clock.advance(5)
    assert len(await cluster.ready_pods()) == 3
    status = (await current(cluster))["status"]
    assert (status["replicas"], status["readyReplicas"], status["availableReplicas"]) == (3, 3, 3)
    await cluster.patch(REPLICATION_CONTROLLER, "web", {"spec": {"replicas": 1}})
    await cluster.clock.advance(5)
    assert len(await cluster.ready_pods()) == 1


async def test_it_adopts_a_pod_that_fits_and_releases_one_that_no_longer_does(cluster: Cluster) -> None:
    await cluster.start_all()
    await cluster.client.create(POD, pod("lonely", labels={"app": "web"}, image="web:1"))
    await cluster.client.create(REPLICATION_CONTROLLER, replication_controller(1))
    await cluster.clock.advance(5)
    adopted = await cluster.client.get(POD, "lonely", "default")
    assert meta.is_controlled_by(adopted, await current(cluster))
    await cluster.patch(POD, "lonely", {"metadata": {"labels": {"app": "other"}}})
    await cluster.clock.advance(5)
    released = await cluster.client.get(POD, "lonely", "default")
    assert meta.controller_of(released) is None
    assert len(await cluster.ready_pods()) == 2


async def test_a_refused_pod_is_a_condition_that_goes_when_it_is_not_wanted_any_more(
    cluster: Cluster,
) -> None:
    def allow_two(verb: str, kind: Kind, obj: Object) -> None:
        present = [key for key in cluster.client.objects if key[0] is POD]
        if (verb, kind) == ("create", POD) and len(present) >= 2:
            raise StatusError(403, "Forbidden", "exceeded quota: q, requested: pods=1")

    cluster.client.reactions.append(allow_two)
    await cluster.start_all()
    await cluster.client.create(REPLICATION_CONTROLLER, replication_controller(3))
    await cluster.clock.advance(10)
    failure = conditions.get_condition(await current(cluster), "ReplicaFailure")
    assert failure is not None
    assert (failure["status"], failure["reason"]) == ("True", "FailedCreate")
    assert "exceeded quota" in failure["message"]
    await cluster.patch(REPLICATION_CONTROLLER, "web", {"spec": {"replicas": 2}})
    await cluster.clock.advance(10)
    assert conditions.get_condition(await current(cluster), "ReplicaFailure") is None
