"""The whole path on one machine: lab, images, control plane, repository, first push.

Each step looks first and does only what is missing, so a second run takes seconds and an interrupted one is
simply run again. Everything lives under one directory; `remove` leaves nothing of it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from gitkube.api.errors import StatusError
from gitkube.api.http import HttpClient
from gitkube.api.kubeconfig import KubeconfigError
from gitkube.gitops.source import HOOK_SOCKET
from gitkube.lab import processes
from gitkube.lab.controllers import EVICTION_AFTER_S, LabController, gitkube
from gitkube.lab.errors import LabError
from gitkube.lab.lab import Lab
from gitkube.objects.kinds import LEASE, NODE
from gitkube.objects.types import Object

PROJECT = Path(__file__).resolve().parents[2]
SAMPLE = PROJECT / "sample-repo"
IMAGES = ("busybox:1", "redis:7", "guestbook-web:1", "guestbook-web:2")
READY_TIMEOUT_S = 60.0
LISTEN = "127.0.0.1:6443"
GUESTBOOK_PORT = 30080
T = TypeVar("T")


class Demo:
    """The demo in a directory (normally `.lab`)."""

    def __init__(self, directory: Path, *, listen: str = LISTEN, say: Callable[[str], None]) -> None:
        self.directory = directory.resolve()
        self.lab = Lab(self.directory, progress=None)
        self.kubeconfig = self.directory / "kubeconfig"
        self.clone = self.directory / "clone"
        self._listen = listen
        self._say = say

    # ------------------------------------------------------------ the steps, in order

    @property
    def repository(self) -> Path:
        """Where pushes go: the leader's, when there are several controllers."""
        leading = self._leading()
        return leading.repository if leading is not None else self.directory / "repo.git"

    def start_hosts(self, count: int | None, controllers: int | None = None) -> str:
        """Bring up the lab; with several controllers, these, too."""
        if (controllers or 1) > 1 and (self.directory / "control").exists():
            raise LabError(
                f"the demo in {self.directory} runs with one controller; end it first: gitkube demo --down"
            )
        status = self.lab.up(count, controllers)
        zones = {host.zone for host in status.hosts}
        return f"{', '.join(host.name for host in status.hosts)} on {len(zones)} subnets"

    def fill_registry(self) -> str:
        """Build the sample's images if their recipe changed, and push what the registry lacks."""
        output = self.directory / "images"
        stamp = output / "recipe"
        recipe = hashlib.sha256()
        for file in sorted((SAMPLE / "images").rglob("*.py")):
            recipe.update(file.read_bytes())
        if not stamp.exists() or stamp.read_text() != recipe.hexdigest():
            script = SAMPLE / "images" / "build.py"
            _run([sys.executable, str(script), "--output", str(output)], "the images cannot be built")
            stamp.write_text(recipe.hexdigest())
        layouts = {name: output / name.replace(":", "_") for name in IMAGES}
        copied = self.lab.push_images(layouts)
        return f"{len(IMAGES)} images in registry.lab:5000" + (f", {len(copied)} new" if copied else "")

    def start_control(self) -> str:
        """Start the control plane as a process of its own, unless it runs."""
        several = self.lab.controllers()
        if several:
            for controller in several:
                controller.wait_ready()
            names = ", ".join(controller.layout.name for controller in several)
            return f"{names}; {self.leader() or 'none yet'} leads"
        pid_file = self.directory / "serve.pid"
        pid = processes.running_pid(pid_file)
        if pid is not None and asyncio.run(self._nodes()) is not None:
            return f"runs already (pid {pid})"
        if pid is not None:
            processes.kill(pid_file)  # it runs and does not answer
        log = self.directory / "serve.log"
        command = [
            *gitkube("serve"),
            "--data-dir", str(self.directory / "control"), "--inventory", str(self.lab.inventory()),
            "--repo", str(self.repository), "--branch", "main", "--listen", self._listen,
            "--kubeconfig", str(self.kubeconfig), "--eviction-after", str(EVICTION_AFTER_S),
        ]  # fmt: skip
        with log.open("ab") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        processes.write_pid_file(pid_file, process.pid)
        deadline = time.monotonic() + READY_TIMEOUT_S
        while asyncio.run(self._nodes()) is None:
            if process.poll() is not None or time.monotonic() > deadline:
                raise LabError(
                    f"the control plane does not come up; its last words are in {log}:\n{_tail(log)}"
                )
            time.sleep(0.1)
        return f"https://{self._listen}, pid {process.pid}"

    def wait_for_hosts(self) -> str:
        """Wait until each host has taken its agent and is Ready."""
        expected = {host.name for host in self.lab.status().hosts if host.state == "on"}
        deadline = time.monotonic() + READY_TIMEOUT_S * 2
        while True:
            nodes = asyncio.run(self._nodes()) or []
            ready = {node["metadata"]["name"] for node in nodes if _is_ready(node)}
            if expected <= ready:
                return f"{len(expected)} hosts Ready"
            if time.monotonic() > deadline:
                missing = ", ".join(sorted(expected - ready))
                raise LabError(f"not Ready: {missing}. The reasons are in {self.directory / 'serve.log'}")
            time.sleep(0.2)

    def make_clone(self) -> str:
        """A working copy with the sample in it and the remote `lab`."""
        if not (self.clone / ".git").is_dir():
            shutil.rmtree(self.clone, ignore_errors=True)
            shutil.copytree(SAMPLE, self.clone, ignore=shutil.ignore_patterns("images", "__pycache__"))
            self._git("init", "--quiet", "--initial-branch=main")
            self._git("remote", "add", "lab", str(self.repository))
            for controller in self.lab.controllers():
                self._git("remote", "add", controller.layout.name, str(controller.repository))
            for name, value in (("user.name", "gitkube demo"), ("user.email", "demo@gitkube.dev")):
                if not self._git("config", "--get", name, check=False):
                    self._git("config", name, value)
        if not self._git("rev-parse", "--verify", "--quiet", "HEAD", check=False):
            self._git("add", "--all")
            self._git("commit", "--quiet", "--message", "Guestbook and a greeting")
        return f"{self.clone}, remote lab"

    def hand_over(self) -> None:
        """Give clone, repository and kubeconfig to whoever called sudo, for their own git and kubectl."""
        user, group = os.environ.get("SUDO_UID", ""), os.environ.get("SUDO_GID", "")
        if not user.isdigit() or not group.isdigit():
            return
        repositories = [one.repository for one in self.lab.controllers()] or [self.repository]
        for top in (self.clone, *repositories, self.kubeconfig):
            for path in [top, *top.rglob("*")]:
                if path.name != HOOK_SOCKET:
                    os.chown(path, int(user), int(group), follow_symlinks=False)

    def push(self) -> str:
        """Push main; what the control plane answers goes to `say`, line by line."""
        self._git("remote", "set-url", "lab", str(self.repository))
        if (
            self._git("rev-parse", "HEAD")
            == self._git("ls-remote", "lab", "refs/heads/main").partition("\t")[0]
        ):
            return "is pushed already"
        process = subprocess.Popen(
            ["git", "-C", str(self.clone), "push", "lab", "main"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=_git_environment(),
        )  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            self._say(line.rstrip())
        if process.wait() != 0:
            raise LabError("the push was refused; what to do is said above")
        return "main is on lab"

    # ------------------------------------------------------------ afterwards

    def guestbook_url(self) -> str:
        """Where the guestbook answers: any host's address and the NodePort."""
        first = self.lab.status().hosts[0]
        return f"http://{first.address}:{GUESTBOOK_PORT}/"

    def remove(self) -> str:
        """End what runs, and remove all that was made, the clone included."""
        if not self.directory.exists():
            return "there was nothing"
        processes.stop_session(self.directory / "serve.pid")
        self.lab.down()
        shutil.rmtree(self.directory, ignore_errors=False) if self.directory.exists() else None
        return "lab, control plane and files are gone"

    def leader(self) -> str:
        """The name of the controller that leads; "" when none is known."""
        return asyncio.run(self._leader())

    def _leading(self) -> LabController | None:
        several = self.lab.controllers()
        name = self.leader() if several else ""
        return next((one for one in several if one.layout.name == name), several[0] if several else None)

    async def _leader(self) -> str:
        async def holder(client: HttpClient) -> str:
            lease = await client.get(LEASE, "gitkube-controller", "kube-system")
            return str((lease.get("spec") or {}).get("holderIdentity") or "").rpartition("_")[0]

        return await self._ask(holder) or ""

    async def _nodes(self) -> list[Object] | None:
        async def nodes(client: HttpClient) -> list[Object]:
            return (await client.list(NODE)).items

        return await self._ask(nodes)

    async def _ask(self, question: Callable[[HttpClient], Awaitable[T]]) -> T | None:
        """The answer of the first controller that gives one."""
        if not self.kubeconfig.exists():
            return None
        for context in [one.layout.name for one in self.lab.controllers() if one.pid is not None] or [""]:
            try:
                async with HttpClient.from_kubeconfig(self.kubeconfig, context=context) as client:
                    return await question(client)
            except (StatusError, OSError, KubeconfigError):
                continue
        return None

    def _git(self, *arguments: str, check: bool = True) -> str:
        result = subprocess.run(
            ["git", "-C", str(self.clone), *arguments],
            capture_output=True, text=True, check=False, env=_git_environment(),
        )  # fmt: skip
        if check and result.returncode != 0:
            raise LabError(f"git {arguments[0]} failed: {result.stderr.strip()}")
        return result.stdout.strip()


def _is_ready(node: Object) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _git_environment() -> dict[str, str]:
    # A repository of root's, pushed to by root through sudo, must not be refused for its owner.
    return {**os.environ, "GIT_TERMINAL_PROMPT": "0"}


def _run(command: list[str], failure: str) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise LabError(f"{failure}: {result.stderr.strip()[-2000:] or json.dumps(command)}")


def _tail(path: Path, lines: int = 10) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
