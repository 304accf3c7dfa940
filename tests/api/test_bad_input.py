"""Requests that are broken, hostile or too much: each gets the right Status, and the next one is served."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import tempfile
from typing import Any

import pytest

from tests.support.live_cluster import LiveCluster

JSON = "application/json"
YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"
DEEP = 10_000


class Caller:
    """Single requests as the administrator, sent exactly as they are written here."""

    def __init__(self, cluster: LiveCluster) -> None:
        credentials = cluster.pki.client_certificate("root", ["system:masters"])
        self.context = ssl.create_default_context(cadata=cluster.pki.ca_pem.decode())
        with tempfile.NamedTemporaryFile() as file:
            file.write(credentials.certificate + credentials.key)
            file.flush()
            self.context.load_cert_chain(file.name)
        host, port = cluster.url.removeprefix("https://").split(":")
        self.address = (host, int(port))
        self._connection = http.client.HTTPSConnection(*self.address, context=self.context, timeout=30)

    def __call__(self, method: str, path: str, body: bytes = b"", type: str = "") -> tuple[int, Any]:
        try:
            self._connection.request(method, path, body or None, {"Content-Type": type} if type else {})
            response = self._connection.getresponse()
        except (http.client.HTTPException, OSError):  # it may hang up on what it will not read
            self._connection.close()
            self._connection.request(method, path, body or None, {"Content-Type": type} if type else {})
            response = self._connection.getresponse()
        text = response.read()
        return response.status, json.loads(text) if text.startswith(b"{") else text

    def raw(self, data: bytes) -> bytes:
        """The first line of the answer to bytes that need not be HTTP."""
        with (
            socket.create_connection(self.address, timeout=30) as plain,
            self.context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
        ):
            connection.sendall(data)
            return connection.recv(65536).partition(b"\r\n")[0]


@pytest.fixture(scope="module")
def call(cluster: LiveCluster) -> Caller:
    return Caller(cluster)


def config_map(**more: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, **more}


def nested(depth: int) -> bytes:
    return b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":' + (
        b'{"a":' * depth + b"1" + b"}" * depth + b"}"
    )


def varint(number: int) -> bytes:
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])


def field(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def protobuf(message: bytes, kind: bytes = b"ConfigMap", version: bytes = b"v1") -> bytes:
    return b"k8s\x00" + field(1, field(1, version) + field(2, kind)) + field(2, message)


METADATA = field(1, field(1, b"a"))


def recursive(depth: int) -> bytes:
    """A schema in a CustomResourceDefinition, each the `items` of the one above."""
    schema = b""
    for _ in range(depth):
        schema = field(27, field(1, schema))
    return field(2, field(7, field(4, field(1, schema))))


BODIES: list[tuple[str, str, bytes, int]] = [
    ("JSON that is cut off", JSON, b'{"apiVersion":"v1","kind":"Conf', 400),
    ("nothing", JSON, b"", 400),
    ("a list", JSON, b"[]", 400),
    ("a text", JSON, b'"a"', 400),
    ("two documents", JSON, b"{}{}", 400),
    ("NaN", JSON, b'{"apiVersion":"v1","kind":"ConfigMap","data":{"a":NaN}}', 400),
    ("Infinity", JSON, b'{"apiVersion":"v1","kind":"ConfigMap","data":{"a":-Infinity}}', 400),
    ("a number beyond all floats", JSON, b'{"apiVersion":"v1","kind":"ConfigMap","data":1e999}', 400),
    ("JSON in UTF-16", JSON, json.dumps(config_map()).encode("utf-16"), 400),
    ("JSON in Latin-1", JSON, '{"kind":"ConfigMap","data":{"a":"é"}}'.encode("latin-1"), 400),
    ("half a surrogate", JSON, b'{"apiVersion":"v1","kind":"ConfigMap","data":{"a":"\\ud800"}}', 400),
    ("maps in maps in JSON", JSON, nested(DEEP), 400),
    ("lists in lists in JSON", JSON, b"[" * DEEP + b"]" * DEEP, 400),
    ("lists that never end", JSON, b"[" * 1_000_000, 400),
    ("maps in maps in YAML", YAML, b"a: " + b"{b: " * DEEP + b"1" + b"}" * DEEP, 400),
    ("lists in lists in YAML", YAML, b"[" * DEEP, 400),
    ("a deeply indented YAML", YAML, b"".join(b" " * n + b"a:\n" for n in range(1000)), 400),
    ("a YAML bomb", YAML, b"a: &a [x,x]\n" + b"".join(
        b"%c: &%c [*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c]\n" % (n + 1, n + 1, n, n, n, n, n, n, n, n)
        for n in range(97, 115)
    ), 400),
    ("YAML with a tag", YAML, b"!!python/object/apply:os.system ['true']", 400),
    ("YAML in UTF-16", YAML, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: 5}".encode("utf-16"), 400),
    ("YAML with a NUL", YAML, b"apiVersion: v1\x00", 400),
    ("another kind", JSON, b'{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"}}', 400),
    ("a kind that is a number", JSON, b'{"apiVersion":1,"kind":2,"metadata":{"name":"a"}}', 400),
    ("metadata that is a list", JSON, b'{"apiVersion":"v1","kind":"ConfigMap","metadata":[]}', 400),
    ("labels that are a list", JSON, json.dumps(config_map(metadata={"labels": [1]})).encode(), 400),
    ("a wrong media type", "text/plain", b"{}", 415),
    ("XML", "application/xml", b"<a/>", 415),
    ("a form", "application/x-www-form-urlencoded", b"a=b", 415),
    ("10,000 wrong labels", JSON, json.dumps(
        config_map(metadata={"name": "a", "labels": {f"-{n}": "!" for n in range(10_000)}})
    ).encode(), 422),
    ("protobuf without its head", PROTOBUF, b"\x0a\x00", 400),
    ("protobuf that is only its head", PROTOBUF, b"k8s\x00", 415),
    ("protobuf of an unknown kind", PROTOBUF, protobuf(b"", b"Nothing"), 415),
    ("protobuf that is cut off", PROTOBUF, protobuf(METADATA)[:-3], 400),
    ("protobuf longer than it is", PROTOBUF, b"k8s\x00" + varint(1 << 3 | 2) + varint(2**40), 400),
    ("a varint without end", PROTOBUF, protobuf(METADATA + b"\xff" * 64), 400),
    ("a group of protobuf", PROTOBUF, protobuf(METADATA + b"\x0b\x0c"), 400),
    ("a field of number 0", PROTOBUF, protobuf(METADATA + b"\x02\x00"), 400),
    ("a text that is no UTF-8", PROTOBUF, protobuf(field(1, field(1, b"\xff\xfe"))), 400),
]  # fmt: skip


@pytest.mark.parametrize(("what", "type", "body", "code"), BODIES, ids=[each[0] for each in BODIES])
def test_a_body_that_cannot_be_is_refused(
    call: Caller, namespace: str, what: str, type: str, body: bytes, code: int
) -> None:
    found, status = call("POST", f"/api/v1/namespaces/{namespace}/configmaps", body, type)
    assert (found, status["kind"], status["code"]) == (code, "Status", code), status
    assert len(status["message"]) < 100_000
    assert call("GET", "/version")[0] == 200


def test_protobuf_skips_what_it_does_not_know_and_takes_the_last_of_what_is_repeated(
    call: Caller, namespace: str
) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    unknown = field(2000, b"new") + varint(2001 << 3) + varint(7) + varint(2002 << 3 | 1) + b"x" * 8
    entry = field(2, field(1, b"k") + field(2, b"first")) + field(2, field(1, b"k") + field(2, b"last"))
    code, obj = call("POST", path, protobuf(METADATA + unknown + entry), PROTOBUF)
    assert (code, obj["metadata"]["name"], obj["data"]) == (201, "a", {"k": "last"})


def test_protobuf_that_contains_itself_is_refused(call: Caller) -> None:
    body = protobuf(recursive(DEEP), b"CustomResourceDefinition", b"apiextensions.k8s.io/v1")
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    code, status = call("POST", path, body, PROTOBUF)
    # Definitions are only read as JSON; 415 makes clients send that.
    assert (code, status["reason"]) == (415, "UnsupportedMediaType")
    body = nested(DEEP).replace(b'"data"', b'"binaryData"')
    assert call("POST", path, body, JSON)[0] == 400


@pytest.mark.parametrize("type", [JSON, YAML, PROTOBUF, MERGE, STRATEGIC, JSON_PATCH, APPLY])
def test_more_than_three_megabytes_are_413(call: Caller, namespace: str, type: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    body = b" " * (3 * 1024 * 1024 + 1)
    is_patch = "patch" in type
    query = "?fieldManager=x" if type == APPLY else ""
    code, status = call("PATCH" if is_patch else "POST", f"{path}/a{query}" if is_patch else path, body, type)
    assert (code, status["reason"]) == (413, "RequestEntityTooLarge")


@pytest.mark.parametrize(
    ("validation", "code"),
    [("Strict", 400), ("Warn", 201), ("Ignore", 201)],
    ids=["Strict", "Warn", "Ignore"],
)
def test_keys_that_stand_twice(call: Caller, namespace: str, validation: str, code: int) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps?fieldValidation={validation}"
    body = b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"k":"1","k":"2"}}'
    found, status = call("POST", path, body, JSON)
    assert found == code
    if code == 400:
        assert 'duplicate field "data.k"' in status["message"]
    else:
        assert status["data"] == {"k": "2"}


@pytest.mark.parametrize(
    "name",
    ["..", ".", "a/b", "a%b", "A", "a b", "a\u0000", "a\n", "ä", "a\u202eb", "a\u200b", "", "-", "x" * 254],
)
def test_a_hostile_name_is_refused(call: Caller, namespace: str, name: str) -> None:
    body = json.dumps(config_map(metadata={"name": name})).encode()
    code, status = call("POST", f"/api/v1/namespaces/{namespace}/configmaps", body, JSON)
    assert (code, status["reason"]) == (422, "Invalid")


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/namespaces/default/configmaps/..",
        "/api/v1/namespaces/default/configmaps/%2e%2e",
        "/api/v1/namespaces/default/configmaps/..%2f..%2fsecrets",
        "/api/v1/namespaces/default%2fconfigmaps/a",
        "/api/v1/namespaces/../../v1/secrets",
        "/api/v1/namespaces/default/configmaps/a%00",
        "/api/v1/namespaces/default/configmaps/%ff",
        "/api/v1/namespaces/default/configmaps/a%0d%0aX-Evil:%201",
        "/api/v1/namespaces/default/configmaps/" + "a" * 5000,
        "//api/v1/namespaces",
        "/api/v1/namespaces/default/pods/a/log/../exec",
    ],
)
def test_a_hostile_path_finds_nothing(call: Caller, path: str) -> None:
    line = call.raw(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert line.split(b" ")[1] in (b"404", b"400")


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 200_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-A: a\x00b\r\n\r\n",
    ],
)
def test_what_is_no_http_is_answered_or_hung_up_on(call: Caller, data: bytes) -> None:
    line = call.raw(data)
    assert not line or line.split(b" ")[1].startswith(b"4"), line
    assert call("GET", "/version")[0] == 200


@pytest.mark.parametrize(
    ("type", "body", "code"),
    [
        (JSON_PATCH, b"{}", 400),
        (JSON_PATCH, b'[{"op":"explode","path":"/data"}]', 400),
        (JSON_PATCH, b'[{"op":"remove","path":"/data/none"}]', 422),
        (JSON_PATCH, b'[{"op":"add","path":"' + b"/a" * DEEP + b'","value":1}]', 422),
        (JSON_PATCH, json.dumps([{"op": "test", "path": "/data/k", "value": "no"}]).encode(), 422),
        (JSON_PATCH, json.dumps([{"op": "add", "path": "/data/x", "value": "1"}] * 10_001).encode(), 413),
        (JSON_PATCH, json.dumps([{"op": "copy", "from": "", "path": "/data/x"}] * 60).encode(), 422),
        (MERGE, b"[]", 400),
        (MERGE, b'{"data":' + b'{"a":' * DEEP + b"1" + b"}" * (DEEP + 1), 400),
        (MERGE, b'{"metadata":null}', 400),
        (MERGE, b'{"metadata":{"name":"b"}}', 400),
        (MERGE, b'{"data":7}', 400),
        (STRATEGIC, b'{"$patch":"explode"}', 400),
        (STRATEGIC, b'{"data":{"$retainKeys":7}}', 400),
        (STRATEGIC, b'{"metadata":{"$deleteFromPrimitiveList/finalizers":7}}', 400),
        (APPLY, b"- a", 400),
        (APPLY, b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}", 400),
        (APPLY, b"a: &a [*a]", 400),
        ("application/json", b"{}", 415),
        ("", b"{}", 415),
    ],
)  # fmt: skip
def test_a_patch_that_cannot_be_is_refused(
    call: Caller, namespace: str, type: str, body: bytes, code: int
) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    call("POST", path, json.dumps(config_map(data={"k": "v"})).encode(), JSON)
    query = "?fieldManager=x" if type == APPLY else ""
    found, status = call("PATCH", f"{path}/a{query}", body, type)
    assert found in (code, 422 if code == 400 else code), status
    assert call("GET", f"{path}/a")[1]["data"] == {"k": "v"}
