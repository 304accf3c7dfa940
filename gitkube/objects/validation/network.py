"""Checks of Services and EndpointSlices. Which addresses and node ports are free is admission's to say."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from gitkube.objects import names
from gitkube.objects.types import Object
from gitkube.objects.validation.causes import Causes
from gitkube.objects.validation.containers import PROTOCOLS
from gitkube.objects.validation.metadata import check_labels
from gitkube.objects.validation.pods import ADDRESS_MESSAGE, is_address

_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_DISTRIBUTIONS = ("PreferClose", "PreferSameNode", "PreferSameZone")
_MAX_AFFINITY_S = 86_400
_ADDRESS_TYPES = ("FQDN", "IPv4", "IPv6")
_MAX_ENDPOINTS = 1000
_MAX_SLICE_PORTS = 20_000
_MAX_ADDRESSES = 100


def check_service(causes: Causes, service: Object) -> None:
    spec = service.get("spec") or {}
    kind = spec.get("type") or "ClusterIP"
    is_headless = spec.get("clusterIP") == "None"
    causes.one_of("spec.type", kind, _TYPES)
    ports = spec.get("ports") or ()
    if not ports and not is_headless and kind != "ExternalName":
        causes.required("spec.ports")
    _check_service_ports(causes, ports, kind)
    _check_cluster_ips(causes, spec, kind)
    if kind == "ExternalName":
        name = spec.get("externalName") or ""
        if not name:
            causes.required("spec.externalName")
        else:
            causes.invalids("spec.externalName", name, names.dns_subdomain(name.removesuffix(".")))
    check_labels(causes, spec.get("selector"), "spec.selector")
    _check_affinity(causes, spec)
    _check_traffic(causes, spec, kind)
    for index, address in enumerate(spec.get("externalIPs") or ()):
        _check_external_ip(causes, address, f"spec.externalIPs[{index}]")


def check_service_update(causes: Causes, service: Object, old: Object) -> None:
    spec, before = service.get("spec") or {}, old.get("spec") or {}
    if spec.get("type") == before.get("type") == "LoadBalancer":
        balancer = spec.get("loadBalancerClass")
        if balancer != before.get("loadBalancerClass"):
            causes.invalid("spec.loadBalancerClass", balancer, "may not change once set")
    if service.get("status") != old.get("status"):
        _check_balancer(causes, service, spec)
    if "ExternalName" in (spec.get("type"), before.get("type")):
        return  # it may gain or lose its address
    address, previous = spec.get("clusterIP") or "", before.get("clusterIP") or ""
    if previous and address != previous:
        if address:
            causes.invalid("spec.clusterIPs[0]", [address], "may not change once set")
        else:
            causes.invalid("spec.clusterIPs[0]", None, "primary clusterIP can not be unset")


def _check_balancer(causes: Causes, service: Object, spec: Mapping[str, Any]) -> None:
    """Where a load balancer says that it is reached."""
    path = "status.loadBalancer.ingress"
    places = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    if places and spec.get("type") != "LoadBalancer":
        causes.forbidden(path, 'may only be used when `spec.type` is "LoadBalancer"')
        return
    for index, place in enumerate(places):
        address, name, mode = place.get("ip"), place.get("hostname"), place.get("ipMode")
        if address and not is_address(address):
            causes.invalid(f"{path}[{index}].ip", address, ADDRESS_MESSAGE)
        if mode is not None and not address:
            causes.forbidden(f"{path}[{index}].ipMode", "may not be specified when `ip` is not set")
        causes.one_of(f"{path}[{index}].ipMode", mode, ("Proxy", "VIP"), is_required=bool(address))
        if name:
            causes.invalids(f"{path}[{index}].hostname", name, names.dns_subdomain(name))
            if is_address(name):
                why = "must be a DNS name, not an IP address"
                causes.invalid(f"{path}[{index}].hostname", name, why)


def _check_service_ports(causes: Causes, ports: Any, kind: str) -> None:
    seen_names: set[str] = set()
    seen_ports: set[tuple[str, int]] = set()
    seen_node_ports: set[tuple[str, int]] = set()
    for index, port in enumerate(ports):
        path = f"spec.ports[{index}]"
        name = port.get("name") or ""
        if not name:
            if len(ports) > 1:
                causes.required(f"{path}.name")
        else:
            causes.invalids(f"{path}.name", name, names.dns_label(name))
            if name in seen_names:
                causes.duplicate(f"{path}.name", name)
            seen_names.add(name)
        number = port.get("port") or 0
        causes.invalids(f"{path}.port", number, names.port_number(number))
        protocol = port.get("protocol") or ""
        causes.one_of(f"{path}.protocol", protocol, PROTOCOLS)
        target = port.get("targetPort")
        if isinstance(target, int):
            causes.invalids(f"{path}.targetPort", target, names.port_number(target))
        elif target is not None:
            causes.invalids(f"{path}.targetPort", target, names.port_name(target))
        if (protocol, number) in seen_ports:
            causes.duplicate(path, {"port": number, "protocol": protocol})
        seen_ports.add((protocol, number))
        check_app_protocol(causes, port, path)
        node_port = port.get("nodePort") or 0
        if node_port and kind == "ClusterIP":
            causes.forbidden(f"{path}.nodePort", "may not be used when `type` is 'ClusterIP'")
        if node_port:
            if (protocol, node_port) in seen_node_ports:
                causes.duplicate(f"{path}.nodePort", node_port)
            seen_node_ports.add((protocol, node_port))


def check_app_protocol(causes: Causes, port: Mapping[str, Any], path: str) -> None:
    """Of a port of a Service, of its endpoints or a slice of them."""
    protocol = port.get("appProtocol")
    if protocol is not None:
        causes.invalids(f"{path}.appProtocol", protocol, names.qualified_name(protocol))


def _check_cluster_ips(causes: Causes, spec: Mapping[str, Any], kind: str) -> None:
    address = spec.get("clusterIP") or ""
    addresses = spec.get("clusterIPs") or ([address] if address else [])
    if kind == "ExternalName":
        if addresses:
            causes.forbidden("spec.clusterIPs[0]", "may not be set for ExternalName services")
        return
    if address and addresses and addresses[0] != address:
        causes.invalid("spec.clusterIPs", addresses, "first value must match `clusterIP`")
    for index, text in enumerate(addresses):
        if text == "None":
            if index > 0 or kind in ("NodePort", "LoadBalancer"):
                why = f"may not be set to 'None' for {kind} services"
                causes.invalid(f"spec.clusterIPs[{index}]", text, why)
        elif not is_address(text):
            causes.invalid(f"spec.clusterIPs[{index}]", text, ADDRESS_MESSAGE)


def _check_affinity(causes: Causes, spec: Mapping[str, Any]) -> None:
    affinity = spec.get("sessionAffinity") or "None"
    causes.one_of("spec.sessionAffinity", affinity, ("ClientIP", "None"))
    config = spec.get("sessionAffinityConfig")
    path = "spec.sessionAffinityConfig"
    if affinity == "ClientIP":
        timeout_s = ((config or {}).get("clientIP") or {}).get("timeoutSeconds")
        if timeout_s is None:
            causes.required(f"{path}.clientIP.timeoutSeconds")
        elif not 0 < timeout_s <= _MAX_AFFINITY_S:
            causes.invalid(
                f"{path}.clientIP.timeoutSeconds",
                timeout_s,
                f"must be greater than 0 and less than {_MAX_AFFINITY_S}",
            )
    elif config is not None:
        causes.forbidden(path, f"must not be set when session affinity is {affinity}")


def _check_traffic(causes: Causes, spec: Mapping[str, Any], kind: str) -> None:
    external = spec.get("externalTrafficPolicy") or ""
    is_reachable_outside = kind in ("NodePort", "LoadBalancer") or (
        kind == "ClusterIP" and bool(spec.get("externalIPs"))
    )
    if is_reachable_outside:
        causes.one_of("spec.externalTrafficPolicy", external, ("Cluster", "Local"))
    elif external:
        causes.invalid(
            "spec.externalTrafficPolicy", external, "may only be set for externally-accessible services"
        )
    if kind in _TYPES and kind != "ExternalName":
        internal = spec.get("internalTrafficPolicy")
        causes.one_of("spec.internalTrafficPolicy", internal, ("Cluster", "Local"))
    distribution = spec.get("trafficDistribution")
    causes.one_of("spec.trafficDistribution", distribution, _DISTRIBUTIONS, is_required=False)
    for index, family in enumerate(spec.get("ipFamilies") or ()):
        causes.one_of(f"spec.ipFamilies[{index}]", family, ("IPv4", "IPv6"))
    policies = ("PreferDualStack", "RequireDualStack", "SingleStack")
    causes.one_of("spec.ipFamilyPolicy", spec.get("ipFamilyPolicy"), policies, is_required=False)
    health_port = spec.get("healthCheckNodePort") or 0
    if health_port and not (kind == "LoadBalancer" and external == "Local"):
        causes.invalid(
            "spec.healthCheckNodePort",
            health_port,
            "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
        )
    if kind == "LoadBalancer":
        for index, text in enumerate(spec.get("loadBalancerSourceRanges") or ()):
            if not _is_network(text.strip()):
                causes.invalid(
                    f"spec.loadBalancerSourceRanges[{index}]",
                    text,
                    "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
                )
        return
    for field in ("loadBalancerSourceRanges", "allocateLoadBalancerNodePorts", "loadBalancerClass"):
        if spec.get(field) is not None:
            causes.forbidden(f"spec.{field}", "may only be used when `type` is 'LoadBalancer'")


def _check_external_ip(causes: Causes, text: str, path: str) -> None:
    if not is_address(text):
        causes.invalid(path, text, ADDRESS_MESSAGE)
        return
    address = ipaddress.ip_address(text)
    if address.is_unspecified:
        causes.invalid(path, text, f"may not be unspecified ({address})")
    elif address.is_loopback:
        causes.invalid(path, text, "may not be in the loopback range (127.0.0.0/8, ::1/128)")
    elif address.is_link_local:
        causes.invalid(path, text, "may not be in the link-local range (169.254.0.0/16, fe80::/10)")
    elif address.is_multicast and address in ipaddress.ip_network("224.0.0.0/24"):
        causes.invalid(path, text, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return "/" in text


def check_endpoint_slice(causes: Causes, endpoint_slice: Object) -> None:
    kind = endpoint_slice.get("addressType") or ""
    if not causes.one_of("addressType", kind, _ADDRESS_TYPES):
        kind = ""
    endpoints = endpoint_slice.get("endpoints") or ()
    if len(endpoints) > _MAX_ENDPOINTS:
        causes.add(
            "FieldValueTooMany",
            "endpoints",
            f"Too many: {len(endpoints)}: must have at most {_MAX_ENDPOINTS} items",
        )
    for index, endpoint in enumerate(endpoints[:_MAX_ENDPOINTS]):
        _check_endpoint(causes, endpoint, f"endpoints[{index}]", kind)
    seen: set[str] = set()
    for index, port in enumerate((endpoint_slice.get("ports") or ())[:_MAX_SLICE_PORTS]):
        path = f"ports[{index}]"
        name = port.get("name") or ""
        if name:
            causes.invalids(f"{path}.name", name, names.dns_label(name))
        if name in seen:
            causes.duplicate(f"{path}.name", name)
        seen.add(name)
        causes.one_of(f"{path}.protocol", port.get("protocol"), PROTOCOLS)
        check_app_protocol(causes, port, path)
        number = port.get("port")
        if number is not None:
            causes.invalids(f"{path}.port", number, names.port_number(number))


def _check_endpoint(causes: Causes, endpoint: Mapping[str, Any], path: str, kind: str) -> None:
    addresses = endpoint.get("addresses") or ()
    if not addresses:
        causes.required(f"{path}.addresses", "must contain at least 1 address")
    if len(addresses) > _MAX_ADDRESSES:
        causes.add(
            "FieldValueTooMany",
            f"{path}.addresses",
            f"Too many: {len(addresses)}: must have at most {_MAX_ADDRESSES} items",
        )
    for index, text in enumerate(addresses[:_MAX_ADDRESSES]):
        where = f"{path}.addresses[{index}]"
        if kind == "FQDN":
            causes.invalids(where, text, names.dns_subdomain(text))
        elif kind and (
            not is_address(text) or ipaddress.ip_address(text).version != (4 if kind == "IPv4" else 6)
        ):
            causes.invalid(where, text, f"must be a valid {kind} address")
    for field, rule in (("nodeName", names.dns_subdomain), ("hostname", names.dns_label)):
        if value := endpoint.get(field):
            causes.invalids(f"{path}.{field}", value, rule(value))


def check_endpoint_slice_update(causes: Causes, endpoint_slice: Object, old: Object) -> None:
    causes.immutable("addressType", endpoint_slice.get("addressType"), old.get("addressType"))
