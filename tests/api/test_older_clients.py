"""kubectl 1.30, seven releases older than what we serve: people's tools are not renewed with the cluster.

It asks for older forms of discovery, sends JSON where newer ones send protobuf, and upgrades to SPDY where
newer ones open a WebSocket.
"""

from __future__ import annotations

import json
import shlex
import urllib.request
from collections.abc import Iterator

import pytest

from tests.support import tools
from tests.support.echo_server import start_echo
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

    def __call__(
        self, line: str, input: str | None = None, code: int = 0, environment: dict[str, str] | None = None
    ) -> str:
        words = shlex.split(line)
        done = self._cluster.call(*self._start, *words, input=input, check=False, environment=environment)
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


@pytest.mark.parametrize("websockets", ["true", "false"])
def test_pods_are_entered(kubectl: Older, websockets: str) -> None:
    kubectl("run p --image=web:1")
    kubectl("wait pod/p --for=condition=Ready --timeout=60s")
    way = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": websockets}
    assert kubectl("exec p -- echo hello", environment=way) == "hello\n"
    assert kubectl("exec p -- both", environment=way) == "out\nerr\n"
    much = "0123456789abcde\n" * 20_000
    assert kubectl("exec -i p -- cat", much, environment=way) == much
    assert "exit code 7" in kubectl("exec p -- fail 7", code=7, environment=way)
    assert "no such file" in kubectl("exec p -- nothing", code=1, environment=way)
    assert "in\n" in kubectl("attach -i p", "in\n", environment=way)
    assert kubectl("logs p --tail=1") == "three\n"


@pytest.fixture
def behind(working: LiveCluster) -> Iterator[int]:
    """The port of pods behind which a web server stands."""
    runner, port = working.run(start_echo())
    working.streams.behind[8080] = port
    yield 8080
    del working.streams.behind[8080]
    working.run(runner.cleanup())


def test_a_port_is_forwarded_without_a_websocket(
    working: LiveCluster, shop: str, program: str, kubectl: Older, behind: int
) -> None:
    kubectl("run p --image=web:1")
    kubectl("wait pod/p --for=condition=Ready --timeout=60s")
    forward = working.start(program, "-n", shop, "port-forward", "pod/p", f":{behind}")
    try:
        assert forward.stdout is not None
        port = forward.stdout.readline().split("127.0.0.1:")[1].split()[0]
        for body in (None, b"x" * 300_000):
            url = f"http://127.0.0.1:{port}/hello"
            with urllib.request.urlopen(url, body, timeout=30) as answer:
                said = json.load(answer)
            assert (said["path"], len(said["body"])) == ("/hello", len(body or b""))
    finally:
        forward.kill()
        forward.communicate()
