"""Defaults of Services, their endpoints, policies and ingresses.

Source: k8s.io/kubernetes/pkg/apis/{core,discovery,networking}/v1.
"""

from __future__ import annotations

from gitkube.objects.defaults.reading import fill, fill_zero, made_part, part, parts
from gitkube.objects.types import Object

_AFFINITY_TIMEOUT_S = 10_800


def default_service(service: Object) -> None:
    spec = made_part(service, "spec")
    fill_zero(spec, type="ClusterIP", sessionAffinity="None")
    if spec["sessionAffinity"] == "ClientIP":
        client_ip = made_part(made_part(spec, "sessionAffinityConfig"), "clientIP")
        fill(client_ip, timeoutSeconds=_AFFINITY_TIMEOUT_S)
    elif spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    for port in parts(spec, "ports"):
        fill_zero(port, protocol="TCP")
        if port.get("port"):
            fill_zero(port, targetPort=port["port"])
    is_reachable_outside = spec["type"] in ("NodePort", "LoadBalancer")
    if is_reachable_outside or (spec["type"] == "ClusterIP" and spec.get("externalIPs")):
        fill_zero(spec, externalTrafficPolicy="Cluster")
    if is_reachable_outside or spec["type"] == "ClusterIP":
        fill(spec, internalTrafficPolicy="Cluster")
    if spec["type"] == "LoadBalancer":
        fill(spec, allocateLoadBalancerNodePorts=True)
        for place in parts(part(part(service, "status"), "loadBalancer"), "ingress"):
            if place.get("ip"):
                fill(place, ipMode="VIP")


def default_endpoint_slice(endpoint_slice: Object) -> None:
    for port in parts(endpoint_slice, "ports"):
        fill(port, name="", protocol="TCP")
    for endpoint in parts(endpoint_slice, "endpoints"):
        fill(endpoint, conditions={})


def default_endpoints(endpoints: Object) -> None:
    for subset in parts(endpoints, "subsets"):
        for port in parts(subset, "ports"):
            fill_zero(port, protocol="TCP")


def default_network_policy(policy: Object) -> None:
    spec = made_part(policy, "spec")
    for direction in ("ingress", "egress"):
        for rule in parts(spec, direction):
            for port in parts(rule, "ports"):
                fill(port, protocol="TCP")
    if not spec.get("policyTypes"):
        # Whoever lists rules for what goes out means to restrict it; what comes in is always restricted.
        spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]


def default_ingress_class(ingress_class: Object) -> None:
    if parameters := part(part(ingress_class, "spec"), "parameters"):
        fill(parameters, scope="Cluster")
