"""Rows of Services and EndpointSlices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gitkube.objects import meta
from gitkube.objects.tables.columns import AGE, NAME, NONE, Cells, Column, Table, join_labels, with_more
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
