"""sig-network: Services, their endpoints, ingresses and addresses, as far as no packet is sent."""

from __future__ import annotations

from typing import Any

from tests.conformance.api import MERGE_PATCH, Object, at
from tests.conformance.checks.common import IMAGE, condition, lifecycle, pod, until_running
from tests.conformance.harness import Trial, check, require

SERVICES = "v1/services"
ENDPOINTS = "v1/endpoints"
SLICES = "discovery.k8s.io/v1/endpointslices"
NETWORKING = "networking.k8s.io/v1"


def service(name: str, ports: list[Object] | None = None, **spec: Any) -> Object:
    return {"metadata": {"name": name}, "spec": {"ports": ports or [{"port": 80}], **spec}}


async def _slices_of(t: Trial, name: str, namespace: str = "") -> list[Object]:
    selector = f"kubernetes.io/service-name={name}"
    return await t.api.items(at(SLICES, namespace or t.namespace), labelSelector=selector)


@check("API Server should provide secure master service", quick=True)
async def the_api_is_a_service(t: Trial) -> None:
    read = await t.api.get(at(SERVICES, "default", "kubernetes"))
    ports = [(one["name"], one["port"]) for one in read["spec"]["ports"]]
    require(ports == [("https", 443)], f"its ports are {ports}")


@check("API Server should have Endpoints and EndpointSlices pointing to API Server")
async def the_api_has_endpoints(t: Trial) -> None:
    endpoints = await t.api.get(at(ENDPOINTS, "default", "kubernetes"))
    subset = endpoints["subsets"][0]
    found = {one["ip"] for one in subset["addresses"]}
    slices = await _slices_of(t, "kubernetes", "default")
    require(slices, "there is no EndpointSlice")
    points = [point for one in slices for point in one.get("endpoints") or ()]
    in_slices = {address for point in points for address in point["addresses"]}
    require(found == in_slices, f"Endpoints have {found}, EndpointSlices {in_slices}")
    require(subset["ports"][0]["port"] == slices[0]["ports"][0]["port"], "the ports differ")


@check("Services should find a service from listing all namespaces", quick=True)
async def services_of_all_namespaces_are_listed(t: Trial) -> None:
    found = await t.api.items(at(SERVICES))
    names = {(one["metadata"]["namespace"], one["metadata"]["name"]) for one in found}
    require(("default", "kubernetes") in names, "the service of the API is not listed")


@check("Services should delete a collection of services", quick=True)
async def services_are_deleted_together(t: Trial) -> None:
    for number in range(3):
        obj = service(f"one-{number}")
        obj["metadata"]["labels"] = {"goes": "yes" if number < 2 else "no"}
        await t.api.create(at(SERVICES, t.namespace), obj)
    await t.api.delete(at(SERVICES, t.namespace), labelSelector="goes=yes")

    async def one_is_left() -> bool:
        return [one["metadata"]["name"] for one in await t.api.items(at(SERVICES, t.namespace))] == ["one-2"]

    await t.until("the others are gone", one_is_left)


@check("Services should complete a service status lifecycle", quick=True)
async def a_services_status_is_changed(t: Trial) -> None:
    await t.api.create(at(SERVICES, t.namespace), service("status", type="LoadBalancer"))
    path = at(SERVICES, t.namespace, "status")
    patch = {
        "metadata": {"annotations": {"patchedstatus": "true"}},
        "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}},
    }
    patched = await t.api.patch(f"{path}/status", patch, MERGE_PATCH)
    require(patched["status"]["loadBalancer"]["ingress"][0]["ip"] == "203.0.113.1", "a patch was lost")
    read = await t.api.get(f"{path}/status")
    one = {"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set from a check"}
    read["status"]["conditions"] = [{**one, "lastTransitionTime": "2026-01-01T00:00:00Z"}]
    updated = await t.api.put(f"{path}/status", read)
    require(condition(updated, "StatusUpdate").get("reason") == "E2E", "an update was lost")
    await t.api.patch(path, {"metadata": {"labels": {"patched": "yes"}}})
    await t.api.delete(path)
    await t.until_gone(path)


# -------------------------------------------------------------------------------------------- endpoints


def _ready_pod(name: str, app: str, port: int, port_name: str) -> Object:
    obj = pod(name, {"app": app})
    obj["spec"]["containers"] = [
        {"name": "main", "image": IMAGE, "ports": [{"containerPort": port, "name": port_name}]}
    ]
    return obj


async def _addresses(t: Trial, name: str) -> dict[str, set[int]]:
    """Address -> ports of a Service's EndpointSlices."""
    found: dict[str, set[int]] = {}
    for one in await _slices_of(t, name):
        ports = {port["port"] for port in one.get("ports") or ()}
        for point in one.get("endpoints") or ():
            for address in point["addresses"]:
                found.setdefault(address, set()).update(ports)
    return found


async def _points_at(t: Trial, name: str, wanted: dict[str, set[int]]) -> None:
    async def holds() -> bool:
        return await _addresses(t, name) == wanted

    await t.until(f"the EndpointSlices of {name} have {wanted}", holds)


async def _old_points_at(t: Trial, name: str, addresses: set[str]) -> None:
    def holds(one: Object) -> bool:
        return {
            address["ip"] for subset in one.get("subsets") or () for address in subset.get("addresses") or ()
        } == addresses

    await t.until_object(f"the Endpoints of {name} have {addresses}", at(ENDPOINTS, t.namespace, name), holds)


@check(
    "should create and delete EndpointSlices for a Service with a selector that matches no pods",
    old=False,
)
@check(
    "should create and delete Endpoints for a Service with a selector that matches no pods",
    old=True,
)
async def a_service_without_pods_has_empty_endpoints(t: Trial, old: bool) -> None:
    await t.api.create(at(SERVICES, t.namespace), service("empty", selector={"does-not-match-anything": "x"}))

    async def is_there() -> bool:
        if old:
            return await t.exists(at(ENDPOINTS, t.namespace, "empty"))
        return bool(await _slices_of(t, "empty"))

    await t.until("the endpoints are there", is_there)
    await t.api.delete(at(SERVICES, t.namespace, "empty"))

    async def is_gone() -> bool:
        return not await is_there()

    await t.until("the endpoints are gone", is_gone)


@check("EndpointSlice should create Endpoints and EndpointSlices for Pods matching a Service", old=False)
@check("EndpointsController should create Endpoints for Pods matching a Service", old=True)
async def pods_of_a_service_are_its_endpoints(t: Trial, old: bool) -> None:
    await t.hosts()
    ports = [{"name": "named", "port": 80, "targetPort": "example-name"}]
    await t.api.create(at(SERVICES, t.namespace), service("named", ports, selector={"app": "points"}))
    await t.api.create(
        at(SERVICES, t.namespace),
        service("number", [{"port": 81, "targetPort": 3000}], selector={"app": "points"}),
    )
    addresses = []
    for name, port in (("one", 3000), ("two", 3001)):
        await t.api.create(at("v1/pods", t.namespace), _ready_pod(name, "points", port, "example-name"))
        addresses.append((await until_running(t, name))["status"]["podIP"])
    if old:
        for name in ("named", "number"):
            await _old_points_at(t, name, set(addresses))
        return
    await _points_at(t, "named", {addresses[0]: {3000}, addresses[1]: {3001}})
    await _points_at(t, "number", {address: {3000} for address in addresses})
    for one in await _slices_of(t, "named"):
        owner = one["metadata"]["ownerReferences"][0]
        require((owner["kind"], owner["name"]) == ("Service", "named"), f"it is owned by {owner}")
        for point in one["endpoints"]:
            require(point["conditions"]["ready"] is True, "an endpoint is not ready")
            require(point["targetRef"]["kind"] == "Pod" and point.get("nodeName"), f"it says {point}")


_PART = "objects only; that packets follow them is tried in the lab of real hosts"


@check("Services should serve a basic endpoint from pods", part=_PART, ports=[("", 80)])
@check("Services should serve multiport endpoints from pods", part=_PART, ports=[("one", 80), ("two", 81)])
async def endpoints_follow_pods(t: Trial, ports: list[tuple[str, int]]) -> None:
    await t.hosts()
    told = [{"port": port, **({"name": name} if name else {})} for name, port in ports]
    await t.api.create(at(SERVICES, t.namespace), service("follows", told, selector={"app": "follows"}))
    wanted: dict[str, set[int]] = {}
    for name in ("pod1", "pod2"):
        await t.api.create(at("v1/pods", t.namespace), pod(name, {"app": "follows"}))
        wanted[(await until_running(t, name))["status"]["podIP"]] = {port for _, port in ports}
        await _points_at(t, "follows", wanted)
    for name in ("pod1", "pod2"):
        address = (await t.api.get(at("v1/pods", t.namespace, name)))["status"]["podIP"]
        await t.api.delete(at("v1/pods", t.namespace, name))
        wanted.pop(address)
        await _points_at(t, "follows", wanted)


@check("Endpoints should test the lifecycle of an Endpoint", quick=True)
async def endpoints_are_kept(t: Trial) -> None:
    subset = {"addresses": [{"ip": "10.0.0.24"}], "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}
    obj = {"metadata": {"name": "kept"}, "subsets": [subset]}
    await lifecycle(
        t, ENDPOINTS, obj, spec_patch={"subsets": [{**subset, "addresses": [{"ip": "10.0.0.25"}]}]}
    )


@check("EndpointSliceMirroring should mirror a custom Endpoints resource through create update and delete")
async def endpoints_by_hand_are_mirrored(t: Trial) -> None:
    subset = {"addresses": [{"ip": "10.1.2.3"}], "ports": [{"port": 80}]}
    await t.api.create(at(SERVICES, t.namespace), service("by-hand"))
    await t.api.create(at(ENDPOINTS, t.namespace), {"metadata": {"name": "by-hand"}, "subsets": [subset]})
    await _points_at(t, "by-hand", {"10.1.2.3": {80}})
    subset["addresses"] = [{"ip": "10.2.3.4"}]
    await t.api.patch(at(ENDPOINTS, t.namespace, "by-hand"), {"subsets": [subset]}, MERGE_PATCH)
    await _points_at(t, "by-hand", {"10.2.3.4": {80}})
    await t.api.delete(at(ENDPOINTS, t.namespace, "by-hand"))

    async def are_gone() -> bool:
        return not await _slices_of(t, "by-hand")

    await t.until("the mirrored EndpointSlices are gone", are_gone)


@check("EndpointSlice should support creating EndpointSlice API operations", quick=True)
async def slices_are_kept(t: Trial) -> None:
    obj = {
        "metadata": {"name": "kept"},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["1.2.3.4"]}],
        "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
    }
    await lifecycle(t, SLICES, obj)


# ------------------------------------------------------------------------------- ingresses and addresses


@check("Ingress API should support creating Ingress API operations", quick=True)
async def ingresses_are_kept(t: Trial) -> None:
    backend = {"service": {"name": "default", "port": {"number": 80}}}
    paths = [{"path": "/", "pathType": "Prefix", "backend": backend}]
    spec = {"defaultBackend": backend, "rules": [{"host": "foo.bar.com", "http": {"paths": paths}}]}
    await lifecycle(
        t,
        f"{NETWORKING}/ingresses",
        {"metadata": {"name": "kept"}, "spec": spec},
        spec_patch={"spec": {"ingressClassName": "other"}},
        status={"loadBalancer": {"ingress": [{"ip": "169.1.1.1"}]}},
    )


@check("IngressClass API should support creating IngressClass API operations", quick=True)
async def ingress_classes_are_kept(t: Trial) -> None:
    spec = {"controller": "example.com/controller"}
    await lifecycle(
        t,
        f"{NETWORKING}/ingressclasses",
        {"metadata": {"name": t.unique("class")}, "spec": spec},
        namespaced=False,
    )


@check("ServiceCIDR and IPAddress API should support IPAddress API operations", quick=True)
async def addresses_are_kept(t: Trial) -> None:
    parent = {"group": "", "resource": "services", "namespace": t.namespace, "name": "x"}
    number = int(t.unique("n").rsplit("-", 1)[1]) % 250
    obj = {"metadata": {"name": f"192.0.{number}.7"}, "spec": {"parentRef": parent}}
    await lifecycle(t, f"{NETWORKING}/ipaddresses", obj, namespaced=False, has_collection=False)


@check("ServiceCIDR and IPAddress API should support ServiceCIDR API operations")
async def ranges_are_kept(t: Trial) -> None:
    obj = {"metadata": {"name": t.unique("range")}, "spec": {"cidrs": ["203.0.113.0/28"]}}
    one = {"type": "E2E", "status": "True", "reason": "E2E", "message": "by a check"}
    await lifecycle(
        t,
        f"{NETWORKING}/servicecidrs",
        obj,
        namespaced=False,
        status={"conditions": [{**one, "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
    )
    await t.api.get(at(f"{NETWORKING}/servicecidrs", "", "kubernetes"))


@check(
    "Services should be able to change the type from ExternalName to ClusterIP",
    part=_PART,
    types=("ExternalName", "ClusterIP"),
)
@check(
    "Services should be able to change the type from ExternalName to NodePort",
    part=_PART,
    types=("ExternalName", "NodePort"),
)
@check(
    "Services should be able to change the type from ClusterIP to ExternalName",
    part=_PART,
    types=("ClusterIP", "ExternalName"),
)
@check(
    "Services should be able to change the type from NodePort to ExternalName",
    part=_PART,
    types=("NodePort", "ExternalName"),
)
async def a_services_type_is_changed(t: Trial, types: tuple[str, str]) -> None:
    before, after = types
    obj = service("changing", type=before)
    if before == "ExternalName":
        obj["spec"] = {"type": before, "externalName": "foo.example.com"}
    made = await t.api.create(at(SERVICES, t.namespace), obj)
    require(
        bool(made["spec"].get("clusterIP")) is (before != "ExternalName"), f"it begins with {made['spec']}"
    )
    if after == "ExternalName":
        made["spec"]["externalName"] = "foo.example.com"
    else:
        made["spec"].pop("externalName")
        made["spec"]["ports"] = [{"port": 80, "name": "http", "protocol": "TCP"}]
    made["spec"]["type"] = after
    changed = (await t.api.put(at(SERVICES, t.namespace, "changing"), made))["spec"]
    require(
        bool(changed.get("clusterIP")) is (after != "ExternalName"),
        f"its address is {changed.get('clusterIP')}",
    )
    ports = changed.get("ports") or []
    has_node_port = any(port.get("nodePort") for port in ports)
    require(has_node_port is (after == "NodePort"), f"its ports are {ports}")
