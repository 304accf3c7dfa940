"""ClusterIPs and node ports: one owner each, for ever.

What is taken has a key in the store. The transaction that writes a Service also takes or frees its addresses,
and compares that what it takes is free: two Services can never get the same, whoever writes them, and nothing
leaks when the process dies in between. What is free is looked up in the cache; when the store disagrees, the
request is decided anew.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

import orjson

from gitkube.api import errors
from gitkube.api.admission.request import AdmissionRequest, Verb
from gitkube.api.keys import range_key
from gitkube.objects.kinds import SERVICE
from gitkube.objects.types import Object
from gitkube.objects.validation.causes import Causes
from gitkube.store.protocol import Compare, Delete, Op, Put, Target

CLUSTER_IP_RANGE = "serviceips"
NODE_PORT_RANGE = "servicenodeports"
_RANDOM_TRIES = 64
"""Picks at random first, so that an address just freed is not reused at once; then the first free one."""
_FAMILY = "IPv4"
"""Of the addresses that the cluster gives out."""
_WITH_NODE_PORTS = ("NodePort", "LoadBalancer")


def service_addresses(request: AdmissionRequest) -> None:
    if request.kind is not SERVICE or request.subresource:
        return
    if request.verb is Verb.DELETE:
        _write(request, CLUSTER_IP_RANGE, freed=_cluster_ips(request.obj), taken=())
        _write(request, NODE_PORT_RANGE, freed=_node_ports(request.obj), taken=())
        return
    if request.old is not None:
        _carry_over(request.obj, request.old)
    _choose_families(request)
    _choose_cluster_ip(request)
    _choose_node_ports(request)
    _choose_health_port(request)
    for range_name, of in ((CLUSTER_IP_RANGE, _cluster_ips), (NODE_PORT_RANGE, _node_ports)):
        before, after = of(request.old) if request.old else [], of(request.obj)
        freed = [item for item in before if item not in after]
        taken = [item for item in after if item not in before]
        _write(request, range_name, freed=freed, taken=taken)


def _carry_over(obj: Object, old: Object) -> None:
    """A client that leaves out what was allocated keeps it; one that changes the type gives it up."""
    spec, before = obj["spec"], old["spec"]
    if spec.get("type") == "ExternalName":
        if spec.get("clusterIP") == before.get("clusterIP"):
            for field in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
                spec.pop(field, None)
    elif before.get("type") != "ExternalName":
        if not spec.get("clusterIP"):
            for field in ("clusterIP", "clusterIPs"):
                if field in before:
                    spec[field] = before[field]
        for field in ("ipFamilies", "ipFamilyPolicy"):
            if field in before and not spec.get(field):
                spec[field] = before[field]
    _give_up(spec, before)
    if _is_balanced(before) and not _is_balanced(spec):
        obj["status"] = {**(obj.get("status") or {}), "loadBalancer": {}}
    ports = spec.get("ports") or []
    if spec.get("type") in _WITH_NODE_PORTS:
        known = {
            _port_key(port): port["nodePort"] for port in before.get("ports") or [] if "nodePort" in port
        }
        used = {port["nodePort"] for port in ports if port.get("nodePort")}
        for port in ports:
            number = known.get(_port_key(port))
            if not port.get("nodePort") and number is not None and number not in used:
                port["nodePort"] = number
    elif before.get("type") in _WITH_NODE_PORTS:
        given = {port.get("nodePort") for port in before.get("ports") or []}
        for port in ports:
            if port.get("nodePort") in given:
                port.pop("nodePort", None)


def _give_up(spec: Object, before: Object) -> None:
    """Drop what only the former type has, unless the client wrote something else there (Kubernetes'
    `dropTypeDependentFields`)."""
    for field, is_needed in (
        ("externalTrafficPolicy", _is_external),
        ("healthCheckNodePort", _has_health_port),
        ("allocateLoadBalancerNodePorts", _is_balanced),
        ("loadBalancerClass", _is_balanced),
    ):
        if is_needed(before) and not is_needed(spec) and spec.get(field) == before.get(field):
            spec.pop(field, None)


def _is_balanced(spec: Object) -> bool:
    return spec.get("type") == "LoadBalancer"


def _is_external(spec: Object) -> bool:
    return spec.get("type") in _WITH_NODE_PORTS or bool(spec.get("externalIPs"))


def _has_health_port(spec: Object) -> bool:
    return _is_balanced(spec) and spec.get("externalTrafficPolicy") == "Local"


def _choose_families(request: AdmissionRequest) -> None:
    """One family, which is all that the cluster has; but a Service without addresses of its own and without
    pods to select is about somebody else's addresses, and may have both.

    Raises:
        StatusError: 422, it asks for a family that is not there.
    """
    spec = request.obj["spec"]
    if spec.get("type") == "ExternalName":
        return
    before = request.old["spec"] if request.old is not None else {}
    families, policy = spec.get("ipFamilies") or [], spec.get("ipFamilyPolicy")
    if spec.get("clusterIP") == "None" and not spec.get("selector"):
        policy = spec["ipFamilyPolicy"] = policy or "RequireDualStack"
        families = families or [_FAMILY]
        if policy != "SingleStack" and len(families) == 1:
            families = [*families, "IPv6" if families[0] == "IPv4" else "IPv4"]
        spec["ipFamilies"] = families
        return
    causes = Causes()
    if families != before.get("ipFamilies"):
        for index, family in enumerate(families):
            if family != _FAMILY:
                causes.invalid(f"spec.ipFamilies[{index}]", family, "not configured on this cluster")
    if policy == "RequireDualStack" != before.get("ipFamilyPolicy"):
        why = "this cluster is not configured for dual-stack services"
        causes.invalid("spec.ipFamilyPolicy", policy, why)
    if causes.list:
        raise errors.invalid("", "Service", request.name, causes.list)
    spec["ipFamilies"] = families or [_FAMILY]
    spec["ipFamilyPolicy"] = policy or "SingleStack"


def _choose_cluster_ip(request: AdmissionRequest) -> None:
    spec = request.obj["spec"]
    if spec.get("type") == "ExternalName":
        return
    address = spec.get("clusterIP") or next(iter(spec.get("clusterIPs") or []), "")
    if not address:
        address = _free_address(request)
    elif address != "None" and (request.old is None or address not in _cluster_ips(request.old)):
        _check_address(request, address)
    spec["clusterIP"] = address
    spec["clusterIPs"] = [address]


def _free_address(request: AdmissionRequest) -> str:
    network = ipaddress.ip_network(request.settings.service_cidr)
    taken = request.cache.allocations.get(CLUSTER_IP_RANGE, set())
    last = network.num_addresses - 2  # the network's own address and the broadcast address are none
    for _ in range(_RANDOM_TRIES):
        address = str(network[request.rng.randint(1, last)])
        if address not in taken:
            return address
    for number in range(1, last + 1):
        if (address := str(network[number])) not in taken:
            return address
    raise errors.StatusError(
        500, "InternalError", f"all addresses of {network} are taken; make the service network larger"
    )


def _check_address(request: AdmissionRequest, address: str) -> None:
    shown = f'[]string{{"{address}"}}'
    try:
        is_inside = ipaddress.ip_address(address) in ipaddress.ip_network(request.settings.service_cidr)
    except ValueError:
        return  # not an address at all: validation says so
    if not is_inside:
        why = f"the provided IP ({address}) is not in the valid range. "
        why += f"The range of valid IPs is {request.settings.service_cidr}"
    elif address in request.cache.allocations.get(CLUSTER_IP_RANGE, set()):
        why = "provided IP is already allocated"
    else:
        return
    message = f"Invalid value: {shown}: failed to allocate IP {address}: {why}"
    cause = {"reason": "FieldValueInvalid", "message": message, "field": "spec.clusterIPs"}
    raise errors.invalid("", "Service", request.name, [cause])


def _choose_node_ports(request: AdmissionRequest) -> None:
    spec = request.obj["spec"]
    if spec.get("type") not in _WITH_NODE_PORTS:
        return
    owned = {int(item) for item in (_node_ports(request.old) if request.old else [])}
    taken = {int(item) for item in request.cache.allocations.get(NODE_PORT_RANGE, set())}
    chosen: dict[int, set[str]] = {}
    for index, port in enumerate(spec.get("ports") or []):
        number = port.get("nodePort")
        if number:
            _check_node_port(request, index, number, taken - owned)
            chosen.setdefault(number, set()).add(port.get("protocol", "TCP"))
    by_port: dict[int, int] = {
        port["port"]: port["nodePort"] for port in spec.get("ports") or [] if port.get("nodePort")
    }
    for port in spec.get("ports") or []:
        if port.get("nodePort"):
            continue
        protocol = port.get("protocol", "TCP")
        shared = by_port.get(port.get("port"))
        # The same port over TCP and UDP (DNS) gets the same node port.
        number = shared if shared is not None and protocol not in chosen.get(shared, set()) else None
        if number is None:
            number = _free_port(request, taken | set(chosen))
        port["nodePort"] = number
        by_port[port.get("port")] = number
        chosen.setdefault(number, set()).add(protocol)


def _choose_health_port(request: AdmissionRequest) -> None:
    """Where a load balancer asks a host whether it has pods behind it; kept as long as it is needed."""
    spec = request.obj["spec"]
    if spec.get("type") != "LoadBalancer" or spec.get("externalTrafficPolicy") != "Local":
        before = request.old["spec"].get("healthCheckNodePort") if request.old is not None else None
        if spec.get("healthCheckNodePort") == before:
            spec.pop("healthCheckNodePort", None)
        return
    if not spec.get("healthCheckNodePort"):
        before = request.old["spec"].get("healthCheckNodePort") if request.old is not None else None
        taken = {int(item) for item in request.cache.allocations.get(NODE_PORT_RANGE, set())}
        taken |= {int(port["nodePort"]) for port in spec.get("ports") or () if port.get("nodePort")}
        spec["healthCheckNodePort"] = before or _free_port(request, taken)


def _free_port(request: AdmissionRequest, taken: set[int]) -> int:
    settings = request.settings
    for _ in range(_RANDOM_TRIES):
        number = request.rng.randint(settings.node_port_min, settings.node_port_max)
        if number not in taken:
            return number
    for number in range(settings.node_port_min, settings.node_port_max + 1):
        if number not in taken:
            return number
    text = f"all node ports from {settings.node_port_min} to {settings.node_port_max} are taken"
    raise errors.StatusError(500, "InternalError", text)


def _check_node_port(request: AdmissionRequest, index: int, number: Any, taken: set[int]) -> None:
    settings = request.settings
    if not isinstance(number, int):
        return  # validation says so
    if not settings.node_port_min <= number <= settings.node_port_max:
        why = "provided port is not in the valid range. "
        why += f"The range of valid ports is {settings.node_port_min}-{settings.node_port_max}"
    elif number in taken:
        why = "provided port is already allocated"
    else:
        return
    field = f"spec.ports[{index}].nodePort"
    cause = {"reason": "FieldValueInvalid", "message": f"Invalid value: {number}: {why}", "field": field}
    raise errors.invalid("", "Service", request.name, [cause])


def _write(request: AdmissionRequest, range_name: str, *, freed: Iterable[str], taken: Iterable[str]) -> None:
    metadata = request.obj["metadata"]
    owner = {"kind": "Service", "namespace": request.namespace, "name": metadata.get("name")}
    for item in dict.fromkeys(freed):
        request.operations.append(Delete(range_key(range_name, item)))
    for item in dict.fromkeys(taken):
        key = range_key(range_name, item)
        request.compares.append(Compare(key, Target.VERSION, Op.EQUAL, 0))
        request.operations.append(Put(key, orjson.dumps(owner)))


def _cluster_ips(service: Object) -> list[str]:
    spec = service.get("spec") or {}
    address = spec.get("clusterIP")
    return [address] if address and address != "None" and spec.get("type") != "ExternalName" else []


def _node_ports(service: Object) -> list[str]:
    spec = service.get("spec") or {}
    numbers = [port["nodePort"] for port in spec.get("ports") or [] if port.get("nodePort")]
    if spec.get("healthCheckNodePort"):
        numbers.append(spec["healthCheckNodePort"])
    return list(dict.fromkeys(str(number) for number in numbers))


def _port_key(port: dict[str, Any]) -> tuple[Any, str]:
    return port.get("port"), port.get("protocol") or "TCP"
