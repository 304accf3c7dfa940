"""sig-apps: Deployments, ReplicaSets and ReplicationControllers."""

from __future__ import annotations

from typing import Any

from tests.conformance.api import MERGE_PATCH, STRATEGIC_PATCH, CheckError, Object, at
from tests.conformance.checks.common import (
    IMAGE,
    condition,
    is_ready,
    pod,
    pods_of,
    template,
    until_pods,
    until_rolled_out,
    workload,
)
from tests.conformance.checks.machinery_quota import quota
from tests.conformance.harness import Trial, check, require

DEPLOYMENTS = "apps/v1/deployments"
SETS = "apps/v1/replicasets"
CONTROLLERS = "v1/replicationcontrollers"
REVISION = "deployment.kubernetes.io/revision"


def controller(name: str, replicas: int = 1, **spec: Any) -> Object:
    made = {"replicas": replicas, "selector": {"app": name}, "template": template(name), **spec}
    return {"metadata": {"name": name, "labels": {"app": name}}, "spec": made}


async def _sets_of(t: Trial, app: str) -> list[Object]:
    found = await t.api.items(at(SETS, t.namespace), labelSelector=f"app={app}")
    return sorted(found, key=lambda one: int(one["metadata"]["annotations"].get(REVISION, "0")))


async def _change_image(t: Trial, name: str, image: str) -> None:
    change = {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": image}]}}}}
    await t.api.patch(at(DEPLOYMENTS, t.namespace, name), change, STRATEGIC_PATCH)


def _image(obj: Object) -> str:
    spec = obj["spec"].get("template", obj)["spec"]
    return str(spec["containers"][0]["image"])


@check("RollingUpdateDeployment should delete old pods and create new ones")
async def a_rolling_update_replaces_adopted_pods(t: Trial) -> None:
    await t.hosts()
    old = workload("rolling", 1)
    await t.api.create(at(SETS, t.namespace), old)
    await until_pods(t, "rolling", 1)
    new = workload("rolling", 1)
    new["spec"]["template"]["spec"]["containers"][0]["image"] = "registry.example.com/new:1"
    await t.api.create(at(DEPLOYMENTS, t.namespace), new)
    await until_rolled_out(t, "rolling")
    sets = await t.api.items(at(SETS, t.namespace), labelSelector="app=rolling")
    require(len(sets) == 2, f"{len(sets)} ReplicaSets, not the adopted one and the new one")
    (kept,) = await until_pods(t, "rolling", 1)
    require(_image(kept).endswith("new:1"), "the old pod is left")
    adopted = next(one for one in sets if one["metadata"]["name"] == "rolling")
    require(adopted["spec"]["replicas"] == 0, "the adopted ReplicaSet is not scaled down")


@check("RecreateDeployment should delete old pods and create new ones")
async def recreate_never_runs_both(t: Trial) -> None:
    await t.hosts()
    await t.api.create(at(DEPLOYMENTS, t.namespace), workload("recreated", 2, strategy={"type": "Recreate"}))
    await until_rolled_out(t, "recreated")
    path = at("v1/pods", t.namespace)
    listed = await t.api.get(path, labelSelector="app=recreated")
    alive = {one["metadata"]["name"]: _image(one) for one in listed["items"]}
    version = listed["metadata"]["resourceVersion"]
    async with t.api.watch(path, labelSelector="app=recreated", resourceVersion=version) as watch:
        await _change_image(t, "recreated", "registry.example.com/new:1")
        added = 0
        while added < 2:
            event = await watch.next()
            name = event["object"]["metadata"]["name"]
            if event["type"] == "DELETED":
                alive.pop(name, None)
            elif event["type"] == "ADDED":
                added += 1
                require(not alive, f"a new pod was made while {list(alive)} were there")
    await until_rolled_out(t, "recreated")


@check("deployment should delete old replica sets")
async def old_revisions_are_cleaned_up(t: Trial) -> None:
    await t.hosts()
    await t.api.create(at(DEPLOYMENTS, t.namespace), workload("history", 1, revisionHistoryLimit=0))
    await until_rolled_out(t, "history")
    await _change_image(t, "history", "registry.example.com/new:1")
    await until_rolled_out(t, "history")

    async def only_one() -> bool:
        return len(await _sets_of(t, "history")) == 1

    await t.until("the old ReplicaSet is gone", only_one)


@check("deployment should support rollover")
async def a_newer_rollout_overtakes(t: Trial) -> None:
    await t.hosts()
    await t.api.create(at(DEPLOYMENTS, t.namespace), workload("rollover", 1, minReadySeconds=1))
    await until_rolled_out(t, "rollover")
    never = {"spec": {"template": {"metadata": {"annotations": {"hollow.gitkube.dev/ready": "false"}}}}}
    never["spec"]["template"]["spec"] = {
        "containers": [{"name": "main", "image": "registry.invalid/never:1"}]
    }
    await t.api.patch(at(DEPLOYMENTS, t.namespace, "rollover"), never, STRATEGIC_PATCH)

    async def has_two() -> bool:
        return len(await _sets_of(t, "rollover")) == 2

    await t.until("the stuck rollout has begun", has_two)
    good = {"spec": {"template": {"metadata": {"annotations": {"hollow.gitkube.dev/ready": None}}}}}
    good["spec"]["template"]["spec"] = {"containers": [{"name": "main", "image": IMAGE + ".1"}]}
    await t.api.patch(at(DEPLOYMENTS, t.namespace, "rollover"), good, STRATEGIC_PATCH)
    await until_rolled_out(t, "rollover")
    counts = {_image(one): one["spec"]["replicas"] for one in await _sets_of(t, "rollover")}
    require(counts[IMAGE + ".1"] == 1 and sum(counts.values()) == 1, f"the ReplicaSets have {counts}")


@check("deployment should support proportional scaling")
async def scaling_during_a_rollout_is_proportional(t: Trial) -> None:
    await t.hosts()
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}
    await t.api.create(at(DEPLOYMENTS, t.namespace), workload("scaled", 10, strategy=strategy))
    await until_rolled_out(t, "scaled")
    stuck = template("scaled", {"hollow.gitkube.dev/ready": "false"})
    stuck["spec"]["containers"][0]["image"] = "registry.invalid/never:404"
    await t.api.patch(at(DEPLOYMENTS, t.namespace, "scaled"), {"spec": {"template": stuck}}, STRATEGIC_PATCH)

    def sizes(sets: list[Object]) -> list[int]:
        return [one["spec"]["replicas"] for one in sets]

    async def is_stuck() -> bool:
        return sizes(await _sets_of(t, "scaled")) == [8, 5]

    await t.until("the rollout stands at 8 old and 5 new", is_stuck)
    await t.api.patch(at(DEPLOYMENTS, t.namespace, "scaled"), {"spec": {"replicas": 30}})

    async def is_proportional() -> bool:
        return sizes(await _sets_of(t, "scaled")) == [20, 13]

    await t.until("30 replicas and 3 in surplus are 20 old and 13 new", is_proportional)


@check("Deployment Deployment should have a working scale subresource", resource=DEPLOYMENTS)
@check("Replicaset should have a working scale subresource", resource=SETS)
@check("should get and update a ReplicationController scale", resource=CONTROLLERS)
async def scale_is_a_door_of_its_own(t: Trial, resource: str) -> None:
    obj = controller("scale", 1) if resource == CONTROLLERS else workload("scale", 1)
    await t.api.create(at(resource, t.namespace), obj)
    path = at(resource, t.namespace, "scale", "scale")
    scale = await t.api.get(path)
    require((scale["kind"], scale["spec"]["replicas"]) == ("Scale", 1), f"the scale is {scale}")
    scale["spec"]["replicas"] = 2
    scale["metadata"].pop("resourceVersion")  # a controller may write at the same time
    updated = await t.api.put(path, scale)
    require(updated["spec"]["replicas"] == 2, "an update of the scale was lost")
    await until_pods(t, "scale", 2)
    patched = await t.api.patch(path, {"spec": {"replicas": 4}}, MERGE_PATCH)
    require(patched["spec"]["replicas"] == 4, "a patch of the scale was lost")
    read = await t.api.get(at(resource, t.namespace, "scale"))
    require(read["spec"]["replicas"] == 4, "the scale is not the object's")
    await until_pods(t, "scale", 4)


@check("Deployment should run the lifecycle of a Deployment")
async def a_deployments_life(t: Trial) -> None:
    await t.hosts()
    mark = t.unique("life")
    obj = workload("life", 2)
    obj["metadata"]["labels"] = {mark: "true"}
    path = at(DEPLOYMENTS, t.namespace, "life")
    async with t.api.watch(at(DEPLOYMENTS, t.namespace), labelSelector=f"{mark}=true") as watch:
        await t.api.create(at(DEPLOYMENTS, t.namespace), obj)
        await watch.expect("ADDED", name="life")
        await until_rolled_out(t, "life")
        await t.api.patch(
            path, {"spec": {"replicas": 1}, "metadata": {"labels": {"patched": "yes"}}}, STRATEGIC_PATCH
        )
        await until_rolled_out(t, "life")
        listed = await t.api.items(at(DEPLOYMENTS), labelSelector=f"{mark}=true")
        require([one["metadata"]["name"] for one in listed] == ["life"], "it is not listed in all namespaces")
        read = await t.api.get(path)
        read["spec"]["template"]["spec"]["containers"][0]["image"] = "registry.example.com/updated:1"
        read["spec"]["replicas"] = 2
        read["metadata"].pop("resourceVersion")  # its controller may write at the same time
        await t.api.put(path, read)
        await until_rolled_out(t, "life")
        patch = {"status": {"readyReplicas": 0, "availableReplicas": 0}}
        await t.api.patch(f"{path}/status", patch, MERGE_PATCH)
        await t.until_object(
            "the controller counts again", path, lambda one: one["status"].get("readyReplicas") == 2
        )
        await t.api.delete(at(DEPLOYMENTS, t.namespace), labelSelector=f"{mark}=true")
        await watch.until("DELETED", "life")


@check("should validate Deployment Status endpoints", resource=DEPLOYMENTS)
@check("should validate Replicaset Status endpoints", resource=SETS)
async def the_status_is_a_door_of_its_own(t: Trial, resource: str) -> None:
    await t.api.create(at(resource, t.namespace), workload("status", 1))
    path = at(resource, t.namespace, "status", "status")

    async def write(kind: str) -> Object:
        """Read, add a condition, write; again when a controller was faster."""
        for _ in range(20):
            read = await t.api.get(path)
            one = {"type": kind, "status": "True", "reason": "E2E", "message": "Set from a check"}
            read["status"]["conditions"] = [*(read["status"].get("conditions") or []), one]
            answer = await t.api.call("PUT", path, read)
            if answer.code != 409:
                break
        require(answer.code == 200, f"{answer.code} {answer.message}")
        written: Object = answer.body
        return written

    written = await write("StatusUpdate")
    require(condition(written, "StatusUpdate").get("reason") == "E2E", "an update of the status was lost")
    one = {"type": "StatusPatched", "status": "True"}
    patched = await t.api.patch(path, {"status": {"conditions": [one]}}, MERGE_PATCH)
    require(condition(patched, "StatusPatched"), "a patch of the status was lost")
    read = await t.api.get(path)
    require("status" in read and read["kind"] in ("Deployment", "ReplicaSet"), "the status cannot be read")


# -------------------------------------------------------------------------------------- one generation


@check("ReplicaSet should serve a basic image on each replica with a public image", resource=SETS)
@check(
    "ReplicationController should serve a basic image on each replica with a public image",
    resource=CONTROLLERS,
)
async def as_many_pods_run_as_are_wanted(t: Trial, resource: str) -> None:
    await t.hosts()
    obj = controller("serving", 2) if resource == CONTROLLERS else workload("serving", 2)
    await t.api.create(at(resource, t.namespace), obj)

    async def both_run() -> bool:
        pods = await pods_of(t, "serving")
        return len(pods) == 2 and all(is_ready(one) and one["status"].get("podIP") for one in pods)

    await t.until("two pods run and have addresses", both_run)


@check("should adopt matching pods on creation and release no longer matching pods", resource=SETS)
@check("ReplicationController should adopt matching pods on creation", resource=CONTROLLERS)
async def matching_pods_are_adopted(t: Trial, resource: str) -> None:
    path = at("v1/pods", t.namespace, "orphan")
    await t.api.create(at("v1/pods", t.namespace), pod("orphan", {"app": "adopting"}))
    obj = controller("adopting") if resource == CONTROLLERS else workload("adopting")
    await t.api.create(at(resource, t.namespace), obj)
    await t.until_object("the pod is adopted", path, lambda one: _owner(one) == "adopting")
    if resource == SETS:
        await t.api.patch(path, {"metadata": {"labels": {"app": "released"}}})
        await t.until_object("the pod is released", path, lambda one: not _owner(one))


def _owner(obj: Object) -> str:
    owners = obj["metadata"].get("ownerReferences") or []
    return str(owners[0]["name"]) if owners else ""


@check("ReplicationController should release no longer matching pods")
async def a_pod_that_matches_no_more_is_released(t: Trial) -> None:
    await t.api.create(at(CONTROLLERS, t.namespace), controller("releasing"))
    (one,) = await until_pods(t, "releasing", 1)
    path = at("v1/pods", t.namespace, one["metadata"]["name"])
    await t.api.patch(path, {"metadata": {"labels": {"app": "released"}}})
    await t.until_object("the pod is released", path, lambda one: not _owner(one))
    await until_pods(t, "releasing", 1)


@check("should surface a failure condition on a common issue like exceeded quota")
async def what_hinders_is_a_condition(t: Trial) -> None:
    await quota(t, "condition", {"pods": "2"})
    path = at(CONTROLLERS, t.namespace, "hindered")
    await t.api.create(at(CONTROLLERS, t.namespace), controller("hindered", 3))
    await t.until_object(
        "it says that pods cannot be made",
        path,
        lambda one: condition(one, "ReplicaFailure").get("status") == "True",
    )
    await t.api.patch(path, {"spec": {"replicas": 2}})
    await t.until_object("it says so no more", path, lambda one: not condition(one, "ReplicaFailure"))


@check("ReplicationController should test the lifecycle of a ReplicationController")
async def a_controllers_life(t: Trial) -> None:
    await t.hosts()
    path = at(CONTROLLERS, t.namespace, "life")
    async with t.api.watch(at(CONTROLLERS, t.namespace), labelSelector="app=life") as watch:
        await t.api.create(at(CONTROLLERS, t.namespace), controller("life"))
        await watch.expect("ADDED", name="life")
        await t.until_object("its pod is ready", path, lambda one: one["status"].get("readyReplicas") == 1)
        await t.api.patch(path, {"metadata": {"labels": {"patched": "yes"}}})
        await t.api.patch(
            f"{path}/status", {"status": {"readyReplicas": 0, "availableReplicas": 0}}, MERGE_PATCH
        )
        scale = await t.api.patch(f"{path}/scale", {"spec": {"replicas": 2}}, MERGE_PATCH)
        require(scale["spec"]["replicas"] == 2, "it is not scaled")
        await t.until_object("two pods are ready", path, lambda one: one["status"].get("readyReplicas") == 2)
        read = await t.api.get(path)
        require(read["metadata"]["labels"]["patched"] == "yes", "a patch was lost")
        listed = await t.api.items(at(CONTROLLERS), labelSelector="app=life,patched=yes")
        require(len(listed) >= 1, "it is not listed in all namespaces")
        await t.api.delete(at(CONTROLLERS, t.namespace), labelSelector="app=life")
        await watch.until("DELETED", "life")


@check("ReplicaSet should list and delete a collection of ReplicaSets")
async def replica_sets_are_deleted_together(t: Trial) -> None:
    mark = t.unique("sets")
    for number in range(3):
        obj = workload(f"set-{number}", 1)
        obj["metadata"]["labels"] = {"conformance": mark}
        await t.api.create(at(SETS, t.namespace), obj)
    listed = await t.api.items(at(SETS), labelSelector=f"conformance={mark}")
    require(len(listed) == 3, f"{len(listed)} of 3 are listed in all namespaces")
    await t.api.delete(at(SETS, t.namespace), labelSelector=f"conformance={mark}")

    async def is_empty() -> bool:
        return not await t.api.items(at(SETS), labelSelector=f"conformance={mark}")

    await t.until("all are gone", is_empty)


@check("ReplicaSet Replace and Patch tests")
async def a_replica_set_is_replaced_and_patched(t: Trial) -> None:
    await t.hosts()
    path = at(SETS, t.namespace, "patched")
    await t.api.create(at(SETS, t.namespace), workload("patched", 1))
    await t.until_object("its pod is ready", path, lambda one: one["status"].get("readyReplicas") == 1)

    async def replaced() -> bool:
        read = await t.api.get(path)
        read["spec"]["replicas"] = 2
        answer = await t.api.call("PUT", path, read)
        if answer.code not in (200, 409):
            raise CheckError(f"PUT: {answer.code} {answer.message}")
        return answer.code == 200

    await t.until("it is replaced", replaced)
    await t.until_object("two pods are ready", path, lambda one: one["status"].get("readyReplicas") == 2)
    change = {
        "metadata": {"labels": {"test-rs": "patched"}},
        "spec": {"replicas": 3, "template": {"spec": {"containers": [{"name": "main", "image": "other"}]}}},
    }
    await t.api.patch(path, change, STRATEGIC_PATCH)
    await t.until_object("three pods are ready", path, lambda one: one["status"].get("readyReplicas") == 3)
    images = sorted(_image(one) for one in await until_pods(t, "patched", 3))
    require(images == ["other", IMAGE, IMAGE], f"the pods run {images}")
