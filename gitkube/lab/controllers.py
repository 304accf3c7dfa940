"""The controllers of a lab: each a `gitkube serve` in a network namespace of its own.

They are what three machines would be: own address, own disk (a directory), own repository; they reach the
hosts by SSH and one another by their members' port and their APIs. The first begins the cluster, the others
are added and join by file, as a person does it. Everything is found again from the directory, so a command
that was interrupted is repeated.
"""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from gitkube.lab import netns, processes
from gitkube.lab.errors import LabError
from gitkube.lab.layout import API_PORT, ControllerLayout

EVICTION_AFTER_S = 10
"""Kubernetes' 300 s would be a long wait for somebody who just pulled a plug to see what happens."""
READY_TIMEOUT_S = 60.0
_POLL_S = 0.1


class LabController:
    """One controller of a lab. `directory` is its machine's disk, so to say."""

    def __init__(
        self, directory: Path, layout: ControllerLayout, *, inventory: Path, kubeconfig: Path
    ) -> None:
        """
        Args:
            kubeconfig: where it keeps the administrator's; with a context for each controller, its own first.
        """
        self.kubeconfig = kubeconfig
        self.directory = directory
        self.layout = layout
        self._inventory = inventory

    @property
    def data_dir(self) -> Path:
        return self.directory / "data"

    @property
    def repository(self) -> Path:
        return self.directory / "repo.git"

    @property
    def log(self) -> Path:
        return self.directory / "serve.log"

    @property
    def pid(self) -> int | None:
        """Of its `gitkube serve`."""
        return processes.running_pid(self._pid_file)

    @property
    def _pid_file(self) -> Path:
        return self.directory / "serve.pid"

    @property
    def has_begun(self) -> bool:
        """Whether it was ever a member."""
        return (self.data_dir / "store").exists()

    # ------------------------------------------------------------ on and off

    def start(self, running: Sequence[LabController] = ()) -> None:
        """Start it, unless it runs. One that is no member yet joins those that run; without any it begins the
        cluster. Its network must be plugged.

        Raises:
            LabError: the others do not let it in.
        """
        if self.pid is not None:
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        join: list[str] = []
        if running and not self.has_begun:
            join = ["--join", str(self._join_file(running[0]))]
        command = [
            "nsenter", f"--net={netns.NAMESPACES / self.layout.namespace}",
            *gitkube("serve"),
            "--name", self.layout.name,
            "--data-dir", str(self.data_dir), "--inventory", str(self._inventory),
            "--repo", str(self.repository), "--branch", "main",
            "--listen", f"{self.layout.address}:{API_PORT}", "--peer-listen", self.layout.peer,
            "--kubeconfig", str(self.kubeconfig), "--eviction-after", str(EVICTION_AFTER_S), *join,
        ]  # fmt: skip
        with self.log.open("ab") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        processes.write_pid_file(self._pid_file, process.pid)

    def _join_file(self, sponsor: LabController) -> Path:
        path = self.directory / f"{self.layout.name}.join"
        if not path.exists():
            netns.run([
                *gitkube("store", "add"), self.layout.name, "--peer", self.layout.peer,
                "--api", self.layout.url, "--out", str(path), "--data-dir", str(sponsor.data_dir),
            ])  # fmt: skip
        return path

    def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Raises:
        LabError: it ended, or its API does not answer in time.
        """
        deadline = time.monotonic() + timeout_s
        while not self.answers():
            if self.pid is None or time.monotonic() > deadline:
                last = tail(self.log)
                raise LabError(
                    f"{self.layout.name} does not come up; its last words are in {self.log}:\n{last}"
                )
            time.sleep(_POLL_S)

    def answers(self) -> bool:
        """Whether its API is ready."""
        return answers(self.layout.url)

    def kill(self) -> bool:
        """A power cut: `serve` and its member end at once.

        Returns:
            Whether it ran.
        """
        return processes.kill_session(self._pid_file)

    def stop(self) -> None:
        """End it in good order, or at once when that takes too long."""
        processes.stop_session(self._pid_file)


def gitkube(*words: str) -> list[str]:
    """The command line of a `gitkube` of this installation."""
    return [sys.executable, "-m", "gitkube.cli.main", *words]


def answers(url: str) -> bool:
    """Whether the API at this URL is ready."""
    try:
        with _direct.open(f"{url}/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def tail(path: Path, lines: int = 10) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""


def _unverified() -> urllib.request.OpenerDirector:
    """It asks whether somebody is there, and sends no secret; whose certificate it is does not matter."""
    import ssl

    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )


_direct = _unverified()
