"""sig-cli: the real kubectl."""

from __future__ import annotations

import json

from tests.conformance.api import Object, at
from tests.conformance.checks.common import IMAGE, is_ready, pod, pods_of, until_pods, until_running, workload
from tests.conformance.checks.machinery_namespaces import controller
from tests.conformance.harness import Trial, check, require

CONTROLLERS = "v1/replicationcontrollers"


def _text(api_version: str, kind: str, obj: Object) -> str:
    return json.dumps({"apiVersion": api_version, "kind": kind, **obj})


async def _create(t: Trial, api_version: str, kind: str, obj: Object) -> None:
    await t.kubectl("create", "-f", "-", stdin=_text(api_version, kind, obj))


@check("Kubectl api-versions should check if v1 is in available api versions", quick=True)
async def v1_is_listed(t: Trial) -> None:
    require("v1" in (await t.kubectl("api-versions")).split("\n"), "v1 is not listed")


@check("Kubectl version should check is all data is printed", quick=True)
async def both_versions_are_printed(t: Trial) -> None:
    said = await t.kubectl("version")
    require("Client Version" in said and "Server Version" in said, f"it says {said!r}")


@check("Kubectl cluster-info should check if Kubernetes control plane services is included", quick=True)
async def the_control_plane_is_named(t: Trial) -> None:
    require("Kubernetes control plane" in await t.kubectl("cluster-info"), "it is not named")


@check("Kubectl describe should check if kubectl describe prints relevant information for rc and pods")
async def describe_says_what_matters(t: Trial) -> None:
    await t.hosts()
    await _create(t, "v1", "ReplicationController", controller("described", 1))
    await t.kubectl("create", "service", "clusterip", "described", "--tcp=6379")
    (one,) = await until_pods(t, "described", 1)
    await until_running(t, one["metadata"]["name"])
    said = await t.kubectl("describe", "pod", one["metadata"]["name"])
    for words in ("Name:", "Namespace:", "Node:", "Labels:", "app=described", "Status:", "Running", "IP:",
                  "Controlled By:", "ReplicationController/described", "Image:"):  # fmt: skip
        require(words in said, f"describe pod lacks {words}")
    said = await t.kubectl("describe", "rc", "described")
    for words in (
        "Name:",
        "Selector:",
        "Replicas:",
        "1 current",
        "1 desired",
        "Pods Status:",
        "1 Running",
        "Image:",
    ):
        require(words in said, f"describe rc lacks {words}")
    said = await t.kubectl("describe", "service", "described")
    for words in ("Name:", "Type:", "ClusterIP", "IP:", "Port:", "Endpoints:"):
        require(words in said, f"describe service lacks {words}")
    node = (await t.hosts())[0]["metadata"]["name"]
    said = await t.kubectl("describe", "node", node)
    for words in ("Conditions:", "Ready", "Addresses:", "Capacity:", "Kubelet Version:", "Pods:"):
        require(words in said, f"describe node lacks {words}")
    require(
        "Name:" in await t.kubectl("describe", "namespace", t.namespace), "describe namespace says nothing"
    )


@check("Kubectl diff should check if kubectl diff finds a difference for Deployments", quick=True)
async def diff_finds_a_difference(t: Trial) -> None:
    await _create(t, "apps/v1", "Deployment", workload("differs", 1))
    changed = workload("differs", 1)
    changed["spec"]["template"]["spec"]["containers"][0]["image"] = "registry.example.com/other:9"
    said = await t.kubectl("diff", "-f", "-", stdin=_text("apps/v1", "Deployment", changed), fails=True)
    require("+" in said and "other:9" in said, f"it says {said!r}")


@check("Kubectl expose should create services for rc")
async def expose_makes_services(t: Trial) -> None:
    await t.hosts()
    await _create(t, "v1", "ReplicationController", controller("exposed", 1))
    (one,) = await until_pods(t, "exposed", 1)
    address = (await until_running(t, one["metadata"]["name"]))["status"]["podIP"]
    await t.kubectl("expose", "rc", "exposed", "--name=rm2", "--port=1234", "--target-port=6379")
    await t.kubectl("expose", "service", "rm2", "--name=rm3", "--port=2345", "--target-port=6379")
    for name in ("rm2", "rm3"):

        async def points_at_the_pod(name: str = name) -> bool:
            selector = f"kubernetes.io/service-name={name}"
            slices = await t.api.items(
                at("discovery.k8s.io/v1/endpointslices", t.namespace), labelSelector=selector
            )
            return any(
                address in point["addresses"] and one["ports"][0]["port"] == 6379
                for one in slices
                for point in one["endpoints"]
            )

        await t.until(f"{name} points at the pod", points_at_the_pod)


@check("Kubectl label should update the label on a resource")
async def label_sets_and_removes(t: Trial) -> None:
    await t.hosts()
    await _create(t, "v1", "Pod", pod("labelled"))
    await until_running(t, "labelled")
    await t.kubectl("label", "pods", "labelled", "testing-label=testing-label-value")
    require(
        "testing-label-value" in await t.kubectl("get", "pod", "labelled", "-L", "testing-label"), "no label"
    )
    await t.kubectl("label", "pods", "labelled", "testing-label-")
    require(
        "testing-label-value" not in await t.kubectl("get", "pod", "labelled", "-L", "testing-label"),
        "it stays",
    )


@check("Kubectl patch should add annotations for pods in rc")
async def patch_annotates(t: Trial) -> None:
    await t.hosts()
    await _create(t, "v1", "ReplicationController", controller("patched", 1))
    (one,) = await until_pods(t, "patched", 1)
    name = one["metadata"]["name"]
    await t.kubectl("patch", "pod", name, "-p", '{"metadata":{"annotations":{"x":"y"}}}')
    read = await t.api.get(at("v1/pods", t.namespace, name))
    require(read["metadata"]["annotations"]["x"] == "y", "the annotation is not there")


@check("Kubectl replace should update a single-container pod's image")
async def replace_changes_the_image(t: Trial) -> None:
    await t.hosts()
    await t.kubectl("run", "replaced", f"--image={IMAGE}", "--labels=run=replaced")
    await until_running(t, "replaced")

    async def is_replaced() -> bool:
        text = await t.kubectl("get", "pod", "replaced", "-o", "json")
        changed = text.replace(IMAGE, "registry.example.com/other:1")
        await t.kubectl("replace", "-f", "-", stdin=changed)
        return True

    await t.until("it is replaced", is_replaced)
    read = await t.api.get(at("v1/pods", t.namespace, "replaced"))
    require(
        read["spec"]["containers"][0]["image"] == "registry.example.com/other:1", "the image is the old one"
    )


@check("Kubectl run pod should create a pod from an image when restart is Never")
async def run_makes_a_pod(t: Trial) -> None:
    await t.kubectl("run", "ran", "--restart=Never", f"--image={IMAGE}")
    read = await t.api.get(at("v1/pods", t.namespace, "ran"))
    require(read["spec"]["containers"][0]["image"] == IMAGE, "the image is another")
    require(read["spec"]["restartPolicy"] == "Never", f"it restarts {read['spec']['restartPolicy']}")


@check("Kubectl server-side dry-run should check if kubectl can dry-run update Pods")
async def a_dry_run_changes_nothing(t: Trial) -> None:
    await t.hosts()
    await t.kubectl("run", "dry", f"--image={IMAGE}")
    await until_running(t, "dry")
    patch = '{"spec":{"containers":[{"name":"dry","image":"registry.example.com/other:1"}]}}'
    await t.kubectl("patch", "pod", "dry", "-p", patch, "--dry-run=server")
    read = await t.api.get(at("v1/pods", t.namespace, "dry"))
    require(read["spec"]["containers"][0]["image"] == IMAGE, "a dry run changed the pod")


async def _until_seen(t: Trial, app: str, count: int) -> None:
    """As kubectl sees it: so many pods, and all of them running."""

    async def holds() -> bool:
        names = (await t.kubectl("get", "pods", "-o", "name", "-l", f"app={app}")).split()
        return len(names) == count and all(is_ready(one) for one in await pods_of(t, app))

    await t.until(f"{count} pods of {app} run", holds)


@check("Update Demo should create and stop a replication controller")
async def a_controller_is_created_and_stopped(t: Trial) -> None:
    await t.hosts()
    await _create(t, "v1", "ReplicationController", controller("nautilus", 2))
    await _until_seen(t, "nautilus", 2)
    await t.kubectl("delete", "--grace-period=0", "--force", "rc", "nautilus")
    await until_pods(t, "nautilus", 0)


@check("Update Demo should scale a replication controller")
async def a_controller_is_scaled(t: Trial) -> None:
    await t.hosts()
    await _create(t, "v1", "ReplicationController", controller("nautilus", 2))
    await _until_seen(t, "nautilus", 2)
    for count in (1, 2):
        await t.kubectl("scale", "rc", "nautilus", f"--replicas={count}", "--timeout=5m")
        await _until_seen(t, "nautilus", count)
