"""Says which pods answer for a Service: EndpointSlices of at most 100 endpoints each.

A pod that matches the selector and has an address is an endpoint until it has ended. It is marked ready while
it is (or always, if the Service publishes addresses that are not ready); one that is being deleted is never
ready, but `serving` says whether it would still answer.

Invariant: every slice carries its Service as owner and in the label `kubernetes.io/service-name`; slices
that others manage (`endpointslice.kubernetes.io/managed-by`) are never touched.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from gitkube.api.informer import Informer
from gitkube.control.context import Context, Controller
from gitkube.control.slices import (
    BY_SERVICE,
    HEADLESS,
    MANAGED_BY,
    SERVICE_NAME,
    Belonging,
    Group,
    Port,
    SlicePlan,
    carry_out,
    on_slices,
    plan_slices,
    service_key,
)
from gitkube.objects import conditions, meta, pods
from gitkube.objects.kinds import ENDPOINT_SLICE, NODE, POD, SERVICE
from gitkube.objects.labels import selector_of_map
from gitkube.objects.types import Object

MANAGER = "endpointslice-controller.k8s.io"
ZONE = "topology.kubernetes.io/zone"


class EndpointSliceController(Controller):
    name = "endpointslice-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._services = context.informer(SERVICE)
        self._pods = context.informer(POD)
        self._nodes = context.informer(NODE)
        self._slices = context.informer(ENDPOINT_SLICE)
        self._slices.add_index(BY_SERVICE, service_key)
        self._services.add_handler(self.enqueue_changed)
        self._pods.add_handler(self._on_pod)
        self._slices.add_handler(on_slices(self.queue, _is_managed))

    async def reconcile(self, key: str) -> float | None:
        """One look at one Service."""
        namespace, name = meta.split_key(key)
        service = self._services.get(name, namespace)
        present = [one for one in self._slices.by_index(BY_SERVICE, key) if _is_managed(one)]
        if service is None:
            await carry_out(self.client, SlicePlan(delete=present))
            return None
        if meta.is_deleting(service) or not service["spec"].get("selector"):
            return None  # slices of a Service without selector are its user's
        zones = {meta.name(node): meta.labels(node).get(ZONE, "") for node in self._nodes.list()}
        wanted = wanted_endpoints(service, matching_pods(self._pods, service), zones)
        await carry_out(self.client, plan_slices(belonging_of(service), present, wanted))
        return None

    def _on_pod(self, before: Object | None, after: Object | None) -> None:
        for service in services_touched(self._services, before, after):
            self.enqueue(service)


def matching_pods(copies: Informer, service: Object) -> list[Object]:
    """The pods that a Service with a selector selects."""
    selector = selector_of_map(service["spec"]["selector"])
    return [pod for pod in copies.list(meta.namespace(service)) if selector.matches(meta.labels(pod))]


def services_touched(services: Informer, before: Object | None, after: Object | None) -> list[Object]:
    """The Services whose endpoints a change of a pod may change."""
    if before is not None and after is not None and _endpoint_part(before) == _endpoint_part(after):
        return []
    pod = after if after is not None else before
    assert pod is not None
    return [
        service
        for service in services.list(meta.namespace(pod))
        if (selector := selector_of_map(service["spec"].get("selector")))
        and any(one is not None and selector.matches(meta.labels(one)) for one in (before, after))
    ]


def wanted_endpoints(
    service: Object, matching: Sequence[Object], zones: Mapping[str, str]
) -> dict[Group, list[Object]]:
    """The Service's endpoints, in groups that can share slices.

    Args:
        zones: host -> zone, where it has one.
    """
    if service["spec"].get("type") == "ExternalName":
        return {}  # it is another name, and has no endpoints whatever its selector selects
    groups: dict[Group, list[Object]] = defaultdict(list)
    families = service["spec"].get("ipFamilies") or ["IPv4"]
    for pod in matching:
        if pods.is_terminal(pod) or not pods.node_name(pod):
            continue
        for family in families:
            address = address_of(pod, family)
            if address:
                group = Group(family, tuple(ports_of(service, pod)))
                groups[group].append(_endpoint(service, pod, address, zones))
    if not groups:
        # One empty slice says "nobody", where no slice would say "not looked yet".
        for family in families:
            groups[Group(family, ())] = []
    return dict(groups)


def belonging_of(service: Object) -> Belonging:
    """What the slices of a Service carry."""
    labels = {**meta.labels(service), SERVICE_NAME: meta.name(service), MANAGED_BY: MANAGER}
    labels.pop(HEADLESS, None)
    if service["spec"].get("clusterIP") == "None":
        labels[HEADLESS] = ""
    return Belonging(service, labels)


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


def ports_of(service: Object, pod: Object) -> list[Port]:
    """The Service's ports as the pod has them, without those that it has not."""
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


def address_of(pod: Object, family: str) -> str:
    """The pod's address of "IPv4" or "IPv6"; "" without one."""
    status = pods.status(pod)
    addresses = [one.get("ip", "") for one in status.get("podIPs") or ()] or [status.get("podIP") or ""]
    is_v6 = family == "IPv6"
    return next((address for address in addresses if address and (":" in address) == is_v6), "")


def _is_managed(slice_: Object) -> bool:
    return meta.labels(slice_).get(MANAGED_BY) == MANAGER


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
