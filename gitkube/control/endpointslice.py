"""Says which pods answer for a Service: EndpointSlices of at most 100 endpoints each.

A pod that matches the selector and has an address is an endpoint until it has ended. It is marked ready while
it is (or always, if the Service publishes addresses that are not ready); one that is being deleted is never
ready, but `serving` says whether it would still answer. Slices are filled in place, so that a pod that comes
or goes changes one slice and not all.

Invariant: every slice carries its Service as owner and in the label `kubernetes.io/service-name`; slices
that others manage (`endpointslice.kubernetes.io/managed-by`) are never touched.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gitkube.api.errors import StatusError, is_not_found
from gitkube.control.context import Context, Controller
from gitkube.objects import conditions, meta, pods
from gitkube.objects.kinds import ENDPOINT_SLICE, NODE, POD, SERVICE
from gitkube.objects.labels import selector_of_map
from gitkube.objects.types import Object

MAX_ENDPOINTS = 100
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
MANAGER = "endpointslice-controller.k8s.io"
SERVICE_NAME = "kubernetes.io/service-name"
HEADLESS = "service.kubernetes.io/headless"
ZONE = "topology.kubernetes.io/zone"
BY_SERVICE = "service"


@dataclass(frozen=True, slots=True)
class Port:
    """A Service's port as one pod has it."""

    name: str
    protocol: str
    port: int
    app_protocol: str = ""

    def to_object(self) -> Object:
        obj: Object = {"name": self.name, "protocol": self.protocol, "port": self.port}
        if self.app_protocol:
            obj["appProtocol"] = self.app_protocol
        return obj


@dataclass(frozen=True, slots=True)
class Group:
    """Endpoints that can share slices: same address family, same ports (a named port may differ by pod)."""

    address_type: str
    ports: tuple[Port, ...]


@dataclass(slots=True)
class SlicePlan:
    """What to do to the slices of one Service."""

    create: list[Object] = field(default_factory=list)
    update: list[Object] = field(default_factory=list)
    """Existing slices with new content."""
    delete: list[Object] = field(default_factory=list)


class EndpointSliceController(Controller):
    name = "endpointslice-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._services = context.informer(SERVICE)
        self._pods = context.informer(POD)
        self._nodes = context.informer(NODE)
        self._slices = context.informer(ENDPOINT_SLICE)
        self._slices.add_index(BY_SERVICE, _service_key)
        self._services.add_handler(self.enqueue_changed)
        self._pods.add_handler(self._on_pod)
        self._slices.add_handler(self._on_slice)

    async def reconcile(self, key: str) -> float | None:
        """One look at one Service."""
        namespace, name = meta.split_key(key)
        service = self._services.get(name, namespace)
        present = [one for one in self._slices.by_index(BY_SERVICE, key) if _is_managed(one)]
        if service is None:
            for slice_ in present:
                await self._delete(slice_)
            return None
        if meta.is_deleting(service) or not service["spec"].get("selector"):
            return None  # slices of a Service without selector are its user's
        zones = {meta.name(node): meta.labels(node).get(ZONE, "") for node in self._nodes.list()}
        plan = plan_slices(service, present, wanted_endpoints(service, self._matching(service), zones))
        for slice_ in plan.create:
            await self.client.create(ENDPOINT_SLICE, slice_)
        for slice_ in plan.update:
            await self.client.update(ENDPOINT_SLICE, slice_)
        for slice_ in plan.delete:
            await self._delete(slice_)
        return None

    def _matching(self, service: Object) -> list[Object]:
        selector = selector_of_map(service["spec"]["selector"])
        return [pod for pod in self._pods.list(meta.namespace(service)) if selector.matches(meta.labels(pod))]

    async def _delete(self, slice_: Object) -> None:
        try:
            await self.client.delete(
                ENDPOINT_SLICE, meta.name(slice_), meta.namespace(slice_), uid=meta.uid(slice_)
            )
        except StatusError as error:
            if not is_not_found(error):
                raise

    def _on_pod(self, before: Object | None, after: Object | None) -> None:
        if before is not None and after is not None and _endpoint_part(before) == _endpoint_part(after):
            return
        either = after if after is not None else before
        assert either is not None
        for service in self._services.list(meta.namespace(either)):
            selector = selector_of_map(service["spec"].get("selector"))
            if any(pod is not None and selector.matches(meta.labels(pod)) for pod in (before, after)):
                self.enqueue(service)

    def _on_slice(self, before: Object | None, after: Object | None) -> None:
        for slice_ in (before, after):
            if slice_ is not None and _is_managed(slice_):
                for key in _service_key(slice_):
                    self.queue.add(key)


def wanted_endpoints(
    service: Object, matching: Sequence[Object], zones: Mapping[str, str]
) -> dict[Group, list[Object]]:
    """The Service's endpoints, in groups that can share slices.

    Args:
        zones: host -> zone, where it has one.
    """
    groups: dict[Group, list[Object]] = defaultdict(list)
    families = service["spec"].get("ipFamilies") or ["IPv4"]
    for pod in matching:
        if pods.is_terminal(pod) or not pods.node_name(pod):
            continue
        for family in families:
            address = _address(pod, family)
            if address:
                group = Group(family, tuple(_ports(service, pod)))
                groups[group].append(_endpoint(service, pod, address, zones))
    if not groups:
        # One empty slice says "nobody", where no slice would say "not looked yet".
        for family in families:
            groups[Group(family, ())] = []
    return dict(groups)


def plan_slices(
    service: Object, present: Sequence[Object], wanted: Mapping[Group, Sequence[Object]]
) -> SlicePlan:
    """The least change of slices that makes them say what is wanted."""
    plan = SlicePlan()
    by_group: dict[Group, list[Object]] = defaultdict(list)
    for slice_ in present:
        by_group[_group_of(slice_)].append(slice_)
    for group, slices in by_group.items():
        if group not in wanted:
            plan.delete.extend(slices)
    for group, endpoints in wanted.items():
        _plan_group(service, group, by_group.get(group, []), endpoints, plan)
    return plan


def _plan_group(
    service: Object,
    group: Group,
    slices: Sequence[Object],
    endpoints: Sequence[Object],
    plan: SlicePlan,
) -> None:
    missing = {_identity(endpoint): endpoint for endpoint in endpoints}
    contents: list[tuple[Object, list[Object]]] = []
    for slice_ in sorted(slices, key=meta.name):
        kept = [
            missing.pop(_identity(one)) for one in slice_.get("endpoints") or () if _identity(one) in missing
        ]
        contents.append((slice_, kept))
    rest = list(missing.values())
    for _, kept in contents:
        room = MAX_ENDPOINTS - len(kept)
        kept.extend(rest[:room])
        rest = rest[room:]
    filled = [content for content in contents if content[1]]
    if not filled and contents and not rest:
        filled = contents[:1]  # keep one empty slice rather than delete and create it
    for slice_, kept in contents:
        if not any(slice_ is one for one, _ in filled):
            plan.delete.append(slice_)
        elif (after := _with_content(service, slice_, kept)) != slice_:
            plan.update.append(after)
    if not filled and not rest:
        plan.create.append(_new_slice(service, group, []))
    for start in range(0, len(rest), MAX_ENDPOINTS):
        plan.create.append(_new_slice(service, group, rest[start : start + MAX_ENDPOINTS]))


def _new_slice(service: Object, group: Group, endpoints: Sequence[Object]) -> Object:
    # Named after its content: trying again after a lost answer meets the first one, not a second.
    said = json.dumps(
        [meta.uid(service), group.address_type, [port.to_object() for port in group.ports], list(endpoints)]
    )
    digest = hashlib.sha256(said.encode()).hexdigest()[:8]
    return {
        "apiVersion": ENDPOINT_SLICE.api_version,
        "kind": ENDPOINT_SLICE.kind,
        "metadata": {
            "name": f"{meta.name(service)[:200]}-{digest}",
            "namespace": meta.namespace(service),
            "labels": _labels(service),
            "ownerReferences": [meta.owner_reference(service)],
        },
        "addressType": group.address_type,
        "endpoints": list(endpoints),
        "ports": [port.to_object() for port in group.ports],
    }


def _with_content(service: Object, slice_: Object, endpoints: Sequence[Object]) -> Object:
    if list(slice_.get("endpoints") or ()) == list(endpoints) and meta.labels(slice_) == _labels(service):
        return slice_
    return {
        **slice_,
        "metadata": {**slice_["metadata"], "labels": _labels(service)},
        "endpoints": list(endpoints),
    }


def _labels(service: Object) -> dict[str, str]:
    labels = {**meta.labels(service), SERVICE_NAME: meta.name(service), MANAGED_BY: MANAGER}
    labels.pop(HEADLESS, None)
    if service["spec"].get("clusterIP") == "None":
        labels[HEADLESS] = ""
    return labels


def _endpoint(service: Object, pod: Object, address: str, zones: Mapping[str, str]) -> Object:
    is_ending = meta.is_deleting(pod)
    is_serving = pods.is_ready(pod)
    publishes = bool(service["spec"].get("publishNotReadyAddresses"))
    endpoint: Object = {
        "addresses": [address],
        "conditions": {
            "ready": publishes or (is_serving and not is_ending),
            "serving": publishes or is_serving,
            "terminating": is_ending,
        },
        "targetRef": {
            "kind": "Pod",
            "namespace": meta.namespace(pod),
            "name": meta.name(pod),
            "uid": meta.uid(pod),
        },
        "nodeName": pods.node_name(pod),
    }
    if zones.get(pods.node_name(pod)):
        endpoint["zone"] = zones[pods.node_name(pod)]
    spec = pods.spec(pod)
    if spec.get("hostname") and spec.get("subdomain") == meta.name(service):
        endpoint["hostname"] = spec["hostname"]
    return endpoint


def _ports(service: Object, pod: Object) -> list[Port]:
    found = []
    for port in service["spec"].get("ports") or ():
        protocol = port.get("protocol") or "TCP"
        target = port.get("targetPort")
        number = port["port"] if target in (None, 0, "") else target
        if isinstance(number, str):
            named = _container_port(pod, number, protocol)
            if named is None:
                continue  # this pod has no such port: it is no endpoint for it
            number = named
        found.append(Port(port.get("name") or "", protocol, int(number), port.get("appProtocol") or ""))
    return found


def _container_port(pod: Object, name: str, protocol: str) -> int | None:
    spec = pods.spec(pod)
    sidecars = [one for one in spec.get("initContainers") or () if pods.is_sidecar(one)]
    for container in [*(spec.get("containers") or ()), *sidecars]:
        for port in container.get("ports") or ():
            if port.get("name") == name and (port.get("protocol") or "TCP") == protocol:
                return int(port["containerPort"])
    return None


def _address(pod: Object, family: str) -> str:
    status = pods.status(pod)
    addresses = [one.get("ip", "") for one in status.get("podIPs") or ()] or [status.get("podIP") or ""]
    is_v6 = family == "IPv6"
    return next((address for address in addresses if address and (":" in address) == is_v6), "")


def _identity(endpoint: Mapping[str, Any]) -> tuple[str, str]:
    addresses = endpoint.get("addresses") or [""]
    return (str((endpoint.get("targetRef") or {}).get("uid", "")), str(addresses[0]))


def _group_of(slice_: Object) -> Group:
    ports = tuple(
        Port(
            port.get("name") or "",
            port.get("protocol") or "TCP",
            int(port.get("port") or 0),
            port.get("appProtocol") or "",
        )
        for port in slice_.get("ports") or ()
    )
    return Group(slice_.get("addressType", "IPv4"), ports)


def _is_managed(slice_: Object) -> bool:
    return meta.labels(slice_).get(MANAGED_BY) == MANAGER


def _service_key(slice_: Object) -> list[str]:
    name = meta.labels(slice_).get(SERVICE_NAME)
    return [meta.key_of(meta.namespace(slice_), name)] if name else []


def _endpoint_part(pod: Object) -> tuple[object, ...]:
    """What of a pod its endpoints depend on."""
    return (
        meta.uid(pod),
        meta.labels(pod),
        meta.is_deleting(pod),
        pods.is_terminal(pod),
        conditions.is_true(pod, "Ready"),
        pods.node_name(pod),
        pods.status(pod).get("podIP"),
        pods.status(pod).get("podIPs"),
    )
