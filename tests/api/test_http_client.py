"""Our own client over HTTPS keeps the same promises as the one in the process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gitkube.api.client import PatchType, WatchEvent
from gitkube.api.errors import StatusError, is_already_exists, is_conflict, is_gone, is_not_found
from gitkube.api.http import HttpClient
from gitkube.api.kubeconfig import KubeconfigError, read_connection
from gitkube.objects.kinds import CONFIG_MAP, DEPLOYMENT, LEASE, NAMESPACE, POD
from gitkube.objects.types import Object
from tests.support.live_cluster import LiveCluster, pod


@pytest.fixture
async def client(cluster: LiveCluster) -> AsyncIterator[HttpClient]:
    async with HttpClient.from_kubeconfig(cluster.kubeconfig) as made:
        yield made


def config(namespace: str, name: str, **data: str) -> Object:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


async def test_an_object_is_made_read_changed_and_deleted(client: HttpClient, namespace: str) -> None:
    made = await client.create(CONFIG_MAP, config(namespace, "a", colour="green"), field_manager="me")
    assert made["metadata"]["uid"]
    assert await client.get(CONFIG_MAP, "a", namespace) == made
    changed = await client.update(CONFIG_MAP, {**made, "data": {"colour": "blue"}})
    assert changed["data"] == {"colour": "blue"}
    patched = await client.patch(CONFIG_MAP, "a", namespace, {"data": {"size": "5"}})
    assert patched["data"] == {"colour": "blue", "size": "5"}
    operations = [{"op": "remove", "path": "/data/size"}]
    await client.patch(CONFIG_MAP, "a", namespace, operations, type=PatchType.JSON)
    await client.delete(CONFIG_MAP, "a", namespace, uid=made["metadata"]["uid"])
    with pytest.raises(StatusError) as raised:
        await client.get(CONFIG_MAP, "a", namespace)
    assert is_not_found(raised.value)


async def test_errors_are_those_of_the_verbs(client: HttpClient, namespace: str) -> None:
    made = await client.create(CONFIG_MAP, config(namespace, "a"))
    with pytest.raises(StatusError) as raised:
        await client.create(CONFIG_MAP, config(namespace, "a"))
    assert is_already_exists(raised.value)
    await client.patch(CONFIG_MAP, "a", namespace, {"data": {"x": "y"}})
    with pytest.raises(StatusError) as raised:
        await client.update(CONFIG_MAP, made)
    assert is_conflict(raised.value)
    with pytest.raises(StatusError) as raised:
        await client.create(CONFIG_MAP, {**config(namespace, "b"), "daata": {}})
    assert raised.value.code == 400
    assert "daata" in raised.value.message


async def test_apply_and_dry_run(client: HttpClient, namespace: str) -> None:
    would_be = await client.apply(CONFIG_MAP, config(namespace, "a", x="1"), field_manager="me", dry_run=True)
    assert would_be["data"] == {"x": "1"}
    with pytest.raises(StatusError):
        await client.get(CONFIG_MAP, "a", namespace)
    await client.apply(CONFIG_MAP, config(namespace, "a", x="1"), field_manager="me")
    with pytest.raises(StatusError) as raised:
        await client.apply(CONFIG_MAP, config(namespace, "a", x="2"), field_manager="other")
    assert is_conflict(raised.value)
    forced = await client.apply(CONFIG_MAP, config(namespace, "a", x="2"), field_manager="other", force=True)
    assert forced["data"] == {"x": "2"}


async def test_lists_come_in_pages_of_whole_objects(client: HttpClient, namespace: str) -> None:
    for number in range(5):
        await client.create(CONFIG_MAP, config(namespace, f"c{number}"))
    first = await client.list(CONFIG_MAP, namespace, limit=3)
    assert len(first.items) == 3 and first.continue_token and first.remaining == 2
    second = await client.list(CONFIG_MAP, namespace, limit=3, continue_token=first.continue_token)
    assert [item["metadata"]["name"] for item in second.items] == ["c3", "c4"]
    assert {item["kind"] for item in first.items} == {"ConfigMap"}


async def test_a_watch_gives_every_change_in_order(client: HttpClient, namespace: str) -> None:
    start = await client.list(CONFIG_MAP, namespace)
    seen: list[WatchEvent] = []

    async def watch() -> None:
        async for event in client.watch(CONFIG_MAP, namespace, resource_version=start.resource_version):
            seen.append(event)
            if event.type == "DELETED":
                return

    watching = asyncio.ensure_future(watch())
    await client.create(CONFIG_MAP, config(namespace, "a"))
    await client.patch(CONFIG_MAP, "a", namespace, {"data": {"x": "y"}})
    await client.delete(CONFIG_MAP, "a", namespace)
    await asyncio.wait_for(watching, 60)
    assert [event.type for event in seen] == ["ADDED", "MODIFIED", "DELETED"]
    assert seen[1].object["data"] == {"x": "y"}


async def test_a_watch_from_too_long_ago_is_gone(
    cluster: LiveCluster, client: HttpClient, namespace: str
) -> None:
    start = (await client.list(LEASE, namespace)).resource_version
    await asyncio.to_thread(cluster.forget_leases, namespace)
    with pytest.raises(StatusError) as raised:
        async with asyncio.timeout(60):
            async for _ in client.watch(LEASE, namespace, resource_version=start):
                pass
    assert is_gone(raised.value)


async def test_status_and_scale_are_doors_of_their_own(client: HttpClient, namespace: str) -> None:
    obj: Object = pod("one", "main")
    obj["metadata"]["namespace"] = namespace
    await client.create(POD, obj)
    status = {"status": {"phase": "Running"}}
    patched = await client.patch(POD, "one", namespace, status, subresource="status")
    assert patched["status"]["phase"] == "Running"
    binding = {"apiVersion": "v1", "kind": "Binding", "target": {"kind": "Node", "name": "ant"}}
    await client.create_subresource(
        POD, "one", namespace, "binding", {**binding, "metadata": {"name": "one"}}
    )
    assert (await client.get(POD, "one", namespace))["spec"]["nodeName"] == "ant"
    workload = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": pod("x", "c")["spec"]},
        },
    }
    await client.create(DEPLOYMENT, workload)
    scale = await client.patch(DEPLOYMENT, "web", namespace, {"spec": {"replicas": 4}}, subresource="scale")
    assert (scale["kind"], scale["spec"]["replicas"]) == ("Scale", 4)


async def test_a_server_out_of_reach_is_503(cluster: LiveCluster) -> None:
    connection = read_connection(cluster.kubeconfig)
    unreachable = type(connection)("https://127.0.0.1:1", connection.context)
    async with HttpClient(unreachable) as client:
        with pytest.raises(StatusError, match="cannot be reached") as raised:
            await client.list(NAMESPACE)
    assert raised.value.code == 503


async def test_a_server_of_another_authority_is_not_trusted(cluster: LiveCluster, tmp_path: Path) -> None:
    from gitkube.clock import SystemClock
    from gitkube.server.pki import Pki

    Pki.open(tmp_path / "pki", clock=SystemClock()).write_kubeconfig(tmp_path / "kubeconfig", cluster.url)
    async with HttpClient.from_kubeconfig(tmp_path / "kubeconfig") as client:
        with pytest.raises(StatusError, match="certificate"):
            await client.list(NAMESPACE)


def test_a_kubeconfig_in_yaml_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    (tmp_path / "config").write_text(
        "apiVersion: v1\nclusters:\n- name: c\n  cluster: {server: 'https://h:1', tls-server-name: k}\n"
        "users:\n- name: u\n  user: {tokenFile: token}\n"
        "contexts:\n- name: x\n  context: {cluster: c, user: u}\ncurrent-context: x\n"
    )
    connection = read_connection(tmp_path / "config")
    assert (connection.server, connection.token, connection.server_name) == ("https://h:1", "secret", "k")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no kubeconfig"),
        ("a: [", "not YAML"),
        ("clusters: []", "no context named"),
        (
            "contexts: [{name: x, context: {cluster: c, user: u}}]\ncurrent-context: x\n"
            "clusters: [{name: c, cluster: {server: 'https://h:1'}}]\n"
            "users: [{name: u, user: {exec: {command: rm}}}]",
            "does not log in by 'exec'",
        ),
        (
            "contexts: [{name: x, context: {cluster: c}}]\ncurrent-context: x\n"
            "clusters: [{name: c, cluster: {server: 'ftp://h'}}]",
            "no URL",
        ),
    ],
)
def test_a_kubeconfig_of_no_use_says_why(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "config").write_text(text)
    with pytest.raises(KubeconfigError, match=why):
        read_connection(tmp_path / "config")


def test_a_missing_kubeconfig_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match="--kubeconfig"):
        read_connection(tmp_path / "nowhere")
