"""Rows of Services, their endpoints, ingresses and policies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gitkube.objects import meta
from gitkube.objects.tables.columns import (
    AGE,
    NAME,
    NONE,
    Cells,
    Column,
    Table,
    join_labels,
    join_selector,
    with_more,
)
from gitkube.objects.tables.durations import age
from gitkube.objects.types import Object

_SHOWN = 3
"""Addresses and ports of an EndpointSlice that are named."""


def _service(service: Object, now_s: float) -> Cells:
    spec = service.get("spec") or {}
    addresses = spec.get("clusterIPs") or ()
    return [
        meta.name(service),
        spec.get("type") or "ClusterIP",
        (addresses[0] if addresses else spec.get("clusterIP")) or NONE,
        _external(service),
        ",".join(_port(port) for port in spec.get("ports") or ()) or NONE,
        age(meta.metadata(service).get("creationTimestamp"), now_s),
        join_labels(spec.get("selector")),
    ]


def _port(port: Mapping[str, Any]) -> str:
    protocol = port.get("protocol") or "TCP"
    if port.get("nodePort"):
        return f"{port.get('port')}:{port['nodePort']}/{protocol}"
    return f"{port.get('port')}/{protocol}"


def _external(service: Object) -> str:
    spec = service.get("spec") or {}
    kind = spec.get("type") or "ClusterIP"
    if kind == "ExternalName":
        return spec.get("externalName") or NONE
    addresses = list(spec.get("externalIPs") or ())
    if kind == "LoadBalancer":
        balancer = (service.get("status") or {}).get("loadBalancer") or {}
        given = sorted(
            entry.get("ip") or entry.get("hostname") or "" for entry in balancer.get("ingress") or ()
        )
        return ",".join([*given, *addresses]) or "<pending>"
    return ",".join(addresses) or NONE


def _endpoint_slice(endpoint_slice: Object, now_s: float) -> Cells:
    ports = [_slice_port(port) for port in endpoint_slice.get("ports") or ()]
    addresses = [
        address
        for endpoint in endpoint_slice.get("endpoints") or ()
        for address in endpoint.get("addresses") or ()
    ]
    return [
        meta.name(endpoint_slice),
        endpoint_slice.get("addressType") or "",
        with_more(ports, _SHOWN),
        with_more(addresses, _SHOWN),
        age(meta.metadata(endpoint_slice).get("creationTimestamp"), now_s),
    ]


def _slice_port(port: Mapping[str, Any]) -> str:
    if port.get("port") is not None:
        return str(port["port"])
    return str(port["name"]) if port.get("name") is not None else "*"


def _endpoints(endpoints: Object, now_s: float) -> Cells:
    subsets = endpoints.get("subsets") or ()
    addresses: list[str] = []
    for subset in subsets:
        ready = [str(address.get("ip")) for address in subset.get("addresses") or ()]
        ports = subset.get("ports") or ()
        addresses += [_with_port(ip, port) for port in ports for ip in ready] if ports else ready
    shown = NONE
    if subsets:
        shown = with_more(addresses, _SHOWN) if addresses else ""
    return [meta.name(endpoints), shown, age(meta.metadata(endpoints).get("creationTimestamp"), now_s)]


def _with_port(ip: str, port: Mapping[str, Any]) -> str:
    return f"[{ip}]:{port.get('port')}" if ":" in ip else f"{ip}:{port.get('port')}"


def _ingress(ingress: Object, now_s: float) -> Cells:
    spec = ingress.get("spec") or {}
    rules = spec.get("rules") or ()
    hosts = [str(rule["host"]) for rule in rules if rule.get("host")]
    return [
        meta.name(ingress),
        spec.get("ingressClassName") or NONE,
        _hosts(hosts, len(rules)),
        _balancer(ingress),
        "80, 443" if spec.get("tls") else "80",
        age(meta.metadata(ingress).get("creationTimestamp"), now_s),
    ]


def _hosts(hosts: list[str], count: int) -> str:
    """The first few hosts; how many there are more is counted in rules, which may have none."""
    shown = ",".join(hosts[:_SHOWN]) or "*"
    return f"{shown} + {count - _SHOWN} more..." if len(hosts) > _SHOWN else shown


def _balancer(obj: Object) -> str:
    entries = ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    return ",".join(str(entry.get("ip") or entry.get("hostname") or "") for entry in entries)


def _ingress_class(ingress_class: Object, now_s: float) -> Cells:
    spec = ingress_class.get("spec") or {}
    parameters, shown = spec.get("parameters"), NONE
    if parameters:
        kind, group = parameters.get("kind"), parameters.get("apiGroup")
        shown = f"{kind}.{group}/{parameters.get('name')}" if group else f"{kind}/{parameters.get('name')}"
    created = age(meta.metadata(ingress_class).get("creationTimestamp"), now_s)
    return [meta.name(ingress_class), spec.get("controller") or "", shown, created]


def _network_policy(policy: Object, now_s: float) -> Cells:
    selector = (policy.get("spec") or {}).get("podSelector")
    created = age(meta.metadata(policy).get("creationTimestamp"), now_s)
    return [meta.name(policy), join_selector(selector), created]


def _ip_address(address: Object, now_s: float) -> Cells:
    parent = (address.get("spec") or {}).get("parentRef") or {}
    words = [parent.get("resource") or "", parent.get("group") or ""]
    shown = ".".join(word for word in words if word)
    shown += "".join(f"/{parent[field]}" for field in ("namespace", "name") if parent.get(field))
    created = age(meta.metadata(address).get("creationTimestamp"), now_s)
    return [meta.name(address), shown, created]


def _service_cidr(service_cidr: Object, now_s: float) -> Cells:
    networks = (service_cidr.get("spec") or {}).get("cidrs") or ()
    created = age(meta.metadata(service_cidr).get("creationTimestamp"), now_s)
    return [meta.name(service_cidr), ",".join(networks), created]


SERVICE_TABLE = Table(
    (
        NAME,
        Column("Type", description="How the service is exposed."),
        Column("Cluster-IP", description="Address inside the cluster."),
        Column("External-IP", description="Addresses or name outside the cluster."),
        Column("Port(s)", description="Ports, with the hosts' port where there is one."),
        AGE,
        Column("Selector", description="Labels of the pods behind it.", priority=1),
    ),
    _service,
)
ENDPOINT_SLICE_TABLE = Table(
    (
        NAME,
        Column("AddressType", description="IPv4, IPv6 or FQDN."),
        Column("Ports", description="Ports of every endpoint in this slice."),
        Column("Endpoints", description="Addresses of the endpoints."),
        AGE,
    ),
    _endpoint_slice,
)
ENDPOINTS_TABLE = Table((NAME, Column("Endpoints", description="Addresses with ports."), AGE), _endpoints)
INGRESS_TABLE = Table(
    (
        NAME,
        Column("Class", description="IngressClass that serves it."),
        Column("Hosts", description="Hosts of its rules; * is any."),
        Column("Address", description="Where it is reached."),
        Column("Ports", description="Ports on which it is served."),
        AGE,
    ),
    _ingress,
)
INGRESS_CLASS_TABLE = Table(
    (
        NAME,
        Column("Controller", description="What serves ingresses of this class."),
        Column("Parameters", description="Object with settings for the controller."),
        AGE,
    ),
    _ingress_class,
)
NETWORK_POLICY_TABLE = Table(
    (NAME, Column("Pod-Selector", description="Labels of the pods it is for."), AGE), _network_policy
)
IP_ADDRESS_TABLE = Table((NAME, Column("ParentRef", description="What has the address."), AGE), _ip_address)
SERVICE_CIDR_TABLE = Table((NAME, Column("CIDRs", description="Ranges of addresses."), AGE), _service_cidr)
