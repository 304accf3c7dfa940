"""A pretend host for one agent, its registry with one image, and the control side's end of its socket.

For tests of the agent alone, with no control plane: `Control` says and hears what fleet would.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gitkube.wire import Connection, SocketStream, Stream, digest_of

AGENT = Path(__file__).resolve().with_name("node_agent.py")
REGISTRY = "127.0.0.1:5000"
IMAGE = f"{REGISTRY}/busybox:1"
TIMEOUT_S = 60.0
"""For what takes less than a second on a machine that does nothing else."""
NEEDED = ("crun", "conmon", "skopeo", "docker-registry", "busybox", "unshare", "nsenter", "ip")


def layer_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o755
            archive.addfile(info, io.BytesIO(content))
        for name, target in (("bin/sh", "busybox"), ("bin/httpd", "busybox"), ("bin/cat", "busybox")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return buffer.getvalue()


def write_oci_layout(target: Path) -> None:
    """One layer with busybox and the accounts, as an OCI image layout."""
    blobs = target / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def add(content: bytes) -> tuple[str, int]:
        digest = hashlib.sha256(content).hexdigest()
        (blobs / digest).write_bytes(content)
        return f"sha256:{digest}", len(content)

    plain = layer_of(
        {
            "bin/busybox": Path(shutil.which("busybox") or "/bin/busybox").read_bytes(),
            "etc/passwd": b"root:x:0:0::/:/bin/sh\nweb:x:1234:1235::/:/bin/sh\n",
            "etc/group": b"root:x:0:\nweb:x:1235:\nextra:x:77:web\n",
            "tmp/.keep": b"",
        }
    )
    layer, layer_size = add(gzip.compress(plain, 1, mtime=0))
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["/bin/sh", "-c", "echo default"], "Env": ["PATH=/bin", "FROM_IMAGE=yes"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(plain).hexdigest()}"]},
    }
    config_digest, config_size = add(json.dumps(config).encode())
    prefix = "application/vnd.oci.image"
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{prefix}.manifest.v1+json",
        "config": {"mediaType": f"{prefix}.config.v1+json", "digest": config_digest, "size": config_size},
        "layers": [{"mediaType": f"{prefix}.layer.v1.tar+gzip", "digest": layer, "size": layer_size}],
    }
    manifest_digest, manifest_size = add(json.dumps(manifest).encode())
    (target / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    entry = {"mediaType": manifest["mediaType"], "digest": manifest_digest, "size": manifest_size}
    entry["annotations"] = {"org.opencontainers.image.ref.name": "1"}
    (target / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))


class Host:
    """The pretend host: its namespaces, its registry, its agent."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.root, self.run = directory / "lib", directory / "run"
        self._registries = directory / "registries.conf"
        self._registries.write_text(f'[[registry]]\nlocation = "{REGISTRY}"\ninsecure = true\n')
        self._holder = subprocess.Popen(["unshare", "--mount", "--net", "sleep", "infinity"])
        self.registry: subprocess.Popen[bytes] | None = None
        self.agent: subprocess.Popen[bytes] | None = None
        try:
            self._enter_namespaces()
        except BaseException:
            self._holder.kill()
            raise

    def _enter_namespaces(self) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        own = os.readlink("/proc/self/ns/net")
        while os.readlink(f"/proc/{self._holder.pid}/ns/net") == own:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        self.inside([sys.executable, str(AGENT), "cgroups", str(self._registries)])

    def _enter(self, argv: list[str]) -> list[str]:
        return ["nsenter", f"--target={self._holder.pid}", "--mount", "--net", "--", *argv]

    def inside(self, argv: list[str]) -> str:
        result = subprocess.run(self._enter(argv), capture_output=True, text=True, timeout=60, check=False)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def start_registry(self) -> None:
        config = self.directory / "registry.yml"
        config.write_text(
            f"version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {self.directory}/registry\n"
            f"http:\n  addr: {REGISTRY}\n"
        )
        log = (self.directory / "registry.log").open("wb")
        argv = self._enter(["docker-registry", "serve", str(config)])
        self.registry = subprocess.Popen(argv, stdout=log, stderr=log)
        layout = self.directory / "layout"
        write_oci_layout(layout)
        deadline = time.monotonic() + TIMEOUT_S
        push = [
            "skopeo",
            "copy",
            "--quiet",
            "--dest-tls-verify=false",
            f"oci:{layout}:1",
            f"docker://{IMAGE}",
        ]
        while subprocess.run(self._enter(push), capture_output=True, check=False).returncode != 0:
            assert time.monotonic() < deadline, "the registry does not take the image"
            time.sleep(0.2)

    def start_agent(self) -> None:
        log = (self.directory / "agent.log").open("ab")
        argv = [sys.executable, str(AGENT), "agent", str(self.root), str(self.run)]
        self.agent = subprocess.Popen(self._enter(argv), stdout=log, stderr=log)

    def kill_agent(self) -> None:
        assert self.agent is not None
        self.agent.send_signal(signal.SIGKILL)
        self.agent.wait()

    def cut_power(self) -> None:
        """All processes and mounts of the host are gone, and what lay under /run; the disk is kept."""
        self.kill_agent()
        keep = {self._holder.pid, self.registry.pid if self.registry else 0}
        space = os.readlink(f"/proc/{self._holder.pid}/ns/mnt")
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) not in keep:
                try:
                    if os.readlink(entry / "ns" / "mnt") == space or self._is_container(entry):
                        os.kill(int(entry.name), signal.SIGKILL)
                except OSError:
                    continue
        for identifier in self.inside(["crun", "list", "-q"]).split():
            if identifier.split("_")[0] in self._pods():
                self.inside(["crun", "delete", "--force", identifier])
        for line in reversed(self.inside(["cat", "/proc/self/mountinfo"]).splitlines()):
            target = line.split(" ")[4]
            if target.startswith(f"{self.directory}/"):
                self.inside(["umount", "--lazy", target])
        shutil.rmtree(self.run)

    def _is_container(self, process: Path) -> bool:
        return any(uid in (process / "cgroup").read_text() for uid in self._pods())

    def stop(self) -> None:
        """End everything in the namespaces, whatever state the test left it in."""
        if self.agent is not None and self.agent.poll() is None:
            self.kill_agent()
        net = os.readlink(f"/proc/{self._holder.pid}/ns/mnt")
        if self.registry is not None:
            self.registry.terminate()
            self.registry.wait()
        own = [
            entry
            for entry in self.inside(["crun", "list", "-q"]).split()
            if entry.split("_")[0] in self._pods()
        ]
        for identifier in own:
            self.inside(["crun", "delete", "--force", identifier])
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != self._holder.pid:
                try:
                    if os.readlink(entry / "ns" / "mnt") == net:
                        os.kill(int(entry.name), signal.SIGKILL)
                except OSError:
                    continue
        for parent in Path("/sys/fs/cgroup").glob("*/gitkube"):
            for place in sorted(parent.glob("**/"), reverse=True):
                with contextlib.suppress(OSError):  # another host's containers are in it
                    place.rmdir()
        self._holder.kill()
        self._holder.wait()

    def _pods(self) -> list[str]:
        pods = self.root / "pods"
        return [entry.name for entry in pods.iterdir()] if pods.exists() else []


class Control:
    """The control side's end of the socket, as fleet would hold it."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.statuses: dict[str, dict[str, Any]] = {}
        self.gone: set[str] = set()
        self.events: list[dict[str, Any]] = []
        self.applied: list[dict[str, Any]] = []
        self.messages: list[dict[str, Any]] = []
        self.connection: Connection | None = None
        self.term = 1
        self._task: asyncio.Task[None] | None = None
        self._pods: dict[str, dict[str, Any]] = {}
        self.config_maps: dict[str, Any] = {}
        self.secrets: dict[str, Any] = {}

    async def connect(self, term: int | None = None) -> dict[str, Any]:
        """Connect, and return the agent's hello."""
        self.term = self.term if term is None else term
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(str(self.host.run / "agent.sock"))
                break
            except (FileNotFoundError, ConnectionRefusedError):
                assert time.monotonic() < deadline, (self.host.directory / "agent.log").read_text()
                await asyncio.sleep(0.02)
        hello: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

        async def take(message: dict[str, Any]) -> None:
            if message["type"] == "hello":
                hello.set_result(message)
            elif message["type"] == "pods":
                for report in message["pods"]:
                    if report.get("gone"):
                        self.gone.add(report["uid"])
                    else:
                        self.statuses[report["uid"]] = report["status"]
            elif message["type"] == "event":
                self.events.append(message)
            elif message["type"] == "applied":
                self.applied.append(message)
            self.messages.append(message)

        self.connection = Connection(SocketStream(reader, writer), is_opener=True, on_message=take)
        self._task = asyncio.ensure_future(self.connection.run())
        answer = await asyncio.wait_for(hello, TIMEOUT_S)
        await self.connection.send({"type": "welcome", "node": "ant", "term": self.term})
        return answer

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def send(self, section: str, data: dict[str, Any]) -> dict[str, Any]:
        assert self.connection is not None
        message = {"type": "desired", "section": section, "term": self.term, "revision": 1, "data": data}
        message["digest"] = digest_of(data)
        await self.connection.send(message)
        found = await self.wait(
            lambda: next((a for a in self.applied if a["digest"] == message["digest"]), None)
        )
        self.applied.clear()
        return found

    async def push(self) -> dict[str, Any]:
        node = {"status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.7"}]}}
        pods = list(self._pods.values())
        return await self.send(
            "pods", {"pods": pods, "configMaps": self.config_maps, "secrets": self.secrets, "node": node}
        )

    async def run(self, pod: dict[str, Any]) -> str:
        self._pods[pod["metadata"]["uid"]] = pod
        assert (await self.push())["error"] == ""
        return str(pod["metadata"]["uid"])

    async def delete(self, uid: str, grace_s: int) -> None:
        pod = self._pods[uid] = json.loads(json.dumps(self._pods[uid]))
        pod["metadata"]["deletionTimestamp"] = "2026-01-31T09:30:00Z"
        pod["metadata"]["deletionGracePeriodSeconds"] = grace_s
        await self.push()

    async def forget(self, uid: str) -> None:
        del self._pods[uid]
        await self.push()

    async def wait(self, condition: Callable[[], Any], timeout_s: float = TIMEOUT_S) -> Any:
        deadline = time.monotonic() + timeout_s
        while True:
            value = condition()
            if value:
                return value
            if time.monotonic() > deadline:
                log = (self.host.directory / "agent.log").read_text()
                pytest.fail(f"not within {timeout_s} s: {json.dumps(self.statuses, indent=1)}\n{log[-6000:]}")
            await asyncio.sleep(0.01)

    def container(self, uid: str, index: int = 0) -> dict[str, Any]:
        entries = self.statuses.get(uid, {}).get("containerStatuses") or [{}]
        return entries[index] if index < len(entries) else {}

    def state(self, uid: str, index: int = 0) -> dict[str, Any]:
        return self.container(uid, index).get("state") or {}

    async def running(self, uid: str, timeout_s: float = TIMEOUT_S) -> None:
        await self.wait(lambda: "running" in self.state(uid), timeout_s)

    async def stream(self, request: dict[str, Any]) -> Stream:
        assert self.connection is not None
        return await self.connection.open(request)

    async def output(self, request: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
        stream = await self.stream(request)
        text = b""
        while True:
            item = await self.read(stream)
            if item is None:
                assert stream.result is not None
                return text, stream.result
            text += item[1]

    async def read(self, stream: Stream) -> tuple[int, bytes] | None:
        return await asyncio.wait_for(stream.read(), TIMEOUT_S)

    async def until_output(self, request: dict[str, Any], is_so: Callable[[bytes], bool]) -> bytes:
        """Ask again until the output is as it should be: what runs is seldom at once where it is to be."""
        deadline = time.monotonic() + TIMEOUT_S
        while not is_so((found := await self.output(request))[0]):
            assert time.monotonic() < deadline, f"{request}: {found}"
            await asyncio.sleep(0.05)
        return found[0]

    async def says(self, uid: str, expected: bytes) -> None:
        """The log of the container is this, as soon as all of it is written."""
        request = {"kind": "logs", "pod": uid, "container": "web"}
        found = await self.until_output(request, lambda text: len(text) >= len(expected))
        assert found == expected

    async def do(self, uid: str, script: str) -> None:
        """Run something in the container."""
        request = {"kind": "exec", "pod": uid, "container": "web", "command": shell(script)}
        assert (await self.output(request))[1] == {"exitCode": 0}

    def evidence(self) -> dict[str, str]:
        """What is to be read when a test fails."""
        log = (self.host.directory / "agent.log").read_text(errors="replace")
        return {"the agent's log": log[-6000:], "statuses": json.dumps(self.statuses, indent=1)[-6000:]}


def make_pod(command: list[str] | None = None, **changes: Any) -> dict[str, Any]:
    """A pod with one container `web` of the busybox image; `changes` go into the container."""
    uid = str(uuid.uuid4())
    container: dict[str, Any] = {"name": "web", "image": IMAGE, "imagePullPolicy": "IfNotPresent"}
    if command is not None:
        container["command"] = command
    container.update(changes)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"pod-{uid[:8]}", "namespace": "shop", "uid": uid, "labels": {"app": "web"}},
        "spec": {"nodeName": "ant", "restartPolicy": "Always", "containers": [container]},
    }


def shell(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]
