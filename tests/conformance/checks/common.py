"""What many checks make and do: small objects, and the life of one through every verb of its resource."""

from __future__ import annotations

from typing import Any

from tests.conformance.api import JSON_PATCH, MERGE_PATCH, Object, Watch, at
from tests.conformance.harness import Trial, require

IMAGE = "registry.example.com/pause:3"
LABEL = "conformance"


def meta(name: str, **labels: str) -> Object:
    return {"name": name, "labels": labels}


def pod_spec(command: str = "", **more: Any) -> Object:
    container: Object = {"name": "main", "image": IMAGE}
    if command:
        container["command"] = ["sh", "-c", command]
    return {"containers": [container], "terminationGracePeriodSeconds": 1, **more}


def pod(name: str, labels: dict[str, str] | None = None, command: str = "", **more: Any) -> Object:
    return {"metadata": meta(name, **(labels or {"app": name})), "spec": pod_spec(command, **more)}


def template(app: str, annotations: dict[str, str] | None = None, command: str = "", **more: Any) -> Object:
    metadata = {"labels": {"app": app}, **({"annotations": annotations} if annotations else {})}
    return {"metadata": metadata, "spec": pod_spec(command, **more)}


def workload(name: str, replicas: int = 1, **spec: Any) -> Object:
    """A Deployment, ReplicaSet or StatefulSet."""
    return {
        "metadata": meta(name, app=name),
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": template(name),
            **spec,
        },
    }


def job(name: str, command: str = "exit 0", annotations: dict[str, str] | None = None, **spec: Any) -> Object:
    return {
        "metadata": meta(name, app=name),
        "spec": {
            "template": {
                "metadata": {"annotations": annotations or {}},
                "spec": pod_spec(command, restartPolicy="Never"),
            },
            **spec,
        },
    }


def config_map(name: str, **data: str) -> Object:
    return {"metadata": {"name": name}, "data": data}


async def pods_of(t: Trial, app: str, namespace: str = "") -> list[Object]:
    """The pods of an app that are not on their way out."""
    found = await t.api.items(at("v1/pods", namespace or t.namespace), labelSelector=f"app={app}")
    return [one for one in found if "deletionTimestamp" not in one["metadata"]]


def is_ready(obj: Object) -> bool:
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def phase(pod: Object) -> str:
    return str((pod.get("status") or {}).get("phase", ""))


def eviction(name: str, namespace: str) -> Object:
    return {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": namespace},
    }


def condition(obj: Object, kind: str) -> Object:
    for one in (obj.get("status") or {}).get("conditions") or ():
        if one["type"] == kind:
            found: Object = one
            return found
    return {}


async def until_running(t: Trial, name: str, namespace: str = "") -> Object:
    path = at("v1/pods", namespace or t.namespace, name)
    return await t.until_object(f"pod {name} is ready", path, is_ready)


async def until_pods(t: Trial, app: str, count: int, namespace: str = "") -> list[Object]:
    async def probe() -> list[Object] | bool:
        found = await pods_of(t, app, namespace)
        return (found or True) if len(found) == count else False

    found = await t.until(f"{count} pods of {app}", probe)
    return found if isinstance(found, list) else []


async def until_rolled_out(t: Trial, name: str) -> Object:
    def holds(one: Object) -> bool:
        status, wanted = one.get("status") or {}, one["spec"]["replicas"]
        is_seen = status.get("observedGeneration", 0) >= one["metadata"]["generation"]
        counts = (
            status.get("updatedReplicas", 0),
            status.get("replicas", 0),
            status.get("availableReplicas", 0),
        )
        return is_seen and counts == (wanted, wanted, wanted)

    return await t.until_object(f"{name} is rolled out", at("apps/v1/deployments", t.namespace, name), holds)


async def check_discovered(t: Trial, resource: str) -> Object:
    """The resource as the discovery of its group and version lists it."""
    prefix, _, plural = resource.rpartition("/")
    root = f"/apis/{prefix}" if "/" in prefix else f"/api/{prefix}"
    listed = await t.api.get(root)
    found = [one for one in listed["resources"] if one["name"] == plural]
    require(found, f"{root} does not list {plural}")
    if "/" in prefix:
        group, _, version = prefix.partition("/")
        groups = {one["name"]: one for one in (await t.api.get("/apis"))["groups"]}
        require(group in groups, f"/apis does not list {group}")
        served = {one["version"] for one in (await t.api.get(f"/apis/{group}"))["versions"]}
        require(version in served, f"/apis/{group} does not list {version}")
    one: Object = found[0]
    return one


async def lifecycle(
    t: Trial,
    resource: str,
    obj: Object,
    *,
    namespaced: bool = True,
    status: Object | None = None,
    spec_patch: Object | None = None,
    has_collection: bool = True,
) -> None:
    """Create, read, list, watch, patch, update, change the status, delete one and delete many."""
    await check_discovered(t, resource)
    namespace = t.namespace if namespaced else ""
    mark = t.unique("life")
    selector = f"{LABEL}={mark}"
    name = obj["metadata"]["name"]
    made = {
        **obj,
        "metadata": {**obj["metadata"], "labels": {**obj["metadata"].get("labels", {}), LABEL: mark}},
    }
    one = at(resource, namespace, name)
    if not namespaced:
        t.leaves(one)
    created = await t.api.create(at(resource, namespace), made)
    require(created["metadata"]["uid"], "a created object has no uid")
    read = await t.api.get(one)
    require(read["metadata"]["uid"] == created["metadata"]["uid"], "another object is read than was created")
    await t.api.refused(409, "POST", at(resource, namespace), made)
    for where in {at(resource, namespace), at(resource)}:
        listed = await t.api.get(where, labelSelector=selector)
        names = [item["metadata"]["name"] for item in listed["items"]]
        require(names == [name], f"{where} lists {names}")
    version = listed["metadata"]["resourceVersion"]
    async with t.api.watch(at(resource, namespace), labelSelector=selector, resourceVersion=version) as watch:
        patch = {"metadata": {"annotations": {"patched": "true"}}, **(spec_patch or {})}
        patched = await t.api.patch(one, patch, MERGE_PATCH)
        require(patched["metadata"]["annotations"]["patched"] == "true", "a patch was not taken")
        await _is_seen(watch, name, "patched")
        stale = {**patched, "metadata": {**patched["metadata"], "resourceVersion": "1"}}
        await t.api.refused(409, "PUT", one, stale)
        updated = await _updated(t, one)
        require(updated["metadata"]["annotations"]["updated"] == "true", "an update was not taken")
        await _is_seen(watch, name, "updated")
        if status is not None:
            await check_status(t, one, status)
            await watch.until("MODIFIED", name)
        await t.api.delete(one)
        await watch.until("DELETED", name)
    await t.until_gone(one)
    if has_collection:
        for number in range(3):
            again = {**made, "metadata": {**made["metadata"], "name": f"{name}{number}"}}
            if not namespaced:
                t.leaves(at(resource, namespace, f"{name}{number}"))
            await t.api.create(at(resource, namespace), again)
        await t.api.delete(at(resource, namespace), labelSelector=selector)

        async def is_empty() -> bool:
            return not await t.api.items(at(resource, namespace), labelSelector=selector)

        await t.until("a deleted collection is empty", is_empty)


async def _is_seen(watch: Watch, name: str, annotation: str) -> None:
    """A watch sees a change; a controller may have written the status meanwhile."""
    while True:
        seen = await watch.until("MODIFIED", name)
        if (seen["metadata"].get("annotations") or {}).get(annotation) == "true":
            return


async def _updated(t: Trial, one: str) -> Object:
    """An annotation by PUT, as clients do it: again with a fresh copy when a controller was faster."""
    for _ in range(20):
        current = await t.api.get(one)
        current["metadata"].setdefault("annotations", {})["updated"] = "true"
        answer = await t.api.call("PUT", one, current)
        if answer.code != 409:
            break
    require(answer.code == 200, f"an update was refused: {answer.code} {answer.message}")
    updated: Object = answer.body
    return updated


async def check_status(t: Trial, one: str, status: Object) -> None:
    """The status subresource changes the status, by each verb, and nothing else; the main door does not."""
    field, value = next(iter(status.items()))
    patch = {"metadata": {"annotations": {"patchedstatus": "true"}}, "status": status}
    patched = await t.api.patch(f"{one}/status", patch, MERGE_PATCH)
    require(
        patched["status"].get(field) == value, f"the status' {field} was not patched: {patched['status']}"
    )
    read = await t.api.get(f"{one}/status")
    require(read["status"].get(field) == value, f"the status' {field} was not kept")
    through = await t.api.patch(one, [{"op": "remove", "path": "/status"}], JSON_PATCH)
    require(through["status"].get(field) == value, "the main resource changed the status")
