"""Containers by crun and conmon: made, signalled, looked at and removed, never held.

conmon outlives the agent. It keeps the container's output (CRI log format), its terminal and its exit code,
which it writes into the exits directory under the container's id. An id is `POD-UID_NAME_ATTEMPT`, so what
is found later says by itself whose it is. Each function here is one step that may be repeated.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import stat
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gitkube.node import commands, files, inside, mounts, oci, users
from gitkube.node.cgroups import PARENT, Cgroups
from gitkube.node.env import ConfigError
from gitkube.node.images import Image
from gitkube.node.kube import Object, security_of, uid_of
from gitkube.node.paths import Layout, safe
from gitkube.node.procs import ProcessId, identify
from gitkube.node.sandbox import Sandbox

CREATE_TIMEOUT_S = 60.0
CRUN_TIMEOUT_S = 30.0
MAX_ACCOUNT_FILE_BYTES = 1024 * 1024
MAX_TERMINATION_MESSAGE_BYTES = 4096
MAX_DEVICES = 512


class RuntimeFailure(Exception):
    """crun or conmon refused; the text is their cause."""


@dataclass(frozen=True)
class Job:
    """One attempt at a container, with everything it needs."""

    pod: Object
    container: Object
    attempt: int
    image: Image
    environment: dict[str, str]
    sandbox: Sandbox
    volume_mounts: list[oci.Mount] = field(default_factory=list)
    pid_namespace: str = ""  # of another container, whose processes this one sees

    @property
    def name(self) -> str:
        return str(self.container["name"])

    @property
    def container_id(self) -> str:
        return container_id(uid_of(self.pod), self.name, self.attempt)


def container_id(uid: str, name: str, attempt: int) -> str:
    """The id of an attempt: its owner, readable again with `owner_of`."""
    return f"{safe(uid)}_{safe(name)}_{attempt}"


def owner_of(identifier: str) -> tuple[str, str, int] | None:
    """(pod uid, container name, attempt) of an id made by `container_id`; None for any other."""
    parts = identifier.rsplit("_", 2)
    if len(parts) != 3 or not parts[2].isdigit():
        return None
    return parts[0], parts[1], int(parts[2])


def cgroups_path(uid: str, name: str) -> str:
    return f"{PARENT}/{safe(uid)}/{safe(name)}"


class Runtime:
    """crun and conmon of this host."""

    def __init__(self, layout: Layout, layers_dir: Path, cgroups: Cgroups, host: oci.Host) -> None:
        self._layout = layout
        self._layers_dir = layers_dir
        self._cgroups = cgroups
        self._host = host
        self.crun = commands.find_program("crun")
        self._conmon = commands.find_program("conmon")

    async def create(self, job: Job) -> ProcessId:
        """Make the container out of its bundle, stopped before its first instruction.

        Raises:
            RuntimeFailure: crun refused.
            OSError: the disk or the kernel refused.
        """
        uid, identifier = uid_of(job.pod), job.container_id
        bundle = self._layout.pod(uid).bundle(job.name, job.attempt)
        log = self._layout.pod(uid).log(job.name, job.attempt)
        argv = [
            self._conmon, "--api-version", "1", "-c", identifier, "-u", identifier, "-n", job.name,
            "-r", self.crun, "-b", str(bundle), "-p", str(bundle / "pid"),
            "--exit-dir", str(self._layout.exits), "--socket-dir-path", str(self._layout.attach_sockets),
            "-l", f"k8s-file:{log}", "--log-level", "error", "--conmon-pidfile", str(bundle / "conmon.pid"),
        ]  # fmt: skip
        if job.container.get("stdin"):
            argv.append("-i")
            if not job.container.get("stdinOnce"):
                argv.append("--leave-stdin-open")
        if job.container.get("tty"):
            argv.append("-t")
        pid = await self._run_conmon(argv)
        process = identify(pid)
        if process is None:
            raise RuntimeFailure("the container's first process ended before it was started")
        return process

    async def _run_conmon(self, argv: list[str]) -> int:
        """Start conmon, and wait for what it says on its pipe about crun's success."""
        reader, writer = os.pipe()
        try:
            environment = {
                "_OCI_SYNCPIPE": str(writer),
                "PATH": os.environ.get("PATH", os.defpath),
                "LC_ALL": "C.UTF-8",
            }
            result = await commands.run(
                argv, timeout_s=CREATE_TIMEOUT_S, env=environment, pass_fds=[writer], cwd="/"
            )
        except commands.CommandError as error:
            os.close(reader)
            raise RuntimeFailure(str(error)) from error
        finally:
            os.close(writer)
        if result.code != 0:
            os.close(reader)
            raise RuntimeFailure(commands.last_words("conmon", result))
        answer = await _read_line(reader, CREATE_TIMEOUT_S)
        try:
            value = json.loads(answer)
            pid = int(value["data"])
        except (ValueError, KeyError, TypeError) as error:
            raise RuntimeFailure(f"conmon answered {answer!r}") from error
        if pid <= 0:
            raise RuntimeFailure(str(value.get("message") or f"crun failed with code {-pid}").strip())
        return pid

    async def start(self, identifier: str) -> None:
        """Let a created container run.

        Raises:
            RuntimeFailure: crun refused, for one because the program does not exist in the image.
        """
        await self._crun("start", identifier)

    async def signal(self, identifier: str, name: str, *, everyone: bool = False) -> None:
        """Send a signal to the container's first process. One that has ended is fine.

        Args:
            everyone: to every process of the container; needed where it has no PID namespace of its own.
        """
        argv = ["kill", *(["--all"] if everyone else []), identifier, name]
        try:
            await self._crun(*argv)
        except RuntimeFailure as error:
            text = str(error)
            if not any(word in text for word in ("No such process", "not running", "does not exist")):
                raise

    async def update(self, identifier: str, resources: dict[str, Any]) -> None:
        """Give a running container other limits.

        Args:
            resources: as in `linux.resources` of its configuration.

        Raises:
            RuntimeFailure: the kernel refused, for one because it uses more than the new limit.
        """
        place = self._layout.run / f"update-{uuid.uuid4().hex[:12]}.json"
        await asyncio.to_thread(files.write_json, place, resources, durable=False)
        try:
            await self._crun("update", "--resources", str(place), identifier)
        finally:
            place.unlink(missing_ok=True)

    async def delete(self, identifier: str) -> None:
        """Remove what crun knows of a container, its processes and its cgroup. None there is fine."""
        try:
            await self._crun("delete", "--force", identifier)
        except RuntimeFailure as error:
            if "does not exist" not in str(error) and "No such file" not in str(error):
                raise

    async def _crun(self, *arguments: str) -> bytes:
        try:
            return await commands.check([self.crun, *arguments], timeout_s=CRUN_TIMEOUT_S)
        except commands.CommandError as error:
            raise RuntimeFailure(str(error).replace("crun: ", "", 1)) from error

    def was_out_of_memory(self, uid: str, name: str) -> bool:
        """Whether the kernel killed a process of the container; ask before `delete`."""
        return self._cgroups.oom_kills(cgroups_path(uid, name)) > 0

    def write_bundle(self, job: Job) -> None:
        """The attempt's directory with its root mounted and its config.json. Blocks.

        Raises:
            ConfigError: the spec or the image cannot be run as it is.
            OSError: the disk or the kernel refused.
        """
        uid = uid_of(job.pod)
        pod_layout = self._layout.pod(uid)
        bundle = pod_layout.bundle(job.name, job.attempt)
        mounts.unmount_under(bundle)
        shutil.rmtree(bundle, ignore_errors=True)
        for directory in (bundle / "upper", bundle / "work", bundle / "rootfs"):
            directory.mkdir(parents=True, mode=0o755)
        pod_layout.log(job.name, job.attempt).parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        (self._layout.exits / job.container_id).unlink(missing_ok=True)
        rootfs = bundle / "rootfs"
        mounts.mount_overlay(self._layers_dir, job.image.layers, bundle / "upper", bundle / "work", rootfs)
        termination_log = bundle / "termination-log"
        termination_log.touch()
        termination_log.chmod(0o666)
        security = security_of(job.pod, job.container)
        user = users.resolve(
            str(job.image.config.get("User") or ""),
            security,
            inside.read_inside(str(rootfs), "etc/passwd", MAX_ACCOUNT_FILE_BYTES).decode(errors="replace"),
            inside.read_inside(str(rootfs), "etc/group", MAX_ACCOUNT_FILE_BYTES).decode(errors="replace"),
        )
        config = oci.container_config(
            oci.Request(
                pod=job.pod,
                container=job.container,
                image_config=job.image.config,
                environment=job.environment,
                user=user,
                rootfs=str(rootfs),
                cgroups_path=cgroups_path(uid, job.name),
                namespaces=self._namespaces(job),
                mounts=[*self._etc_mounts(job), *job.volume_mounts],
                host=self._host,
                shm=job.sandbox.shm,
            )
        )
        files.write_json(bundle / "config.json", config, durable=False)

    def _namespaces(self, job: Job) -> dict[str, str]:
        namespaces = job.sandbox.namespaces(job.pod)
        if self._cgroups.version == 2:
            namespaces["cgroup"] = ""
        if job.pid_namespace:
            namespaces["pid"] = job.pid_namespace
        return namespaces

    def _etc_mounts(self, job: Job) -> list[oci.Mount]:
        pod_layout = self._layout.pod(uid_of(job.pod))
        read_only = bool(security_of(job.pod, job.container).get("readOnlyRootFilesystem"))
        result = [
            oci.Mount(str(pod_layout.etc(name)), f"/etc/{name}", read_only)
            for name in ("hosts", "hostname", "resolv.conf")
        ]
        bundle = pod_layout.bundle(job.name, job.attempt)
        path = str(job.container.get("terminationMessagePath") or "/dev/termination-log")
        result.append(oci.Mount(str(bundle / "termination-log"), path))
        return result

    def clean_up(self, uid: str, name: str, attempt: int) -> None:
        """Unmount an ended attempt's root and drop what it wrote; its log and message stay. Blocks."""
        bundle = self._layout.pod(uid).bundle(name, attempt)
        mounts.unmount_under(bundle)
        for part in ("upper", "work"):
            shutil.rmtree(bundle / part, ignore_errors=True)
        self._attach_link(container_id(uid, name, attempt)).unlink(missing_ok=True)

    def forget(self, uid: str, name: str, attempt: int) -> None:
        """Remove an attempt of which nothing is asked any more. Blocks."""
        self.clean_up(uid, name, attempt)
        shutil.rmtree(self._layout.pod(uid).bundle(name, attempt), ignore_errors=True)
        (self._layout.exits / container_id(uid, name, attempt)).unlink(missing_ok=True)
        log = self._layout.pod(uid).log(name, attempt)
        for part in log.parent.glob(f"{log.name}*"):
            part.unlink(missing_ok=True)

    def remove_pod(self, uid: str) -> None:
        """Remove everything of a pod from the disk; nothing of it may run any more. Blocks."""
        pod_layout = self._layout.pod(uid)
        mounts.unmount_under(pod_layout.base)
        shutil.rmtree(pod_layout.base, ignore_errors=True)
        for leftover in self._layout.exits.glob(f"{safe(uid)}_*"):
            leftover.unlink(missing_ok=True)
        for link in self._layout.attach_sockets.glob(f"{safe(uid)}_*"):
            link.unlink(missing_ok=True)
        self._cgroups.remove(f"{PARENT}/{safe(uid)}")

    def _attach_link(self, identifier: str) -> Path:
        return self._layout.attach_sockets / identifier

    def termination_message(self, uid: str, name: str, attempt: int) -> str:
        """What the container left in its termination log. Read as a stranger's file: no links, capped."""
        path = self._layout.pod(uid).bundle(name, attempt) / "termination-log"
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return ""
        try:
            return os.read(fd, MAX_TERMINATION_MESSAGE_BYTES).decode(errors="replace")
        finally:
            os.close(fd)

    def recorded_process(self, uid: str, name: str, attempt: int) -> ProcessId | None:
        """The process that conmon wrote down for an attempt, when it lives."""
        text = files.read_text(self._layout.pod(uid).bundle(name, attempt) / "pid").strip()
        return identify(int(text)) if text.isdigit() else None


async def _read_line(fd: int, timeout_s: float) -> str:
    """The first line out of a pipe; closes it."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    with os.fdopen(fd, "rb", buffering=0) as pipe:
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        try:
            return (await asyncio.wait_for(reader.readline(), timeout_s)).decode(errors="replace")
        except asyncio.TimeoutError as error:
            raise RuntimeFailure(f"conmon said nothing for {timeout_s:g} s") from error
        finally:
            transport.close()


def host_devices() -> tuple[dict[str, Any], ...]:
    """The machine's devices, for privileged containers."""
    found: list[dict[str, Any]] = []
    for directory, subdirectories, names in os.walk("/dev"):
        subdirectories[:] = [name for name in subdirectories if name not in ("pts", "shm", "mqueue", "fd")]
        for name in names:
            path = os.path.join(directory, name)
            try:
                info = os.lstat(path)
            except OSError:
                continue  # went away while we looked
            kind = "c" if stat.S_ISCHR(info.st_mode) else "b" if stat.S_ISBLK(info.st_mode) else ""
            if kind and name not in ("console", "ptmx") and len(found) < MAX_DEVICES:
                found.append(
                    {
                        "path": path,
                        "type": kind,
                        "major": os.major(info.st_rdev),
                        "minor": os.minor(info.st_rdev),
                        "fileMode": stat.S_IMODE(info.st_mode),
                        "uid": info.st_uid,
                        "gid": info.st_gid,
                    }
                )
    return tuple(found)


__all__ = ["ConfigError", "Job", "Runtime", "RuntimeFailure", "cgroups_path", "container_id", "owner_of"]
