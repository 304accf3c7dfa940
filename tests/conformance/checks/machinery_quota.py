"""sig-api-machinery: ResourceQuotas count what there is, and refuse what would be too much."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from tests.conformance.api import MERGE_PATCH, Object, at
from tests.conformance.checks.common import IMAGE, config_map, template, workload
from tests.conformance.harness import Trial, check, require

QUOTAS = "v1/resourcequotas"
HARD = {
    "pods": "5", "services": "10", "services.nodeports": "1", "services.loadbalancers": "1",
    "replicationcontrollers": "10", "resourcequotas": "1", "configmaps": "10", "secrets": "10",
    "persistentvolumeclaims": "10", "cpu": "1", "memory": "500Mi", "requests.storage": "10Gi",
    "count/replicasets.apps": "5",
}  # fmt: skip


async def quota(
    t: Trial, name: str = "test-quota", hard: dict[str, str] | None = None, **spec: object
) -> str:
    """Make a quota and wait until it counts; its path."""
    obj = {"metadata": {"name": name}, "spec": {"hard": hard or HARD, **spec}}
    await t.api.create(at(QUOTAS, t.namespace), obj)
    path = at(QUOTAS, t.namespace, name)
    wanted = set(hard or HARD)
    await t.until_object(
        "the quota is counted", path, lambda one: set((one.get("status") or {}).get("used") or ()) == wanted
    )
    return path


async def until_used(t: Trial, path: str, **used: str) -> None:
    """Wait until the quota counts so; underscores stand for dots."""
    wanted = {name.replace("__", "/").replace("_", "."): count for name, count in used.items()}
    await t.until_object(
        f"the quota counts {wanted}",
        path,
        lambda one: all(one["status"]["used"].get(name) == count for name, count in wanted.items()),
    )


@check(
    "ResourceQuota should create a ResourceQuota and ensure its status is promptly calculated.", quick=True
)
async def a_quota_is_counted(t: Trial) -> None:
    path = await quota(t)
    await until_used(t, path, pods="0", resourcequotas="1", cpu="0")


@contextlib.asynccontextmanager
async def _life(t: Trial, resource: str, obj: Object, before: str, **used: str) -> AsyncIterator[str]:
    """What is made is counted; inside the block it is there, after it it is gone and counted no more."""
    path = await quota(t)
    field, count = next(iter(used.items()))
    name = field.replace("__", "/").replace("_", ".")
    await until_used(t, path, **{field: before})
    await t.api.create(at(resource, t.namespace), obj)
    await until_used(t, path, **used)
    yield path
    await t.api.delete(
        at(resource, t.namespace, obj["metadata"]["name"]), {"propagationPolicy": "Background"}
    )
    await until_used(t, path, **{field: before})
    require(name and count, "nothing was counted")


async def _count(t: Trial, resource: str) -> int:
    return len(await t.api.items(at(resource, t.namespace)))


@check("ResourceQuota should create a ResourceQuota and capture the life of a configMap.")
async def config_maps_are_counted(t: Trial) -> None:
    present = await _count(t, "v1/configmaps")
    used = {"configmaps": str(present + 1)}
    async with _life(t, "v1/configmaps", config_map("counted"), str(present), **used):
        pass


@check("ResourceQuota should create a ResourceQuota and capture the life of a secret.")
async def secrets_are_counted(t: Trial) -> None:
    present = await _count(t, "v1/secrets")
    secret = {"metadata": {"name": "counted"}, "stringData": {"a": "b"}}
    async with _life(t, "v1/secrets", secret, str(present), secrets=str(present + 1)):
        pass


@check("ResourceQuota should create a ResourceQuota and capture the life of a service.")
async def services_are_counted(t: Trial) -> None:
    def service(name: str, kind: str) -> Object:
        return {"metadata": {"name": name}, "spec": {"type": kind, "ports": [{"port": 80}]}}

    async with _life(t, "v1/services", service("one", "ClusterIP"), "0", services="1") as path:
        await t.api.create(at("v1/services", t.namespace), service("two", "NodePort"))
        await until_used(t, path, services="2", services_nodeports="1", services_loadbalancers="0")
        await t.api.refused(403, "POST", at("v1/services", t.namespace), service("three", "NodePort"))
        await t.api.delete(at("v1/services", t.namespace, "two"))
        await until_used(t, path, services="1", services_nodeports="0")


@check("ResourceQuota should create a ResourceQuota and capture the life of a replica set.")
async def replica_sets_are_counted(t: Trial) -> None:
    used = {"count__replicasets_apps": "1"}
    async with _life(t, "apps/v1/replicasets", workload("counted", 0), "0", **used):
        pass


@check("ResourceQuota should create a ResourceQuota and capture the life of a replication controller.")
async def controllers_are_counted(t: Trial) -> None:
    spec = {"replicas": 0, "selector": {"app": "counted"}, "template": template("counted")}
    obj = {"metadata": {"name": "counted"}, "spec": spec}
    async with _life(t, "v1/replicationcontrollers", obj, "0", replicationcontrollers="1"):
        pass


def _pod(name: str, cpu: str = "", memory: str = "", **spec: object) -> Object:
    container: Object = {"name": "main", "image": IMAGE}
    if cpu:
        container["resources"] = {"requests": {"cpu": cpu, "memory": memory}}
    return {
        "metadata": {"name": name},
        # No host has this label, so the pod is counted and never started.
        "spec": {
            "containers": [container],
            "terminationGracePeriodSeconds": 0,
            "nodeSelector": {"conformance": "nowhere"},
            **spec,
        },
    }


@check("ResourceQuota should create a ResourceQuota and capture the life of a pod.")
async def pods_are_counted(t: Trial) -> None:
    pods = at("v1/pods", t.namespace)
    async with _life(t, "v1/pods", _pod("fits", "500m", "252Mi"), "0", pods="1", cpu="500m") as path:
        await until_used(t, path, memory="252Mi")
        refused = await t.api.refused(403, "POST", pods, _pod("too-much", "600m", "100Mi"))
        require("exceeded quota: test-quota" in refused.message, f"it says {refused.message!r}")
        without = await t.api.refused(403, "POST", pods, _pod("says-nothing"))
        require("must specify" in without.message, f"it says {without.message!r}")
        await t.api.patch(f"{pods}/fits", {"metadata": {"labels": {"updated": "true"}}})
        await until_used(t, path, pods="1", cpu="500m")


@check("ResourceQuota should verify ResourceQuota with best effort scope.")
async def a_quota_of_best_effort_pods(t: Trial) -> None:
    await _scoped(t, ("BestEffort", _pod("scoped")), ("NotBestEffort", _pod("scoped", "100m", "10Mi")))


@check("ResourceQuota should verify ResourceQuota with terminating scopes.")
async def a_quota_of_terminating_pods(t: Trial) -> None:
    ending = _pod("scoped", activeDeadlineSeconds=3600)
    await _scoped(t, ("Terminating", ending), ("NotTerminating", _pod("scoped")))


async def _scoped(t: Trial, *cases: tuple[str, Object]) -> None:
    """A pod of each scope is counted by its quota and by no other."""
    paths = {
        scope: await quota(t, f"quota-{scope.lower()}", {"pods": "5"}, scopes=[scope]) for scope, _ in cases
    }
    for scope, obj in cases:
        await t.api.create(at("v1/pods", t.namespace), obj)
        await until_used(t, paths[scope], pods="1")
        for other, path in paths.items():
            if other != scope:
                await until_used(t, path, pods="0")
        await t.api.delete(at("v1/pods", t.namespace, obj["metadata"]["name"]))
        await until_used(t, paths[scope], pods="0")


@check("ResourceQuota should be able to update and delete ResourceQuota.", quick=True)
async def a_quota_is_updated_and_deleted(t: Trial) -> None:
    path = at(QUOTAS, t.namespace, "changing")
    await t.api.create(
        at(QUOTAS, t.namespace),
        {"metadata": {"name": "changing"}, "spec": {"hard": {"cpu": "1", "memory": "500Mi"}}},
    )
    read = await t.api.get(path)
    read["spec"]["hard"] = {"cpu": "2", "memory": "1Gi"}
    read["metadata"].pop("resourceVersion")  # the quota's controller may write at the same time
    updated = await t.api.put(path, read)
    require(updated["spec"]["hard"] == {"cpu": "2", "memory": "1Gi"}, f"it has {updated['spec']}")
    await t.api.delete(path)
    await t.until_gone(path)


@check("ResourceQuota should manage the lifecycle of a ResourceQuota")
async def a_quotas_life(t: Trial) -> None:
    mark = t.unique("quota")
    path = at(QUOTAS, t.namespace, "life")
    obj = {
        "metadata": {"name": "life", "labels": {mark: "test"}},
        "spec": {"hard": {"cpu": "1", "memory": "500Mi"}},
    }
    await t.api.create(at(QUOTAS, t.namespace), obj)
    require((await t.api.get(path))["spec"]["hard"]["cpu"] == "1", "the limit is another")
    listed = await t.api.items(at(QUOTAS), labelSelector=f"{mark}=test")
    require(len(listed) == 1, f"{len(listed)} are listed in all namespaces")
    patched = await t.api.patch(
        path, {"metadata": {"labels": {mark: "patched"}}, "spec": {"hard": {"memory": "750Mi"}}}
    )
    require(patched["spec"]["hard"] == {"cpu": "1", "memory": "750Mi"}, f"it has {patched['spec']}")
    await t.api.delete(at(QUOTAS, t.namespace), labelSelector=f"{mark}=patched")
    await t.until_gone(path)


@check("ResourceQuota should apply changes to a resourcequota status")
async def a_quotas_status_is_changed(t: Trial) -> None:
    path = await quota(t, hard={"cpu": "500m", "memory": "500Mi"})
    patched = await t.api.patch(f"{path}/status", {"status": {"hard": {"services": "10"}}}, MERGE_PATCH)
    require(patched["status"]["hard"].get("services") == "10", f"the status is {patched['status']}")
    await t.until_object(
        "the controller puts the status right again",
        path,
        lambda one: one["status"]["hard"] == {"cpu": "500m", "memory": "500Mi"},
    )
