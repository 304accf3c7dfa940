"""A demo cluster of a benchmark's own: a lab of three hosts, a control plane, the sample deployed."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gitkube.api.http import HttpClient
from gitkube.lab import processes
from gitkube.lab.demo import Demo
from gitkube.objects.kinds import POD
from gitkube.objects.types import Object

HOSTS = 3
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@contextmanager
def demo_cluster() -> Iterator[Demo]:
    """The demo on a free port, in a directory that is gone afterwards. Needs root."""
    if os.geteuid() != 0:
        raise SystemExit("this benchmark makes a lab, so it needs root")
    directory = Path(tempfile.mkdtemp(prefix=".bench-", dir=Path.cwd()))
    demo = Demo(directory / "lab", listen="127.0.0.1:0", say=lambda line: print(line, file=sys.stderr))
    try:
        for step in (
            lambda: demo.start_hosts(HOSTS),
            demo.fill_registry,
            demo.start_control,
            demo.wait_for_hosts,
            demo.make_clone,
            demo.push,
        ):
            print(step(), file=sys.stderr)
        yield demo
    finally:
        demo.remove()
        shutil.rmtree(directory, ignore_errors=True)


async def wait_pods(
    demo: Demo, namespace: str, label_selector: str, is_reached: Callable[[list[Object]], bool]
) -> None:
    """Watch the Pods until they are as wanted."""
    async with HttpClient.from_kubeconfig(demo.kubeconfig) as client:
        found = await client.list(POD, namespace, label_selector=label_selector)
        pods = {pod["metadata"]["uid"]: pod for pod in found.items}
        if is_reached(list(pods.values())):
            return
        watch = client.watch(
            POD, namespace, label_selector=label_selector, resource_version=found.resource_version
        )
        async for event in watch:
            if event.type == "BOOKMARK":
                continue
            pods[event.object["metadata"]["uid"]] = event.object
            if event.type == "DELETED":
                del pods[event.object["metadata"]["uid"]]
            if is_reached(list(pods.values())):
                return


def within(seconds: float, work: Awaitable[None]) -> None:
    """Run to the end, or fail with a sentence."""

    async def bounded() -> None:
        await asyncio.wait_for(work, seconds)

    asyncio.run(bounded())


def control_pids(demo: Demo) -> list[int]:
    """The control process and its store member."""
    pid = processes.running_pid(demo.directory / "serve.pid")
    assert pid is not None, "the control plane does not run"
    children = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return [pid, *(int(line) for line in children.stdout.split())]


def agent_pids() -> list[int]:
    """Every agent on the lab's hosts, as this machine numbers them."""
    found = subprocess.run(
        ["pgrep", "-f", "gitkube-node.* agent"], capture_output=True, text=True, check=False
    )
    return [int(line) for line in found.stdout.split()]


def rss_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * _PAGE_BYTES / 1e6


def cpu_s(pid: int) -> float:
    """User and system time that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
