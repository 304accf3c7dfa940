"""Which address and port leads to which endpoints: Services and EndpointSlices, decided purely.

Only what is asked for by traffic comes out: each `Frontend` is one port of one Service with its ClusterIP,
its NodePort and the endpoints that may serve it now. Objects that make no sense are left out one by one, so
that one of them never takes the others along.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from gitkube.wire import ServicesDesired

Object = dict[str, Any]
PROTOCOLS = {"TCP": "tcp", "UDP": "udp"}
SERVICE_NAME_LABEL = "kubernetes.io/service-name"
API_SERVICE, API_SERVICE_PORT = "default/kubernetes", 443
API_DOOR_PORT = 16443
"""On the gateway of the pods, where the agent takes connections to the API and carries them over its link."""
MAX_FRONTENDS = 20_000
MAX_ENDPOINTS_PER_PORT = 1_000
"""Kubernetes' own limit for a Service's endpoints that are sure to be considered."""


@dataclass(frozen=True)
class Backend:
    address: str
    port: int


@dataclass(frozen=True)
class Frontend:
    """One port of a Service."""

    name: str
    """namespace/service:port, for people."""
    cluster_ip: str
    protocol: str
    """"tcp" or "udp"."""
    port: int
    node_port: int
    """0 when it has none."""
    sticky: bool
    """sessionAffinity ClientIP: a client stays with its endpoint."""
    backends: tuple[Backend, ...]


@dataclass(frozen=True)
class Endpoint:
    """One endpoint of a slice, with what DNS wants to know."""

    address: str
    hostname: str
    is_ready: bool
    is_serving_while_ending: bool
    ports: tuple[tuple[str, str, int], ...]
    """(name, "tcp" or "udp", number)"""


def frontends(desired: ServicesDesired, api: Backend | None = None) -> list[Frontend]:
    """All ports that traffic may ask for, in a stable order.

    Args:
        api: where the API's own Service leads to on this host, whatever its endpoints are: the agent carries
            it over its link, so that pods need no way to the controllers.
    """
    endpoints = endpoints_by_service(desired["endpointSlices"])
    found = []
    for service in desired["services"]:
        fronts = list(_frontends_of(service, endpoints.get(key_of(service), [])))
        if api is not None and key_of(service) == API_SERVICE:
            fronts = [replace(front, backends=(api,)) for front in fronts if front.protocol == "tcp"]
        found += fronts
    unique = {(front.cluster_ip, front.protocol, front.port): front for front in found}
    return sorted(unique.values(), key=lambda front: (front.name, front.protocol))[:MAX_FRONTENDS]


def api_address(service_cidr: str) -> str:
    """The ClusterIP of the Service `kubernetes`: the first address of the services' network."""
    return str(ipaddress.IPv4Network(service_cidr)[1])


def key_of(service: Object) -> str:
    metadata = service.get("metadata") or {}
    return f"{metadata.get('namespace', '')}/{metadata.get('name', '')}"


def cluster_ip(service: Object) -> str:
    """The Service's IPv4 ClusterIP, "" when it has none (headless, ExternalName, or not given yet)."""
    address = str((service.get("spec") or {}).get("clusterIP") or "")
    return address if _is_ipv4(address) else ""


def endpoints_by_service(slices: Iterable[Object]) -> dict[str, list[Endpoint]]:
    """The IPv4 endpoints of each Service ("namespace/name"), sorted by address, each address once."""
    found: dict[str, dict[tuple[str, tuple[tuple[str, str, int], ...]], Endpoint]] = {}
    for piece in slices:
        metadata = piece.get("metadata") or {}
        name = (metadata.get("labels") or {}).get(SERVICE_NAME_LABEL)
        if not name or piece.get("addressType", "IPv4") != "IPv4":
            continue
        ports = tuple(_slice_ports(piece))
        mine = found.setdefault(f"{metadata.get('namespace', '')}/{name}", {})
        for endpoint in piece.get("endpoints") or []:
            for address in (endpoint.get("addresses") or [])[:1]:
                if _is_ipv4(address):
                    mine[(address, ports)] = _endpoint(endpoint, address, ports)
    return {
        key: sorted(each.values(), key=lambda one: int(ipaddress.IPv4Address(one.address)))
        for key, each in found.items()
    }


def usable(endpoints: Iterable[Endpoint]) -> list[Endpoint]:
    """The ready ones; when there is none, those that still serve while they end (KEP-1669)."""
    known = list(endpoints)
    return [one for one in known if one.is_ready] or [one for one in known if one.is_serving_while_ending]


def _frontends_of(service: Object, endpoints: list[Endpoint]) -> Iterator[Frontend]:
    spec = service.get("spec") or {}
    address = cluster_ip(service)
    if not address:
        return
    for port in spec.get("ports") or []:
        protocol = PROTOCOLS.get(port.get("protocol", "TCP"))
        number = port.get("port")
        if protocol is None or not _is_port(number):
            continue
        name = str(port.get("name") or "")
        backends = {
            Backend(endpoint.address, target)
            for endpoint in usable(endpoints)
            for target_name, target_protocol, target in endpoint.ports
            if target_name == name and target_protocol == protocol
        }
        ordered = sorted(backends, key=lambda one: (int(ipaddress.IPv4Address(one.address)), one.port))
        node_port = port.get("nodePort") or 0
        yield Frontend(
            name=f"{key_of(service)}:{name or number}",
            cluster_ip=address,
            protocol=protocol,
            port=int(number),
            node_port=node_port if _is_port(node_port) else 0,
            sticky=spec.get("sessionAffinity") == "ClientIP",
            backends=tuple(ordered[:MAX_ENDPOINTS_PER_PORT]),
        )


def _slice_ports(piece: Object) -> Iterator[tuple[str, str, int]]:
    for port in piece.get("ports") or []:
        protocol = PROTOCOLS.get(port.get("protocol") or "TCP")
        if protocol is not None and _is_port(port.get("port")):
            yield str(port.get("name") or ""), protocol, int(port["port"])


def _endpoint(endpoint: Object, address: str, ports: tuple[tuple[str, str, int], ...]) -> Endpoint:
    conditions = endpoint.get("conditions") or {}
    is_ready = conditions.get("ready")
    is_serving = conditions.get("serving")
    return Endpoint(
        address=address,
        hostname=str(endpoint.get("hostname") or ""),
        is_ready=is_ready is None or bool(is_ready),  # unknown counts as ready (EndpointConditions)
        is_serving_while_ending=bool(is_serving) and bool(conditions.get("terminating")),
        ports=ports,
    )


def _is_port(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 65535


def _is_ipv4(text: object) -> bool:
    try:
        ipaddress.IPv4Address(str(text))
    except ValueError:
        return False
    return True
