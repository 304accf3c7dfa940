"""Services as clients of Kubernetes know them: families of addresses, and what load balancers write."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gitkube.api.client import PatchType
from gitkube.api.errors import StatusError
from gitkube.api.local import LocalClient
from gitkube.objects.kinds import SERVICE
from gitkube.objects.types import Object
from tests.support.real_api import real_client


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[LocalClient]:
    async with real_client(tmp_path) as made:
        yield made


def service(**spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"ports": [{"port": 80}], **spec},
    }


async def change(client: LocalClient, patch: Object, subresource: str = "") -> Object:
    return await client.patch(SERVICE, "web", "default", patch, type=PatchType.MERGE, subresource=subresource)


async def refusal(awaitable: Any) -> str:
    with pytest.raises(StatusError) as caught:
        await awaitable
    assert caught.value.code == 422
    return caught.value.message.removeprefix('Service "web" is invalid: ')


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        (
            {"ports": [{"port": 80, "nodePort": 30080}]},
            "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
        ),
        (
            {"ipFamilies": ["IPv6"]},
            'spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster',
        ),
        (
            {"ipFamilyPolicy": "RequireDualStack"},
            'spec.ipFamilyPolicy: Invalid value: "RequireDualStack": '
            "this cluster is not configured for dual-stack services",
        ),
        (
            {"ipFamilyPolicy": "Both"},
            'spec.ipFamilyPolicy: Unsupported value: "Both": '
            'supported values: "PreferDualStack", "RequireDualStack", "SingleStack"',
        ),
        (
            {"trafficDistribution": "Near"},
            'spec.trafficDistribution: Unsupported value: "Near": '
            'supported values: "PreferClose", "PreferSameNode", "PreferSameZone"',
        ),
    ],
)
async def test_what_the_cluster_does_not_have_is_refused(
    client: LocalClient, spec: Object, sentence: str
) -> None:
    assert await refusal(client.create(SERVICE, service(**spec))) == sentence


async def test_a_headless_service_without_a_selector_may_have_addresses_of_both_families(
    client: LocalClient,
) -> None:
    made = await client.create(SERVICE, service(clusterIP="None"))
    assert made["spec"]["ipFamilies"] == ["IPv4", "IPv6"]
    assert made["spec"]["ipFamilyPolicy"] == "RequireDualStack"
    again = await client.update(SERVICE, service(clusterIP="None", ports=[{"port": 81}]))
    assert again["spec"]["ipFamilies"] == ["IPv4", "IPv6"]


async def test_a_headless_service_with_a_selector_has_the_families_of_the_cluster(
    client: LocalClient,
) -> None:
    spec = {"clusterIP": "None", "selector": {"app": "web"}, "ipFamilyPolicy": "PreferDualStack"}
    made = await client.create(SERVICE, service(**spec))
    assert (made["spec"]["ipFamilies"], made["spec"]["ipFamilyPolicy"]) == (["IPv4"], "PreferDualStack")


async def test_the_class_of_a_load_balancer_stays_while_the_type_does(client: LocalClient) -> None:
    await client.create(SERVICE, service(type="LoadBalancer"))
    wanted = {"spec": {"loadBalancerClass": "example.com/other"}}
    assert await refusal(change(client, wanted)) == (
        'spec.loadBalancerClass: Invalid value: "example.com/other": may not change once set'
    )


async def test_what_a_load_balancer_reports_is_checked_and_goes_with_the_type(client: LocalClient) -> None:
    def reached_at(**place: str) -> Object:
        return {"status": {"loadBalancer": {"ingress": [place]}}}

    await client.create(SERVICE, service(type="LoadBalancer"))
    made = await change(client, reached_at(ip="192.0.2.7"), "status")
    assert made["status"]["loadBalancer"]["ingress"] == [{"ip": "192.0.2.7", "ipMode": "VIP"}]
    path = "status.loadBalancer.ingress"
    assert (await refusal(change(client, reached_at(ip="x"), "status"))).startswith(f"{path}[0].ip: Invalid")
    assert await refusal(change(client, reached_at(hostname="a", ipMode="VIP"), "status")) == (
        f"{path}[0].ipMode: Forbidden: may not be specified when `ip` is not set"
    )
    inside = await change(client, {"spec": {"type": "ClusterIP"}})
    assert inside["status"] == {"loadBalancer": {}}
    assert await refusal(change(client, reached_at(ip="192.0.2.7"), "status")) == (
        f'{path}: Forbidden: may only be used when `spec.type` is "LoadBalancer"'
    )


async def test_a_node_port_goes_with_the_type_that_has_it(client: LocalClient) -> None:
    made = await client.create(SERVICE, service(type="NodePort", ports=[{"port": 80, "nodePort": 30080}]))
    assert made["spec"]["ports"][0]["nodePort"] == 30080
    changed = await change(client, {"spec": {"type": "ClusterIP"}})
    assert "nodePort" not in changed["spec"]["ports"][0]
    back = {"spec": {"ports": [{"port": 80, "nodePort": 30081}]}}
    assert "may not be used when `type` is 'ClusterIP'" in await refusal(change(client, back))


@pytest.mark.parametrize("protocol", ["http", "kubernetes.io/h2c", "a b", "web/", ""])
async def test_the_protocol_of_an_application_is_a_qualified_name(client: LocalClient, protocol: str) -> None:
    asked = client.create(SERVICE, service(ports=[{"port": 80, "appProtocol": protocol}]))
    if protocol in ("http", "kubernetes.io/h2c"):
        assert (await asked)["spec"]["ports"][0]["appProtocol"] == protocol
    else:
        assert "spec.ports[0].appProtocol: Invalid value" in await refusal(asked)
