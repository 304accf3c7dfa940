"""One client asks for too much, or takes nothing: it is told so or cut, and the others are served."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from gitkube.objects.kinds import CLUSTER_ROLE_BINDING, FLOW_SCHEMA, PRIORITY_LEVEL_CONFIGURATION
from gitkube.server import watches
from gitkube.server.fairness import FLOW_SEATS
from tests.api.test_dialect import JSON, Caller, config_map
from tests.support.live_cluster import LiveCluster

PATIENCE_S = 30.0


@pytest.fixture
def root(cluster: LiveCluster) -> Caller:
    return Caller(cluster, cluster.pki.client_certificate("root", ["system:masters"]))


def of_ada(cluster: LiveCluster) -> Caller:
    return Caller(cluster, cluster.pki.client_certificate("ada", ["dev"]))


def refuse_ada_at_once(cluster: LiveCluster) -> None:
    """Ada may everything, but never waits: her requests are of a level that rejects."""
    binding: dict[str, Any] = {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "ada"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "ada"}],
    }  # fmt: skip
    limited = {"nominalConcurrencyShares": 1, "limitResponse": {"type": "Reject"}}
    level: dict[str, Any] = {
        "apiVersion": FLOW_SCHEMA.api_version, "kind": "PriorityLevelConfiguration",
        "metadata": {"name": "ada"}, "spec": {"type": "Limited", "limited": limited},
    }  # fmt: skip
    everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]}
    rule = {
        "subjects": [{"kind": "User", "user": {"name": "ada"}}],
        "resourceRules": [everything | {"clusterScope": True}],
    }
    schema: dict[str, Any] = {
        "apiVersion": FLOW_SCHEMA.api_version, "kind": "FlowSchema", "metadata": {"name": "ada"},
        "spec": {
            "priorityLevelConfiguration": {"name": "ada"}, "matchingPrecedence": 10,
            "distinguisherMethod": {"type": "ByUser"}, "rules": [rule],
        },
    }  # fmt: skip
    cluster.run(cluster.client.create(CLUSTER_ROLE_BINDING, binding))
    cluster.run(cluster.client.create(PRIORITY_LEVEL_CONFIGURATION, level))
    cluster.run(cluster.client.create(FLOW_SCHEMA, schema))


def begin_a_large_body(caller: Caller, namespace: str) -> http.client.HTTPSConnection:
    """A request that holds its place, for its body never comes."""
    connection = caller.connection
    connection.putrequest("POST", f"/api/v1/namespaces/{namespace}/configmaps")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", "1000000")
    connection.endheaders(b'{"apiVersion":"v1"')
    return connection


def test_who_holds_all_places_of_a_user_is_refused_and_nobody_else(
    cluster: LiveCluster, root: Caller, namespace: str
) -> None:
    refuse_ada_at_once(cluster)
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    assert of_ada(cluster)("GET", path).code == 200
    held = [begin_a_large_body(of_ada(cluster), namespace) for _ in range(FLOW_SEATS)]
    try:
        end_s = time.monotonic() + PATIENCE_S
        while (answer := of_ada(cluster)("GET", path)).code == 200 and time.monotonic() < end_s:
            time.sleep(0.05)  # the last of them may be on its way still
        assert (answer.code, answer.json["reason"]) == (429, "TooManyRequests")
        assert answer.headers["Retry-After"] == "1"
        assert root("GET", path).code == 200
    finally:
        for connection in held:
            connection.close()
    end_s = time.monotonic() + PATIENCE_S
    while of_ada(cluster)("GET", path).code != 200:
        assert time.monotonic() < end_s, "the places were not given back"
        time.sleep(0.05)


def test_an_answer_says_of_which_level_it_was(root: Caller) -> None:
    level = root("GET", f"/apis/{FLOW_SCHEMA.api_version}/prioritylevelconfigurations/exempt").json
    answer = root("GET", "/api/v1/namespaces/default")
    assert answer.headers["X-Kubernetes-PF-PriorityLevel-UID"] == level["metadata"]["uid"]
    assert answer.headers["X-Kubernetes-PF-FlowSchema-UID"]


def connect(cluster: LiveCluster, root: Caller, path: str) -> ssl.SSLSocket:
    """A connection on which a watch has been asked for, and nothing read."""
    host, port = cluster.url.removeprefix("https://").split(":")
    context: ssl.SSLContext = root.connection._context  # type: ignore[attr-defined]
    plain = socket.create_connection((host, int(port)), timeout=PATIENCE_S)
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection = context.wrap_socket(plain, server_hostname=host)
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return connection


def test_a_client_that_never_reads_its_watch_is_cut_and_the_others_see_everything(
    cluster: LiveCluster, root: Caller, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watches, "STALLED_AFTER_S", 3.0)
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    silent = connect(cluster, root, f"{path}?watch=1")
    events = 60
    seen: list[Any] = []
    reader = Caller(cluster, cluster.pki.client_certificate("reader", ["system:masters"]))
    version = root("GET", path).json["metadata"]["resourceVersion"]
    watched = f"{path}?watch=1&resourceVersion={version}"
    reading = threading.Thread(target=lambda: seen.extend(reader.lines(watched, events)))
    reading.start()
    for number in range(events):
        assert root("POST", path, config_map(f"m{number}", k="x" * 200_000), JSON).code == 201
    reading.join(PATIENCE_S)
    assert [event["object"]["metadata"]["name"] for event in seen] == [f"m{n}" for n in range(events)]
    end_s = time.monotonic() + PATIENCE_S
    while b"apiserver_longrunning_requests 0.0" not in root("GET", "/metrics").body:
        assert time.monotonic() < end_s, "the watch is still held"
        time.sleep(0.05)
    silent.close()


def test_a_server_that_stops_ends_its_watches_in_good_order(tmp_path: Path) -> None:
    with LiveCluster(tmp_path) as cluster:
        root = Caller(cluster, cluster.pki.client_certificate("root", ["system:masters"]))
        connection = connect(cluster, root, "/api/v1/namespaces/default/configmaps?watch=1")
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(4096)
    rest = head.partition(b"\r\n\r\n")[2]
    while data := connection.recv(4096):
        rest += data
    assert head.startswith(b"HTTP/1.1 200")
    assert rest.endswith(b"0\r\n\r\n")
