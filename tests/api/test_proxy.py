"""The proxy of pods, services and nodes: by hand, by kubectl, by a WebSocket, to a server behind a pod."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import ssl
import urllib.request
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
from yarl import URL

from gitkube.objects.kinds import ENDPOINT_SLICE, NODE, POD, SERVICE
from tests.support.echo_server import start_echo
from tests.support.live_cluster import ADMIN_TOKEN, LiveCluster, pod

PORT = 8080


@pytest.fixture(scope="module")
def behind(cluster: LiveCluster) -> Iterator[None]:
    runner, port = cluster.run(start_echo())
    cluster.streams.behind[PORT] = port
    yield
    cluster.run(runner.cleanup())


@pytest.fixture
def web(cluster: LiveCluster, namespace: str, behind: None) -> str:
    """The path of a namespace with a pod and a Service before it."""
    obj = pod("web", "main")
    obj["metadata"]["namespace"] = namespace
    obj["spec"]["nodeName"] = "ant"
    obj["spec"]["containers"][0]["ports"] = [{"name": "http", "containerPort": PORT}]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {"ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
    }
    endpoints = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "web-1", "namespace": namespace, "labels": {"kubernetes.io/service-name": "web"},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": PORT}],
        "endpoints": [
            {"addresses": ["10.42.0.7"], "targetRef": {"kind": "Pod", "name": "web", "namespace": namespace}}
        ],
    }  # fmt: skip
    for kind, one in ((POD, obj), (SERVICE, service), (ENDPOINT_SLICE, endpoints)):
        cluster.run(cluster.client.create(kind, one))
    status = {"status": {"phase": "Running", "podIP": "10.42.0.7"}}
    cluster.run(cluster.client.patch(POD, "web", namespace, status, subresource="status"))
    return f"/api/v1/namespaces/{namespace}"


class Answer:
    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    def json(self) -> Any:
        return json.loads(self.body)


def tls(cluster: LiveCluster) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=cluster.pki.ca_pem.decode())
    context.check_hostname = False
    return context


def ask(cluster: LiveCluster, method: str, path: str, **options: Any) -> Answer:
    async def send() -> Answer:
        headers = {**cluster.bearer(), **options.pop("headers", {})}
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls(cluster))) as session,
            session.request(
                method,
                URL(cluster.url + path, encoded=True),
                headers=headers,
                allow_redirects=False,
                **options,
            ) as answer,
        ):
            return Answer(answer.status, answer.headers, await answer.read())

    return asyncio.run(send())


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_a_request_gets_to_the_pod_as_it_is(cluster: LiveCluster, web: str, method: str) -> None:
    path = f"{web}/pods/web:{PORT}/proxy/a%20b/c//d?x=1&y=%2F&status=418"
    body = None if method == "GET" else b"\x00\xff" * 50_000
    answer = ask(cluster, method, path, data=body, headers={"X-Own": "kept"})
    assert answer.status == 418
    said = answer.json()
    assert (said["method"], said["path"], said["query"]) == (method, "/a%20b/c//d", "x=1&y=%2F&status=418")
    assert said["body"] == ("" if body is None else body.decode("latin-1"))
    assert said["headers"]["x-own"] == "kept"
    assert said["headers"]["host"] == f"10.42.0.7:{PORT}"
    assert "authorization" not in said["headers"]


@pytest.mark.parametrize("name", ["web", "web:80", "web:http", "http:web:80", "http:web:http"])
def test_a_service_is_asked_by_port_and_name(cluster: LiveCluster, web: str, name: str) -> None:
    answer = ask(cluster, "GET", f"{web}/services/{name}/proxy/hello")
    assert (answer.status, answer.json()["path"]) == (200, "/hello")


def test_an_answer_of_unknown_length_is_passed_on(cluster: LiveCluster, web: str) -> None:
    answer = ask(cluster, "GET", f"{web}/services/web/proxy/chunks")
    assert len(answer.body) == 200_000


def test_head_has_no_body(cluster: LiveCluster, web: str) -> None:
    answer = ask(cluster, "HEAD", f"{web}/pods/web/proxy/hello")
    assert (answer.status, answer.body) == (200, b"")


def test_redirects_stay_within_the_proxy(cluster: LiveCluster, web: str) -> None:
    proxy = f"{web}/services/web:80/proxy"
    moved = ask(cluster, "GET", f"{proxy}/moved")
    assert (moved.status, moved.headers["Location"]) == (302, f"{proxy}/elsewhere?x=1")
    elsewhere = ask(cluster, "GET", f"{proxy}/moved?to=https://example.org/")
    assert elsewhere.headers["Location"] == "https://example.org/"
    bare = ask(cluster, "GET", f"{proxy}?a=b")
    assert (bare.status, bare.headers["Location"]) == (301, f"{proxy}/?a=b")


def test_a_websocket_passes(cluster: LiveCluster, web: str) -> None:
    async def shout() -> tuple[str | None, str]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls(cluster))) as session:
            url = f"{cluster.url}{web}/pods/web/proxy/socket"
            async with session.ws_connect(url, protocols=["shout"], headers=cluster.bearer()) as socket:
                await socket.send_str("hello")
                return socket.protocol, await socket.receive_str(timeout=30)

    assert asyncio.run(shout()) == ("shout", "HELLO")


def test_what_is_packed_goes_through_packed(cluster: LiveCluster, web: str) -> None:
    packed = {"Content-Encoding": "gzip", "X-Forwarded-For": "192.0.2.1"}
    answer = ask(cluster, "POST", f"{web}/pods/web/proxy/in", data=gzip.compress(b"hello"), headers=packed)
    assert answer.json()["body"] == "hello"  # unpacked by the server behind, as it was told
    assert answer.json()["headers"]["x-forwarded-for"] == "192.0.2.1, 127.0.0.1"
    other = {"Content-Encoding": "snappy"}
    assert (
        ask(cluster, "POST", f"{web}/pods/web/proxy/in", data=b"raw", headers=other).json()["body"] == "raw"
    )


def test_a_page_may_ask_first_what_is_allowed(cluster: LiveCluster, web: str) -> None:
    assert ask(cluster, "OPTIONS", f"{web}/pods/web/proxy/in").json()["method"] == "OPTIONS"


def test_a_token_in_a_subprotocol_goes_to_no_pod(cluster: LiveCluster, web: str) -> None:
    token = base64.urlsafe_b64encode(ADMIN_TOKEN.encode()).decode().rstrip("=")
    upgrade = {
        "Connection": "Upgrade", "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Protocol": f"shout, base64url.bearer.authorization.k8s.io.{token}",
    }  # fmt: skip
    refused = ask(cluster, "GET", f"{web}/pods/web/proxy/no-socket?status=403", headers=upgrade)
    assert refused.status == 403
    assert refused.json()["headers"]["sec-websocket-protocol"] == "shout"
    assert token.encode() not in refused.body


def test_kubectl_asks_by_raw_path_and_through_its_own_proxy(cluster: LiveCluster, web: str) -> None:
    said = json.loads(cluster.kubectl("get", "--raw", f"{web}/services/web:80/proxy/hello?x=1").stdout)
    assert (said["path"], said["query"]) == ("/hello", "x=1")
    proxy = cluster.popen("proxy", "--port=0")
    try:
        assert proxy.stdout is not None
        address = proxy.stdout.readline().split()[-1]
        with urllib.request.urlopen(f"http://{address}{web}/services/web/proxy/page", timeout=30) as answer:
            assert json.load(answer)["path"] == "/page"
    finally:
        proxy.kill()
        proxy.communicate()


@pytest.mark.parametrize(
    ("path", "code", "words"),
    [
        ("pods/nothing/proxy/", 404, 'pods "nothing" not found'),
        ("services/nothing/proxy/", 404, 'services "nothing" not found'),
        ("services/ftp:web:80/proxy/", 400, "invalid service request"),
        ("services/web:81/proxy/", 503, "no service port 81 found"),
        ("pods/web:9/proxy/", 503, "error trying to reach service"),
    ],
)
def test_what_cannot_be_reached_is_a_status(
    cluster: LiveCluster, web: str, path: str, code: int, words: str
) -> None:
    cluster.streams.behind[9] = 9  # where nobody listens
    answer = ask(cluster, "GET", f"{web}/{path}")
    assert (answer.status, answer.json()["kind"]) == (code, "Status")
    assert words in answer.json()["message"]


def test_a_node_answers_what_is_known_of_it(cluster: LiveCluster, web: str) -> None:
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"n-{web.rpartition('/')[2]}"}}
    name = cluster.run(cluster.client.create(NODE, node))["metadata"]["name"]
    assert ask(cluster, "GET", f"/api/v1/nodes/{name}/proxy/healthz").body == b"ok"
    assert ask(cluster, "GET", f"/api/v1/nodes/{name}:10250/proxy/pods").json()["items"] == []
    assert ask(cluster, "GET", "/api/v1/nodes/nothing/proxy/healthz").status == 404
    refused = ask(cluster, "GET", f"/api/v1/nodes/{name}/proxy/stats/summary")
    assert refused.status == 501
    assert "serves no /stats/summary" in refused.json()["message"]
