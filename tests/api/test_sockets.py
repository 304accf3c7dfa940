"""What dashboards do from a browser: watches, logs and terminals by WebSocket, the token in a subprotocol."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from gitkube.objects.kinds import CONFIG_MAP
from tests.support.live_cluster import ADMIN_TOKEN, LiveCluster, running_pod

PATIENCE_S = 30


def as_protocol(token: str) -> str:
    encoded = base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")
    return f"base64url.bearer.authorization.k8s.io.{encoded}"


@asynccontextmanager
async def connected(
    cluster: LiveCluster, path: str, *protocols: str, token: str = ADMIN_TOKEN
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """A WebSocket as a browser opens it: it can set no header but the subprotocols."""
    context = ssl.create_default_context(cadata=cluster.pki.ca_pem.decode())
    offered = [*protocols, as_protocol(token)]
    async with (
        asyncio.timeout(PATIENCE_S),
        aiohttp.ClientSession() as session,
        session.ws_connect(cluster.url + path, protocols=offered, ssl=context) as connection,
    ):
        yield connection


async def messages(connection: aiohttp.ClientWebSocketResponse) -> list[Any]:
    """All until the server closes."""
    return [message.data async for message in connection]


def config_map(cluster: LiveCluster, namespace: str, name: str) -> None:
    obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}}
    cluster.run(cluster.client.create(CONFIG_MAP, obj))


async def test_each_event_of_a_watch_is_a_message(cluster: LiveCluster, namespace: str) -> None:
    config_map(cluster, namespace, "there")
    path = f"/api/v1/namespaces/{namespace}/configmaps?watch=true&fieldSelector=metadata.name!%3Dx"
    async with connected(cluster, path) as watch:
        assert watch.protocol is None
        first = json.loads(await watch.receive_str())
        assert (first["type"], first["object"]["metadata"]["name"]) == ("ADDED", "there")
        await asyncio.to_thread(config_map, cluster, namespace, "new")
        second = json.loads(await watch.receive_str())
        assert (second["type"], second["object"]["metadata"]["name"]) == ("ADDED", "new")


async def test_a_watch_whose_time_is_over_closes_in_good_order(cluster: LiveCluster, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps?watch=true&timeoutSeconds=1"
    async with connected(cluster, path, "base64.binary.k8s.io") as watch:
        assert watch.protocol == "base64.binary.k8s.io"  # a browser gives up unless one of its own comes back
        assert await messages(watch) == []
        assert watch.close_code == aiohttp.WSCloseCode.OK


async def test_a_watch_that_is_refused_is_a_status_and_no_socket(cluster: LiveCluster) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with connected(cluster, "/api/v1/pods?watch=true&labelSelector=%3D"):
            pass
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("protocol", "is_text"), [("", False), ("binary.k8s.io", False), ("base64.binary.k8s.io", True)]
)
async def test_a_log_comes_in_messages(
    cluster: LiveCluster, namespace: str, protocol: str, is_text: bool
) -> None:
    await asyncio.to_thread(running_pod, cluster, namespace, "one")
    path = f"/api/v1/namespaces/{namespace}/pods/one/log"
    async with connected(cluster, path, *[protocol] if protocol else []) as log:
        found = await messages(log)
    assert b"".join(map(base64.b64decode, found) if is_text else found) == b"one\ntwo\nthree\n"


@pytest.mark.parametrize("path", ["log", "exec?command=echo&stdout=true"])
async def test_a_subprotocol_that_is_not_served_is_refused(
    cluster: LiveCluster, namespace: str, path: str
) -> None:
    await asyncio.to_thread(running_pod, cluster, namespace, "one")
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with connected(cluster, f"/api/v1/namespaces/{namespace}/pods/one/{path}", "v9.unknown"):
            pass
    assert refused.value.status == 400


@pytest.mark.parametrize("protocol", ["v4.base64.channel.k8s.io", "base64.channel.k8s.io"])
async def test_a_terminal_of_text_types_and_reads(
    cluster: LiveCluster, namespace: str, protocol: str
) -> None:
    await asyncio.to_thread(running_pod, cluster, namespace, "one")
    path = f"/api/v1/namespaces/{namespace}/pods/one/exec?command=cat&stdin=true&stdout=true"
    async with connected(cluster, path, protocol) as terminal:
        assert terminal.protocol == protocol
        await terminal.send_str("0" + base64.b64encode(b"hello").decode())
        said = await terminal.receive_str()
        assert (said[0], base64.b64decode(said[1:])) == ("1", b"hello")


@pytest.mark.parametrize(
    ("protocol", "last"),
    [
        ("", b"\x03command terminated with non-zero exit code: exit status 7"),
        ("channel.k8s.io", b"\x03command terminated with non-zero exit code: exit status 7"),
    ],
)
async def test_in_the_oldest_protocol_the_last_word_is_plain(
    cluster: LiveCluster, namespace: str, protocol: str, last: bytes
) -> None:
    await asyncio.to_thread(running_pod, cluster, namespace, "one")
    at = f"/api/v1/namespaces/{namespace}/pods/one/exec?stdout=true&command="
    async with connected(cluster, f"{at}fail&command=7", *[protocol] if protocol else []) as failing:
        assert (await messages(failing))[-1] == last
    async with connected(cluster, f"{at}echo&command=hi", *[protocol] if protocol else []) as working:
        assert b"".join(await messages(working)) == b"\x01hi\n"


@pytest.mark.parametrize(
    ("query", "heard"),
    [
        ("stdout=true", {b"\x01out\n"}),
        ("stderr=true", {b"\x02err\n"}),
        ("stdout=1&stderr=1", {b"\x01out\n", b"\x02err\n"}),
    ],
)
async def test_a_command_is_heard_on_the_channels_that_were_asked_for(
    cluster: LiveCluster, namespace: str, query: str, heard: set[bytes]
) -> None:
    await asyncio.to_thread(running_pod, cluster, namespace, "one")
    path = f"/api/v1/namespaces/{namespace}/pods/one/exec?command=both&{query}"
    async with connected(cluster, path, "channel.k8s.io") as running:
        assert set(await messages(running)) == heard


@pytest.mark.parametrize("token", ["wrong", ""])
async def test_a_token_in_a_subprotocol_must_hold(cluster: LiveCluster, token: str) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with connected(cluster, "/api/v1/pods?watch=true", token=token):
            pass
    assert refused.value.status == 401


def test_a_watch_over_http_1_0_ends_with_its_connection(cluster: LiveCluster, namespace: str) -> None:
    config_map(cluster, namespace, "there")
    context = ssl.create_default_context(cadata=cluster.pki.ca_pem.decode())
    host, port = cluster.url.removeprefix("https://").split(":")
    head = [f"GET /api/v1/namespaces/{namespace}/configmaps?watch=true&timeoutSeconds=1 HTTP/1.0"]
    head += [f"{name}: {value}" for name, value in cluster.bearer().items()]
    with (
        socket.create_connection((host, int(port)), timeout=PATIENCE_S) as plain,
        context.wrap_socket(plain, server_hostname=host) as connection,
    ):
        connection.sendall("\r\n".join([*head, "", ""]).encode())
        answer = b""
        while data := connection.recv(65536):
            answer += data
    headers, _, body = answer.partition(b"\r\n\r\n")
    assert headers.startswith(b"HTTP/1.0 200 ") and b"chunked" not in headers
    assert [json.loads(line)["type"] for line in body.splitlines()] == ["ADDED"]
