"""sig-scheduling, sig-architecture: which host a pod gets, limits of a namespace, priority classes."""

from __future__ import annotations

from tests.conformance.api import STRATEGIC_PATCH, Object, at
from tests.conformance.checks.common import IMAGE, condition, lifecycle, pod, until_running
from tests.conformance.harness import Trial, check, require

PODS = "v1/pods"
LIMITS = "v1/limitranges"
LABEL = "conformance.example.com/host"


@check("Conformance Tests should have at least two untainted nodes", quick=False)
async def there_are_two_hosts(t: Trial) -> None:
    await t.hosts(2)


@check("SchedulerPredicates validates that NodeSelector is respected if matching", serial=True)
async def a_selector_finds_its_host(t: Trial) -> None:
    host = (await t.hosts(2))[1]["metadata"]["name"]
    await t.api.patch(at("v1/nodes", "", host), {"metadata": {"labels": {LABEL: "42"}}}, STRATEGIC_PATCH)
    try:
        await t.api.create(at(PODS, t.namespace), pod("selects", nodeSelector={LABEL: "42"}))
        found = await until_running(t, "selects")
        require(found["spec"]["nodeName"] == host, f"it runs on {found['spec']['nodeName']}, not on {host}")
    finally:
        await t.api.patch(at("v1/nodes", "", host), {"metadata": {"labels": {LABEL: None}}}, STRATEGIC_PATCH)


async def _until_unschedulable(t: Trial, name: str) -> Object:
    return await t.until_object(
        f"{name} is unschedulable",
        at(PODS, t.namespace, name),
        lambda one: condition(one, "PodScheduled").get("reason") == "Unschedulable",
    )


@check("SchedulerPredicates validates that NodeSelector is respected if not matching")
async def a_selector_finds_no_host(t: Trial) -> None:
    await t.hosts()
    await t.api.create(at(PODS, t.namespace), pod("selects", nodeSelector={"label": "nonempty"}))
    await _until_unschedulable(t, "selects")


@check("SchedulerPredicates validates resource limits of pods that are allowed to run", serial=True)
async def what_does_not_fit_waits(t: Trial) -> None:
    hosts = await t.hosts()
    host = hosts[0]
    taken = 0
    for one in await t.api.items(at(PODS), fieldSelector=f"spec.nodeName={host['metadata']['name']}"):
        for container in one["spec"]["containers"]:
            taken += _millis(((container.get("resources") or {}).get("requests") or {}).get("cpu", "0"))
    free = _millis(host["status"]["allocatable"]["cpu"]) - taken
    selector = {"kubernetes.io/hostname": host["metadata"]["labels"]["kubernetes.io/hostname"]}
    for name, share in (("fills", 0.7), ("too-much", 0.5)):
        obj = pod(name, nodeSelector=selector)
        obj["spec"]["containers"][0]["resources"] = {"requests": {"cpu": f"{int(free * share)}m"}}
        await t.api.create(at(PODS, t.namespace), obj)
        if name == "fills":
            await until_running(t, name)
    waiting = await _until_unschedulable(t, "too-much")
    message = condition(waiting, "PodScheduled")["message"]
    require("cpu" in message.lower(), f"it does not say what is short: {message}")


def _millis(cpu: str) -> int:
    return int(cpu[:-1]) if cpu.endswith("m") else int(float(cpu) * 1000)


@check(
    "SchedulerPredicates validates that there exists conflict between pods with same hostPort and protocol"
)
async def a_port_of_a_host_is_taken_once(t: Trial) -> None:
    host = (await t.hosts())[0]
    selector = {"kubernetes.io/hostname": host["metadata"]["labels"]["kubernetes.io/hostname"]}
    for name, address in (("first", ""), ("second", "127.0.0.1")):
        port: Object = {"containerPort": 80, "hostPort": 54322, "protocol": "TCP"}
        if address:
            port["hostIP"] = address
        obj = pod(name, nodeSelector=selector)
        obj["spec"]["containers"] = [{"name": "main", "image": IMAGE, "ports": [port]}]
        await t.api.create(at(PODS, t.namespace), obj)
        if name == "first":
            await t.until_object(
                "the first has a host", at(PODS, t.namespace, name), lambda one: one["spec"].get("nodeName")
            )
    await _until_unschedulable(t, "second")


@check(
    "LimitRange should create a LimitRange with defaults and ensure pod has those defaults applied.",
    quick=True,
)
async def limits_are_filled_in_and_kept(t: Trial) -> None:
    item = {
        "type": "Container",
        "min": {"cpu": "50m", "memory": "100Mi"},
        "max": {"cpu": "500m", "memory": "500Mi"},
        "default": {"cpu": "500m", "memory": "500Mi"},
        "defaultRequest": {"cpu": "100m", "memory": "200Mi"},
    }
    await t.api.create(at(LIMITS, t.namespace), {"metadata": {"name": "limits"}, "spec": {"limits": [item]}})
    pods = at(PODS, t.namespace)

    def with_requests(name: str, **requests: str) -> Object:
        obj = pod(name, nodeSelector={"conformance": "nowhere"})
        if requests:
            obj["spec"]["containers"][0]["resources"] = {"requests": requests}
        return obj

    made = await t.api.create(pods, with_requests("nothing"))
    resources = made["spec"]["containers"][0]["resources"]
    require(
        resources == {"limits": item["default"], "requests": item["defaultRequest"]}, f"it has {resources}"
    )
    made = await t.api.create(pods, with_requests("half", memory="150Mi"))
    requests = made["spec"]["containers"][0]["resources"]["requests"]
    require(requests == {"cpu": "100m", "memory": "150Mi"}, f"it has {requests}")
    await t.api.refused(403, "POST", pods, with_requests("little", cpu="10m", memory="50Mi"))
    await t.api.refused(403, "POST", pods, with_requests("much", cpu="600m"))
    path = at(LIMITS, t.namespace, "limits")
    read = await t.api.get(path)
    read["spec"]["limits"][0]["min"] = {"cpu": "9m", "memory": "10Mi"}
    await t.api.put(path, read)

    async def little_is_taken() -> bool:
        return (await t.api.call("POST", pods, with_requests("little", cpu="10m", memory="50Mi"))).code == 201

    await t.until("the lower minimum counts", little_is_taken)
    await t.api.delete(path)
    await t.until_gone(path)


@check("LimitRange should list, patch and delete a LimitRange by collection", quick=True)
async def limit_ranges_are_kept(t: Trial) -> None:
    item = {"type": "Container", "max": {"cpu": "500m"}}
    obj = {"metadata": {"name": "kept"}, "spec": {"limits": [item]}}
    await lifecycle(t, LIMITS, obj, spec_patch={"spec": {"limits": [{**item, "min": {"cpu": "10m"}}]}})


@check(
    "PriorityClass endpoints verify PriorityClass endpoints can be operated with different HTTP methods",
    quick=True,
)
async def priority_classes_are_kept(t: Trial) -> None:
    resource = "scheduling.k8s.io/v1/priorityclasses"
    obj = {"metadata": {"name": t.unique("priority")}, "value": 7, "description": "a"}
    await lifecycle(t, resource, obj, namespaced=False, spec_patch={"description": "b"})
    obj["metadata"]["name"] = t.unique("priority")
    path = t.leaves(at(resource, "", obj["metadata"]["name"]))
    await t.api.create(at(resource), obj)
    await t.api.refused(422, "PATCH", path, {"value": 8}, content_type="application/merge-patch+json")
