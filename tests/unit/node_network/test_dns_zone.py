"""Names of the cluster, as Kubernetes' DNS specification 1.1.0 wants them."""

from __future__ import annotations

from typing import Any

import pytest

from gitkube.node.network.dns import message, resolv
from gitkube.node.network.dns.message import AAAA, CNAME, NOERROR, NXDOMAIN, PTR, SRV, TXT, A, Srv
from gitkube.node.network.dns.zone import Zone

CLUSTER, SERVICES = "10.42.0.0/16", "10.43.0.0/16"


def service(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": "default", "name": name}, "spec": spec}


def endpoint_slice(service_name: str, *endpoints: dict[str, Any]) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "default", "labels": {"kubernetes.io/service-name": service_name}},
        "addressType": "IPv4",
        "ports": [{"name": "client", "port": 6379, "protocol": "TCP"}],
        "endpoints": list(endpoints),
    }


ZONE = Zone(
    "cluster.local",
    {
        "services": [
            service("web", clusterIP="10.43.0.5", ports=[{"name": "http", "port": 80}]),
            service("db", clusterIP="None", ports=[{"name": "client", "port": 6379}]),
            service("empty", clusterIP="None"),
            service("away", type="ExternalName", externalName="example.org"),
            service("alias", type="ExternalName", externalName="web.default.svc.cluster.local"),
            service("loop", type="ExternalName", externalName="loop.default.svc.cluster.local"),
        ],
        "endpointSlices": [
            endpoint_slice(
                "db",
                {"addresses": ["10.42.1.2"], "hostname": "db-0", "conditions": {"ready": True}},
                {"addresses": ["10.42.2.2"], "conditions": {"ready": True}},
                {"addresses": ["10.42.3.2"], "hostname": "db-2", "conditions": {"ready": False}},
            )
        ],
    },
    cluster_cidr=CLUSTER,
    service_cidr=SERVICES,
)


def ask(name: str, kind: int) -> tuple[int, list[str]]:
    answer = ZONE.answer(name, kind)
    assert answer is not None
    return answer.code, [str(record.data) for record in answer.answers]


@pytest.mark.parametrize(
    ("name", "kind", "code", "expected"),
    [
        ("web.default.svc.cluster.local", A, NOERROR, ["10.43.0.5"]),
        ("WEB.Default.svc.cluster.LOCAL.", A, NOERROR, ["10.43.0.5"]),
        ("web.default.svc.cluster.local", AAAA, NOERROR, []),
        ("nothing.default.svc.cluster.local", A, NXDOMAIN, []),
        ("web.other.svc.cluster.local", A, NXDOMAIN, []),
        ("default.svc.cluster.local", A, NOERROR, []),
        ("svc.cluster.local", A, NOERROR, []),
        ("cluster.local", A, NOERROR, []),
        ("db.default.svc.cluster.local", A, NOERROR, ["10.42.1.2", "10.42.2.2"]),
        ("db-0.db.default.svc.cluster.local", A, NOERROR, ["10.42.1.2"]),
        ("db-2.db.default.svc.cluster.local", A, NXDOMAIN, []),
        ("10-42-2-2.db.default.svc.cluster.local", A, NOERROR, ["10.42.2.2"]),
        ("empty.default.svc.cluster.local", A, NOERROR, []),
        ("10-42-7-9.default.pod.cluster.local", A, NOERROR, ["10.42.7.9"]),
        ("10-42-7-9.default.pod.cluster.local", AAAA, NOERROR, []),
        ("192-0-2-1.default.pod.cluster.local", A, NXDOMAIN, []),
        ("bad.default.pod.cluster.local", A, NXDOMAIN, []),
        ("5.0.43.10.in-addr.arpa", PTR, NOERROR, ["web.default.svc.cluster.local"]),
        ("2.1.42.10.in-addr.arpa", PTR, NOERROR, ["db-0.db.default.svc.cluster.local"]),
        ("9.9.42.10.in-addr.arpa", PTR, NXDOMAIN, []),
        ("dns-version.cluster.local", TXT, NOERROR, ["1.1.0"]),
        ("away.default.svc.cluster.local", CNAME, NOERROR, ["example.org"]),
        ("away.default.svc.cluster.local", A, NOERROR, ["example.org"]),
        ("alias.default.svc.cluster.local", A, NOERROR, ["web.default.svc.cluster.local", "10.43.0.5"]),
        ("_tcp.web.default.svc.cluster.local", A, NOERROR, []),
    ],
)
def test_each_name_has_its_answer(name: str, kind: int, code: int, expected: list[str]) -> None:
    assert ask(name, kind) == (code, expected)


def test_a_negative_answer_says_how_long_it_holds() -> None:
    answer = ZONE.answer("nothing.default.svc.cluster.local", A)
    assert answer is not None
    assert [record.type for record in answer.authority] == [message.SOA]


def test_a_named_port_is_found_with_the_addresses_behind_it() -> None:
    answer = ZONE.answer("_http._tcp.web.default.svc.cluster.local", SRV)
    assert answer is not None
    assert answer.answers[0].data == Srv(0, 100, 80, "web.default.svc.cluster.local")
    assert [str(record.data) for record in answer.additional] == ["10.43.0.5"]
    headless = ZONE.answer("_client._tcp.db.default.svc.cluster.local", SRV)
    assert headless is not None
    targets = [record.data.target for record in headless.answers if isinstance(record.data, Srv)]
    assert targets == ["db-0.db.default.svc.cluster.local", "10-42-2-2.db.default.svc.cluster.local"]


def test_a_name_that_leads_to_itself_ends() -> None:
    answer = ZONE.answer("loop.default.svc.cluster.local", A)
    assert answer is not None
    assert len(answer.answers) <= 8


def test_what_is_not_of_the_cluster_is_not_answered_here() -> None:
    assert ZONE.answer("example.org", A) is None
    assert ZONE.answer("notcluster.local", A) is None
    assert ZONE.answer("1.2.0.192.in-addr.arpa", PTR) is None


IN_CLUSTER = (
    "nameserver 10.42.1.1\nsearch shop.svc.cluster.local svc.cluster.local cluster.local corp.example\n"
)
HOST = resolv.read("# comment\nnameserver 192.0.2.53\nsearch corp.example\noptions rotate timeout:1\n")


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (
            {},
            IN_CLUSTER + "options ndots:5\n",
        ),
        (
            {"dnsPolicy": "Default"},
            "nameserver 192.0.2.53\nsearch corp.example\noptions rotate timeout:1\n",
        ),
        (
            {"dnsPolicy": "ClusterFirst", "hostNetwork": True},
            "nameserver 192.0.2.53\nsearch corp.example\noptions rotate timeout:1\n",
        ),
        (
            {"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": True},
            IN_CLUSTER + "options ndots:5\n",
        ),
        (
            {
                "dnsPolicy": "None",
                "dnsConfig": {
                    "nameservers": ["192.0.2.1"],
                    "searches": ["a.example"],
                    "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}],
                },
            },
            "nameserver 192.0.2.1\nsearch a.example\noptions ndots:2 edns0\n",
        ),
        (
            {"dnsConfig": {"options": [{"name": "ndots", "value": "1\nnameserver 6.6.6.6"}]}},
            IN_CLUSTER + "options ndots:1\n",
        ),
    ],
)
def test_a_pods_resolver_follows_its_policy(spec: dict[str, Any], expected: str) -> None:
    pod = {"metadata": {"namespace": "shop"}, "spec": spec}
    assert resolv.for_pod(pod, HOST, gateway="10.42.1.1", domain="cluster.local").text() == expected
