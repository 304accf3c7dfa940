"""Endpoints in their old form: what stands in them, who keeps them, and what becomes of a user's own."""

from __future__ import annotations

from typing import Any

import pytest

from gitkube.control.endpoints import MAX_ADDRESSES, limited, subsets_of, wanted_of
from gitkube.control.endpoints_mirroring import mirrored
from gitkube.objects import meta
from gitkube.objects.kinds import DEPLOYMENT, ENDPOINT_SLICE, ENDPOINTS, SERVICE
from gitkube.objects.types import Object
from tests.support.cluster import deployment
from tests.unit.control.conftest import Cluster

MANAGED_BY = "endpoints.kubernetes.io/managed-by"


def service(**spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "default", "labels": {"team": "a"}},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}], **spec},
    }


def pod(number: int, *, port: int = 8080, ready: bool = True, phase: str = "Running", **spec: Any) -> Object:
    container = {"name": "web", "ports": [{"name": "http", "containerPort": port}]}
    return {
        "metadata": {"name": f"p{number}", "namespace": "default", "uid": f"u{number}"},
        "spec": {"nodeName": "ant", "containers": [container], **spec},
        "status": {
            "phase": phase,
            "podIP": f"10.42.{number // 250}.{number % 250 + 2}",
            "conditions": [{"type": "Ready", "status": str(ready)}],
        },
    }


def ending(one: Object) -> Object:
    return {**one, "metadata": {**one["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}}


def by_hand(**metadata: Any) -> Object:
    subset = {
        "addresses": [{"ip": "192.0.2.7"}],
        "notReadyAddresses": [{"ip": "2001:db8::7"}],
        "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": "db", "namespace": "default", **metadata},
        "subsets": [subset],
    }


def test_pods_with_the_same_ports_share_a_subset_and_those_not_ready_stand_apart() -> None:
    pods = [pod(2), pod(1), pod(3, ready=False), pod(4, port=9090)]
    at_8080, at_9090 = subsets_of(service(), pods)
    assert [one["ip"] for one in at_8080["addresses"]] == ["10.42.0.3", "10.42.0.4"]
    assert [one["ip"] for one in at_8080["notReadyAddresses"]] == ["10.42.0.5"]
    assert at_8080["ports"] == [{"protocol": "TCP", "port": 8080}]
    assert at_8080["addresses"][0] == {
        "ip": "10.42.0.3",
        "nodeName": "ant",
        "targetRef": {"kind": "Pod", "namespace": "default", "name": "p1", "uid": "u1"},
    }
    assert [one["ip"] for one in at_9090["addresses"]] == ["10.42.0.6"] and at_9090["ports"][0][
        "port"
    ] == 9090


@pytest.mark.parametrize("one", [pod(1, phase="Succeeded"), pod(1, phase="Failed"), ending(pod(1))])
def test_a_pod_that_is_over_or_ending_is_not_named(one: Object) -> None:
    assert subsets_of(service(), [one]) == []


def test_a_pod_without_the_services_port_is_not_named() -> None:
    assert subsets_of(service(ports=[{"port": 80, "targetPort": "other"}]), [pod(1)]) == []


def test_not_ready_and_ending_pods_are_published_when_asked_for() -> None:
    (subset,) = subsets_of(service(publishNotReadyAddresses=True), [pod(1, ready=False), ending(pod(2))])
    assert len(subset["addresses"]) == 2 and "notReadyAddresses" not in subset


def test_a_headless_service_without_ports_has_addresses_alone_and_hostnames() -> None:
    headless = service(clusterIP="None", ports=[])
    wanted = wanted_of(headless, None, [pod(1, hostname="db-0", subdomain="web")])
    assert wanted["metadata"]["labels"] == {
        "team": "a", MANAGED_BY: "endpoint-controller", "service.kubernetes.io/headless": "",
    }  # fmt: skip
    (subset,) = wanted["subsets"]
    assert subset["addresses"][0]["hostname"] == "db-0" and "ports" not in subset


def test_what_is_written_already_is_not_written_again_and_other_notes_stay() -> None:
    first = wanted_of(service(), None, [pod(1)])
    stored = {**first, "metadata": {**first["metadata"], "resourceVersion": "7", "annotations": {"a": "b"}}}
    assert wanted_of(service(), stored, [pod(1)]) == stored
    assert "subsets" not in wanted_of(service(), stored, [])


def test_more_than_a_thousand_addresses_are_cut_and_the_annotation_says_so() -> None:
    many = [pod(number, port=8080 + number % 2, ready=number < 900) for number in range(1200)]
    wanted = wanted_of(service(), None, many)
    counts = [
        (len(one.get("addresses", [])), len(one.get("notReadyAddresses", []))) for one in wanted["subsets"]
    ]
    assert counts == [(450, 50), (450, 50)]
    assert wanted["metadata"]["annotations"] == {"endpoints.kubernetes.io/over-capacity": "truncated"}
    assert "annotations" not in wanted_of(service(), wanted, many[:5])["metadata"]


def test_when_there_are_too_many_ready_ones_only_they_are_kept() -> None:
    subsets = [
        {"addresses": [{"ip": str(n)} for n in range(count)], "notReadyAddresses": [{"ip": "x"}]}
        for count in (1500, 500)
    ]
    kept = limited(subsets, MAX_ADDRESSES)
    assert [len(one["addresses"]) for one in kept] == [750, 250]
    assert not any("notReadyAddresses" in one for one in kept)


def test_a_mirror_has_a_slice_for_each_family_and_says_what_is_ready() -> None:
    groups = mirrored(by_hand())
    assert {group.address_type: endpoints for group, endpoints in groups.items()} == {
        "IPv4": [{"addresses": ["192.0.2.7"], "conditions": {"ready": True}}],
        "IPv6": [{"addresses": ["2001:db8::7"], "conditions": {"ready": False}}],
    }
    assert {group.ports[0].port for group in groups} == {5432}


async def test_endpoints_follow_pods_and_go_with_their_service(cluster: Cluster) -> None:
    await cluster.start_all()
    await cluster.client.create(
        SERVICE, service(selector={"app": "web"}, ports=[{"port": 80, "targetPort": 8080}])
    )
    await cluster.clock.advance(1)
    assert "subsets" not in await cluster.client.get(ENDPOINTS, "web", "default")
    await cluster.client.create(DEPLOYMENT, deployment("web", replicas=2))
    await cluster.clock.advance(30)
    named = (await cluster.client.get(ENDPOINTS, "web", "default"))["subsets"][0]["addresses"]
    assert {one["ip"] for one in named} == {one["status"]["podIP"] for one in await cluster.ready_pods()}
    assert len(named) == 2
    await cluster.client.delete(SERVICE, "web", "default")
    await cluster.clock.advance(1)
    assert await cluster.all(ENDPOINTS) == []


async def test_what_a_user_wrote_is_mirrored_while_there_is_a_service_for_it(cluster: Cluster) -> None:
    await cluster.start_all()
    await cluster.client.create(ENDPOINTS, by_hand())
    await cluster.clock.advance(1)
    assert await cluster.all(ENDPOINT_SLICE) == []
    without_selector = service(selector={}, ports=[{"name": "sql", "port": 5432}])
    without_selector["metadata"]["name"] = "db"
    await cluster.client.create(SERVICE, without_selector)
    await cluster.clock.advance(1)
    assert (await cluster.client.get(ENDPOINTS, "db", "default"))["subsets"] == by_hand()["subsets"]
    for one in await cluster.all(ENDPOINT_SLICE):
        assert meta.labels(one)["kubernetes.io/service-name"] == "db"
        assert meta.labels(one)["endpointslice.kubernetes.io/managed-by"] == (
            "endpointslicemirroring-controller.k8s.io"
        )
        assert meta.owner_references(one)[0]["kind"] == "Endpoints"
    assert len(await cluster.all(ENDPOINT_SLICE)) == 2
    only = [{"addresses": [{"ip": "192.0.2.8"}], "ports": [{"name": "sql", "port": 5432}]}]
    await cluster.patch(ENDPOINTS, "db", {"subsets": only})
    await cluster.clock.advance(1)
    (slice_,) = await cluster.all(ENDPOINT_SLICE)
    assert [one["addresses"] for one in slice_["endpoints"]] == [["192.0.2.8"]]
    skip = {"metadata": {"labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}}}
    await cluster.patch(ENDPOINTS, "db", skip)
    await cluster.clock.advance(1)
    assert await cluster.all(ENDPOINT_SLICE) == []
    await cluster.client.delete(SERVICE, "db", "default")
    await cluster.clock.advance(1)
    assert await cluster.all(ENDPOINTS) == []


async def test_endpoints_whose_service_went_while_nobody_looked_go_at_the_start(cluster: Cluster) -> None:
    await cluster.client.create(ENDPOINTS, by_hand(labels={MANAGED_BY: "endpoint-controller"}))
    lock = by_hand()
    lock["metadata"]["name"] = "a-users"
    await cluster.client.create(ENDPOINTS, lock)
    await cluster.start_all()
    await cluster.clock.advance(1)
    assert [meta.name(one) for one in await cluster.all(ENDPOINTS)] == ["a-users"]
