"""The real Helm, 4 and the 3 that many still have, with a chart of what charts are made of.

Helm 4 applies on the server's side and waits by watching; Helm 3 patches and asks again and again. Both keep
their releases in Secrets, run hooks as Jobs and Pods, and read the schemas of the server.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from tests.support import tools
from tests.support.live_cluster import LiveCluster

CHART = str(Path(__file__).parent / "testdata" / "chart")
Helm = Callable[..., CompletedProcess[str]]
WAIT = ("--wait", "--timeout", "60s")


@pytest.fixture
def helm(request: pytest.FixtureRequest, working: LiveCluster, shop: str) -> Helm:
    release = getattr(request, "param", "4")
    path = tools.helm_path() if release == "4" else tools.older_helm_path()
    program = tools.needed(path, f"Helm {release}")

    def run(*words: str, check: bool = True) -> CompletedProcess[str]:
        return working.call(program, "--namespace", shop, *words, check=check, timeout_s=120)

    return run


def get(cluster: LiveCluster, namespace: str, *what: str) -> Any:
    return json.loads(cluster.kubectl("-n", namespace, "get", *what, "-o", "json").stdout)


def names(cluster: LiveCluster, namespace: str, kinds: str) -> list[str]:
    return cluster.kubectl("-n", namespace, "get", kinds, "-o", "name").stdout.split()


@pytest.mark.parametrize("helm", ["4", "3"], indirect=True)
def test_a_release_lives_from_install_to_uninstall(working: LiveCluster, shop: str, helm: Helm) -> None:
    said = helm("install", "book", CHART, *WAIT).stdout
    assert "STATUS: deployed" in said and "book has 2 replicas." in said
    assert get(working, shop, "deploy", "book")["status"]["readyReplicas"] == 2
    assert "job.batch/book-migrate" in names(working, shop, "jobs")
    listed = json.loads(helm("list", "-o", "json").stdout)
    assert [(one["name"], one["revision"], one["status"]) for one in listed] == [("book", "1", "deployed")]
    assert "Phase:          Succeeded" in helm("test", "book").stdout

    helm("upgrade", "book", CHART, "--set", "colour=blue,replicas=3", *WAIT)
    assert get(working, shop, "cm", "book")["data"] == {"colour": "blue"}
    assert get(working, shop, "deploy", "book")["status"]["readyReplicas"] == 3
    assert "colour: blue" in helm("get", "values", "book").stdout
    assert "kind: Ingress" in helm("get", "manifest", "book").stdout

    helm("rollback", "book", "1", *WAIT)
    assert get(working, shop, "cm", "book")["data"] == {"colour": "green"}
    assert get(working, shop, "deploy", "book")["spec"]["replicas"] == 2
    history = json.loads(helm("history", "book", "-o", "json").stdout)
    assert [one["status"] for one in history] == ["superseded", "superseded", "deployed"]

    assert "uninstalled" in helm("uninstall", "book", *WAIT).stdout
    left = names(working, shop, "deploy,svc,ing,pdb,secrets")
    assert left == []
    # A hook that runs after the deletion has run, and stays, as Helm says of hooks.
    assert "configmap/book-goodbye" in names(working, shop, "cm")


def test_a_hook_that_fails_stops_the_upgrade(working: LiveCluster, shop: str, helm: Helm) -> None:
    helm("install", "book", CHART, *WAIT)
    refused = helm("upgrade", "book", CHART, "--set", "hookImage=fails:1,colour=blue", check=False)
    assert refused.returncode == 1
    assert "pre-upgrade hooks failed" in refused.stderr
    assert get(working, shop, "cm", "book")["data"] == {"colour": "green"}
    assert json.loads(helm("history", "book", "-o", "json").stdout)[-1]["status"] == "failed"


def test_what_never_becomes_ready_is_taken_back(working: LiveCluster, shop: str, helm: Helm) -> None:
    helm("install", "book", CHART, *WAIT)
    # The time is that of the hook, too, which is waited for first.
    wanted = ("--set", "image=broken:1", "--rollback-on-failure", "--wait", "--timeout", "5s")
    refused = helm("upgrade", "book", CHART, *wanted, check=False)
    assert refused.returncode == 1
    history = json.loads(helm("history", "book", "-o", "json").stdout)
    assert [one["status"] for one in history] == ["superseded", "failed", "deployed"]
    image = get(working, shop, "deploy", "book")["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image == "web:1"


def test_a_mistake_in_a_chart_is_refused_by_field(helm: Helm) -> None:
    refused = helm("install", "book", CHART, "--set", "replicas=-1", check=False)
    assert refused.returncode == 1
    assert "spec.replicas: Invalid value: -1" in refused.stderr


def test_an_object_of_another_release_is_not_taken(working: LiveCluster, shop: str, helm: Helm) -> None:
    working.kubectl("-n", shop, "create", "configmap", "book", "--from-literal=a=b")
    refused = helm("install", "book", CHART, check=False)
    assert refused.returncode == 1
    assert "invalid ownership metadata" in refused.stderr
