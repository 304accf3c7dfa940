"""Plugs pulled and processes killed: what runs goes on, what is lost is replaced, nothing runs twice."""

from __future__ import annotations

import os
import shutil
import signal
import time

import pytest

from tests.support.demo_cluster import TIMEOUT_S, DemoCluster, is_ready, restarts, until

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0, reason="a lab is made of namespaces and mounts, which need root"),
]

# Those that must not move within a test say so; the cluster's default is ten seconds.
STAYS = """
      tolerations:
        - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 600}
        - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 600}
"""
APP = """apiVersion: v1
kind: Namespace
metadata: {{name: {name}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: it, namespace: {name}}}
spec:
  replicas: 3
  selector: {{matchLabels: {{app: it}}}}
  template:
    metadata: {{labels: {{app: it}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: main
          image: registry.lab:5000/busybox:1
          command: [sleep, "100000"]
{more}"""


def deploy(cluster: DemoCluster, name: str, more: str = "") -> list[dict[str, object]]:
    """Three pods on three hosts, past git, so that the repository's state does not matter."""
    cluster.kubectl("apply", "-f", "-", stdin=APP.format(name=name, more=more))
    until(lambda: sum(map(is_ready, cluster.pods(name))) == 3, what=f"{name} is ready")
    return cluster.pods(name)


def on_three(cluster: DemoCluster, name: str) -> bool:
    pods = cluster.pods(name)
    return len(pods) == 3 and all(map(is_ready, pods))


def test_a_killed_control_plane_finishes_the_push_and_restarts_no_pod(cluster: DemoCluster) -> None:
    before = restarts([*cluster.pods("hello"), *cluster.pods("guestbook", "app=redis")])
    cluster.write("apps/mid/it.yaml", APP.format(name="mid", more=""))
    cluster.commit("killed in the middle")
    push = cluster.start_push()
    assert push.stdout is not None
    for line in push.stdout:
        if "rollout" in line or "plan" in line:
            break
    cluster.kill_control()
    push.communicate(timeout=TIMEOUT_S)
    cluster.demo.start_control()
    cluster.push()
    until(lambda: on_three(cluster, "mid"), what="the push is finished")
    assert cluster.gitkube("status", "--wait", "120").returncode == 0
    after = restarts([*cluster.pods("hello"), *cluster.pods("guestbook", "app=redis")])
    assert after == before
    cluster.drop("apps/mid")


def test_a_killed_agent_comes_back_to_its_running_containers(cluster: DemoCluster) -> None:
    pods = deploy(cluster, "agent")
    before = restarts(pods)
    started = [pod["status"]["containerStatuses"][0]["containerID"] for pod in pods]  # type: ignore[index]
    found = cluster.lab.exec("ant", ["pgrep", "-f", "gitkube-node.* agent"]).stdout.split()
    assert found
    cluster.lab.exec("ant", ["kill", "-9", *found])
    until(
        lambda: (
            set(cluster.lab.exec("ant", ["pgrep", "-f", "gitkube-node.* agent"]).stdout.split()) - set(found)
        ),
        what="the agent is back",
    )
    name = next(pod["metadata"]["name"] for pod in pods if pod["spec"]["nodeName"] == "ant")  # type: ignore[index]
    said = until(lambda: cluster.kubectl("exec", "-n", "agent", str(name), "--", "echo", "here"))
    assert said == "here\n"
    time.sleep(3)  # in which it would tell of containers that it did not find again
    pods = cluster.pods("agent")
    assert restarts(pods) == before
    assert [pod["status"]["containerStatuses"][0]["containerID"] for pod in pods] == started  # type: ignore[index]
    cluster.kubectl("delete", "namespace", "agent")


def test_a_cut_host_keeps_its_pods_running(cluster: DemoCluster) -> None:
    before = restarts(deploy(cluster, "cut", STAYS))
    cluster.lab.cut("cow")
    try:
        until(lambda: "NotReady" in cluster.kubectl("get", "node", "cow"), what="cow is NotReady")
        time.sleep(30)
        running = cluster.lab.exec("cow", ["pgrep", "-fc", "sleep 100000"]).stdout.strip()
        assert int(running) >= 1
    finally:
        cluster.lab.join("cow")
    until(lambda: "NotReady" not in cluster.kubectl("get", "node", "cow"), what="cow is Ready")
    until(lambda: on_three(cluster, "cut"))
    assert restarts(cluster.pods("cut")) == before
    cluster.kubectl("delete", "namespace", "cut")


def test_a_dead_hosts_pods_are_replaced_and_none_runs_twice_when_it_is_back(cluster: DemoCluster) -> None:
    pods = deploy(cluster, "dead")
    lost = [pod["metadata"]["uid"] for pod in pods if pod["spec"]["nodeName"] == "bee"]  # type: ignore[index]
    assert lost
    cluster.lab.kill("bee")
    try:
        until(
            lambda: (
                on_three(cluster, "dead")
                and all(pod["spec"]["nodeName"] != "bee" for pod in cluster.pods("dead"))
            ),
            what="replaced on other hosts",
        )
        status = cluster.gitkube("status")
        assert status.returncode == 1
        assert "bee" in status.stdout
    finally:
        cluster.lab.start("bee")
    until(lambda: "NotReady" not in cluster.kubectl("get", "node", "bee"), what="bee is Ready")
    until(
        lambda: len(cluster.get("pods", "-n", "dead")["items"]) == 3,
        what="the pods of the dead host are gone",
    )
    count = "pgrep -fc 'sleep 100000' || true"
    until(
        lambda: (
            sum(
                int(cluster.lab.exec(host, ["sh", "-c", count]).stdout.strip() or 0)
                for host in ("ant", "bee", "cow")
            )
            >= 3
        )
    )
    until(
        lambda: (
            not any(
                name in lost
                for host in ("ant", "bee", "cow")
                for name in cluster.lab.exec(host, ["ls", "/var/lib/gitkube/pods"]).stdout.split()
            )
        ),
        what="no host has anything of the lost pods",
    )
    cluster.kubectl("delete", "namespace", "dead")


JOB = """apiVersion: batch/v1
kind: Job
metadata: {name: once}
spec:
  template:
    spec:
      restartPolicy: Never
      nodeSelector: {kubernetes.io/hostname: bee}
      containers:
        - {name: main, image: "registry.lab:5000/busybox:1", command: [echo, paid]}
"""


def test_a_host_that_lost_its_disk_runs_no_job_a_second_time(cluster: DemoCluster) -> None:
    cluster.kubectl("apply", "-f", "-", stdin=JOB)
    until(lambda: cluster.get("job", "once").get("status", {}).get("succeeded") == 1, what="the job is done")
    (before,) = cluster.pods("default", "job-name=once")
    cluster.lab.kill("bee")
    try:
        until(lambda: "NotReady" in cluster.kubectl("get", "node", "bee"), what="bee is NotReady")
        shutil.rmtree(cluster.lab.directory / "hosts" / "bee" / "disk")
    finally:
        cluster.lab.start("bee")
    until(lambda: "NotReady" not in cluster.kubectl("get", "node", "bee"), what="bee is Ready")
    # Its agent has the pods of before, and runs those that should.
    seen = f"/var/lib/gitkube/pods/{before['metadata']['uid']}"
    until(
        lambda: cluster.lab.exec("bee", ["test", "-d", seen]).returncode == 0, what="the pod is known again"
    )
    pod = APP.format(name="wiped", more="\n      nodeSelector: {kubernetes.io/hostname: bee}\n")
    cluster.kubectl("apply", "-f", "-", stdin=pod)
    until(lambda: on_three(cluster, "wiped"), what="bee runs new pods")
    (after,) = cluster.pods("default", "job-name=once")
    assert after["status"] == before["status"]
    logs = cluster.lab.exec("bee", ["find", seen, "-name", "*.log"]).stdout
    assert logs == ""
    cluster.kubectl("delete", "job/once", "namespace/wiped")


def test_the_store_process_may_die_and_the_api_goes_on(cluster: DemoCluster) -> None:
    import subprocess

    children = subprocess.run(
        ["pgrep", "-P", str(cluster.serve_pid), "-f", "gitkube.store.process"],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    before = restarts(cluster.pods("hello"))
    os.kill(int(children[0]), signal.SIGKILL)
    until(
        lambda: (
            cluster.kubectl("create", "namespace", "store-died", check=False)
            and cluster.kubectl("get", "namespace", "store-died")
        ),
        what="a namespace is made",
    )
    assert restarts(cluster.pods("hello")) == before
    cluster.kubectl("delete", "namespace", "store-died")
