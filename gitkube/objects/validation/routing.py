"""Checks of Ingresses and their classes, NetworkPolicies, Endpoints, and ranges of addresses.

Source: k8s.io/kubernetes/pkg/apis/{networking,core}/validation.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

from gitkube.objects import names
from gitkube.objects.types import Object
from gitkube.objects.validation.causes import Causes
from gitkube.objects.validation.containers import PROTOCOLS
from gitkube.objects.validation.network import check_app_protocol
from gitkube.objects.validation.pods import ADDRESS_MESSAGE, is_address
from gitkube.objects.validation.selectors import check_label_selector

_PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")
_NOT_IN_PATH = ("//", "/./", "/../", "%2f", "%2F")
_NOT_AT_END = ("/..", "/.")
_CLASS_ANNOTATION = "kubernetes.io/ingress.class"
_PATH = re.compile(r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+")
_MAX_CONTROLLER = 250
_WILDCARD_MESSAGE = (
    "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must "
    "consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character "
    r"(e.g. '*.example.com', regex used for validation is "
    r"'\*\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)


# ------------------------------------------------------------------------------------------------- ingresses


def check_ingress(causes: Causes, ingress: Object) -> None:
    spec = ingress.get("spec") or {}
    if not spec.get("rules") and spec.get("defaultBackend") is None:
        causes.invalid("spec", "", "either `defaultBackend` or `rules` must be specified")
    if spec.get("defaultBackend") is not None:
        _check_backend(causes, spec["defaultBackend"], "spec.defaultBackend")
    for index, rule in enumerate(spec.get("rules") or ()):
        _check_rule(causes, rule, f"spec.rules[{index}]")
    for index, tls in enumerate(spec.get("tls") or ()):
        for position, host in enumerate(tls.get("hosts") or ()):
            _check_host(causes, host, f"spec.tls[{index}].hosts[{position}]")
    if name := spec.get("ingressClassName"):
        causes.invalids("spec.ingressClassName", name, names.dns_subdomain(name))


def check_ingress_create(causes: Causes, ingress: Object) -> None:
    """What is looked at only when the object is new: older ones may have both."""
    annotation = ((ingress.get("metadata") or {}).get("annotations") or {}).get(_CLASS_ANNOTATION)
    if annotation and (ingress.get("spec") or {}).get("ingressClassName"):
        causes.invalid(
            f"annotations.{_CLASS_ANNOTATION}", annotation, "can not be set when the class field is also set"
        )


def _check_rule(causes: Causes, rule: Mapping[str, Any], path: str) -> None:
    if host := rule.get("host"):
        if is_address(host):
            causes.invalid(f"{path}.host", host, "must be a DNS name, not an IP address")
        _check_host(causes, host, f"{path}.host")
    http = rule.get("http")
    if http is None:
        return
    paths = http.get("paths") or ()
    if not paths:
        causes.required(f"{path}.http.paths")
    for index, item in enumerate(paths):
        _check_http_path(causes, item, f"{path}.http.paths[{index}]")


def _check_http_path(causes: Causes, item: Mapping[str, Any], path: str) -> None:
    kind, text = item.get("pathType"), item.get("path") or ""
    if kind is None:
        causes.required(f"{path}.pathType", "pathType must be specified")
    elif kind not in _PATH_TYPES:
        causes.not_supported(f"{path}.pathType", kind, _PATH_TYPES)
    elif kind == "ImplementationSpecific":
        if text and not text.startswith("/"):
            causes.invalid(f"{path}.path", text, "must be an absolute path")
    elif not text.startswith("/"):
        causes.invalid(f"{path}.path", text, "must be an absolute path")
    else:
        for part in _NOT_IN_PATH:
            if part in text:
                causes.invalid(f"{path}.path", text, f"must not contain '{part}'")
        for part in _NOT_AT_END:
            if text.endswith(part):
                causes.invalid(f"{path}.path", text, f"cannot end with '{part}'")
    _check_backend(causes, item.get("backend") or {}, f"{path}.backend")


def _check_host(causes: Causes, host: str, path: str) -> None:
    if "*" not in host:
        causes.invalids(path, host, names.dns_subdomain(host))
    elif not host.startswith("*.") or names.dns_subdomain(host.removeprefix("*.")):
        causes.invalid(path, host, _WILDCARD_MESSAGE)


def _check_backend(causes: Causes, backend: Mapping[str, Any], path: str) -> None:
    service, resource = backend.get("service"), backend.get("resource")
    if service is not None and resource is not None:
        causes.invalid(path, "", "cannot set both resource and service backends")
    elif resource is not None:
        for field in ("kind", "name"):
            if not resource.get(field):
                causes.required(f"{path}.resource.{field}")
    elif service is None:
        causes.invalid(path, "", "resource or service backend is required")
    else:
        name, port = service.get("name") or "", service.get("port") or {}
        if not name:
            causes.required(f"{path}.service.name")
        else:
            causes.invalids(f"{path}.service.name", name, names.dns_label(name))
        if port.get("name") and port.get("number"):
            causes.invalid(path, "", "cannot set both port name & port number")
        elif port.get("name"):
            causes.invalids(f"{path}.service.port.name", port["name"], names.port_name(port["name"]))
        elif port.get("number"):
            number = port["number"]
            causes.invalids(f"{path}.service.port.number", number, names.port_number(number))
        else:
            causes.required(path, "port name or number is required")


def check_ingress_class(causes: Causes, ingress_class: Object) -> None:
    spec = ingress_class.get("spec") or {}
    controller = spec.get("controller") or ""
    if not controller:
        causes.required("spec.controller")
    elif len(controller) > _MAX_CONTROLLER:
        causes.too_long("spec.controller", f"may not be more than {_MAX_CONTROLLER} bytes")
    else:
        causes.invalids("spec.controller", controller, domain_prefixed_path(controller))
    parameters = spec.get("parameters")
    if parameters is None:
        return
    for field in ("kind", "name"):
        if not parameters.get(field):
            causes.required(f"spec.parameters.{field}", f"{field} is required")
    scope, namespace = parameters.get("scope"), parameters.get("namespace")
    if not causes.one_of("spec.parameters.scope", scope, ("Cluster", "Namespace")):
        return
    if scope == "Namespace" and not namespace:
        causes.required("spec.parameters.namespace", "`parameters.scope` is set to 'Namespace'")
    elif scope == "Cluster" and namespace:
        causes.forbidden("spec.parameters.namespace", "`parameters.scope` is set to 'Cluster'")


def domain_prefixed_path(text: str) -> list[str]:
    """`example.org/thing`: who owns it, then what it is."""
    domain, slash, rest = text.partition("/")
    if not slash or not domain or not rest:
        return ['must be a domain-prefixed path (such as "acme.io/foo")']
    wrong = names.dns_subdomain(domain)
    if not _PATH.fullmatch(rest):
        wrong.append("Invalid path")
    return wrong


def check_ingress_class_update(causes: Causes, ingress_class: Object, old: Object) -> None:
    controller = (ingress_class.get("spec") or {}).get("controller")
    causes.immutable("spec.controller", controller, (old.get("spec") or {}).get("controller"))


# -------------------------------------------------------------------------------------------------- policies


def check_network_policy(causes: Causes, policy: Object) -> None:
    spec = policy.get("spec") or {}
    check_label_selector(causes, spec.get("podSelector"), "spec.podSelector")
    for field, peers in (("ingress", "from"), ("egress", "to")):
        for index, rule in enumerate(spec.get(field) or ()):
            path = f"spec.{field}[{index}]"
            for position, port in enumerate(rule.get("ports") or ()):
                _check_policy_port(causes, port, f"{path}.ports[{position}]")
            for position, peer in enumerate(rule.get(peers) or ()):
                _check_peer(causes, peer, f"{path}.{peers}[{position}]")
    types = spec.get("policyTypes") or ()
    if len(types) > 2:
        causes.invalid("spec.policyTypes", types, "may not specify more than two policyTypes")
        return
    for index, word in enumerate(types):
        causes.one_of(f"spec.policyTypes[{index}]", word, ("Ingress", "Egress"))


def _check_policy_port(causes: Causes, port: Mapping[str, Any], path: str) -> None:
    protocol = port.get("protocol")
    if protocol is not None and protocol not in PROTOCOLS:
        causes.not_supported(f"{path}.protocol", protocol, PROTOCOLS)
    number, end = port.get("port"), port.get("endPort")
    if isinstance(number, int):
        causes.invalids(f"{path}.port", number, names.port_number(number))
        if end is not None:
            if end < number:
                causes.invalid(f"{path}.endPort", end, "must be greater than or equal to `port`")
            causes.invalids(f"{path}.endPort", end, names.port_number(end))
    elif number is not None:
        if end is not None:
            causes.invalid(f"{path}.endPort", end, "may not be specified when `port` is non-numeric")
        causes.invalids(f"{path}.port", number, names.port_name(number))
    elif end is not None:
        causes.invalid(f"{path}.endPort", end, "may not be specified when `port` is not specified")


def _check_peer(causes: Causes, peer: Mapping[str, Any], path: str) -> None:
    given = 0
    for field in ("podSelector", "namespaceSelector"):
        if peer.get(field) is not None:
            given += 1
            check_label_selector(causes, peer[field], f"{path}.{field}")
    block = peer.get("ipBlock")
    if block is not None:
        given += 1
        _check_block(causes, block, f"{path}.ipBlock")
    if not given:
        causes.required(path, "must specify a peer")
    elif block is not None and given > 1:
        causes.forbidden(path, "may not specify both ipBlock and another peer")


def _check_block(causes: Causes, block: Mapping[str, Any], path: str) -> None:
    text = block.get("cidr") or ""
    if not text:
        causes.required(f"{path}.cidr")
        return
    whole = _network(text)
    if whole is None:
        causes.invalid(
            f"{path}.cidr", text, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
        )
        return
    for index, text in enumerate(block.get("except") or ()):
        part, where = _network(text), f"{path}.except[{index}]"
        if part is None:
            causes.invalid(where, text, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)")
        elif part == whole or part.version != whole.version or not _is_within(part, whole):
            causes.invalid(where, text, "must be a strict subset of `cidr`")


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _network(text: str) -> Network | None:
    try:
        return ipaddress.ip_network(text, strict=False) if "/" in text else None
    except ValueError:
        return None


def _is_within(part: Network, whole: Network) -> bool:
    return part.network_address in whole and part.prefixlen > whole.prefixlen


# ------------------------------------------------------------------------------------- addresses and ranges


def check_endpoints(causes: Causes, endpoints: Object) -> None:
    for index, subset in enumerate(endpoints.get("subsets") or ()):
        path = f"subsets[{index}]"
        if not subset.get("addresses") and not subset.get("notReadyAddresses"):
            causes.required(path, "must specify `addresses` or `notReadyAddresses`")
        for field in ("addresses", "notReadyAddresses"):
            for position, address in enumerate(subset.get(field) or ()):
                _check_endpoint_address(causes, address, f"{path}.{field}[{position}]")
        ports = subset.get("ports") or ()
        for position, port in enumerate(ports):
            where = f"{path}.ports[{position}]"
            if port.get("name"):
                causes.invalids(f"{where}.name", port["name"], names.dns_label(port["name"]))
            elif len(ports) > 1:
                causes.required(f"{where}.name")
            number = port.get("port") or 0
            causes.invalids(f"{where}.port", number, names.port_number(number))
            causes.one_of(f"{where}.protocol", port.get("protocol"), PROTOCOLS)
            check_app_protocol(causes, port, where)


def _check_endpoint_address(causes: Causes, address: Mapping[str, Any], path: str) -> None:
    text = address.get("ip") or ""
    if not is_address(text):
        causes.invalid(f"{path}.ip", text, ADDRESS_MESSAGE)
    elif why := not_an_endpoint(text):
        causes.invalid(f"{path}.ip", text, why)
    if name := address.get("hostname"):
        causes.invalids(f"{path}.hostname", name, names.dns_label(name))
    if name := address.get("nodeName"):
        causes.invalids(f"{path}.nodeName", name, names.dns_subdomain(name))


def not_an_endpoint(text: str) -> str:
    """Why traffic to an address would not leave the host; "" when it would."""
    address = ipaddress.ip_address(text)
    if address.is_unspecified:
        return f"may not be unspecified ({address})"
    if address.is_loopback:
        return "may not be in the loopback range (127.0.0.0/8, ::1/128)"
    if address.is_link_local:
        return "may not be in the link-local range (169.254.0.0/16, fe80::/10)"
    if address.is_multicast and address in ipaddress.ip_network("224.0.0.0/24"):
        return "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"
    return ""


def check_ip_address(causes: Causes, address: Object) -> None:
    name = (address.get("metadata") or {}).get("name") or ""
    if not is_address(name) or str(ipaddress.ip_address(name)) != name:
        causes.invalid("metadata.name", name, "must be a valid address in canonical form")
    parent = (address.get("spec") or {}).get("parentRef")
    if parent is None:
        causes.required("spec.parentRef", "")
        return
    for field in ("resource", "name"):
        if not parent.get(field):
            causes.required(f"spec.parentRef.{field}")


def check_ip_address_update(causes: Causes, address: Object, old: Object) -> None:
    parent = (address.get("spec") or {}).get("parentRef")
    causes.immutable("spec.parentRef", parent, (old.get("spec") or {}).get("parentRef"))


def check_service_cidr(causes: Causes, service_cidr: Object) -> None:
    networks = (service_cidr.get("spec") or {}).get("cidrs") or ()
    if not networks:
        causes.required("spec.cidrs", "at least one CIDR required")
    if len(networks) > 2:
        causes.invalid("spec", networks, "may only hold up to 2 values")
    for index, text in enumerate(networks):
        if _network(text) is None:
            message = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
            causes.invalid(f"spec.cidrs[{index}]", text, message)
    if len(networks) == 2 and len({":" in text for text in networks}) == 1:
        causes.invalid("spec.cidrs", networks, "may specify no more than one IP for each IP family")


def check_service_cidr_update(causes: Causes, service_cidr: Object, old: Object) -> None:
    networks = (service_cidr.get("spec") or {}).get("cidrs")
    causes.immutable("spec.cidrs", networks, (old.get("spec") or {}).get("cidrs"))
