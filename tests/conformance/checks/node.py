"""sig-node, without running containers: configuration, leases, nodes, pods as objects, runtime classes."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.conformance.api import JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, Object, at
from tests.conformance.checks.common import (
    IMAGE,
    condition,
    config_map,
    lifecycle,
    pod,
    pod_spec,
    until_running,
)
from tests.conformance.harness import Trial, check, require

PODS = "v1/pods"
SECRETS = "v1/secrets"
CONFIG_MAPS = "v1/configmaps"
CLASSES = "node.k8s.io/v1/runtimeclasses"
NOWHERE = {"conformance": "nowhere"}


@check("[sig-node] ConfigMap should run through a ConfigMap lifecycle", quick=True)
async def config_maps_are_kept(t: Trial) -> None:
    await lifecycle(
        t, CONFIG_MAPS, config_map("kept", valueName="value"), spec_patch={"data": {"valueName": "value1"}}
    )


@check("[sig-node] ConfigMap should update ConfigMap successfully", quick=True)
async def a_config_map_is_updated(t: Trial) -> None:
    created = await t.api.create(at(CONFIG_MAPS, t.namespace), config_map("updated"))
    created["data"] = {"data": "value"}
    await t.api.put(at(CONFIG_MAPS, t.namespace, "updated"), created)
    read = await t.api.get(at(CONFIG_MAPS, t.namespace, "updated"))
    require(read["data"] == {"data": "value"}, f"it has {read.get('data')}")


@check("[sig-node] ConfigMap should fail to create ConfigMap with empty key", quick=True)
async def a_config_map_needs_keys(t: Trial) -> None:
    await t.api.refused(422, "POST", at(CONFIG_MAPS, t.namespace), config_map("empty", **{"": "value"}))


@check("[sig-node] Secrets should fail to create secret due to empty secret key", quick=True)
async def a_secret_needs_keys(t: Trial) -> None:
    obj = {"metadata": {"name": "empty"}, "data": {"": "dmFsdWUtMQ=="}}
    await t.api.refused(422, "POST", at(SECRETS, t.namespace), obj)


@check("[sig-node] Secrets should patch a secret", quick=True)
async def a_secret_is_patched(t: Trial) -> None:
    mark = t.unique("secret")
    obj = {
        "metadata": {"name": "patched", "labels": {mark: "true"}},
        "data": {"key": "dmFsdWU="},
        "type": "Opaque",
    }
    await t.api.create(at(SECRETS, t.namespace), obj)
    require(len(await t.api.items(at(SECRETS), labelSelector=f"{mark}=true")) == 1, "it is not listed")
    patch = {"metadata": {"labels": {mark: "false"}}, "data": {"key": "dmFsdWUx"}}
    patched = await t.api.patch(at(SECRETS, t.namespace, "patched"), patch, STRATEGIC_PATCH)
    require(patched["data"]["key"] == "dmFsdWUx", "a patch was lost")
    await t.api.delete(at(SECRETS, t.namespace), labelSelector=f"{mark}=false")
    await t.until_gone(at(SECRETS, t.namespace, "patched"))


@check(
    "[sig-storage] ConfigMap should be immutable if `immutable` field is set",
    quick=True,
    resource=CONFIG_MAPS,
)
@check("[sig-storage] Secrets should be immutable if `immutable` field is set", quick=True, resource=SECRETS)
async def what_is_immutable_stays(t: Trial, resource: str) -> None:
    path = at(resource, t.namespace, "fixed")
    value = "dmFsdWU=" if resource == SECRETS else "value"
    await t.api.create(at(resource, t.namespace), {"metadata": {"name": "fixed"}, "data": {"data-1": value}})
    await t.api.patch(path, {"data": {"data-4": value}})
    await t.api.patch(path, {"immutable": True})
    for change in ({"data": {"data-5": value}}, {"immutable": False}, {"data": {"data-1": None}}):
        await t.api.refused(422, "PATCH", path, change, content_type=MERGE_PATCH)
    await t.api.patch(path, {"metadata": {"labels": {"may": "change"}}})
    await t.api.delete(path)


@check("Lease lease API should be available", quick=True)
async def leases_are_kept(t: Trial) -> None:
    moment = "2026-01-02T03:04:05.678901Z"
    spec = {
        "holderIdentity": "holder",
        "leaseDurationSeconds": 30,
        "acquireTime": moment,
        "renewTime": moment,
    }
    obj = {"metadata": {"name": "kept"}, "spec": {**spec, "leaseTransitions": 0}}
    await lifecycle(t, "coordination.k8s.io/v1/leases", obj, spec_patch={"spec": {"holderIdentity": "other"}})
    created = await t.api.create(at("coordination.k8s.io/v1/leases", t.namespace), obj)
    require(created["spec"]["renewTime"] == moment, f"microseconds are lost: {created['spec']}")


@check("Node Lifecycle should run through the lifecycle of a node")
async def nodes_are_kept(t: Trial) -> None:
    status = {"phase": "Terminated"}
    obj = {
        "metadata": {"name": t.unique("e2e-node")},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]},
    }
    await lifecycle(t, "v1/nodes", obj, namespaced=False, status=status)


@check("PodTemplates should run the lifecycle of PodTemplates", quick=True)
async def pod_templates_are_kept(t: Trial) -> None:
    obj = {
        "metadata": {"name": "kept"},
        "template": {"spec": {"containers": [{"name": "nginx", "image": "nginx"}]}},
    }
    await lifecycle(t, "v1/podtemplates", obj)


@check("PodTemplates should replace a pod template", quick=True)
async def a_pod_template_is_replaced(t: Trial) -> None:
    obj = {
        "metadata": {"name": "replaced"},
        "template": {"spec": {"containers": [{"name": "e", "image": IMAGE}]}},
    }
    created = await t.api.create(at("v1/podtemplates", t.namespace), obj)
    created["template"]["metadata"] = {"annotations": {"updated": "true"}}
    updated = await t.api.put(at("v1/podtemplates", t.namespace, "replaced"), created)
    require(updated["template"]["metadata"]["annotations"] == {"updated": "true"}, "an update was lost")


@check("PodTemplates should delete a collection of pod templates", quick=True)
async def pod_templates_are_deleted_together(t: Trial) -> None:
    spec = {"containers": [{"name": "token-test", "image": IMAGE}]}
    await _deleted_together(t, "v1/podtemplates", {"template": {"spec": spec}})


@check("Pods should delete a collection of pods")
async def pods_are_deleted_together(t: Trial) -> None:
    await _deleted_together(t, PODS, {"spec": pod_spec(nodeSelector=NOWHERE)})


async def _deleted_together(t: Trial, resource: str, body: Object) -> None:
    path, selector = at(resource, t.namespace), {"labelSelector": "type=Testing"}
    for number in range(3):
        await t.api.create(
            path, {"metadata": {"name": f"test-{number}", "labels": {"type": "Testing"}}, **body}
        )
    require(len(await t.api.items(path, **selector)) == 3, "not three are listed")
    await t.api.delete(path, {"gracePeriodSeconds": 1}, **selector)

    async def is_empty() -> bool:
        return not await t.api.items(path, **selector)

    await t.until("all are gone", is_empty)


# -------------------------------------------------------------------------------------------------- pods


@check("Pods should get a host IP")
async def a_pod_knows_its_hosts_address(t: Trial) -> None:
    await t.hosts()
    await t.api.create(at(PODS, t.namespace), pod("addressed"))
    found = await t.until_object(
        "it has a host's address", at(PODS, t.namespace, "addressed"), lambda one: one["status"].get("hostIP")
    )
    nodes = {one["metadata"]["name"]: one for one in await t.api.items(at("v1/nodes"))}
    addresses = [one["address"] for one in nodes[found["spec"]["nodeName"]]["status"]["addresses"]]
    require(found["status"]["hostIP"] in addresses, f"{found['status']['hostIP']} is not of {addresses}")


@check("Pods should be submitted and removed")
async def a_pod_comes_and_goes(t: Trial) -> None:
    await t.hosts()
    path = at(PODS, t.namespace)
    listed = await t.api.get(path, labelSelector="app=coming")
    require(listed["items"] == [], "there are pods already")
    version = listed["metadata"]["resourceVersion"]
    async with t.api.watch(path, labelSelector="app=coming", resourceVersion=version) as watch:
        await t.api.create(path, pod("coming"))
        await watch.expect("ADDED", name="coming")
        await until_running(t, "coming")
        await t.api.delete(f"{path}/coming", {"gracePeriodSeconds": 30})
        last = await watch.until("DELETED", "coming")
        require(last["metadata"].get("deletionTimestamp"), "the last state has no time of deletion")
        require(last["spec"]["terminationGracePeriodSeconds"], "the last state has no spec")
    await t.until_gone(f"{path}/coming")


@check("Pods should be updated")
async def a_pods_labels_are_updated(t: Trial) -> None:
    await t.hosts()
    await t.api.create(at(PODS, t.namespace), pod("updated"))
    await until_running(t, "updated")
    await _put_again(t, "updated", lambda one: one["metadata"]["labels"].update(time="later"))
    found = await t.api.items(at(PODS, t.namespace), labelSelector="time=later")
    require(len(found) == 1, "the new label does not select it")


async def _put_again(t: Trial, name: str, change: Any) -> Object:
    """Read, change, write; again when somebody else was faster."""
    path = at(PODS, t.namespace, name)

    async def once() -> Object | None:
        read = await t.api.get(path)
        change(read)
        answer = await t.api.call("PUT", path, read)
        require(answer.code in (200, 409), f"{answer.code} {answer.message}")
        return answer.body if answer.code == 200 else None

    found = await t.until(f"{name} is updated", once)
    assert found is not None
    return found


@check("Pods should allow activeDeadlineSeconds to be updated")
async def a_deadline_is_set_later(t: Trial) -> None:
    await t.hosts()
    await t.api.create(at(PODS, t.namespace), pod("deadline"))
    await until_running(t, "deadline")
    await _put_again(t, "deadline", lambda one: one["spec"].update(activeDeadlineSeconds=5))
    failed = await t.until_object(
        "it ends by its deadline",
        at(PODS, t.namespace, "deadline"),
        lambda one: one["status"].get("phase") == "Failed",
    )
    require(
        failed["status"].get("reason") == "DeadlineExceeded", f"it ended for {failed['status'].get('reason')}"
    )


@check("Pods should patch a pod status")
async def a_pods_status_is_patched(t: Trial) -> None:
    await t.api.create(at(PODS, t.namespace), pod("patched", nodeSelector=NOWHERE))
    patch = {
        "metadata": {"labels": {"status": "patched"}},
        "status": {"message": "Patched by a check", "reason": "E2E"},
    }
    patched = await t.api.patch(at(PODS, t.namespace, "patched", "status"), patch, MERGE_PATCH)
    require(patched["status"]["message"] == "Patched by a check", "the message was lost")
    require(patched["status"]["reason"] == "E2E", "the reason was lost")


@check("Pods should run through the lifecycle of Pods and PodStatus")
async def a_pods_life(t: Trial) -> None:
    await t.hosts()
    path = at(PODS, t.namespace)
    async with t.api.watch(path, labelSelector="app=life") as watch:
        await t.api.create(path, pod("life"))
        await watch.expect("ADDED", name="life")
        await until_running(t, "life")
        change = {
            "metadata": {"labels": {"patched": "yes"}},
            "spec": {"containers": [{"name": "main", "image": "other"}]},
        }
        await t.api.patch(f"{path}/life", change, STRATEGIC_PATCH)
        read = await t.api.get(f"{path}/life/status")
        require(read["spec"]["containers"][0]["image"] == "other", "the new image is not there")
        one = {"type": "Custom", "status": "False"}
        patched = await t.api.patch(f"{path}/life/status", {"status": {"conditions": [one]}}, STRATEGIC_PATCH)
        require(condition(patched, "Custom"), "a condition of the status was lost")
        listed = await t.api.items(at(PODS), labelSelector="app=life,patched=yes")
        require(len(listed) == 1, "it is not listed in all namespaces")
        await t.api.delete(path, {"gracePeriodSeconds": 1}, labelSelector="app=life")
        await watch.until("DELETED", "life")


@check("Pods Set QOS Class should be set on Pods with matching resource requests and limits", quick=True)
async def a_pods_class_of_service_is_set(t: Trial) -> None:
    obj = pod("guaranteed", nodeSelector=NOWHERE)
    amounts = {"cpu": "100m", "memory": "100Mi"}
    obj["spec"]["containers"][0]["resources"] = {"requests": amounts, "limits": amounts}
    made = await t.api.create(at(PODS, t.namespace), obj)
    require(made["status"]["qosClass"] == "Guaranteed", f"it is {made['status'].get('qosClass')}")


@check(
    "Pod Generation pod generation should start at 1 and increment per update",
    part="status.observedGeneration is not looked at",
)
async def a_pods_generation_counts(t: Trial) -> None:
    path = at(PODS, t.namespace, "counted")
    made = await t.api.create(at(PODS, t.namespace), pod("counted", nodeSelector=NOWHERE))
    require(made["metadata"]["generation"] == 1, f"it begins at {made['metadata'].get('generation')}")
    toleration = [{"op": "add", "path": "/spec/tolerations/-", "value": {"key": "a", "operator": "Exists"}}]
    for patch, kind, wanted in (
        (toleration, JSON_PATCH, 2),
        ({"spec": {"containers": [{"name": "main", "image": "other"}]}}, STRATEGIC_PATCH, 3),
        ({"metadata": {"labels": {"changes": "nothing"}}}, MERGE_PATCH, 3),
        ({"spec": {"activeDeadlineSeconds": 3000}}, MERGE_PATCH, 4),
    ):
        patched = await t.api.patch(path, patch, kind)
        found = patched["metadata"]["generation"]
        require(found == wanted, f"after {patch} it is {found}, not {wanted}")


@check("Pod Generation custom-set generation on new pods and graceful delete")
async def a_given_generation_is_not_taken(t: Trial) -> None:
    await t.hosts()
    obj = pod("given")
    obj["metadata"]["generation"] = 100
    obj["metadata"]["finalizers"] = ["conformance.example.com/hold"]
    made = await t.api.create(at(PODS, t.namespace), obj)
    require(made["metadata"]["generation"] == 1, f"it begins at {made['metadata']['generation']}")
    await until_running(t, "given")
    path = at(PODS, t.namespace, "given")
    await t.api.delete(path, {"gracePeriodSeconds": 30})
    read = await t.api.get(path)
    require(read["metadata"]["generation"] == 2, f"after its deletion it is {read['metadata']['generation']}")
    await t.api.patch(path, {"metadata": {"finalizers": None}})
    await t.until_gone(path)


# --------------------------------------------------------------------------------------- runtime classes


@check("RuntimeClass should reject a Pod requesting a non-existent RuntimeClass", quick=True)
async def an_unknown_class_is_refused(t: Trial) -> None:
    await t.api.refused(403, "POST", at(PODS, t.namespace), pod("unknown", runtimeClassName="nonexistent"))


async def _runtime_class(t: Trial, **more: Any) -> str:
    name = t.unique("class")
    t.leaves(at(CLASSES, "", name))
    await t.api.create(at(CLASSES), {"metadata": {"name": name}, "handler": "crun", **more})
    return name


@check("RuntimeClass should reject a Pod requesting a deleted RuntimeClass", quick=True)
async def a_deleted_class_is_refused(t: Trial) -> None:
    name = await _runtime_class(t)
    await t.api.delete(at(CLASSES, "", name))

    async def is_refused() -> bool:
        body = pod("deleted", runtimeClassName=name, nodeSelector=NOWHERE)
        return (await t.api.call("POST", at(PODS, t.namespace), body, query={"dryRun": "All"})).code == 403

    await t.until("pods of it are refused", is_refused)


@check("RuntimeClass should schedule a Pod requesting a RuntimeClass without PodOverhead", overhead=None)
@check(
    "RuntimeClass should schedule a Pod requesting a RuntimeClass and initialize its Overhead",
    overhead={"podFixed": {"cpu": "10m", "memory": "1Mi"}},
)
async def a_pod_of_a_class_is_scheduled(t: Trial, overhead: Object | None) -> None:
    await t.hosts()
    name = await _runtime_class(t, **({"overhead": overhead} if overhead else {}))
    made = await t.api.create(at(PODS, t.namespace), pod("classed", runtimeClassName=name))
    require(
        made["spec"].get("overhead") == (overhead or {}).get("podFixed"),
        f"it has {made['spec'].get('overhead')}",
    )
    await t.until_object(
        "it is scheduled",
        at(PODS, t.namespace, "classed"),
        lambda one: condition(one, "PodScheduled").get("status") == "True",
    )


@check("RuntimeClass should support RuntimeClasses API operations", quick=True)
async def runtime_classes_are_kept(t: Trial) -> None:
    obj = {"metadata": {"name": t.unique("class")}, "handler": "crun"}
    await lifecycle(t, CLASSES, obj, namespaced=False)


# ----------------------------------------------------------------------------------------------- taints


@check("NoExecuteTaintManager Single Pod removing taint cancels eviction", serial=True)
async def a_removed_taint_evicts_nobody(t: Trial) -> None:
    host = (await t.hosts())[0]["metadata"]["name"]
    toleration = {"key": "kubernetes.io/e2e-evict-taint-key", "operator": "Exists", "effect": "NoExecute"}
    obj = pod("stays", tolerations=[{**toleration, "tolerationSeconds": 20}], nodeName=host)
    await t.api.create(at(PODS, t.namespace), obj)
    await until_running(t, "stays")
    await _taint(t, host, True)
    try:
        await asyncio.sleep(5)
    finally:
        await _taint(t, host, False)
    await asyncio.sleep(20)
    read = await t.api.get(at(PODS, t.namespace, "stays"))
    require("deletionTimestamp" not in read["metadata"], "it was evicted although the taint was removed")


@check("NoExecuteTaintManager Multiple Pods evicts pods with minTolerationSeconds", serial=True)
async def each_pod_is_evicted_after_its_time(t: Trial) -> None:
    host = (await t.hosts())[0]["metadata"]["name"]
    toleration = {"key": "kubernetes.io/e2e-evict-taint-key", "operator": "Exists", "effect": "NoExecute"}
    for name, seconds in (("sooner", 5), ("later", 15)):
        obj = pod(name, tolerations=[{**toleration, "tolerationSeconds": seconds}], nodeName=host)
        await t.api.create(at(PODS, t.namespace), obj)
        await until_running(t, name)
    await _taint(t, host, True)
    try:
        await t.until_gone(at(PODS, t.namespace, "sooner"))
        await t.until_gone(at(PODS, t.namespace, "later"))
    finally:
        await _taint(t, host, False)


async def _taint(t: Trial, host: str, is_there: bool) -> None:
    key = "kubernetes.io/e2e-evict-taint-key"
    one: Object = {"key": key, "value": "evictTaintVal", "effect": "NoExecute"}
    path = at("v1/nodes", "", host)
    others = [taint for taint in (await t.api.get(path))["spec"].get("taints") or () if taint["key"] != key]
    taints = [*others, one] if is_there else others
    await t.api.patch(path, {"spec": {"taints": taints or None}}, MERGE_PATCH)


# -------------------------------------------------------------------------------------- dynamic resources


@check("[DRA] CRUD Tests resource.k8s.io/v1 DeviceClass", quick=True)
async def device_classes_are_kept(t: Trial) -> None:
    obj = {"metadata": {"name": t.unique("class")}, "spec": {"selectors": [{"cel": {"expression": "true"}}]}}
    await lifecycle(t, "resource.k8s.io/v1/deviceclasses", obj, namespaced=False)


_DEVICES = {"requests": [{"name": "one", "exactly": {"deviceClassName": "class"}}]}


@check("[DRA] CRUD Tests resource.k8s.io/v1 ResourceClaim [Conformance]", quick=True)
async def claims_are_kept(t: Trial) -> None:
    obj = {"metadata": {"name": "kept"}, "spec": {"devices": _DEVICES}}
    allocation = {
        "devices": {"results": [{"request": "one", "driver": "d.example.com", "pool": "p", "device": "x"}]}
    }
    await lifecycle(t, "resource.k8s.io/v1/resourceclaims", obj)
    await t.api.create(at("resource.k8s.io/v1/resourceclaims", t.namespace), obj)
    path = at("resource.k8s.io/v1/resourceclaims", t.namespace, "kept", "status")
    patched = await t.api.patch(path, {"status": {"allocation": allocation}}, MERGE_PATCH)
    require(patched["status"]["allocation"]["devices"]["results"][0]["device"] == "x", "the status was lost")


@check("[DRA] CRUD Tests resource.k8s.io/v1 ResourceClaimTemplate", quick=True)
async def claim_templates_are_kept(t: Trial) -> None:
    obj = {"metadata": {"name": "kept"}, "spec": {"spec": {"devices": _DEVICES}}}
    await lifecycle(t, "resource.k8s.io/v1/resourceclaimtemplates", obj)


@check("[DRA] CRUD Tests resource.k8s.io/v1 ResourceSlice", quick=True)
async def slices_are_kept(t: Trial) -> None:
    pool = {"name": "pool", "generation": 1, "resourceSliceCount": 1}
    spec = {"driver": "d.example.com", "pool": pool, "nodeName": "node", "devices": [{"name": "x"}]}
    obj = {"metadata": {"name": t.unique("slice")}, "spec": spec}
    await lifecycle(t, "resource.k8s.io/v1/resourceslices", obj, namespaced=False)
