"""Services and their rules, as data: what traffic may ask for, and the document that nft gets."""

from __future__ import annotations

import json
from typing import Any

from gitkube.node.network import ruleset
from gitkube.node.network.services import API_DOOR_PORT, Backend, Frontend, api_address, frontends


def service(name: str = "web", address: str = "10.43.0.5", **spec: Any) -> dict[str, Any]:
    ports = spec.pop("ports", [{"name": "http", "port": 80, "nodePort": 30080}])
    return {
        "metadata": {"namespace": "default", "name": name},
        "spec": {"clusterIP": address, "ports": ports, **spec},
    }


def endpoint_slice(*endpoints: dict[str, Any], ports: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": ports or [{"name": "http", "port": 8080}],
        "endpoints": list(endpoints),
    }


def endpoint(address: str, **conditions: Any) -> dict[str, Any]:
    return {"addresses": [address], "conditions": conditions or {"ready": True}}


def only(services: list[dict[str, Any]], *slices: dict[str, Any]) -> Frontend:
    found = frontends({"services": services, "endpointSlices": list(slices)})
    assert len(found) == 1
    return found[0]


def test_ready_endpoints_of_all_slices_serve_in_a_stable_order() -> None:
    front = only(
        [service()],
        endpoint_slice(endpoint("10.42.2.9"), endpoint("10.42.10.2", ready=False)),
        endpoint_slice(endpoint("10.42.2.10"), endpoint("10.42.2.9")),
    )
    assert front.backends == (Backend("10.42.2.9", 8080), Backend("10.42.2.10", 8080))
    assert (front.name, front.protocol, front.node_port) == ("default/web:http", "tcp", 30080)


def test_an_unknown_readiness_counts_as_ready() -> None:
    front = only([service()], endpoint_slice({"addresses": ["10.42.1.2"]}))
    assert front.backends == (Backend("10.42.1.2", 8080),)


def test_endpoints_that_end_serve_only_when_no_other_does() -> None:
    ending = endpoint("10.42.1.2", ready=False, serving=True, terminating=True)
    assert only([service()], endpoint_slice(ending)).backends == (Backend("10.42.1.2", 8080),)
    both = only([service()], endpoint_slice(ending, endpoint("10.42.1.3")))
    assert both.backends == (Backend("10.42.1.3", 8080),)


def test_ports_are_matched_by_name_and_protocol() -> None:
    dns = service(ports=[{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53}])
    ports = [{"name": "dns", "port": 5353, "protocol": "UDP"}, {"name": "dns-tcp", "port": 5354}]
    found = frontends(
        {"services": [dns], "endpointSlices": [endpoint_slice(endpoint("10.42.1.2"), ports=ports)]}
    )
    assert {(one.protocol, one.port, one.backends[0].port) for one in found} == {
        ("udp", 53, 5353),
        ("tcp", 53, 5354),
    }


def test_what_makes_no_sense_is_left_out_alone() -> None:
    wrong = [
        service("headless", "None"),
        service("later", ""),
        service("six", "fd00::1"),
        service(
            "odd", "10.43.0.9", ports=[{"port": 70000}, {"port": "http"}, {"port": 1, "protocol": "SCTP"}]
        ),
        {"metadata": {}, "spec": None},
        {},
    ]
    found = frontends(
        {
            "services": [*wrong, service()],
            "endpointSlices": [endpoint_slice(endpoint("x"), endpoint("10.42.1.2"))],
        }
    )
    assert [one.name for one in found] == ["default/web:http"]


def document(*fronts: Frontend) -> dict[str, Any]:
    return ruleset.build(
        fronts,
        pod_cidr="10.42.1.0/24",
        cluster_cidr="10.42.0.0/16",
        service_cidr="10.43.0.0/16",
        gateway="10.42.1.1",
        overlay="gitkube-wg",
    )


def added(built: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [command["add"][kind] for command in built["nftables"] if kind in command.get("add", {})]


WEB = Frontend(
    "default/web:http",
    "10.43.0.5",
    "tcp",
    80,
    30080,
    False,
    (Backend("10.42.1.2", 8080), Backend("10.42.2.2", 8080)),
)


def test_every_command_is_about_our_table_and_it_is_replaced_whole() -> None:
    built = document(WEB)
    for command in built["nftables"]:
        ((_, what),) = command.items()
        ((kind, body),) = what.items()
        assert body["family"] == "ip"
        assert (body["name"] if kind == "table" else body["table"]) == "gitkube"
    assert [next(iter(command)) for command in built["nftables"][:3]] == ["add", "delete", "add"]


def test_a_service_is_reached_by_its_address_and_by_its_node_port() -> None:
    elements = {each["name"]: each["elem"] for each in added(document(WEB), "element")}
    ((key, verdict),) = elements["services"]
    assert key == {"concat": ["10.43.0.5", "tcp", 80]}
    ((node_key, node_verdict),) = elements["nodeports"]
    assert node_key == {"concat": ["tcp", 30080]}
    assert node_verdict["goto"]["target"] == "np-" + verdict["goto"]["target"]
    assert elements["hairpin"] == [{"concat": ["10.42.1.2", "10.42.1.2"]}]


def test_a_service_without_endpoints_has_no_chain_and_so_is_refused() -> None:
    empty = Frontend("default/none:80", "10.43.0.6", "tcp", 80, 30081, False, ())
    assert document(empty) == document()
    rules = [rule for rule in added(document(), "rule") if rule["chain"] == "forward"]
    assert [list(rule["expr"][-1]) for rule in rules] == [["reject"], ["reject"]]


def test_the_same_state_gives_the_same_document_whatever_its_order() -> None:
    other = Frontend("default/api:80", "10.43.0.7", "tcp", 80, 0, False, (Backend("10.42.3.2", 80),))
    one = json.dumps(document(*sorted([WEB, other], key=lambda front: front.name)))
    two = json.dumps(document(*sorted([other, WEB], key=lambda front: front.name)))
    assert one == two


def test_a_sticky_service_chooses_by_the_clients_address() -> None:
    sticky = Frontend(WEB.name, WEB.cluster_ip, "tcp", 80, 0, True, WEB.backends)
    assert "jhash" in json.dumps(document(sticky))
    assert "numgen" in json.dumps(document(WEB))


def test_a_long_name_fits_into_a_comment() -> None:
    long = Frontend("n" * 63 + "/" + "s" * 63 + ":http", "10.43.0.5", "tcp", 80, 0, False, WEB.backends)
    assert all(len(rule.get("comment", "")) <= 100 for rule in added(document(long), "rule"))


def test_the_api_is_reached_through_this_host_whatever_its_endpoints_are() -> None:
    metadata = {"name": "kubernetes", "namespace": "default"}
    ports = [{"name": "https", "port": 443, "targetPort": 6443}]
    api = {"metadata": metadata, "spec": {"clusterIP": "10.43.0.1", "ports": ports}}
    there = Backend("10.42.1.1", API_DOOR_PORT)
    [front] = frontends({"services": [api], "endpointSlices": []}, there)
    assert (front.cluster_ip, front.port, front.backends) == ("10.43.0.1", 443, (there,))
    other = {**api, "metadata": {**metadata, "namespace": "shop"}}
    [front] = frontends({"services": [other], "endpointSlices": []}, there)
    assert front.backends == ()
    assert api_address("10.43.0.0/16") == "10.43.0.1"
