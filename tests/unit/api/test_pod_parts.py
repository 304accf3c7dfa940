"""Parts of a living pod that change through doors of their own: containers for debugging, and resources."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gitkube.api.client import PatchType
from gitkube.api.errors import StatusError
from gitkube.api.local import LocalClient
from gitkube.objects.kinds import POD
from gitkube.objects.types import Object
from tests.support.real_api import real_client


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[LocalClient]:
    async with real_client(tmp_path) as made:
        resources = {"requests": {"cpu": "100m"}, "limits": {"memory": "64Mi"}}
        setup = {"limits": {"cpu": "1", "memory": "64Mi"}}
        pod: Object = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "p", "namespace": "default"},
            "spec": {
                "initContainers": [{"name": "setup", "image": "setup:1", "resources": setup}],
                "containers": [{"name": "main", "image": "app:1", "resources": resources}],
            },
        }
        await made.create(POD, pod)
        yield made


async def change(client: LocalClient, spec: Any, subresource: str, type: PatchType) -> Object:
    return await client.patch(POD, "p", "default", {"spec": spec}, type=type, subresource=subresource)


async def debug(client: LocalClient, **container: Any) -> Object:
    wanted = {"ephemeralContainers": [{"name": "debug", "image": "busybox:1", **container}]}
    return await change(client, wanted, "ephemeralcontainers", PatchType.STRATEGIC)


async def resize(client: LocalClient, name: str = "main", **resources: Any) -> Object:
    field = "initContainers" if name == "setup" else "containers"
    wanted = {field: [{"name": name, "resources": resources}]}
    return await change(client, wanted, "resize", PatchType.STRATEGIC)


async def test_an_ephemeral_container_is_added_and_nothing_else_changes(client: LocalClient) -> None:
    await client.patch(POD, "p", "default", {"metadata": {"labels": {"a": "b"}}})
    wanted = {"ephemeralContainers": [{"name": "debug", "image": "busybox:1", "stdin": True, "tty": True}]}
    patch = {"metadata": {"labels": {"a": "c"}}, "spec": {**wanted, "activeDeadlineSeconds": 5}}
    pod = await client.patch(
        POD, "p", "default", patch, type=PatchType.STRATEGIC, subresource="ephemeralcontainers"
    )
    assert pod["metadata"]["labels"] == {"a": "b"}
    assert pod["metadata"]["generation"] == 2
    assert "activeDeadlineSeconds" not in pod["spec"]
    (container,) = pod["spec"]["ephemeralContainers"]
    assert (container["name"], container["imagePullPolicy"]) == ("debug", "IfNotPresent")
    second = await debug(client, name="second", targetContainerName="main")
    assert [one["name"] for one in second["spec"]["ephemeralContainers"]] == ["second", "debug"]


@pytest.mark.parametrize(
    ("container", "words"),
    [
        ({"ports": [{"containerPort": 80}]}, "ports: Forbidden: cannot be set for an Ephemeral Container"),
        ({"resources": {"limits": {"cpu": "1"}}}, "resources: Forbidden: cannot be set"),
        ({"livenessProbe": {"tcpSocket": {"port": 80}}}, "livenessProbe: Forbidden: cannot be set"),
        ({"targetContainerName": "nobody"}, 'targetContainerName: Not found: "nobody"'),
        ({"name": "main"}, 'name: Duplicate value: "main"'),
        ({"name": "setup"}, 'name: Duplicate value: "setup"'),
        ({"name": "No Label"}, "name: Invalid value"),
        ({"image": ""}, "image: Required value"),
        ({"volumeMounts": [{"name": "v", "mountPath": "/v"}]}, 'volumeMounts[0].name: Not found: "v"'),
    ],
)
async def test_an_ephemeral_container_that_cannot_be_is_refused(
    client: LocalClient, container: dict[str, Any], words: str
) -> None:
    with pytest.raises(StatusError) as raised:
        await debug(client, **container)
    assert raised.value.code == 422
    assert f"spec.ephemeralContainers[0].{words}" in raised.value.message


async def test_an_ephemeral_container_is_neither_changed_nor_removed(client: LocalClient) -> None:
    await debug(client)
    with pytest.raises(StatusError, match='existing ephemeral containers "debug" may not be changed'):
        await debug(client, image="busybox:2")
    with pytest.raises(StatusError, match='existing ephemeral containers "debug" may not be removed'):
        await change(client, {"ephemeralContainers": None}, "ephemeralcontainers", PatchType.MERGE)


async def test_the_main_door_changes_neither_part(client: LocalClient) -> None:
    wanted = {"ephemeralContainers": [{"name": "debug", "image": "busybox:1"}]}
    with pytest.raises(StatusError, match=r"spec\.ephemeralContainers: Forbidden"):
        await change(client, wanted, "", PatchType.STRATEGIC)
    more = {"containers": [{"name": "main", "resources": {"requests": {"cpu": "200m"}}}]}
    with pytest.raises(StatusError, match="resources are changed through the subresource resize"):
        await change(client, more, "", PatchType.STRATEGIC)


async def test_a_resize_changes_resources_and_nothing_else(client: LocalClient) -> None:
    wanted = {
        "containers": [{"name": "main", "image": "app:2", "resources": {"requests": {"cpu": "200m"}}}],
        "activeDeadlineSeconds": 5,
    }
    pod = await change(client, wanted, "resize", PatchType.STRATEGIC)
    (container,) = pod["spec"]["containers"]
    assert container["resources"]["requests"]["cpu"] == "200m"
    assert container["image"] == "app:1"
    assert "activeDeadlineSeconds" not in pod["spec"]
    assert pod["metadata"]["generation"] == 2


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ({"limits": {"example.org/gpu": "1"}}, "only cpu and memory resources are mutable"),
        ({"requests": {"cpu": None}}, "resource requests cannot be removed"),
        ({"limits": {"memory": None}}, "resource limits cannot be removed"),
        ({"requests": {"memory": "128Mi"}}, "must be less than or equal to memory limit"),
        ({"limits": {"cpu": "100m"}, "requests": {"memory": "64Mi"}}, "Pod QOS Class may not change"),
    ],
)
async def test_a_resize_that_cannot_be_is_refused(
    client: LocalClient, resources: dict[str, Any], words: str
) -> None:
    with pytest.raises(StatusError) as raised:
        await resize(client, **resources)
    assert raised.value.code == 422
    assert words in raised.value.message


async def test_an_init_container_that_ends_is_not_resized(client: LocalClient) -> None:
    with pytest.raises(StatusError, match="resources for non-sidecar init containers are immutable"):
        await resize(client, "setup", requests={"cpu": "500m"})


async def test_a_gated_pod_says_so_and_is_bound_to_no_host(client: LocalClient) -> None:
    gated = {
        "metadata": {"name": "g", "namespace": "default"},
        "spec": {"schedulingGates": [{"name": "queue"}], "containers": [{"name": "c", "image": "app:1"}]},
    }
    pod = await client.create(POD, {"apiVersion": "v1", "kind": "Pod", **gated})
    (condition,) = pod["status"]["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == (
        "PodScheduled", "False", "SchedulingGated",
    )  # fmt: skip
    with pytest.raises(StatusError) as caught:
        await client.create_subresource(
            POD, "g", "default", "binding", {"metadata": {"name": "g"}, "target": {"name": "ant"}}
        )
    assert caught.value.code == 409
    assert "pod g has non-empty .spec.schedulingGates" in caught.value.message
