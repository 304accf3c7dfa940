"""Says which pods answer for a Service in the old form, too: one Endpoints object of its name.

EndpointSlices are what traffic follows here; this is for clients that still read v1 Endpoints. Pods with the
same ports share a subset, in which those that are ready stand apart from those that are not. An Endpoints
holds at most 1000 addresses, ready ones first, and says in an annotation when some were left out.

Invariant: a Service without selector is its user's: its Endpoints are not written, and go with the Service
only. Source of the packing and of the share that each subset keeps: k8s.io/endpointslice and
pkg/controller/endpoint.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from gitkube.api.errors import StatusError, is_not_found
from gitkube.control.context import Context, Controller
from gitkube.control.endpointslice import address_of, matching_pods, ports_of, services_touched
from gitkube.control.slices import HEADLESS, Port
from gitkube.objects import meta, pods
from gitkube.objects.kinds import ENDPOINTS, POD, SERVICE
from gitkube.objects.types import Object

MAX_ADDRESSES = 1000
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
MANAGED_BY = "endpoints.kubernetes.io/managed-by"
MANAGER = "endpoint-controller"
READY, NOT_READY = "addresses", "notReadyAddresses"


class EndpointsController(Controller):
    name = "endpoint-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._services = context.informer(SERVICE)
        self._pods = context.informer(POD)
        self._endpoints = context.informer(ENDPOINTS)
        self._deleted: set[str] = set()
        """Services that were seen to go: their Endpoints go, whoever wrote them."""
        self._services.add_handler(self._on_service)
        self._pods.add_handler(self._on_pod)
        self._endpoints.add_handler(self._on_endpoints)

    async def reconcile(self, key: str) -> float | None:
        """One look at one Service."""
        namespace, name = meta.split_key(key)
        service, present = self._services.get(name, namespace), self._endpoints.get(name, namespace)
        if service is None:
            if present is not None and (key in self._deleted or _is_managed(present)):
                await self._delete(present)
            self._deleted.discard(key)
            return None
        self._deleted.discard(key)
        spec = service["spec"]
        if meta.is_deleting(service) or not spec.get("selector") or spec.get("type") == "ExternalName":
            return None
        wanted = wanted_of(service, present, matching_pods(self._pods, service))
        if present is None:
            await self.client.create(ENDPOINTS, wanted)
        elif wanted != present:
            await self.client.update(ENDPOINTS, wanted)
        return None

    async def _delete(self, present: Object) -> None:
        try:
            await self.client.delete(
                ENDPOINTS, meta.name(present), meta.namespace(present), uid=meta.uid(present)
            )
        except StatusError as error:
            if not is_not_found(error):
                raise

    def _on_service(self, before: Object | None, after: Object | None) -> None:
        if after is None and before is not None:
            self._deleted.add(meta.key(before))
        self.enqueue_changed(before, after)

    def _on_pod(self, before: Object | None, after: Object | None) -> None:
        for service in services_touched(self._services, before, after):
            self.enqueue(service)

    def _on_endpoints(self, before: Object | None, after: Object | None) -> None:
        if any(one is not None and _is_managed(one) for one in (before, after)):
            self.enqueue_changed(before, after)


def wanted_of(service: Object, present: Object | None, matching: Sequence[Object]) -> Object:
    """The Endpoints of a Service.

    Args:
        present: what there is now, whose other metadata is kept; None: nothing.
        matching: the pods that the Service selects.
    """
    subsets = subsets_of(service, matching)
    kept = limited(subsets, MAX_ADDRESSES)
    labels = {**meta.labels(service), MANAGED_BY: MANAGER}
    labels.pop(HEADLESS, None)
    if service["spec"].get("clusterIP") == "None":
        labels[HEADLESS] = ""
    before: Object = present or {"apiVersion": ENDPOINTS.api_version, "kind": ENDPOINTS.kind}
    metadata = {
        **before.get("metadata", {"name": meta.name(service), "namespace": meta.namespace(service)}),
        "labels": labels,
    }
    notes = {key: value for key, value in meta.annotations(before).items() if key != OVER_CAPACITY}
    if kept != subsets:
        notes[OVER_CAPACITY] = "truncated"
    metadata.pop("annotations", None)
    if notes:
        metadata["annotations"] = notes
    wanted = {**before, "metadata": metadata}
    wanted.pop("subsets", None)
    if kept:
        wanted["subsets"] = kept
    return wanted


def subsets_of(service: Object, matching: Sequence[Object]) -> list[Object]:
    """All addresses of the Service, those with the same ports together; in a stable order."""
    spec = service["spec"]
    publishes = bool(spec.get("publishNotReadyAddresses"))
    family = (spec.get("ipFamilies") or ["IPv4"])[0]
    groups: dict[tuple[Port, ...], dict[str, list[Object]]] = defaultdict(lambda: defaultdict(list))
    for pod in sorted(matching, key=meta.key):
        address = address_of(pod, family)
        if not address or pods.is_terminal(pod) or (meta.is_deleting(pod) and not publishes):
            continue
        ports = tuple(ports_of(service, pod))
        if not ports and spec.get("ports"):
            continue  # it has none of the ports that the Service names
        is_ready = publishes or pods.is_ready(pod)
        groups[ports][READY if is_ready else NOT_READY].append(_address(service, pod, address))
    subsets = []
    for ports, addresses in sorted(groups.items(), key=lambda item: [str(port) for port in item[0]]):
        subset: Object = {
            field: sorted(addresses[field], key=lambda one: one["ip"])
            for field in (READY, NOT_READY)
            if field in addresses
        }
        if ports:
            subset["ports"] = [_port(port) for port in ports]
        subsets.append(subset)
    return subsets


def limited(subsets: Sequence[Object], maximum: int) -> list[Object]:
    """The subsets with at most so many addresses: each keeps its share, and ready ones come first."""
    total = {field: sum(len(one.get(field, ())) for one in subsets) for field in (READY, NOT_READY)}
    if sum(total.values()) <= maximum:
        return list(subsets)
    cut, room = (READY, maximum) if total[READY] > maximum else (NOT_READY, maximum - total[READY])
    left = room
    result = []
    for subset in subsets:
        here = subset.get(cut, [])
        share = min(-(-len(here) * room // total[cut]), left)
        left -= share
        lists = {READY: subset.get(READY, []), NOT_READY: [], cut: here[:share]}
        rest = {key: value for key, value in subset.items() if key not in lists}
        if any(lists.values()):
            result.append({**{field: found for field, found in lists.items() if found}, **rest})
    return result


def _address(service: Object, pod: Object, address: str) -> Object:
    entry: Object = {
        "ip": address,
        "targetRef": {
            "kind": "Pod",
            "namespace": meta.namespace(pod),
            "name": meta.name(pod),
            "uid": meta.uid(pod),
        },
    }
    if pods.node_name(pod):
        entry["nodeName"] = pods.node_name(pod)
    spec = pods.spec(pod)
    if spec.get("hostname") and spec.get("subdomain") == meta.name(service):
        entry["hostname"] = spec["hostname"]
    return entry


def _port(port: Port) -> Object:
    """Endpoints leave an empty name out, where EndpointSlices write it."""
    return {key: value for key, value in port.to_object().items() if value != ""}


def _is_managed(endpoints: Object) -> bool:
    return meta.labels(endpoints).get(MANAGED_BY) == MANAGER
