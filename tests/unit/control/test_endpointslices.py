"""How endpoints are put into slices: at most a hundred each, and as little change as can be."""

from __future__ import annotations

from typing import Any

from gitkube.control.endpointslice import belonging_of, wanted_endpoints
from gitkube.control.slices import MAX_ENDPOINTS, SlicePlan, plan_slices
from gitkube.objects import meta
from gitkube.objects.types import Object


def service(**spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "default", "uid": "s", "labels": {"team": "a"}},
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


def plan(present: list[Object], pods: list[Object], **spec: Any) -> SlicePlan:
    wanted = service(**spec)
    return plan_slices(belonging_of(wanted), present, wanted_endpoints(wanted, pods, {"ant": "zone-a"}))


def stored(slices: list[Object]) -> list[Object]:
    return [{**one, "metadata": {**one["metadata"], "uid": meta.name(one)}} for one in slices]


def test_many_endpoints_fill_slices_of_a_hundred() -> None:
    found = plan([], [pod(number) for number in range(250)])
    assert sorted(len(one["endpoints"]) for one in found.create) == [50, MAX_ENDPOINTS, MAX_ENDPOINTS]
    assert len({meta.name(one) for one in found.create}) == 3
    for one in found.create:
        assert one["metadata"]["labels"]["kubernetes.io/service-name"] == "web"
        assert one["metadata"]["labels"]["team"] == "a"
        assert one["ports"] == [{"name": "", "protocol": "TCP", "port": 8080}]
        assert meta.owner_references(one)[0]["uid"] == "s"
        assert one["endpoints"][0]["zone"] == "zone-a"


def test_one_pod_more_or_less_changes_one_slice() -> None:
    pods = [pod(number) for number in range(250)]
    slices = stored(plan([], pods).create)
    assert plan(slices, pods) == SlicePlan()
    fewer = plan(slices, pods[1:])
    assert (len(fewer.create), len(fewer.update), len(fewer.delete)) == (0, 1, 0)
    more = plan(slices, [*pods, pod(250)])
    assert (len(more.create), len(more.update), len(more.delete)) == (0, 1, 0)


def test_trying_again_after_a_lost_answer_makes_the_same_names() -> None:
    pods = [pod(number) for number in range(3)]
    names = [[meta.name(one) for one in plan([], pods).create] for _ in range(2)]
    assert names[0] == names[1]


def test_the_last_slice_stays_and_says_nobody() -> None:
    slices = stored(plan([], [pod(1)]).create)
    emptied = plan(slices, [])
    assert [one["endpoints"] for one in emptied.create + emptied.update] == [[]]
    kept = stored(emptied.create + emptied.update)
    assert plan(kept, []) == SlicePlan()


def test_a_name_for_somewhere_else_has_no_slices() -> None:
    assert plan([], [pod(1)], type="ExternalName", externalName="a.example") == SlicePlan()
    present = stored(plan([], [pod(1)]).create)
    assert len(plan(present, [pod(1)], type="ExternalName", externalName="a.example").delete) == 1


def test_pods_with_different_numbers_of_a_named_port_get_slices_of_their_own() -> None:
    found = plan([], [pod(1, port=8080), pod(2, port=9090)])
    assert sorted(one["ports"][0]["port"] for one in found.create) == [8080, 9090]


def test_ended_pods_and_those_without_address_are_no_endpoints() -> None:
    nowhere = pod(3)
    del nowhere["status"]["podIP"]
    found = plan([], [pod(1, phase="Succeeded"), pod(2, phase="Failed"), nowhere, pod(4)])
    (only,) = [one for slice_ in found.create for one in slice_["endpoints"]]
    assert only["targetRef"]["name"] == "p4"


def test_headless_services_are_labelled_and_keep_hostnames() -> None:
    found = plan([], [pod(1, hostname="db-0", subdomain="web")], clusterIP="None")
    (slice_,) = found.create
    assert slice_["metadata"]["labels"]["service.kubernetes.io/headless"] == ""
    assert slice_["endpoints"][0]["hostname"] == "db-0"


def test_not_ready_addresses_are_published_when_asked_for() -> None:
    for publishes in (False, True):
        (slice_,) = plan([], [pod(1, ready=False)], publishNotReadyAddresses=publishes).create
        assert slice_["endpoints"][0]["conditions"]["ready"] is publishes
