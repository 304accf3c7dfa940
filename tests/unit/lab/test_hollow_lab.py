"""A hollow lab from the outside: the command, without root, and what kubectl's API then shows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.live_cluster import kubectl_path

DEADLINE_S = 60


class Commands:
    """`gitkube lab` for one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def lab(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "gitkube.cli.main", "lab", *words, "--dir", str(self.directory)]
        return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)

    def kubectl(self, *words: str) -> str:
        environment = {**os.environ, "KUBECONFIG": str(self.directory / "kubeconfig")}
        done = subprocess.run(
            [kubectl_path() or "kubectl", *words],
            env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False,
        )  # fmt: skip
        return done.stdout + done.stderr

    def ready(self) -> dict[str, str]:
        nodes = json.loads(self.kubectl("get", "nodes", "-o", "json"))["items"]
        return {
            node["metadata"]["name"]: next(
                (one["status"] for one in node["status"].get("conditions", ()) if one["type"] == "Ready"),
                "not said yet",
            )
            for node in nodes
        }


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not what():
        assert time.monotonic() < deadline, "it has not come to pass in time"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    made = Commands(tmp_path_factory.mktemp("lab") / "l")
    up = made.lab("up", "--hollow", "3", "--hollow-start-ms", "10")
    assert up.returncode == 0, up.stdout + up.stderr
    yield made
    made.lab("down")


def test_its_hosts_are_ready_and_run_deployments_and_jobs(commands: Commands) -> None:
    wait_for(lambda: list(commands.ready().values()) == ["True"] * 3)
    commands.kubectl("create", "deployment", "web", "--image=web:1", "--replicas=3")
    commands.kubectl("create", "job", "once", "--image=busybox", "--", "true")
    said = commands.kubectl("wait", "--for=condition=Available", "deployment/web", "--timeout=60s")
    said += commands.kubectl("wait", "--for=condition=Complete", "job/once", "--timeout=60s")
    assert said.splitlines() == ["deployment.apps/web condition met", "job.batch/once condition met"]


def test_a_host_that_is_cut_is_lost_until_it_is_joined(commands: Commands) -> None:
    assert commands.lab("cut", "hollow-2").returncode == 0
    status = commands.lab("status", "--output", "json")
    assert status.returncode == 1
    assert [one["state"] for one in json.loads(status.stdout)["hosts"]] == ["on", "cut", "on"]
    wait_for(lambda: commands.ready()["hollow-2"] == "Unknown")
    assert commands.lab("join", "hollow-2").returncode == 0
    wait_for(lambda: commands.ready()["hollow-2"] == "True")
    assert commands.lab("status").returncode == 0


def test_a_host_that_is_not_there_and_a_shell_on_one_that_is_are_refused(commands: Commands) -> None:
    assert "hollow-1 to hollow-3" in commands.lab("kill", "hollow-9").stderr
    done = subprocess.run(
        [sys.executable, "-m", "gitkube.cli.main", "lab", "exec", "--dir", str(commands.directory),
         "hollow-1", "--", "true"],
        capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "runs nothing" in done.stderr


def test_up_again_changes_nothing_and_down_leaves_nothing(tmp_path: Path) -> None:
    commands = Commands(tmp_path / "l")
    assert commands.lab("up", "--hollow", "1").returncode == 0
    pid = json.loads(commands.lab("status", "--output", "json").stdout)["controllers"][0]["pid"]
    assert commands.lab("up").returncode == 0
    assert json.loads(commands.lab("status", "--output", "json").stdout)["controllers"][0]["pid"] == pid
    assert commands.lab("down").returncode == 0
    assert not commands.directory.exists()
    assert "there is no lab" in commands.lab("down").stdout


@pytest.mark.parametrize(
    "words", [["--hollow", "2", "--hosts", "3"], ["--hollow-start-ms", "5"], ["--hollow", "0"]]
)
def test_options_that_contradict_are_wrong_use(tmp_path: Path, words: list[str]) -> None:
    assert Commands(tmp_path / "l").lab("up", *words).returncode == 2
