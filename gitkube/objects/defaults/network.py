"""Defaults of Services and EndpointSlices. Source: k8s.io/kubernetes/pkg/apis/{core,discovery}/v1."""

from __future__ import annotations

from gitkube.objects.defaults.reading import fill, fill_zero, made_part, parts
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


def default_endpoint_slice(endpoint_slice: Object) -> None:
    for port in parts(endpoint_slice, "ports"):
        fill(port, name="", protocol="TCP")
    for endpoint in parts(endpoint_slice, "endpoints"):
        fill(endpoint, conditions={})
