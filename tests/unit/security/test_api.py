"""The API's door: nobody, somebody unknown, and requests that are made to break it."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from gitkube.api.errors import StatusError
from gitkube.server.bodies import MAX_BODY_BYTES
from gitkube.server.paths import parse_path
from tests.api.test_dialect import JSON, Caller, config_map
from tests.support.live_cluster import LiveCluster

MAPS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveCluster]:
    with LiveCluster(tmp_path_factory.mktemp("door")) as live:
        yield live


@pytest.fixture
def call(cluster: LiveCluster) -> Caller:
    return Caller(cluster, cluster.pki.client_certificate("root", ["system:masters"]))


# ------------------------------------------------------------ who

EVERYTHING = [
    ("GET", "/api"), ("GET", "/apis"), ("GET", MAPS), ("POST", MAPS), ("DELETE", MAPS + "/a"),
    ("PATCH", MAPS + "/a"),
    ("GET", "/api/v1/secrets"), ("GET", "/api/v1/namespaces/default/secrets?watch=1"), ("GET", "/metrics"),
    ("GET", "/openapi/v2"), ("GET", "/api/v1/namespaces/default/pods/x/exec?command=id"), ("GET", "/"),
    ("GET", "/healthz/../api"), ("GET", "//healthz/"), ("GET", "/healthz%2f..%2fapi"), ("GET", "/version/"),
    ("GET", "/api/v1/namespaces/default/pods/x/portforward"), ("CONNECT", "/api"), ("GET", "/healthz;/api"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), EVERYTHING)
def test_nobody_gets_nothing_but_health_and_version(cluster: LiveCluster, method: str, path: str) -> None:
    answer = Caller(cluster, None)(method, path, {} if method == "POST" else None, JSON)
    if path == "/version/":
        assert answer.code == 200 and "gitVersion" in answer.json
    else:
        assert answer.code in (400, 403, 404), (answer.code, answer.body)
        assert b'"items"' not in answer.body


@pytest.mark.parametrize(
    ("name", "groups"),
    [("eve", []), ("system:admin", []), ("system:masters", []),
     ("eve", ["system:masters2", "SYSTEM:MASTERS"]),
     ("eve", ["system:masters "]), ("eve", ["system:nodes", "system"]), ("root", ["masters"])],
)  # fmt: skip
def test_a_name_or_a_group_that_is_only_alike_has_no_right(
    cluster: LiveCluster, name: str, groups: list[str]
) -> None:
    caller = Caller(cluster, cluster.pki.client_certificate(name, groups))
    for method, path in (("GET", MAPS), ("POST", MAPS), ("GET", "/api/v1/secrets"), ("DELETE", MAPS + "/a")):
        assert caller(method, path, {} if method == "POST" else None, JSON).code == 403
    exec_path = "/api/v1/namespaces/default/pods/x/exec?command=id&stdout=1"
    assert caller("POST", exec_path).code == 403


@pytest.mark.parametrize("header", ["Authorization", "X-Remote-User", "Impersonate-User", "X-Forwarded-User"])
def test_a_header_makes_nobody_somebody(cluster: LiveCluster, header: str) -> None:
    for value in ("Bearer x", "Basic cm9vdDpyb290", "system:admin", "kubernetes-admin"):
        headers = {header: value, "X-Remote-Group": "system:masters", "Impersonate-Group": "system:masters"}
        assert Caller(cluster, None)("GET", MAPS, None, headers).code in (400, 401, 403)
        eve = Caller(cluster, cluster.pki.client_certificate("eve", []))
        assert eve("GET", MAPS, None, headers).code in (400, 403)


def test_old_tls_is_not_spoken(cluster: LiveCluster) -> None:
    context = ssl.create_default_context(cadata=cluster.pki.ca_pem.decode())
    with warnings.catch_warnings(action="ignore"):  # Python, too, knows that these are old
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    host, port = cluster.url.removeprefix("https://").split(":")
    with socket.create_connection((host, int(port)), 5) as plain, pytest.raises((ssl.SSLError, OSError)):
        context.wrap_socket(plain, server_hostname=host)


# ------------------------------------------------------------ where

PATHS = ["a%2Fb", "..%2F..%2Fsecrets", "%2e%2e", "%2E", "a%00b", "%ff%fe", "a%0ab", "a%0d%0aSet-Cookie:x",
         "..",
         "a%252Fb", "%E2%80%AE", "a\\b", "a;b", "*", "a" * 4_500]  # fmt: skip


@pytest.mark.parametrize("name", PATHS)
def test_a_name_in_a_path_names_one_object_or_none(call: Caller, name: str) -> None:
    for path in (f"{MAPS}/{name}", f"/api/v1/namespaces/{name}/configmaps/a", f"/api/v1/namespaces/{name}"):
        for method in ("GET", "DELETE", "PATCH", "PUT"):
            headers = {"Content-Type": "application/merge-patch+json"} if method == "PATCH" else JSON
            body = None if method in ("GET", "DELETE") else config_map("a")
            answer = call(method, path, body, headers)
            assert 400 <= answer.code < 500, (method, path, answer.code, answer.body)
            assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "a\0b", "a b", "A", "x/", ".", "..", "a\n", "-a", "a" * 254, "a\u202e"]
)
def test_an_object_cannot_be_made_under_a_name_that_is_a_path(call: Caller, name: str) -> None:
    for method, path in (("POST", MAPS), ("PATCH", f"{MAPS}/x?fieldManager=t")):
        headers = JSON if method == "POST" else {"Content-Type": "application/apply-patch+yaml"}
        assert 400 <= call(method, path, config_map(name), headers).code < 500
    body = {**config_map("a"), "metadata": {"name": "a", "namespace": name}}
    assert 400 <= call("POST", MAPS, body, JSON).code < 500


@pytest.mark.parametrize("part", ["a%2Fb", "..%2Fx", "%2e%2e", "%2E", "..", "."])
def test_an_encoded_slash_or_dot_never_becomes_part_of_the_way(part: str) -> None:
    for path in (f"{MAPS}/{part}", f"/api/v1/namespaces/{part}/configmaps/a", f"/api/v1/nodes/{part}"):
        with pytest.raises(StatusError) as refused:
            parse_path(path)
        assert refused.value.code == 404


# ------------------------------------------------------------ how much

DEPTHS = [64, 400, 900, 1_500, 200_000]


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("validation", ["Ignore", "Warn", "Strict"])
def test_depth_without_end_is_refused_and_the_next_request_is_answered(
    call: Caller, depth: int, validation: str
) -> None:
    call("POST", MAPS, config_map("deep"), JSON)
    maps, lists = b'{"a":' * depth + b"1" + b"}" * depth, b"[" * depth + b"]" * depth
    head = b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"deep","annotations":'
    query = f"?fieldManager=t&fieldValidation={validation}"
    for deep in (maps, lists):
        whole = head + deep + b"}}"
        requests = [
            ("POST", MAPS, whole, "application/json"), ("PUT", f"{MAPS}/deep", whole, "application/json"),
            ("PATCH", f"{MAPS}/deep", whole, "application/merge-patch+json"),
            ("PATCH", f"{MAPS}/deep", whole, "application/strategic-merge-patch+json"),
            ("PATCH", f"{MAPS}/deep", whole, "application/apply-patch+yaml"),
            ("PATCH", f"{MAPS}/deep", b'[{"op":"add","path":"/data","value":' + deep + b"}]",
             "application/json-patch+json"),
            ("POST", MAPS, whole, "application/yaml"),
        ]  # fmt: skip
        for method, path, body, kind in requests:
            if len(body) > MAX_BODY_BYTES:
                continue
            answer = call(method, path + query, body, {"Content-Type": kind})
            assert 400 <= answer.code < 500, (method, kind, answer.code, answer.body[:300])
    assert call("GET", f"{MAPS}/deep").code == 200


def test_a_key_twice_is_an_error_or_a_warning_but_never_two_opinions(call: Caller) -> None:
    metadata, data = b'"metadata":{"name":"twice","name":"other"}', b'"data":{"a":"1","a":"2"}'
    body = b'{"apiVersion":"v1","kind":"ConfigMap",' + metadata + b"," + data + b"}"
    refused = call("POST", MAPS + "?fieldValidation=Strict", body, JSON)
    assert refused.code == 400 and 'duplicate field "metadata.name"' in refused.json["message"]
    warned = call("POST", MAPS + "?fieldValidation=Warn", body, JSON)
    assert warned.code == 201 and "duplicate" in warned.headers["Warning"]
    assert (warned.json["metadata"]["name"], warned.json["data"]) == ("other", {"a": "2"})
    for kind in ("merge-patch+json", "strategic-merge-patch+json", "apply-patch+yaml"):
        patch = body.replace(b'"name":"twice",', b"")
        path = f"{MAPS}/other?fieldValidation=Strict&fieldManager=t"
        assert call("PATCH", path, patch, {"Content-Type": f"application/{kind}"}).code == 400, kind


@pytest.mark.parametrize("chunked", [True, False])
def test_a_body_over_the_limit_is_refused_while_it_arrives(
    cluster: LiveCluster, call: Caller, chunked: bool
) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(200):
            yield b" " * 65_536

    connection = call.connection
    try:
        if chunked:
            connection.request("POST", MAPS, endless(), JSON, encode_chunked=True)
        else:
            connection.request("POST", MAPS, b" " * (MAX_BODY_BYTES + 1), JSON)
        assert connection.getresponse().status == 413
    except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
        pass  # it was closed before all of it was sent
    assert Caller(cluster, None)("GET", "/healthz").code == 200


@pytest.mark.parametrize(
    "headers",
    [{"X-Long": "a" * 100_000}, {f"X-{n}": "a" for n in range(5_000)},
     {"Accept": "application/json," * 8_000},
     {"Content-Encoding": "gzip"}, {"Content-Length": "-1"}, {"Content-Length": "99999999999999999999"},
     {"Transfer-Encoding": "chunked, chunked"}, {"Cookie": "a=" + "b" * 70_000}],
)  # fmt: skip
def test_headers_without_end_or_sense_break_one_request_only(
    cluster: LiveCluster, headers: dict[str, str]
) -> None:
    caller = Caller(cluster, None)
    with contextlib.suppress(http.client.HTTPException, OSError):  # it may hang up
        assert caller("POST", MAPS, b"{}", {**JSON, **headers}).code in (400, 403, 413, 431)
    assert Caller(cluster, None)("GET", "/healthz").code == 200


def test_a_body_that_unfolds_is_not_unfolded(cluster: LiveCluster, call: Caller) -> None:
    import gzip

    bomb = gzip.compress(b" " * 50_000_000)
    try:
        answer = call("POST", MAPS, bomb, {**JSON, "Content-Encoding": "gzip"})
        assert answer.code in (400, 413, 415)
    except (http.client.HTTPException, OSError):
        pass
    assert Caller(cluster, None)("GET", "/healthz").code == 200


def test_a_yaml_bomb_in_a_request_is_refused(call: Caller) -> None:
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    for kind in ("application/yaml", "application/apply-patch+yaml"):
        method, path = ("POST", MAPS) if kind == "application/yaml" else ("PATCH", f"{MAPS}/x?fieldManager=t")
        answer = call(method, path, "\n".join(lines).encode(), {"Content-Type": kind})
        assert answer.code == 400 and "expanded" in answer.json["message"]


def test_a_selector_or_a_token_made_to_break_is_a_bad_request(call: Caller) -> None:
    for query in (
        "labelSelector=a=(", "labelSelector=" + "a," * 3_000, "fieldSelector=a", "continue=x", "limit=-1",
        "limit=x", "resourceVersion=x", "continue=" + "A" * 3_000, "watch=1&resourceVersion=x",
    ):  # fmt: skip
        answer = call("GET", f"{MAPS}?{query}")
        assert answer.code in (200, 400, 410), (query, answer.code, answer.body)
    assert call("GET", MAPS).code == 200


# ------------------------------------------------------------ what is never told


def test_a_secret_is_in_no_refusal_and_no_other_answer(call: Caller) -> None:
    canary = "hunter2canary"
    secrets = "/api/v1/namespaces/default/secrets"
    secret: dict[str, Any] = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}
    answers = [
        call("POST", secrets, {**secret, "data": {"p": canary + "!"}}, JSON),
        call("POST", secrets, {**secret, "data": {"p": {"x": canary}}}, JSON),
        call("POST", secrets, {**secret, "stringData": {"a b": canary}}, JSON),
        call("POST", secrets, {**secret, "type": "kubernetes.io/dockerconfigjson",
                               "stringData": {".dockerconfigjson": canary}}, JSON),
        call("POST", secrets, {**secret, "stringData": [canary]}, JSON),
        call("POST", secrets + "?fieldValidation=Strict",
             {**secret, "stringData": {"p": canary}, "x": 1}, JSON),
    ]  # fmt: skip
    for answer in answers:
        assert 400 <= answer.code < 500
        assert canary.encode() not in answer.body, answer.body
    assert call("POST", secrets, {**secret, "stringData": {"p": canary}, "immutable": True}, JSON).code == 201
    changed = {**secret, "stringData": {"p": canary + "2"}, "immutable": True}
    refused = call("PUT", secrets + "/s", changed, JSON)
    assert refused.code == 422 and canary.encode() not in refused.body
    assert json.loads(call("GET", secrets + "/s").body)["data"]["p"]
    table = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    shown = call("GET", secrets + "?includeObject=None", None, table)
    import base64

    assert base64.b64encode(canary.encode()).rstrip(b"=") not in shown.body
    assert call("DELETE", secrets + "/s").code == 200
