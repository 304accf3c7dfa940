"""sig-api-machinery: namespaces, garbage collection, and the objects of API priority and fairness."""

from __future__ import annotations

from tests.conformance.api import MERGE_PATCH, Object, at
from tests.conformance.checks.common import (
    condition,
    config_map,
    lifecycle,
    pod,
    pods_of,
    template,
    until_pods,
    until_running,
    workload,
)
from tests.conformance.harness import Trial, check, require

NAMESPACES = "v1/namespaces"


@check("Namespaces should ensure that all services are removed when a namespace is deleted")
async def services_go_with_their_namespace(t: Trial) -> None:
    await _things_go(t, "v1/services", {"metadata": {"name": "one"}, "spec": {"ports": [{"port": 80}]}})


@check("Namespaces should ensure that all pods are removed when a namespace is deleted")
async def pods_go_with_their_namespace(t: Trial) -> None:
    await t.hosts()
    await _things_go(t, "v1/pods", pod("one"))


async def _things_go(t: Trial, resource: str, obj: Object) -> None:
    name = await t.new_namespace()
    await t.api.create(at(resource, name), obj)
    if resource == "v1/pods":
        await until_running(t, obj["metadata"]["name"], name)
    await t.api.delete(at(NAMESPACES, "", name))
    await t.until_gone(at(NAMESPACES, "", name))
    await t.api.create(at(NAMESPACES), {"metadata": {"name": name}})
    require(not await t.api.items(at(resource, name)), "something outlived its namespace")


@check("OrderedNamespaceDeletion namespace deletion should delete pod first")
async def pods_go_first(t: Trial) -> None:
    await t.hosts()
    name = await t.new_namespace()
    held = pod("held")
    held["metadata"]["finalizers"] = ["conformance.example.com/hold"]
    await t.api.create(at("v1/pods", name), held)
    await until_running(t, "held", name)
    await t.api.create(at("v1/configmaps", name), config_map("later"))
    await t.api.delete(at(NAMESPACES, "", name))
    await t.until_object(
        "the namespace says that content remains",
        at(NAMESPACES, "", name),
        lambda one: condition(one, "NamespaceContentRemaining").get("status") == "True",
    )
    require(await t.exists(at("v1/configmaps", name, "later")), "a ConfigMap went before the pod")
    await t.api.patch(at("v1/pods", name, "held"), {"metadata": {"finalizers": None}})
    await t.until_gone(at(NAMESPACES, "", name))


@check("Namespaces should patch a Namespace", quick=True)
async def a_namespace_is_patched(t: Trial) -> None:
    path = at(NAMESPACES, "", t.namespace)
    await t.api.patch(path, {"metadata": {"labels": {"testLabel": "testValue"}}})
    read = await t.api.get(path)
    require(read["metadata"]["labels"]["testLabel"] == "testValue", "the label is not there")


@check("Namespaces should apply an update to a Namespace", quick=True)
async def a_namespace_is_updated(t: Trial) -> None:
    path = at(NAMESPACES, "", t.namespace)
    read = await t.api.get(path)
    read["metadata"]["labels"]["updated"] = t.namespace
    updated = await t.api.put(path, read)
    require(updated["metadata"]["labels"]["updated"] == t.namespace, "the label is not there")


@check("Namespaces should apply changes to a namespace status", quick=True)
async def a_namespaces_status_is_changed(t: Trial) -> None:
    path = at(NAMESPACES, "", t.namespace, "status")
    one = {"type": "StatusPatch", "status": "True", "reason": "E2E", "message": "Patched by a check"}
    patched = await t.api.patch(path, {"status": {"conditions": [one]}})
    require(condition(patched, "StatusPatch").get("reason") == "E2E", "the patched condition is not there")
    two = {"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Updated by a check"}
    patched["status"]["conditions"].append(two)
    updated = await t.api.put(path, patched)
    require(condition(updated, "StatusUpdate").get("reason") == "E2E", "the updated condition is not there")


@check("Namespaces should apply a finalizer to a Namespace")
async def a_finalizer_holds_a_namespace(t: Trial) -> None:
    name = await t.new_namespace()
    path = at(NAMESPACES, "", name)
    finalizer = "e2e.example.com/fakeFinalizer"
    read = await t.api.get(path)
    read["spec"]["finalizers"].append(finalizer)
    finalized = await t.api.put(f"{path}/finalize", read)
    require(finalizer in finalized["spec"]["finalizers"], "the finalizer was not taken")
    await t.api.delete(path)
    held = await t.until_object(
        "only the finalizer is left", path, lambda one: one["spec"].get("finalizers") == [finalizer]
    )
    require(held["status"]["phase"] == "Terminating", "it is not terminating")
    held["spec"]["finalizers"] = []
    await t.api.put(f"{path}/finalize", held)
    await t.until_gone(path)


# ------------------------------------------------------------------------------------- garbage collection


def controller(name: str, replicas: int) -> Object:
    spec = {"replicas": replicas, "selector": {"app": name}, "template": template(name)}
    return {"metadata": {"name": name}, "spec": spec}


@check("Garbage collector should delete pods created by rc when not orphaning")
async def pods_go_with_their_controller(t: Trial) -> None:
    await t.api.create(at("v1/replicationcontrollers", t.namespace), controller("background", 2))
    await until_pods(t, "background", 2)
    path = at("v1/replicationcontrollers", t.namespace, "background")
    await t.api.delete(path, {"propagationPolicy": "Background"})
    await until_pods(t, "background", 0)


@check("Garbage collector should orphan pods created by rc if delete options say so")
async def pods_are_orphaned(t: Trial) -> None:
    await t.api.create(at("v1/replicationcontrollers", t.namespace), controller("orphans", 5))
    await until_pods(t, "orphans", 5)
    path = at("v1/replicationcontrollers", t.namespace, "orphans")
    await t.api.delete(path, {"propagationPolicy": "Orphan"})
    await t.until_gone(path)
    left = await pods_of(t, "orphans")
    require(len(left) == 5, f"{len(left)} of 5 pods are left")
    require(not any(one["metadata"].get("ownerReferences") for one in left), "an orphan has an owner")


@check("Garbage collector should delete RS created by deployment when not orphaning")
async def a_replica_set_goes_with_its_deployment(t: Trial) -> None:
    await _deployment_deleted(t, "Background")
    await t.until("the ReplicaSet is gone", lambda: _has_no_sets(t))


@check(
    "Garbage collector should orphan RS created by deployment when deleteOptions.PropagationPolicy is Orphan"
)
async def a_replica_set_is_orphaned(t: Trial) -> None:
    await _deployment_deleted(t, "Orphan")
    await t.until_gone(at("apps/v1/deployments", t.namespace, "owner"))
    (left,) = await t.api.items(at("apps/v1/replicasets", t.namespace))
    require(not left["metadata"].get("ownerReferences"), "an orphan has an owner")


async def _deployment_deleted(t: Trial, policy: str) -> None:
    await t.api.create(at("apps/v1/deployments", t.namespace), workload("owner", 2))

    async def has_set() -> bool:
        return bool(await t.api.items(at("apps/v1/replicasets", t.namespace)))

    await t.until("the Deployment has a ReplicaSet", has_set)
    await t.api.delete(at("apps/v1/deployments", t.namespace, "owner"), {"propagationPolicy": policy})


async def _has_no_sets(t: Trial) -> bool:
    return not await t.api.items(at("apps/v1/replicasets", t.namespace))


@check(
    "Garbage collector should keep the rc around until all its pods are deleted if the deleteOptions says so"
)
async def an_owner_waits_for_its_pods(t: Trial) -> None:
    await t.api.create(at("v1/replicationcontrollers", t.namespace), controller("foreground", 3))
    pods = await until_pods(t, "foreground", 3)
    held = at("v1/pods", t.namespace, pods[0]["metadata"]["name"])
    await t.api.patch(held, {"metadata": {"finalizers": ["conformance.example.com/hold"]}})
    path = at("v1/replicationcontrollers", t.namespace, "foreground")
    await t.api.delete(path, {"propagationPolicy": "Foreground"})

    async def only_one() -> bool:
        return len(await t.api.items(at("v1/pods", t.namespace), labelSelector="app=foreground")) == 1

    await t.until("all pods but the held one are gone", only_one)
    waiting = await t.api.get(path)
    require("foregroundDeletion" in waiting["metadata"]["finalizers"], "the owner does not wait")
    await t.api.patch(held, {"metadata": {"finalizers": None}})
    await t.until_gone(path)


def _owner(obj: Object, *, is_blocking: bool = False) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ReplicationController" if "replicas" in obj["spec"] else "Pod",
        "name": obj["metadata"]["name"],
        "uid": obj["metadata"]["uid"],
        **({"blockOwnerDeletion": True} if is_blocking else {}),
    }


@check("should not delete dependents that have both valid owner and owner that's waiting for dependents")
async def a_second_owner_keeps_its_pods(t: Trial) -> None:
    collection = at("v1/replicationcontrollers", t.namespace)
    await t.api.create(collection, controller("going", 4))
    staying = await t.api.create(collection, controller("staying", 0))
    pods = await until_pods(t, "going", 4)
    for one in pods[:2]:
        owners = [*one["metadata"]["ownerReferences"], _owner(staying)]
        path = at("v1/pods", t.namespace, one["metadata"]["name"])
        await t.api.patch(path, {"metadata": {"ownerReferences": owners}}, MERGE_PATCH)
    await t.api.delete(f"{collection}/going", {"propagationPolicy": "Foreground"})
    await t.until_gone(f"{collection}/going")
    left = await pods_of(t, "going")
    require(len(left) == 2, f"{len(left)} pods are left, not the two with another owner")
    for one in left:
        owners = [owner["name"] for owner in one["metadata"]["ownerReferences"]]
        require(owners == ["staying"], f"a pod is owned by {owners}")


@check("Garbage collector should not be blocked by dependency circle")
async def a_circle_is_collected(t: Trial) -> None:
    path = at("v1/pods", t.namespace)
    pods = [await t.api.create(path, pod(f"circle-{number}", {"app": "circle"})) for number in range(3)]
    for one, owner in zip(pods, [pods[2], *pods[:2]], strict=True):
        reference = [_owner(owner, is_blocking=True)]
        await t.api.patch(f"{path}/{one['metadata']['name']}", {"metadata": {"ownerReferences": reference}})
    await t.api.delete(f"{path}/circle-0", {"propagationPolicy": "Foreground"})
    await until_pods(t, "circle", 0)


# ------------------------------------------------------------------------------- priority and fairness


@check("API priority and fairness should support FlowSchema API operations", quick=True)
async def flow_schemas_are_kept(t: Trial) -> None:
    spec = {
        "matchingPrecedence": 10000,
        "priorityLevelConfiguration": {"name": "global-default"},
        "rules": [
            {
                "subjects": [{"kind": "User", "user": {"name": "example-e2e-non-existent-user"}}],
                "nonResourceRules": [{"nonResourceURLs": ["/dont-match"], "verbs": ["*"]}],
            }
        ],
    }
    condition = {"type": "Dangling", "status": "False", "reason": "E2E", "message": "by a check"}
    await lifecycle(
        t,
        "flowcontrol.apiserver.k8s.io/v1/flowschemas",
        {"metadata": {"name": t.unique("flow")}, "spec": spec},
        namespaced=False,
        spec_patch={"spec": {"matchingPrecedence": 9999}},
        status={"conditions": [{**condition, "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
    )


@check("API priority and fairness should support PriorityLevelConfiguration API operations", quick=True)
async def priority_levels_are_kept(t: Trial) -> None:
    limited = {"nominalConcurrencyShares": 2, "limitResponse": {"type": "Reject"}}
    condition = {"type": "E2E", "status": "False", "reason": "E2E", "message": "by a check"}
    await lifecycle(
        t,
        "flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations",
        {"metadata": {"name": t.unique("level")}, "spec": {"type": "Limited", "limited": limited}},
        namespaced=False,
        spec_patch={"spec": {"limited": {"nominalConcurrencyShares": 4}}},
        status={"conditions": [{**condition, "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
    )
