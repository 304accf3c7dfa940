"""Denied by default, over HTTP: every path, every method, whoever has no role or one for something else."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from gitkube.objects.kinds import CLUSTER_ROLE, CLUSTER_ROLE_BINDING, SERVED, Kind
from tests.api.test_dialect import JSON, Caller
from tests.support.live_cluster import LiveCluster

GROUP = "rbac.authorization.k8s.io"
OWN = ("selfsubjectreviews", "selfsubjectaccessreviews", "selfsubjectrulesreviews")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveCluster]:
    with LiveCluster(tmp_path_factory.mktemp("rights")) as live:
        events = {
            "verbs": ["list", "create", "patch"],
            "apiGroups": ["events.k8s.io"],
            "resources": ["events"],
        }
        rules = [
            events,
            {"verbs": ["get", "list", "watch"], "apiGroups": [""], "resources": ["pods"]},
            {"verbs": ["*"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["mine"]},
        ]
        role = {"metadata": {"name": "reader"}, "rules": rules}
        ref = {"apiGroup": GROUP, "kind": "ClusterRole", "name": "reader"}
        subjects = [{"kind": "User", "apiGroup": GROUP, "name": "reader"}]
        binding = {"metadata": {"name": "reader"}, "roleRef": ref, "subjects": subjects}
        live.run(live.client.create(CLUSTER_ROLE, role))
        live.run(live.client.create(CLUSTER_ROLE_BINDING, binding))
        yield live


def paths(kind: Kind) -> Iterator[tuple[str, str]]:
    """Method and path of everything that can be asked of a kind."""
    root = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
    base = f"{root}/namespaces/default/{kind.plural}" if kind.namespaced else f"{root}/{kind.plural}"
    yield from ((method, base) for method in ("GET", "POST", "DELETE"))
    yield "GET", f"{base}?watch=1&timeoutSeconds=1"
    if kind.namespaced:
        yield "GET", f"{root}/{kind.plural}"
    for name in ("x", *(f"x/{subresource}" for subresource in (*kind.subresources, "nothing"))):
        yield from ((method, f"{base}/{name}") for method in ("GET", "POST", "PUT", "PATCH", "DELETE"))


MORE = [
    ("GET", "/"), ("GET", "/metrics"), ("POST", "/healthz"), ("GET", "/openid/v1/jwks"), ("GET", "/x"),
    ("GET", "/.well-known/openid-configuration"), ("GET", "/api/v1/things"), ("GET", "/apis/x.y/v1/things"),
    ("GET", "/api/v1/namespaces/default/things/x"), ("PUT", "/api"), ("DELETE", "/apis/apps/v1"),
    ("GET", "/api/v1/nodes/x/proxy/metrics"), ("GET", "/api/v1/namespaces/default/services/x/proxy"),
    ("GET", "/api/v1/watch/pods"), ("POST", "/api/v1/namespaces/default/bindings"),
]  # fmt: skip


def test_who_has_no_role_is_refused_everywhere_before_anything_is_looked_up(cluster: LiveCluster) -> None:
    callers = {
        "eve": Caller(cluster, cluster.pki.client_certificate("eve", ["team"])),
        "half a node": Caller(cluster, cluster.pki.client_certificate("system:node:a", ["team"])),
        "a node's group": Caller(cluster, cluster.pki.client_certificate("a", ["system:nodes"])),
        "nobody": Caller(cluster, None),
    }
    asked = [(kind, *path) for kind in SERVED for path in paths(kind)]
    for who, call in callers.items():
        for kind, method, path in asked:
            if kind.plural in OWN and method == "POST" and who != "nobody":
                continue  # everybody may ask about themselves
            answer = call(method, path, {} if method in ("POST", "PUT", "PATCH") else None, JSON)
            assert answer.code == 403, (who, method, path, answer.code, answer.body[:200])
        for method, path in MORE:
            assert call(method, path).code == 403, (who, method, path)


def test_a_role_opens_what_it_names_and_nothing_beside_it(cluster: LiveCluster) -> None:
    call = Caller(cluster, cluster.pki.client_certificate("reader", []))
    pods, secrets = "/api/v1/namespaces/default/pods", "/api/v1/namespaces/default/secrets"
    for path in (pods, "/api/v1/pods", f"{secrets}?fieldSelector=metadata.name%3Dmine"):
        assert call("GET", path).code == 200, path
    for path in (f"{pods}/x", f"{secrets}/mine"):
        assert call("GET", path).code == 404, path
    for method, path in (
        ("POST", pods), ("DELETE", pods), ("DELETE", f"{pods}/x"), ("PATCH", f"{pods}/x"),
        ("GET", f"{pods}/x/log"), ("GET", f"{pods}/x/exec?command=id"), ("POST", f"{pods}/x/exec?command=id"),
        ("GET", f"{pods}/x/status"), ("POST", f"{pods}/x/eviction"), ("GET", f"{pods}/x/portforward"),
        ("GET", secrets), ("GET", f"{secrets}/other"), ("POST", secrets), ("DELETE", secrets),
        ("GET", f"{secrets}?watch=1"), ("GET", f"{secrets}?fieldSelector=metadata.name!%3Dother"),
        ("GET", f"{secrets}?fieldSelector=metadata.name%3Dother"),
        ("GET", f"{secrets}?fieldSelector=metadata.name%3Dother,metadata.name%3Dmine"),
        ("GET", "/api/v1/namespaces/default/podtemplates"), ("GET", "/apis/apps/v1/pods"),
        ("GET", "/api/v1/namespaces/default/configmaps"), ("GET", "/metrics"),
    ):  # fmt: skip
        answer = call(method, path, {} if method in ("POST", "PATCH") else None, JSON)
        assert answer.code == 403, (method, path, answer.code, answer.body[:200])


def test_of_two_groups_with_the_same_things_each_needs_its_own_right(cluster: LiveCluster) -> None:
    call = Caller(cluster, cluster.pki.client_certificate("reader", []))
    newer, older = "/apis/events.k8s.io/v1/namespaces/default/events", "/api/v1/namespaces/default/events"
    event = {
        "metadata": {"name": "e"}, "eventTime": "2026-01-01T00:00:00.000000Z", "action": "a", "reason": "r",
        "type": "Normal", "reportingController": "c", "reportingInstance": "i",
        "regarding": {"kind": "Pod", "namespace": "default", "name": "x"},
    }  # fmt: skip
    assert call("POST", newer, event, JSON).code == 201
    series = {"series": {"count": 2, "lastObservedTime": "2026-01-01T00:00:01.000000Z"}}
    merge = {"Content-Type": "application/merge-patch+json"}
    patched = call("PATCH", f"{newer}/e", series, merge)
    assert patched.code == 200, patched.body
    assert call("GET", newer).code == 200
    for method, path in (("GET", older), ("GET", f"{newer}/e"), ("DELETE", f"{newer}/e"), ("POST", older),
                         ("GET", f"{newer}?watch=1"), ("DELETE", newer), ("PUT", f"{newer}/e")):  # fmt: skip
        assert call(method, path, event if method in ("POST", "PUT") else None, JSON).code == 403, path


def test_a_refusal_does_not_tell_whether_the_thing_is_there(cluster: LiveCluster) -> None:
    eve = Caller(cluster, cluster.pki.client_certificate("eve", []))
    root = Caller(cluster, cluster.pki.client_certificate("root", ["system:masters"]))
    secrets = "/api/v1/namespaces/default/secrets"
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "there"}}
    assert root("POST", secrets, secret, JSON).code == 201
    for method in ("GET", "DELETE", "PUT", "PATCH"):
        answers = [
            eve(method, f"{secrets}/{name}", secret if method in ("PUT", "PATCH") else None, JSON)
            for name in ("there", "gone!")
        ]
        texts = [json.dumps(answer.json).replace("gone!", "there") for answer in answers]
        assert texts[0] == texts[1] and answers[0].code == 403
