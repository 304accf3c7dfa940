"""Deployments from the first pod to the rollback, on a cluster in memory."""

from __future__ import annotations

import pytest

from gitkube.control import revisions
from gitkube.objects import conditions, meta, pods
from gitkube.objects.kinds import DEPLOYMENT, ENDPOINT_SLICE, EVENT, POD, REPLICA_SET, SERVICE
from gitkube.objects.types import Object
from tests.support.cluster import deployment, image_patch, pod
from tests.unit.control.conftest import Cluster


def images(found: list[Object]) -> list[str]:
    return sorted(one["spec"]["containers"][0]["image"] for one in found)


async def test_a_deployment_gets_its_pods_and_says_so(cluster: Cluster) -> None:
    await cluster.start_all()
    await cluster.client.create(DEPLOYMENT, deployment())
    await cluster.clock.advance(5)
    assert len(await cluster.ready_pods()) == 3
    status = (await cluster.deployment())["status"]
    assert (status["replicas"], status["updatedReplicas"], status["availableReplicas"]) == (3, 3, 3)
    assert status["unavailableReplicas"] == 0 and status["observedGeneration"] == 1
    assert conditions.is_true(await cluster.deployment(), "Available")
    progressing = conditions.get_condition(await cluster.deployment(), "Progressing")
    assert progressing is not None and progressing["reason"] == "NewReplicaSetAvailable"
    assert {event["reason"] for event in await cluster.all(EVENT)} >= {
        "ScalingReplicaSet",
        "SuccessfulCreate",
        "Scheduled",
    }


async def test_a_new_image_rolls_within_the_walls(cluster: Cluster) -> None:
    await cluster.start_all()
    await cluster.client.create(DEPLOYMENT, deployment(replicas=4))
    await cluster.clock.advance(5)
    await cluster.patch(DEPLOYMENT, "web", image_patch("web:2"))
    most, fewest = 0, 99
    for _ in range(100):
        await cluster.clock.advance(0.1)
        most = max(most, len(await cluster.pods()))
        fewest = min(fewest, len(await cluster.ready_pods()))
    assert images(await cluster.pods()) == ["web:2"] * 4
    assert (most, fewest) == (5, 3)
    assert await cluster.replica_sets() == {"1": 0, "2": 4}


async def test_a_broken_image_stops_with_the_old_pods_serving_and_is_called_stuck(cluster: Cluster) -> None:
    cluster.kubelet.broken.add("web:bad")
    await cluster.start_all()
    await cluster.client.create(DEPLOYMENT, deployment(replicas=4, progressDeadlineSeconds=30))
    await cluster.clock.advance(5)
    await cluster.patch(DEPLOYMENT, "web", image_patch("web:bad"))
    await cluster.clock.advance(25)
    progressing = conditions.get_condition(await cluster.deployment(), "Progressing")
    assert progressing is not None and progressing["status"] == "True"
    await cluster.clock.advance(15)
    assert images(await cluster.ready_pods()) == ["web:1"] * 3
    progressing = conditions.get_condition(await cluster.deployment(), "Progressing")
    assert progressing is not None
    assert (progressing["status"], progressing["reason"]) == ("False", "ProgressDeadlineExceeded")


async def test_going_back_makes_the_old_replica_set_the_newest_revision(cluster: Cluster) -> None:
    await cluster.start_all()
    await cluster.client.create(DEPLOYMENT, deployment())
    await cluster.clock.advance(5)
    await cluster.patch(DEPLOYMENT, "web", image_patch("web:2"))
    await cluster.clock.advance(15)
    await cluster.patch(DEPLOYMENT, "web", image_patch("web:1"))
    await cluster.clock.advance(15)
    assert images(await cluster.ready_pods()) == ["web:1"] * 3
    assert len(await cluster.all(REPLICA_SET)) == 2
    assert await cluster.replica_sets() == {"2": 0, "3": 3}
    assert meta.annotations(await cluster.deployment())[revisions.REVISION] == "3"


async def test_recreate_waits_for_the_last_old_pod(cluster: Cluster) -> None:
    await cluster.start_all()
    await cluster.client.create(DEPLOYMENT, deployment(strategy={"type": "Recreate"}))
    await cluster.clock.advance(5)
    await cluster.patch(DEPLOYMENT, "web", image_patch("web:2"))
    for _ in range(80):
        await cluster.clock.advance(0.1)
        assert len(set(images(await cluster.all(POD)))) <= 1, "two versions run side by side"
    assert images(await cluster.ready_pods()) == ["web:2"] * 3


async def test_a_paused_deployment_scales_but_does_not_roll(cluster: Cluster) -> None:
    await cluster.start_all()
    await cluster.client.create(DEPLOYMENT, deployment())
    await cluster.clock.advance(5)
    await cluster.patch(DEPLOYMENT, "web", {"spec": {"paused": True, "replicas": 5}})
    await cluster.patch(DEPLOYMENT, "web", image_patch("web:2"))
    await cluster.clock.advance(10)
    assert images(await cluster.ready_pods()) == ["web:1"] * 5
    assert conditions.status_of(await cluster.deployment(), "Progressing") == "Unknown"
    await cluster.patch(DEPLOYMENT, "web", {"spec": {"paused": False}})
    await cluster.clock.advance(20)
    assert images(await cluster.ready_pods()) == ["web:2"] * 5


async def test_scaling_to_zero_and_back(cluster: Cluster) -> None:
    await cluster.start_all()
    await cluster.client.create(DEPLOYMENT, deployment())
    await cluster.clock.advance(5)
    await cluster.patch(DEPLOYMENT, "web", {"spec": {"replicas": 0}})
    await cluster.clock.advance(5)
    assert await cluster.all(POD) == []
    await cluster.patch(DEPLOYMENT, "web", {"spec": {"replicas": 2}})
    await cluster.clock.advance(5)
    assert len(await cluster.ready_pods()) == 2


async def test_history_beyond_its_limit_goes(cluster: Cluster) -> None:
    await cluster.start_all()
    await cluster.client.create(DEPLOYMENT, deployment(revisionHistoryLimit=2))
    for version in range(2, 7):
        await cluster.clock.advance(15)
        await cluster.patch(DEPLOYMENT, "web", image_patch(f"web:{version}"))
    await cluster.clock.advance(20)
    assert sorted(await cluster.replica_sets()) == ["4", "5", "6"]


async def test_a_lost_pod_is_replaced(cluster: Cluster) -> None:
    await cluster.start_all()
    await cluster.client.create(DEPLOYMENT, deployment())
    await cluster.clock.advance(5)
    victim = (await cluster.pods())[0]
    await cluster.client.delete(POD, meta.name(victim), "default")
    await cluster.clock.advance(5)
    ready = await cluster.ready_pods()
    assert len(ready) == 3 and meta.name(victim) not in {meta.name(one) for one in ready}


async def test_restarting_the_controllers_in_the_middle_creates_nothing_twice(cluster: Cluster) -> None:
    await cluster.start_all()
    await cluster.client.create(DEPLOYMENT, deployment(replicas=6))
    for _ in range(8):
        await cluster.clock.advance(0.3)
        await cluster.stop_manager()
        cluster.start_manager()
    await cluster.patch(DEPLOYMENT, "web", image_patch("web:2"))
    for _ in range(40):
        await cluster.clock.advance(0.3)
        await cluster.stop_manager()
        cluster.start_manager()
        assert len(await cluster.pods()) <= 8
    await cluster.clock.advance(10)
    assert images(await cluster.ready_pods()) == ["web:2"] * 6
    assert len(await cluster.all(REPLICA_SET)) == 2


async def test_min_ready_seconds_make_pods_available_later(cluster: Cluster) -> None:
    await cluster.start_all()
    await cluster.client.create(DEPLOYMENT, deployment(minReadySeconds=10))
    await cluster.clock.advance(5)
    status = (await cluster.deployment())["status"]
    assert (status["readyReplicas"], status["availableReplicas"]) == (3, 0)
    await cluster.clock.advance(12)
    assert (await cluster.deployment())["status"]["availableReplicas"] == 3


async def test_an_orphan_that_matches_is_adopted_and_a_relabelled_pod_released(cluster: Cluster) -> None:
    await cluster.start_all()
    await cluster.client.create(DEPLOYMENT, deployment(replicas=2))
    await cluster.clock.advance(5)
    (replica_set,) = await cluster.all(REPLICA_SET)
    labels = dict(meta.labels(replica_set))
    await cluster.client.create(POD, pod("orphan", labels=labels))
    await cluster.clock.advance(5)
    assert len(await cluster.pods()) == 2, "the orphan was adopted, so one was too much"
    released = (await cluster.ready_pods())[0]
    await cluster.patch(POD, meta.name(released), {"metadata": {"labels": {"app": "debug"}}})
    await cluster.clock.advance(5)
    after = await cluster.client.get(POD, meta.name(released), "default")
    assert meta.controller_of(after) is None
    assert len(await cluster.ready_pods()) == 3


async def test_a_refused_pod_shows_at_the_deployment(cluster: Cluster) -> None:
    def refuse(verb: str, kind: object, obj: Object) -> None:
        from gitkube.api.errors import forbidden

        if verb == "create" and kind is POD:
            raise forbidden("", "pods", "", "quota exceeded")

    cluster.client.reactions.append(refuse)
    await cluster.start_all()
    await cluster.client.create(DEPLOYMENT, deployment(replicas=50))
    await cluster.clock.advance(1)
    failure = conditions.get_condition(await cluster.deployment(), "ReplicaFailure")
    assert failure is not None and "quota exceeded" in failure["message"]
    cluster.client.reactions.clear()
    await cluster.clock.advance(120)
    assert len(await cluster.ready_pods()) == 50
    assert conditions.get_condition(await cluster.deployment(), "ReplicaFailure") is None


async def test_endpoints_follow_the_ready_pods(cluster: Cluster) -> None:
    await cluster.start_all()
    service = {
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
    }
    await cluster.client.create(SERVICE, service)
    await cluster.clock.advance(1)
    (empty,) = await cluster.all(ENDPOINT_SLICE)
    assert empty["endpoints"] == []
    await cluster.client.create(DEPLOYMENT, deployment())
    await cluster.clock.advance(5)
    (slice_,) = await cluster.all(ENDPOINT_SLICE)
    assert slice_["ports"] == [{"name": "http", "protocol": "TCP", "port": 8080}]
    assert [one["conditions"]["ready"] for one in slice_["endpoints"]] == [True] * 3
    assert {one["nodeName"] for one in slice_["endpoints"]} == {"ant", "bee", "cow"}
    victim = (await cluster.pods())[0]
    await cluster.client.delete(POD, meta.name(victim), "default")
    await cluster.clock.advance(0.2)
    (slice_,) = await cluster.all(ENDPOINT_SLICE)
    (ending,) = [one for one in slice_["endpoints"] if one["targetRef"]["name"] == meta.name(victim)]
    assert ending["conditions"] == {"ready": False, "serving": True, "terminating": True}
    await cluster.client.delete(SERVICE, "web", "default")
    await cluster.clock.advance(5)
    assert await cluster.all(ENDPOINT_SLICE) == []


async def test_an_idle_cluster_writes_nothing(cluster: Cluster) -> None:
    await cluster.start_all()
    await cluster.client.create(DEPLOYMENT, deployment())
    await cluster.clock.advance(30)
    before = len(cluster.client.writes)
    await cluster.clock.advance(600)
    assert cluster.client.writes[before:] == []
    await cluster.stop_manager()
    cluster.start_manager()
    await cluster.clock.advance(60)
    assert cluster.client.writes[before:] == [], "a restart changed something"


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
async def test_a_pod_that_ended_is_replaced(cluster: Cluster, phase: str) -> None:
    await cluster.start_all()
    await cluster.client.create(DEPLOYMENT, deployment(replicas=2))
    await cluster.clock.advance(5)
    victim = (await cluster.pods())[0]
    await cluster.client.patch(
        POD, meta.name(victim), "default", {"status": {"phase": phase}}, subresource="status"
    )
    await cluster.clock.advance(5)
    assert len([one for one in await cluster.ready_pods() if pods.is_active(one)]) == 2


async def test_pods_that_are_still_stopping_are_counted_apart(cluster: Cluster) -> None:
    cluster.kubelet.stop_s = 10.0
    await cluster.start_all()
    await cluster.client.create(DEPLOYMENT, deployment())
    await cluster.clock.advance(5)
    await cluster.patch(DEPLOYMENT, "web", {"spec": {"replicas": 1}})
    await cluster.clock.advance(5)
    status = (await cluster.deployment())["status"]
    assert (status["replicas"], status["terminatingReplicas"]) == (1, 2)
    await cluster.clock.advance(10)
    assert (await cluster.deployment())["status"]["terminatingReplicas"] == 0
