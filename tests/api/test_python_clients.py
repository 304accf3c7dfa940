"""lightkube and kr8s: two Python clients that people write tools with, each with its own idea of the API.

lightkube sends JSON as apply patches and reads models generated from Kubernetes' schemas; kr8s lists in pages
of a hundred, asks `/version/` and `/apis/` with a slash at their ends, and waits by watching.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.live_cluster import LiveCluster

lightkube = pytest.importorskip("lightkube")
kr8s = pytest.importorskip("kr8s")


def deployment(name: str, namespace: str, replicas: int = 2) -> dict[str, Any]:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "web", "image": "web:1"}]},
            },
        },
    }


def test_lightkube_applies_waits_scales_and_deletes(working: LiveCluster, shop: str) -> None:
    from lightkube.models.autoscaling_v1 import ScaleSpec
    from lightkube.resources.apps_v1 import Deployment
    from lightkube.resources.core_v1 import ConfigMap, Pod

    config = lightkube.KubeConfig.from_file(str(working.kubeconfig))
    client = lightkube.Client(config=config, namespace=shop, field_manager="tests")
    wanted = Deployment.from_dict(deployment("web", shop))
    assert client.apply(wanted).metadata.managedFields[0].manager == "tests"
    made = client.wait(Deployment, "web", for_conditions=["Available"])
    assert made.status.readyReplicas == 2
    client.apply(
        Deployment.Scale.from_dict({"metadata": {"name": "web"}, "spec": {"replicas": 3}}), "web", force=True
    )
    assert client.get(Deployment.Scale, "web").spec == ScaleSpec(replicas=3)
    client.patch(Deployment, "web", {"metadata": {"annotations": {"a": "b"}}})
    pods = list(client.list(Pod, labels={"app": "web"}, chunk_size=1))
    assert len(pods) >= 2
    client.create(ConfigMap.from_dict({"metadata": {"name": "c"}, "data": {"a": "b"}}))
    client.replace(ConfigMap.from_dict({"metadata": {"name": "c"}, "data": {"a": "c"}}))
    event, seen = next(iter(client.watch(ConfigMap, fields={"metadata.name": "c"})))
    assert (event, seen.data) == ("ADDED", {"a": "c"})
    client.delete(ConfigMap, "c")
    with pytest.raises(lightkube.ApiError) as raised:
        client.get(ConfigMap, "c")
    assert raised.value.status.code == 404
    client.deletecollection(ConfigMap)
    client.delete(Deployment, "web", cascade=lightkube.types.CascadeType.FOREGROUND)


def test_kr8s_creates_waits_reads_logs_runs_and_deletes(working: LiveCluster, shop: str) -> None:
    async def work() -> None:
        from kr8s.asyncio.objects import ConfigMap, Deployment, Pod

        api = await kr8s.asyncio.api(kubeconfig=str(working.kubeconfig), namespace=shop)
        assert (await api.version())["minor"] == "37"
        web = await Deployment(deployment("web", shop), api=api)
        await web.create()
        await web.wait("condition=Available", timeout=60)
        await web.scale(3)
        assert web.spec.replicas == 3
        await web.patch({"metadata": {"annotations": {"a": "b"}}})
        pods = [pod async for pod in api.get("pods", label_selector={"app": "web"})]
        assert pods
        pod: Pod = pods[0]
        assert [line async for line in pod.logs()] == ["one", "two", "three"]
        ran = await pod.exec(["echo", "hello"])
        assert ran.stdout == b"hello\n"
        settings = await ConfigMap(
            {"metadata": {"name": "c", "namespace": shop}, "data": {"a": "b"}}, api=api
        )
        await settings.create()
        await settings.label({"x": "y"})
        kinds = {one["kind"] for one in await api.api_resources()}
        assert {"Pod", "Deployment", "Ingress"} <= kinds
        await settings.delete()
        await web.delete()
        await web.wait("delete", timeout=60)

    asyncio.run(work())
