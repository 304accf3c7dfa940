"""A pod that asks the API, as operators do: its token, its rights, the certificate, and nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.demo_cluster import DemoCluster, is_ready, until
from tests.support.files import contents_below

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0, reason="a lab is made of namespaces and mounts, which need root"),
]

NAMESPACE = "operators"
MANIFEST = """\
apiVersion: v1
kind: Namespace
metadata: {name: operators}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: operator, namespace: operators}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: operators}
rules: [{apiGroups: [""], resources: [pods], verbs: [list, watch]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader, namespace: operators}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: operator, namespace: operators}]
---
apiVersion: v1
kind: Pod
metadata: {name: asker, namespace: operators}
spec:
  serviceAccountName: operator
  terminationGracePeriodSeconds: 0
  containers:
    - {name: main, image: "registry.lab:5000/guestbook-web:1", command: [sleep, "86397"]}
---
apiVersion: v1
kind: Pod
metadata: {name: nobody, namespace: operators}
spec:
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 0
  containers:
    - {name: main, image: "registry.lab:5000/guestbook-web:1", command: [sleep, "86397"]}
"""
PROGRAM = """\
import json, os, ssl, sys, urllib.error, urllib.request
where = "/var/run/secrets/kubernetes.io/serviceaccount/"
context = ssl.create_default_context(cafile=where + "ca.crt")
token = open(where + "token").read()
found = {"namespace": open(where + "namespace").read(), "host": os.environ["KUBERNETES_SERVICE_HOST"]}
for path in sys.argv[1:]:
    request = urllib.request.Request(path, headers={"Authorization": "Bearer " + token})
    try:
        with urllib.request.urlopen(request, context=context, timeout=60) as answer:
            found[path] = [answer.status, json.load(answer)]
    except urllib.error.HTTPError as error:
        found[path] = [error.code, json.load(error)]
print(json.dumps(found))
"""
API = "https://kubernetes.default.svc"


class Asker:
    def __init__(self, cluster: DemoCluster) -> None:
        self.cluster = cluster

    def __call__(self, *paths: str) -> dict[str, Any]:
        words = ("exec", "-n", NAMESPACE, "asker", "--", "python3", "-c", PROGRAM, *paths)
        found: dict[str, Any] = json.loads(self.cluster.kubectl(*words))
        return found

    def pod(self, name: str) -> dict[str, Any]:
        return next((one for one in self.cluster.pods(NAMESPACE) if one["metadata"]["name"] == name), {})


@pytest.fixture(scope="module")
def asker(cluster: DemoCluster) -> Iterator[Asker]:
    cluster.kubectl("apply", "-f", "-", stdin=MANIFEST)
    made = Asker(cluster)
    for name in ("asker", "nobody"):
        until(lambda name=name: is_ready(made.pod(name)), what=f"the pod {name}")
    yield made
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def test_a_pod_asks_the_api_by_its_name_and_may_what_its_account_may(asker: Asker) -> None:
    pods, secrets, version = (
        f"{API}/api/v1/namespaces/{NAMESPACE}/pods",
        f"{API}/api/v1/namespaces/{NAMESPACE}/secrets",
        "https://10.43.0.1/version",
    )
    found = asker(pods, secrets, version)
    assert (found["namespace"], found["host"]) == (NAMESPACE, "10.43.0.1")
    assert found[pods][0] == 200
    assert {one["metadata"]["name"] for one in found[pods][1]["items"]} == {"asker", "nobody"}
    assert found[secrets][0] == 403
    assert f'"system:serviceaccount:{NAMESPACE}:operator"' in found[secrets][1]["message"]
    assert found[version][0] == 200


def test_a_pod_that_wants_no_token_has_none(asker: Asker) -> None:
    words = ("exec", "-n", NAMESPACE, "nobody", "--", "ls", "/var/run/secrets/kubernetes.io")
    assert "No such file" in asker.cluster.kubectl(*words, check=False)


def test_no_token_lies_on_a_disk_of_any_host(asker: Asker) -> None:
    words = ("exec", "-n", NAMESPACE, "asker", "--", "cat")
    token = asker.cluster.kubectl(*words, "/var/run/secrets/kubernetes.io/serviceaccount/token").strip()
    assert token.count(".") == 2
    disks = asker.cluster.demo.directory
    # A tmpfs that is mounted inside of a host is not seen from outside, so this is what survives a power cut.
    for path, _, data in contents_below(disks):
        assert token.encode() not in data, path
