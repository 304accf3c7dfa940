"""What the containers of a pod share: network, IPC and UTS namespaces, /dev/shm and the files in /etc.

Namespaces need no process to live: each is pinned by a bind mount of its /proc file, so there is no pause
container, nothing to be killed by accident, and making them costs under a millisecond. Only a PID namespace
(`shareProcessNamespace`) dies with its first process, so only such a pod gets a holder (`hold_pids`).

A sandbox lives below the run directory and so ends with the machine's uptime: if its files are gone, it is
gone, and the pod's containers with it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gitkube.node import commands, files, mounts
from gitkube.node.kube import Object, name_of, namespace_of, uid_of
from gitkube.node.paths import Layout, PodLayout
from gitkube.node.procs import ProcessId, identify, is_alive

SHM_BYTES = 64 * 1024 * 1024
MAX_HOSTNAME_BYTES = 63
HOLDER_TIMEOUT_S = 10.0


class AttachmentLike(Protocol):
    @property
    def netns(self) -> str: ...

    @property
    def address(self) -> str: ...


class NetworkLike(Protocol):
    """What the runtime asks of `gitkube.node.network`."""

    async def attach(self, pod_uid: str, *, host_network: bool = False) -> AttachmentLike: ...

    async def detach(self, pod_uid: str) -> None: ...

    def resolv_conf(self, pod: Object) -> str: ...


@dataclass(frozen=True)
class Sandbox:
    """A pod's shared surroundings. An empty path means the host's own namespace."""

    address: str
    netns: str
    ipc: str
    uts: str
    pid: str
    shm: str

    def namespaces(self, pod: Object) -> dict[str, str]:
        """For `oci.Request`: type to path, "" for a new one, left out for the host's."""
        result = {"mount": ""}
        for kind, path in (("network", self.netns), ("ipc", self.ipc), ("uts", self.uts)):
            if path:
                result[kind] = path
        if self.pid:
            result["pid"] = self.pid
        elif not pod["spec"].get("hostPID"):
            result["pid"] = ""
        return result


def hostname_of(pod: Object) -> str:
    """The pod's hostname: what its spec says, else its name, cut to what a hostname may have."""
    return str(pod["spec"].get("hostname") or name_of(pod))[:MAX_HOSTNAME_BYTES].rstrip("-.")


def hosts_file(pod: Object, address: str, cluster_domain: str, host_file: str) -> str:
    """The text of the containers' /etc/hosts. On the host's network it is the host's own, plus aliases."""
    spec = pod["spec"]
    if spec.get("hostNetwork"):
        lines = [host_file.rstrip("\n")]
    else:
        hostname = hostname_of(pod)
        names = hostname
        if spec.get("subdomain"):
            names = f"{hostname}.{spec['subdomain']}.{namespace_of(pod)}.svc.{cluster_domain}\t{hostname}"
        lines = [
            "# Kubernetes-managed hosts file.",
            "127.0.0.1\tlocalhost",
            "::1\tlocalhost ip6-localhost ip6-loopback",
            "fe00::0\tip6-localnet",
            "ff02::1\tip6-allnodes",
            "ff02::2\tip6-allrouters",
            f"{address}\t{names}",
        ]
    for alias in spec.get("hostAliases") or []:
        lines.append("\t".join([str(alias.get("ip", "")), *map(str, alias.get("hostnames") or [])]))
    return "\n".join(lines) + "\n"


class Sandboxes:
    """Makes and removes sandboxes; each step may be repeated."""

    def __init__(self, layout: Layout, network: NetworkLike) -> None:
        self._layout = layout
        self._network = network
        self.cluster_domain = "cluster.local"

    def exists(self, pod: Object) -> bool:
        """Whether the pod's sandbox still stands."""
        pod_layout = self._layout.pod(uid_of(pod))
        if not (pod_layout.run / "ready").exists():
            return False
        if pod["spec"].get("shareProcessNamespace"):
            return is_alive(_holder(pod_layout))
        return True

    async def ensure(self, pod: Object) -> Sandbox:
        """Make what is missing of the pod's sandbox.

        Raises:
            Exception of the network: there is no address to be had; the text says why.
            OSError: the kernel or the disk refused.
        """
        uid, spec = uid_of(pod), pod["spec"]
        pod_layout = self._layout.pod(uid)
        on_host = bool(spec.get("hostNetwork"))
        attachment = await self._network.attach(uid, host_network=on_host)
        resolv_conf = self._network.resolv_conf(pod)
        await asyncio.to_thread(self._build, pod, pod_layout, attachment.address, resolv_conf)
        pid = ""
        if spec.get("shareProcessNamespace"):
            pid = f"/proc/{(await self._ensure_holder(pod_layout)).pid}/ns/pid"
        (pod_layout.run / "ready").touch()
        return Sandbox(
            address=attachment.address,
            netns="" if on_host else attachment.netns,
            ipc="" if spec.get("hostIPC") else str(pod_layout.ipc),
            uts="" if on_host else str(pod_layout.uts),
            pid=pid,
            shm="/dev/shm" if spec.get("hostIPC") else str(pod_layout.shm),
        )

    def _build(self, pod: Object, pod_layout: PodLayout, address: str, resolv_conf: str) -> None:
        spec = pod["spec"]
        for directory in (pod_layout.run, pod_layout.base / "etc", pod_layout.volumes):
            directory.mkdir(parents=True, exist_ok=True, mode=0o755)
        host_file = files.read_text(Path("/etc/hosts")) if spec.get("hostNetwork") else ""
        for name, text in (
            ("hosts", hosts_file(pod, address, self.cluster_domain, host_file)),
            ("hostname", hostname_of(pod) + "\n"),
            ("resolv.conf", resolv_conf),
        ):
            target = pod_layout.etc(name)
            if not target.exists() or files.read_text(target) != text:
                # Written in place: containers see these files by bind mounts, which follow the inode.
                target.write_text(text)
                target.chmod(0o644)
        if not spec.get("hostIPC") and not mounts.is_mounted(pod_layout.shm):
            pod_layout.shm.mkdir(exist_ok=True)
            flags = mounts.MS_NOSUID | mounts.MS_NODEV | mounts.MS_NOEXEC
            mounts.mount("shm", str(pod_layout.shm), "tmpfs", flags, f"mode=1777,size={SHM_BYTES}")
        mounts.in_thread(lambda: _pin_namespaces(pod_layout, hostname_of(pod), spec))

    async def _ensure_holder(self, pod_layout: PodLayout) -> ProcessId:
        holder = _holder(pod_layout)
        if holder is not None and is_alive(holder):
            return holder
        pid_file = pod_layout.run / "holder"
        pid_file.unlink(missing_ok=True)
        await commands.check(
            commands.self_command("hold-pids", str(pid_file)),
            timeout_s=HOLDER_TIMEOUT_S,
            env=commands.self_environment(),
        )
        holder = _holder(pod_layout)
        if holder is None:
            raise OSError("the holder of the pod's process namespace ended at once")
        return holder

    async def remove(self, uid: str) -> None:
        """Take a sandbox away; the containers must have ended. What is not there is fine.

        Raises:
            OSError: the kernel refused.
        """
        pod_layout = self._layout.pod(uid)
        holder = _holder(pod_layout)
        if holder is not None and is_alive(holder):
            os.kill(holder.pid, 9)
        await self._network.detach(uid)
        await asyncio.to_thread(_remove_run, pod_layout)


def _remove_run(pod_layout: PodLayout) -> None:
    (pod_layout.run / "ready").unlink(missing_ok=True)
    mounts.unmount_under(pod_layout.run)
    shutil.rmtree(pod_layout.run, ignore_errors=True)


def _pin_namespaces(pod_layout: PodLayout, hostname: str, spec: Object) -> None:
    """In a thread of its own: new namespaces for this thread, each pinned to its file."""
    wanted = []
    if not spec.get("hostNetwork") and not mounts.is_mounted(pod_layout.uts):
        wanted.append((mounts.CLONE_NEWUTS, "uts", pod_layout.uts))
    if not spec.get("hostIPC") and not mounts.is_mounted(pod_layout.ipc):
        wanted.append((mounts.CLONE_NEWIPC, "ipc", pod_layout.ipc))
    for flag, kind, target in wanted:
        mounts.unshare(flag)
        if kind == "uts":
            mounts.set_hostname(hostname)
        target.touch()
        mounts.bind(f"/proc/thread-self/ns/{kind}", str(target))


def _holder(pod_layout: PodLayout) -> ProcessId | None:
    fields = files.read_text(pod_layout.run / "holder").split()
    if len(fields) != 3 or not fields[0].isdigit():
        return None
    return ProcessId(int(fields[0]), int(fields[1]), fields[2])


def hold_pids(pid_file: Path) -> int:
    """`gitkube-node hold-pids FILE`: be the first process of a new PID namespace, and reap its orphans.

    The parent writes the holder's name and returns; the holder lives until it is killed.
    """
    mounts.unshare(mounts.CLONE_NEWPID)
    child = os.fork()
    if child:
        process = identify(child)
        if process is None:
            return 1
        pid_file.write_text(f"{process.pid} {process.start_ticks} {process.boot_id}")
        return 0
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            _sleep_until_child()


def _sleep_until_child() -> None:
    import signal

    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    signal.sigtimedwait({signal.SIGCHLD}, 5)
