"""A pretend host for one agent: a mount and a network namespace of its own, kept by a process that sleeps.

Inside: version 1 cgroups without the hybrid part, the machine's own binaries, a registry on loopback. The
agent in it is the real one; only its network is `PairNetwork`, one veth pair per pod and no overlay. Run as
`python node_agent.py cgroups` (prepare the namespace) or `python node_host.py agent ROOT RUN` (the agent).
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from gitkube.node import mounts
from gitkube.node.daemon import serve

FIRST_ADDRESS = ipaddress.ip_address("10.99.0.2")
GATEWAY = "10.99.0.1"


@dataclass(frozen=True)
class Attachment:
    netns: str
    address: str


class PairNetwork:
    """Just enough network: each pod gets a veth pair and an address that the host can reach."""

    def __init__(self, root: Path, run_dir: Path) -> None:
        self._netns = run_dir / "netns"
        self._netns.mkdir(exist_ok=True)
        self._file = root / "addresses.json"
        self._addresses: dict[str, str] = json.loads(self._file.read_text()) if self._file.exists() else {}

    def public_key(self) -> str:
        return "a-public-key"

    async def apply(self, desired: Any) -> None: ...

    async def apply_services(self, desired: Any) -> None: ...

    async def prune(self, keep: set[str]) -> None: ...

    async def run(self) -> None:
        await asyncio.Event().wait()

    def resolv_conf(self, pod: dict[str, Any]) -> str:
        return f"search {pod['metadata']['namespace']}.svc.cluster.local\nnameserver {GATEWAY}\n"

    async def attach(self, pod_uid: str, *, host_network: bool = False) -> Attachment:
        if host_network:
            return Attachment("", "127.0.0.1")
        if pod_uid not in self._addresses:
            self._addresses[pod_uid] = str(FIRST_ADDRESS + len(self._addresses))
            self._file.write_text(json.dumps(self._addresses))
        path, address = self._netns / pod_uid, self._addresses[pod_uid]
        if not mounts.is_mounted(path):
            await asyncio.to_thread(self._make, path, address)
        return Attachment(str(path), address)

    def _make(self, path: Path, address: str) -> None:
        def body() -> None:
            mounts.unshare(mounts.CLONE_NEWNET)
            path.touch()
            mounts.bind("/proc/thread-self/ns/net", str(path))

        mounts.in_thread(body)
        name = f"p{address.rsplit('.', 1)[1]}"
        inside = ["nsenter", f"--net={path}", "ip"]
        for command in (
            ["ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", str(path)],
            ["ip", "link", "set", name, "up"],
            ["ip", "address", "replace", f"{GATEWAY}/32", "dev", name],
            ["ip", "route", "replace", f"{address}/32", "dev", name],
            [*inside, "link", "set", "lo", "up"],
            [*inside, "link", "set", "eth0", "up"],
            [*inside, "address", "add", f"{address}/32", "dev", "eth0"],
            [*inside, "route", "add", GATEWAY, "dev", "eth0"],
        ):
            subprocess.run(command, check=True, capture_output=True)

    async def detach(self, pod_uid: str) -> None:
        path = self._netns / pod_uid
        mounts.unmount_under(path)
        path.unlink(missing_ok=True)


def prepare_namespace(registries_conf: str) -> None:
    """Version 1 cgroups only, and a registry configuration of the test's own."""
    mounts.mount("none", "/", "", mounts.MS_REC | mounts.MS_PRIVATE)
    source = Path("/sys/fs/cgroup")
    types = {
        line.split(" ")[4]: line.rpartition(" - ")[2].split(" ")[0]
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
    }
    if types.get(str(source)) != "cgroup2":
        stage = Path("/mnt")
        mounts.mount("tmpfs", str(stage), "tmpfs")
        for entry in source.iterdir():
            if entry.is_symlink():
                (stage / entry.name).symlink_to(os.readlink(entry))
            elif types.get(str(entry)) == "cgroup":
                (stage / entry.name).mkdir()
                mounts.bind(str(entry), str(stage / entry.name))
        mounts.mount(str(stage), str(source), "", mounts.MS_BIND | mounts.MS_REC)
        mounts.unmount(stage)
    Path("/etc/containers").mkdir(exist_ok=True)
    conf = Path("/etc/containers/registries.conf")
    if conf.exists():
        mounts.bind(registries_conf, str(conf))
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


if __name__ == "__main__":
    if sys.argv[1] == "cgroups":
        prepare_namespace(sys.argv[2])
    else:
        logging.basicConfig(level="INFO", format="%(asctime)s.%(msecs)03d %(levelname)s %(name)s %(message)s")
        asyncio.run(serve(Path(sys.argv[2]), Path(sys.argv[3]), PairNetwork))
