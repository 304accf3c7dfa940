"""Mirrors Endpoints that a user wrote into EndpointSlices, so that traffic follows them.

Who keeps a Service without selector by hand (a database outside of the cluster, say) may still write v1
Endpoints of its name. Everything that forwards traffic reads EndpointSlices only, so these are kept equal to
what was written, and go with the Endpoints or with the Service.

Invariant: only slices whose `endpointslice.kubernetes.io/managed-by` names this controller are touched;
Endpoints with the label `endpointslice.kubernetes.io/skip-mirror: "true"` are not mirrored. Source:
Kubernetes' KEP-752 and pkg/controller/endpointslicemirroring.
"""

from __future__ import annotations

import ipaddress
from collections import defaultdict

from gitkube.control.context import Context, Controller
from gitkube.control.slices import (
    BY_SERVICE,
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
from gitkube.objects import meta
from gitkube.objects.kinds import ENDPOINT_SLICE, ENDPOINTS, SERVICE
from gitkube.objects.types import Object

MANAGER = "endpointslicemirroring-controller.k8s.io"
SKIP = "endpointslice.kubernetes.io/skip-mirror"
MAX_ADDRESSES = 1000
"""Of a subset; more are not mirrored."""
_LEADER_NOTE = "control-plane.alpha.kubernetes.io/leader"
"""Such Endpoints are an old form of a lock, and lead nowhere."""
_NOT_COPIED = (
    "endpoints.kubernetes.io/last-change-trigger-time",
    "kubectl.kubernetes.io/last-applied-configuration",
)


class EndpointSliceMirroringController(Controller):
    name = "endpointslice-mirroring-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._services = context.informer(SERVICE)
        self._endpoints = context.informer(ENDPOINTS)
        self._slices = context.informer(ENDPOINT_SLICE)
        self._slices.add_index(BY_SERVICE, service_key)
        self._services.add_handler(self.enqueue_changed)
        self._endpoints.add_handler(self.enqueue_changed)
        self._slices.add_handler(on_slices(self.queue, _is_managed))

    async def reconcile(self, key: str) -> float | None:
        """One look at the Endpoints of one name."""
        namespace, name = meta.split_key(key)
        service, endpoints = self._services.get(name, namespace), self._endpoints.get(name, namespace)
        present = [one for one in self._slices.by_index(BY_SERVICE, key) if _is_managed(one)]
        is_mirrored = (
            service is not None
            and endpoints is not None
            and not service["spec"].get("selector")
            and not meta.is_deleting(endpoints)
            and meta.labels(endpoints).get(SKIP) != "true"
            and _LEADER_NOTE not in meta.annotations(endpoints)
        )
        if endpoints is None or not is_mirrored:
            plan = SlicePlan(delete=present)
        else:
            plan = plan_slices(belonging_of(endpoints), present, mirrored(endpoints))
        await carry_out(self.client, plan)
        return None


def mirrored(endpoints: Object) -> dict[Group, list[Object]]:
    """What the slices should say, in groups that can share slices."""
    groups: dict[Group, list[Object]] = defaultdict(list)
    for subset in endpoints.get("subsets") or ():
        ports = tuple(
            Port(
                port.get("name") or "",
                port.get("protocol") or "TCP",
                int(port["port"]),
                port.get("appProtocol") or "",
            )
            for port in subset.get("ports") or ()
        )
        written = [
            *((one, True) for one in subset.get("addresses") or ()),
            *((one, False) for one in subset.get("notReadyAddresses") or ()),
        ]
        for address, is_ready in written[:MAX_ADDRESSES]:
            ip = ipaddress.ip_address(address["ip"])
            groups[Group(f"IPv{ip.version}", ports)].append(_endpoint(address, str(ip), is_ready))
    return dict(groups)


def belonging_of(endpoints: Object) -> Belonging:
    """What the slices of such Endpoints carry."""
    return Belonging(
        endpoints,
        {**meta.labels(endpoints), SERVICE_NAME: meta.name(endpoints), MANAGED_BY: MANAGER},
        {key: value for key, value in meta.annotations(endpoints).items() if key not in _NOT_COPIED},
    )


def _endpoint(address: Object, ip: str, is_ready: bool) -> Object:
    endpoint: Object = {"addresses": [ip], "conditions": {"ready": is_ready}}
    for field in ("targetRef", "nodeName", "hostname"):
        if address.get(field):
            endpoint[field] = address[field]
    return endpoint


def _is_managed(slice_: Object) -> bool:
    return meta.labels(slice_).get(MANAGED_BY) == MANAGER
