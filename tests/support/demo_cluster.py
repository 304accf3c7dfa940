"""A whole cluster in a lab, driven as a person drives it: git, kubectl, gitkube and the power switch.

What is waited for may take long on a busy machine, and what is asked meanwhile may fail: `until` takes a
kubectl that fails as "not yet", and tells its words when time runs out. A test that fails shows `evidence`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Any, TextIO, TypeVar

from gitkube.lab import processes
from gitkube.lab.demo import Demo
from gitkube.lab.errors import LabError

T = TypeVar("T")
TIMEOUT_S = 120.0
"""For what takes seconds on a machine that does nothing else."""
_BIN = Path(sys.executable).parent


class KubectlFailed(AssertionError):
    """A kubectl that was to succeed and did not, with its words."""


class DemoCluster:
    """The demo in a directory of a test's own."""

    def __init__(self, directory: Path, *, controllers: int = 1) -> None:
        self.controllers = controllers
        self.said: list[str] = []
        self.demo = Demo(directory, listen="127.0.0.1:0", say=self.said.append)
        self.lab = self.demo.lab

    def up(self) -> None:
        with evidence_of(self):
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
        try:
            done = subprocess.run(
                [str(_BIN / "kubectl"), "--kubeconfig", str(self.demo.kubeconfig), *chosen, *arguments],
                input=stdin, capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise KubectlFailed(f"kubectl {' '.join(arguments)}: no end in {TIMEOUT_S:.0f} s") from error
        if check and done.returncode != 0:
            raise KubectlFailed(f"kubectl {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout if check else done.stdout + done.stderr

    @contextmanager
    def popen(self, *arguments: str) -> Iterator[Said]:
        """A kubectl that goes on until the block ends; what it says."""
        with tempfile.TemporaryFile("w+") as output:
            process = subprocess.Popen(
                [str(_BIN / "kubectl"), "--kubeconfig", str(self.demo.kubeconfig), *arguments],
                stdout=output, stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip
            try:
                yield Said(output)
            finally:
                process.kill()
                process.wait()

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
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip

    def push(self, timeout_s: float = TIMEOUT_S, remote: str = "lab") -> str:
        """What git printed. The rollout is waited for, or left after the time."""
        process = self.start_push(remote)
        try:
            return process.communicate(timeout=timeout_s)[0]
        except subprocess.TimeoutExpired:
            _kill_with_children(process)
            return process.communicate()[0]

    def push_until(self, words: str, timeout_s: float = TIMEOUT_S) -> str:
        """Push, and watch until the rollout has said these words, the push has ended or the time is over.

        Returns:
            What git printed until then.
        """
        process = self.start_push()
        clock = threading.Timer(timeout_s, _kill_with_children, [process])
        clock.start()
        said = ""
        assert process.stdout is not None
        try:
            for line in process.stdout:
                said += line
                if words in said.partition("rollout ")[2]:  # the plan before it may have them, too
                    break
        finally:
            clock.cancel()
            _kill_with_children(process)
            process.wait()
            process.stdout.close()
        return said

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

    # ------------------------------------------------------------ why a test failed

    def evidence(self) -> dict[str, str]:
        """What is to be read when a test fails: the objects, and the last words of every process."""
        found = {}
        if self.demo.kubeconfig.exists():
            for words in (
                ("get", "nodes,pods,deployments,jobs", "-A", "-o", "wide"),
                ("get", "events", "-A", "--sort-by=.metadata.creationTimestamp"),
            ):
                try:
                    found[f"kubectl {words[0]} {words[1]}"] = _last(self.kubectl(*words, check=False))
                except AssertionError as error:
                    found[f"kubectl {words[0]} {words[1]}"] = str(error)
        logs = [self.demo.directory / "serve.log", *(one.log for one in self.lab.controllers())]
        found |= {str(log): _last(log.read_text(errors="replace")) for log in logs if log.exists()}
        for host in self.lab.layout().hosts:
            try:
                done = self.lab.exec(
                    host.name, ["tail", "-n", "40", "/var/log/gitkube-node.log"], timeout_s=20
                )
                found[f"the agent's log on {host.name}"] = done.stdout + done.stderr
            except LabError as error:
                found[f"the agent's log on {host.name}"] = str(error)
        return found


class Said:
    """What a process has said so far, in a file that it writes."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def text(self) -> str:
        # Without moving the file's position: the process that writes has the same one.
        size = os.fstat(self._file.fileno()).st_size
        return os.pread(self._file.fileno(), size, 0).decode(errors="replace")

    def until(self, *words: str) -> str:
        """The text, as soon as all these words are in it."""
        try:
            return until(lambda: all(word in self.text() for word in words) and self.text()) or ""
        except AssertionError as error:
            raise AssertionError(f"{', '.join(words)}: not said, but: {self.text()!r}") from error


@contextmanager
def evidence_of(cluster: DemoCluster) -> Iterator[None]:
    """What fails in the block is told with what the cluster says of itself."""
    try:
        yield
    except Exception as error:
        for title, text in cluster.evidence().items():
            error.add_note(f"---- {title}\n{text}")
        raise


def _kill_with_children(process: subprocess.Popen[str]) -> None:
    """A push is git, git on the other side, and a hook: what is left of them would hold the output open."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _last(text: str, lines: int = 60) -> str:
    return "\n".join(text.splitlines()[-lines:])


def until(check: Callable[[], T], timeout_s: float = TIMEOUT_S, what: str = "") -> T:
    """The first true result of `check`; its last one is told when time runs out.

    A kubectl that fails in it has no result yet: the control plane may be about to start.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        result: T | str
        try:
            if result := check():
                return result
        except KubectlFailed as error:
            result = str(error)
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:.0f} s: {what or check}; last: {result!r}")
        time.sleep(0.1)


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
