"""kubectl 1.30, seven releases older than what we serve: people's tools are not renewed with the cluster.

It asks for older forms of discovery, sends JSON where newer ones send protobuf.
"""

from __future__ import annotations

import shlex

import pytest

from tests.support import tools
from tests.support.live_cluster import LiveCluster

CONFIG = """
apiVersion: v1
kind: ConfigMap
metadata: {name: one}
data: {colour: green}
"""


@pytest.fixture(scope="module")
def program() -> str:
    return tools.needed(tools.older_kubectl_path(), "kubectl 1.30")


class Older:
    def __init__(self, cluster: LiveCluster, program: str, namespace: str) -> None:
        self._cluster, self._start = cluster, (program, "-n", namespace)

    def __call__(self, line: str, input: str | None = None, code: int = 0) -> str:
        done = self._cluster.call(*self._start, *shlex.split(line), input=input, check=False)
        assert done.returncode == code, f"kubectl {line}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr


@pytest.fixture
def kubectl(working: LiveCluster, shop: str, program: str) -> Older:
    return Older(working, program, shop)


def test_objects_are_made_changed_watched_and_deleted(kubectl: Older) -> None:
    assert "1.37" in kubectl("version")
    kubectl("create deployment web --image=web:1 --replicas=2")
    assert "successfully rolled out" in kubectl("rollout status deploy/web --timeout=60s")
    assert "created" in kubectl("apply -f -", CONFIG)
    assert kubectl("diff -f -", CONFIG) == ""
    assert "configured" in kubectl("apply -f -", CONFIG.replace("green", "blue"))
    assert "serverside-applied" in kubectl("apply --server-side -f -", CONFIG.replace("green", "red"))
    kubectl("scale deploy/web --replicas=1")
    kubectl("set image deploy/web *=web:2")
    assert "successfully rolled out" in kubectl("rollout status deploy/web --timeout=60s")
    assert "rolled back" in kubectl("rollout undo deploy/web")
    assert "web" in kubectl("get deploy,pods -o wide")
    assert "Ready" in kubectl("describe nodes")
    assert "FIELDS" in kubectl("explain deployment.spec")
    assert "autoscaled" in kubectl("autoscale deployment web --max=4 --cpu-percent=60")
    assert "deleted" in kubectl("delete deploy,hpa web --wait")


def test_pods_are_entered(kubectl: Older) -> None:
    kubectl("run p --image=web:1")
    kubectl("wait pod/p --for=condition=Ready --timeout=60s")
    assert kubectl("exec -i p -- cat", "in\n") == "in\n"
    assert "exit code 7" in kubectl("exec p -- fail 7", code=7)
    assert kubectl("logs p --tail=1") == "three\n"
