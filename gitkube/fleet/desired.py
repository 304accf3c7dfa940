"""What each host should be, computed from what the API holds. Pure functions.

A host gets its own slice and nothing else: the pods bound to it, exactly the ConfigMaps and Secrets that
those refer to, the Services, and the other hosts' network ends. What changes without meaning anything to the
host (status, resourceVersion, managed fields) is left out, so that a report which becomes a status never
comes back to the host as a change. Of a status two things mean something: readiness gates, which others open,
and that the pod has ended, which a host that has lost its disk no longer knows.
Lists are sorted, so that the same content has the same digest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from gitkube import wire
from gitkube.fleet.settings import FleetSettings
from gitkube.objects import conditions, meta, pods
from gitkube.objects.types import Object

PUBLIC_KEY_ANNOTATION = "gitkube.dev/wireguard-public-key"
ENDPOINT_ANNOTATION = "gitkube.dev/wireguard-endpoint"

Lookup = Callable[[str, str], Object | None]
"""From (name, namespace) to the object, as `Informer.get`."""
_KEPT_NODE_STATUS = ("addresses", "allocatable", "capacity")
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
"""kubectl's copy of the whole object in an annotation: of no use on a host, and it can be large."""


def pods_section(
    node: Object, bound: Iterable[Object], config_map: Lookup, secret: Lookup
) -> wire.PodsDesired:
    """Section "pods" of the host that is this node."""
    chosen = sorted(bound, key=meta.key)
    config_maps: dict[str, dict[str, Any]] = {}
    secrets: dict[str, dict[str, Any]] = {}
    for pod in chosen:
        namespace, spec = meta.namespace(pod), pods.spec(pod)
        _collect(config_maps, config_map, namespace, pods.referenced_config_maps(spec))
        _collect(secrets, secret, namespace, pods.referenced_secrets(spec))
    return wire.PodsDesired(
        pods=[pod_for_host(pod) for pod in chosen],
        configMaps=dict(sorted(config_maps.items())),
        secrets=dict(sorted(secrets.items())),
        node=node_for_host(node),
    )


def services_section(services: Iterable[Object], slices: Iterable[Object]) -> wire.ServicesDesired:
    """Section "services", the same for every host."""
    return wire.ServicesDesired(
        services=[for_host(service) for service in sorted(services, key=meta.key)],
        endpointSlices=[for_host(endpoint_slice) for endpoint_slice in sorted(slices, key=meta.key)],
    )


def network_section(
    node: Object, peers: Iterable[wire.Peer], settings: FleetSettings
) -> wire.NetworkDesired | None:
    """Section "network"; None as long as the node has no share of the pod network.

    Args:
        peers: all hosts of the mesh (`peers_of`); this one is left out.
    """
    pod_cidr = pod_cidr_of(node)
    if not pod_cidr:
        return None
    name = meta.name(node)
    return wire.NetworkDesired(
        node=name,
        podCIDR=pod_cidr,
        clusterCIDR=settings.cluster_cidr,
        serviceCIDR=settings.service_cidr,
        clusterDomain=settings.cluster_domain,
        listenPort=settings.wireguard_port,
        peers=[peer for peer in peers if peer["name"] != name],
    )


def peers_of(nodes: Iterable[Object]) -> list[wire.Peer]:
    """The mesh: what is the same for every host, so that it is made once for all of them."""
    return sorted((peer for node in nodes if (peer := peer_of(node))), key=lambda peer: peer["name"])


def peer_of(node: Object) -> wire.Peer | None:
    """A node as the others see it; None before it has a key, an endpoint and a share."""
    notes = meta.annotations(node)
    key, endpoint, pod_cidr = (
        notes.get(PUBLIC_KEY_ANNOTATION), notes.get(ENDPOINT_ANNOTATION), pod_cidr_of(node)
    )  # fmt: skip
    if not key or not endpoint or not pod_cidr:
        return None
    return wire.Peer(name=meta.name(node), publicKey=key, endpoint=endpoint, podCIDR=pod_cidr)


def pod_cidr_of(node: Object) -> str:
    return str((node.get("spec") or {}).get("podCIDR") or "")


def endpoint(address: str, port: int) -> str:
    """`192.0.2.1:51820`, `[2001:db8::1]:51820`."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def for_host(obj: Object) -> Object:
    """An object without what says nothing to the host."""
    metadata = {
        key: value
        for key, value in meta.metadata(obj).items()
        if key not in ("managedFields", "resourceVersion", "selfLink", "annotations")
    }
    annotations = {key: value for key, value in meta.annotations(obj).items() if key != _LAST_APPLIED}
    if annotations:
        metadata["annotations"] = annotations
    rest = {key: value for key, value in obj.items() if key not in ("metadata", "status")}
    return {**rest, "metadata": metadata}


def pod_for_host(pod: Object) -> Object:
    """A pod, with what its host must hear of its status.

    That are its readiness gates, by which the host decides whether it is ready, and a phase that is final,
    so that nobody runs it a second time.
    """
    told: dict[str, Any] = {}
    gates = {gate.get("conditionType") for gate in pods.spec(pod).get("readinessGates") or ()}
    opened = [
        {"type": one["type"], "status": one.get("status", "")}
        for one in conditions.conditions(pod)
        if one.get("type") in gates
    ]
    if opened:
        told["conditions"] = sorted(opened, key=lambda one: one["type"])
    if pods.is_terminal(pod):
        told["phase"] = pods.phase(pod)
    return {**for_host(pod), "status": told} if told else for_host(pod)


def node_for_host(node: Object) -> Object:
    """The host's own Node: who it is and what it has, without conditions, taints and images."""
    status: Mapping[str, Any] = node.get("status") or {}
    metadata = meta.metadata(node)
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {key: metadata[key] for key in ("name", "uid", "labels") if key in metadata},
        "spec": {"podCIDR": pod_cidr_of(node)},
        "status": {key: status[key] for key in _KEPT_NODE_STATUS if key in status},
    }


def _collect(into: dict[str, dict[str, Any]], lookup: Lookup, namespace: str, names: Iterable[str]) -> None:
    for name in names:
        found = lookup(name, namespace)
        if found is not None:
            into[f"{namespace}/{name}"] = for_host(found)
