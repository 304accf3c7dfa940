"""The real kubectl against real hosts: what people type every day."""

from __future__ import annotations

import json
import os
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.demo_cluster import DemoCluster, is_ready, until

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0, reason="a lab is made of namespaces and mounts, which need root"),
]

SHOP = """apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: main
          image: registry.lab:5000/busybox:1
          command: [sh, -c, "hostname > /tmp/index.html; echo started; exec httpd -f -p 8080 -h /tmp"]
          ports: [{containerPort: 8080}]
          readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
          resources: {limits: {memory: 32Mi}}
"""


@pytest.fixture(scope="module")
def shop(cluster: DemoCluster) -> Iterator[DemoCluster]:
    assert "created" in cluster.kubectl("apply", "-f", "-", stdin=SHOP)
    cluster.kubectl("-n", "shop", "rollout", "status", "deployment/web", "--timeout=100s")
    yield cluster
    cluster.kubectl("delete", "namespace", "shop")


def a_pod(cluster: DemoCluster) -> str:
    return str(next(pod for pod in cluster.pods("shop") if is_ready(pod))["metadata"]["name"])


def test_get_shows_where_pods_run(shop: DemoCluster) -> None:
    lines = shop.kubectl("-n", "shop", "get", "pods", "-o", "wide").splitlines()
    assert lines[0].split()[:5] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert len(lines) == 3
    for line in lines[1:]:
        assert "Running" in line
        assert "10.42." in line
    assert shop.kubectl("get", "nodes").count(" Ready ") == 3


def test_describe_tells_the_story_of_a_pod(shop: DemoCluster) -> None:
    name = a_pod(shop)
    # Events come after what they tell of.
    text = until(
        lambda: "Started" in (said := shop.kubectl("-n", "shop", "describe", "pod", name)) and said,
        what="the pod has an event of its start",
    )
    for part in ("Node:", "Ready             True", "memory:  32Mi", "Successfully assigned", "Started"):
        assert part in str(text)


def test_an_applied_file_that_did_not_change_changes_nothing(shop: DemoCluster) -> None:
    assert shop.kubectl("diff", "-f", "-", stdin=SHOP) == ""
    assert shop.kubectl("apply", "-f", "-", stdin=SHOP).count("unchanged") == 2


def test_logs_are_read_and_followed(shop: DemoCluster) -> None:
    name = a_pod(shop)
    assert "started" in shop.kubectl("-n", "shop", "logs", name)
    with shop.popen("-n", "shop", "logs", "-f", "--tail=0", name) as follow:

        def say_and_look() -> str:
            shop.kubectl("-n", "shop", "exec", name, "--", "sh", "-c", "echo later > /proc/1/fd/1")
            time.sleep(0.2)
            return follow.text()

        # What was said before it began to follow is not shown.
        assert set(until(say_and_look).split()) == {"later"}


def test_exec_carries_input_output_and_the_exit_code(shop: DemoCluster) -> None:
    name = a_pod(shop)
    text = shop.kubectl("-n", "shop", "exec", "-i", name, "--", "cat", stdin="through and back")
    assert text == "through and back"
    assert "exit code 7" in shop.kubectl("-n", "shop", "exec", name, "--", "sh", "-c", "exit 7", check=False)


def test_port_forward_reaches_a_pod(shop: DemoCluster) -> None:
    name = a_pod(shop)
    with shop.popen("-n", "shop", "port-forward", f"pod/{name}", ":8080") as forward:
        port = forward.until("127.0.0.1:", "\n").split("127.0.0.1:")[1].split()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60) as answer:
            assert answer.read().decode().strip() == name


def test_files_are_copied_into_a_pod_and_out_of_it(shop: DemoCluster, tmp_path: Path) -> None:
    name = a_pod(shop)
    (tmp_path / "in").write_bytes(bytes(range(256)) * 2000)
    shop.kubectl("-n", "shop", "cp", str(tmp_path / "in"), f"{name}:/tmp/there")
    shop.kubectl("-n", "shop", "cp", f"{name}:/tmp/there", str(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == (tmp_path / "in").read_bytes()


def test_a_debugger_looks_at_the_processes_of_a_pod(shop: DemoCluster) -> None:
    name = a_pod(shop)
    image = "--image=registry.lab:5000/busybox:1"
    # Its input stays open behind the one who typed, so it ends by itself.
    script = "tr '\\0' ' ' < /proc/1/cmdline; read line; echo read $line"
    debug = ("debug", name, image, "--target=main", "-c", "look", "-i", "--", "sh", "-c", script)
    assert "read typed" in shop.kubectl("-n", "shop", *debug, stdin="typed\n")
    assert "httpd" in shop.kubectl("-n", "shop", "logs", name, "-c", "look")
    path = "jsonpath={.status.ephemeralContainerStatuses[*].name}"
    assert shop.kubectl("-n", "shop", "get", "pod", name, "-o", path) == "look"


def test_a_pod_and_a_service_are_reached_through_the_api(shop: DemoCluster) -> None:
    name = a_pod(shop)
    pods = "/api/v1/namespaces/shop/pods"
    assert shop.kubectl("get", "--raw", f"{pods}/{name}:8080/proxy/").strip() == name
    shop.kubectl("-n", "shop", "expose", "deployment", "web", "--port=80", "--target-port=8080")
    service = "/api/v1/namespaces/shop/services/web:80/proxy/"
    names = {str(pod["metadata"]["name"]) for pod in shop.pods("shop")}
    until(lambda: shop.kubectl("get", "--raw", service, check=False).strip() in names)
    shop.kubectl("-n", "shop", "delete", "service", "web")


def test_a_pod_gets_more_memory_while_it_runs(shop: DemoCluster) -> None:
    name = a_pod(shop)
    wanted = {"containers": [{"name": "main", "resources": {"limits": {"memory": "48Mi"}}}]}
    patch = json.dumps({"spec": wanted})
    shop.kubectl("-n", "shop", "patch", "pod", name, "--subresource=resize", "-p", patch)
    path = "jsonpath={.status.containerStatuses[0].resources.limits.memory}"
    until(lambda: shop.kubectl("-n", "shop", "get", "pod", name, "-o", path) == "48Mi")
    pod = shop.get("pod", name, "-n", "shop")
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0


def test_scale_and_rollout_status(shop: DemoCluster) -> None:
    with shop.popen("-n", "shop", "get", "pods", "-w", "--no-headers") as watch:
        until(lambda: watch.text().count("1/1") == 2, what="the watch shows what there is")
        shop.kubectl("-n", "shop", "scale", "deployment", "web", "--replicas=4")
        said = shop.kubectl("-n", "shop", "rollout", "status", "deployment/web", "--timeout=100s")
        assert "successfully rolled out" in said
        assert len([pod for pod in shop.pods("shop") if is_ready(pod)]) == 4
        shop.kubectl("-n", "shop", "scale", "deployment", "web", "--replicas=2")
        until(lambda: len(shop.get("pods", "-n", "shop")["items"]) == 2)
        until(lambda: watch.text().count("1/1") >= 4, what="the watch shows four that are ready")
        assert "ContainerCreating" in watch.text()


def test_a_restart_and_an_undo_roll_every_pod(shop: DemoCluster) -> None:
    before = {pod["metadata"]["uid"] for pod in shop.pods("shop")}
    shop.kubectl("-n", "shop", "rollout", "restart", "deployment/web")
    shop.kubectl("-n", "shop", "rollout", "status", "deployment/web", "--timeout=100s")
    after = {pod["metadata"]["uid"] for pod in shop.pods("shop")}
    assert not before & after
    history = shop.kubectl("-n", "shop", "rollout", "history", "deployment/web")
    assert "2" in history
    shop.kubectl("-n", "shop", "rollout", "undo", "deployment/web")
    shop.kubectl("-n", "shop", "rollout", "status", "deployment/web", "--timeout=100s")


def test_deleting_a_deployment_takes_its_pods_along(shop: DemoCluster) -> None:
    shop.kubectl("-n", "shop", "delete", "deployment", "web")
    until(lambda: shop.get("pods", "-n", "shop")["items"] == [])
    until(lambda: shop.get("replicasets", "-n", "shop")["items"] == [])
    for host in ("ant", "bee", "cow"):
        left = shop.lab.exec(host, ["sh", "-c", "ip netns list; ls /run/gitkube/netns"]).stdout.split()
        running = {pod["metadata"]["uid"] for pod in shop.get("pods", "-A")["items"]}
        assert set(left) <= running
