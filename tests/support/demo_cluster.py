"""A whole cluster in a lab, driven as a person drives it: git, kubectl, gitkube and the power switch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Any, TypeVar

from gitkube.lab import processes
from gitkube.lab.demo import Demo

T = TypeVar("T")
TIMEOUT_S = 60.0
_BIN = Path(sys.executable).parent


class DemoCluster:
    """The demo in a directory of a test's own."""

    def __init__(self, directory: Path, *, controllers: int = 1) -> None:
        self.controllers = controllers
        self.said: list[str] = []
        self.demo = Demo(directory, listen="127.0.0.1:0", say=self.said.append)
        self.lab = self.demo.lab

    def up(self) -> None:
        self.demo.start_hosts(3, self.controllers)
        self._fill_registry()
        self.demo.start_control()
        self.demo.wait_for_hosts()
        self.demo.make_clone()
        self.demo.push()

    def _fill_registry(self) -> None:
        """With the images of the sample: the first process builds them, the others take them over."""
        base = self.demo.directory.parents[1]
        shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "images"
        own = self.demo.directory / "images"
        with shared.with_suffix(".lock").open("w") as lock:
            flock(lock, LOCK_EX)
            if shared.exists():
                shutil.copytree(shared, own, copy_function=os.link)
            self.demo.fill_registry()
            if not shared.exists():
                shutil.copytree(own, shared, copy_function=os.link)

    # ------------------------------------------------------------ kubectl and gitkube

    def kubectl(
        self, *arguments: str, stdin: str | None = None, check: bool = True, context: str = ""
    ) -> str:
        """
        Args:
            context: the controller to ask; "" is the first.
        """
        chosen = ["--context", context] if context else []
        done = subprocess.run(
            [str(_BIN / "kubectl"), "--kubeconfig", str(self.demo.kubeconfig), *chosen, *arguments],
            input=stdin, capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
        if check and done.returncode != 0:
            raise AssertionError(f"kubectl {' '.join(arguments)}: {done.stderr}")
        return done.stdout if check else done.stdout + done.stderr

    def popen(self, *arguments: str) -> subprocess.Popen[str]:
        """A kubectl that goes on until it is killed."""
        return subprocess.Popen(
            [str(_BIN / "kubectl"), "--kubeconfig", str(self.demo.kubeconfig), *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def get(self, *arguments: str) -> Any:
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def pods(self, namespace: str, selector: str = "") -> list[dict[str, Any]]:
        """Those that are not being deleted."""
        found = self.get("pods", "-n", namespace, *(["-l", selector] if selector else []))["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def gitkube(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(_BIN / "gitkube"), *arguments, "--kubeconfig", str(self.demo.kubeconfig)],
            capture_output=True, text=True, timeout=TIMEOUT_S * 3, check=False,
        )  # fmt: skip

    # ------------------------------------------------------------ git

    def write(self, path: str, text: str) -> None:
        file = self.demo.clone / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def commit(self, message: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(self.demo.clone), *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def start_push(self, remote: str = "lab") -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["git", "-C", str(self.demo.clone), "push", remote, "main"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def push(self, timeout_s: float = TIMEOUT_S, remote: str = "lab") -> str:
        """What git printed. The rollout is waited for, or left after the time."""
        process = self.start_push(remote)
        try:
            return process.communicate(timeout=timeout_s)[0]
        except subprocess.TimeoutExpired:
            process.kill()
            return process.communicate()[0]

    def drop(self, *paths: str) -> None:
        """Take files out of the repository again."""
        self.git("rm", "-r", "--quiet", "--", *paths)
        self.git("commit", "--quiet", "--message", "Away with it again\n\ngitkube-allow-delete")
        self.push()

    # ------------------------------------------------------------ faults

    @property
    def serve_pid(self) -> int:
        pid = processes.running_pid(self.demo.directory / "serve.pid")
        assert pid is not None, "the control plane does not run"
        return pid

    def kill_control(self) -> None:
        processes.kill(self.demo.directory / "serve.pid")

    def host_of(self, pod: dict[str, Any]) -> str:
        return str(pod["spec"]["nodeName"])

    def address(self, host: str) -> str:
        found = self.lab.layout().host(host)
        assert found is not None
        return found.address


def until(check: Callable[[], T], timeout_s: float = TIMEOUT_S, what: str = "") -> T:
    """The first true result of `check`; its last one is told when time runs out."""
    deadline = time.monotonic() + timeout_s
    while not (result := check()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:.0f} s: {what or check}; last: {result!r}")
        time.sleep(0.1)
    return result


def is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def restarts(pods: list[dict[str, Any]]) -> dict[str, int]:
    return {
        pod["metadata"]["uid"]: sum(
            each["restartCount"] for each in pod.get("status", {}).get("containerStatuses", [])
        )
        for pod in pods
    }
