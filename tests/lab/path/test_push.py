"""From `git push` to running pods on three hosts, and what the pusher reads when it goes wrong."""

from __future__ import annotations

import http.client
import json
import os
import urllib.request
from typing import Any

import pytest

from tests.support.demo_cluster import DemoCluster, is_ready, until

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0, reason="a lab is made of namespaces and mounts, which need root"),
]


def guestbook(cluster: DemoCluster, host: str) -> dict[str, object]:
    """What it answers. A pod that is just being told to end, or whose redis has just moved to another host,
    may reset, refuse or excuse itself, as in every rollout; clients try again."""
    trouble: list[Exception] = []

    def ask() -> dict[str, object] | None:
        try:
            with urllib.request.urlopen(f"http://{cluster.address(host)}:30080/api", timeout=10) as answer:
                found = json.load(answer)
        except (OSError, http.client.HTTPException) as error:
            trouble.append(error)
            return None
        assert isinstance(found, dict)
        return found

    try:
        return until(ask)
    except AssertionError as error:
        raise AssertionError(f"the guestbook does not answer on {host}: {trouble[-1]!r}") from error


def test_the_first_push_ends_healthy_and_status_says_so(cluster: DemoCluster) -> None:
    said = "\n".join(cluster.said)
    assert "+ Deployment guestbook/web" in said
    assert "healthy" in said
    status = cluster.gitkube("status", "--wait", "120")
    assert status.returncode == 0, status.stdout + status.stderr


def test_the_guestbook_answers_on_every_host_with_what_the_job_wrote(cluster: DemoCluster) -> None:
    # Another test may have cost redis its host, and the entries go with it. A Job that is taken away is made
    # again by git, and writes them again.
    cluster.kubectl("-n", "guestbook", "delete", "job", "seed", "--wait")
    for host in ("ant", "bee", "cow"):
        entries = until(lambda host=host: guestbook(cluster, host)["entries"])
        assert "The first entry came from a Job." in entries  # type: ignore[operator]


def test_pods_spread_over_hosts_and_talk_across_the_overlay(cluster: DemoCluster) -> None:
    # Made anew: pods that had to leave a host in another test don't move back by themselves.
    cluster.kubectl("-n", "hello", "delete", "pods", "--all", "--grace-period=0")
    until(lambda: sum(map(is_ready, cluster.pods("hello"))) == 3)
    pods = cluster.pods("hello")
    assert len({cluster.host_of(pod) for pod in pods}) == 3
    first, *others = pods
    for other in others:
        url = f"http://{other['status']['podIP']}:8080/"
        assert fetched(cluster, first, url).strip() == other["metadata"]["name"]


def test_services_answer_by_name_from_every_host(cluster: DemoCluster) -> None:
    until(lambda: sum(map(is_ready, cluster.pods("hello"))) == 3)
    for pod in cluster.pods("hello"):
        for name in ("hello.hello", "hello", "hello.hello.svc.cluster.local"):
            assert fetched(cluster, pod, f"http://{name}/").startswith("hello-")


def fetched(cluster: DemoCluster, pod: dict[str, Any], url: str) -> str:
    """What a pod is answered. It asks again: pods of before may just be ending, and refuse or say nothing."""
    words = ("exec", "-n", "hello", pod["metadata"]["name"], "--", "timeout", "10", "wget", "-qO-", url)
    return until(lambda: cluster.kubectl(*words), what=f"an answer to {pod['metadata']['name']} at {url}")


def test_a_changed_tag_is_rolled_out_and_told_live(cluster: DemoCluster) -> None:
    values = (cluster.demo.clone / "apps/guestbook/values.yaml").read_text()
    cluster.write("apps/guestbook/values.yaml", values.replace("version: 1", "version: 2"))
    cluster.commit("web: 1 -> 2")
    said = cluster.push()
    assert "~ Deployment guestbook/web" in said
    assert "web 2/2" in said
    assert "healthy" in said
    until(lambda: guestbook(cluster, "ant")["version"] == "2")


def test_a_refused_push_leaves_branch_and_pods_as_they_were(cluster: DemoCluster) -> None:
    before = cluster.git("ls-remote", "lab", "refs/heads/main")
    pods = {pod["metadata"]["uid"] for pod in cluster.pods("guestbook")}
    template = (cluster.demo.clone / "apps/guestbook/redis.yaml.j2").read_text()
    cluster.write("apps/guestbook/redis.yaml.j2", template.replace("image:", "imagee:"))
    cluster.commit("a slip")
    said = cluster.push()
    line = 1 + template[: template.index("image:")].count("\n")
    assert "refused" in said
    assert f"apps/guestbook/redis.yaml.j2:{line}:" in said
    assert 'did you mean "image"?' in said
    assert cluster.git("ls-remote", "lab", "refs/heads/main") == before
    assert {pod["metadata"]["uid"] for pod in cluster.pods("guestbook")} == pods
    cluster.git("reset", "--quiet", "--hard", "lab/main")


BROKEN = """apiVersion: v1
kind: Namespace
metadata: {{name: broken}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: it, namespace: broken}}
spec:
  selector: {{matchLabels: {{app: it}}}}
  template:
    metadata: {{labels: {{app: it}}}}
    spec:
      containers:
        - name: main
          image: {image}
          command: {command}
{more}"""


@pytest.mark.parametrize(
    ("image", "command", "more", "expected"),
    [
        ("registry.lab:5000/no-such:1", "[x]", "", "no-such:1"),
        (
            "registry.lab:5000/busybox:1",
            '["sh", "-c", "echo KeyError: DB_URL; exit 3"]',
            "",
            "last line: KeyError: DB_URL",
        ),
        (
            "registry.lab:5000/busybox:1",
            "[sleep, '1000']",
            "          envFrom: [{configMapRef: {name: not-there}}]\n",
            "not-there",
        ),
        (
            "registry.lab:5000/busybox:1",
            "[sleep, '1000']",
            "          resources: {requests: {cpu: '900'}}\n",
            "900",
        ),
    ],
    ids=["missing image", "crash", "missing ConfigMap", "unschedulable"],
)
def test_what_cannot_become_healthy_is_said_with_its_reason(
    cluster: DemoCluster, image: str, command: str, more: str, expected: str
) -> None:
    cluster.write("apps/broken/it.yaml", BROKEN.format(image=image, command=command, more=more))
    cluster.commit("a broken app")
    try:
        said = cluster.push_until(expected)
        assert expected in said, said
        status = until(
            lambda: (done := cluster.gitkube("status")).stdout.count(expected) and done,
            what=f"the status says {expected}",
        )
        assert status.returncode == 1
        assert "broken/it" in status.stdout
    finally:
        cluster.drop("apps/broken")
        until(lambda: "broken" not in cluster.kubectl("get", "namespaces"), what="the namespace is gone")


def test_what_leaves_the_repository_leaves_the_cluster(cluster: DemoCluster) -> None:
    cluster.write(
        "apps/extra.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: extra, namespace: hello}\ndata: {a: b}\n",
    )
    cluster.commit("one more")
    cluster.push()
    assert cluster.get("configmap", "-n", "hello", "extra")["data"] == {"a": "b"}
    cluster.drop("apps/extra.yaml")
    assert "NotFound" in cluster.kubectl("get", "configmap", "-n", "hello", "extra", check=False)


def test_what_somebody_changes_by_hand_is_put_back(cluster: DemoCluster) -> None:
    cluster.kubectl("-n", "hello", "scale", "deployment", "hello", "--replicas=1")
    until(lambda: cluster.get("deployment", "-n", "hello", "hello")["spec"]["replicas"] == 3)
    cluster.kubectl("-n", "hello", "delete", "service", "hello")
    until(lambda: "hello" in cluster.kubectl("-n", "hello", "get", "services", "-o", "name"))
    until(lambda: sum(map(is_ready, cluster.pods("hello"))) == 3)
