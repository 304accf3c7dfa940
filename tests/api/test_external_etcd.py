"""`gitkube serve --etcd-servers`: the whole control plane on a real etcd, which goes away and comes back."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.support import etcd_server
from tests.support.live_cluster import kubectl_path
from tests.support.waiting import until

pytestmark = [
    pytest.mark.skipif(not etcd_server.is_installed(), reason=etcd_server.MISSING),
    pytest.mark.skipif(kubectl_path() is None, reason="kubectl is not installed"),
]
DEADLINE_S = 120


class Controller:
    """`gitkube serve` with a pretend host, on a data directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory.with_suffix(".log")

    @asynccontextmanager
    async def running(self, etcd: str) -> AsyncIterator[asyncio.subprocess.Process]:
        with self.log.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "gitkube.cli.main", "serve", "--hollow", "1", "--listen", "127.0.0.1:0",
                "--data-dir", str(self.directory), "--etcd-servers", f"http://{etcd}",
                stdout=log, stderr=log,
            )  # fmt: skip
        try:
            await self.says("leading")
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
            await asyncio.wait_for(process.wait(), DEADLINE_S)

    async def says(self, event: str) -> None:
        words = f'"event": "{event}"'
        await asyncio.to_thread(until, lambda: words in self.log.read_text(), self.log.read_text)

    async def asked(self, *words: str) -> tuple[int, str]:
        """Exit code and output of a kubectl."""
        process = await asyncio.create_subprocess_exec(
            str(kubectl_path()), "--kubeconfig", str(self.directory / "kubeconfig"), *words,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await asyncio.wait_for(process.communicate(), DEADLINE_S)
        assert process.returncode is not None
        return process.returncode, output.decode()

    async def kubectl(self, *words: str) -> None:
        code, output = await self.asked(*words)
        if code != 0:
            _, there = await self.asked("get", "nodes,pods", "--all-namespaces", "--output", "yaml")
            raise AssertionError(f"{output}{self.log.read_text()[-4000:]}\n{there}")

    async def until_ready(self) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                if (await self.asked("get", "--raw", "/readyz"))[0] == 0:
                    return
                await asyncio.sleep(0.2)

    async def scale(self, replicas: int) -> None:
        await self.kubectl("scale", "deployment", "web", f"--replicas={replicas}")
        jsonpath = f"--for=jsonpath={{.status.readyReplicas}}={replicas}"
        await self.kubectl("wait", "deployment/web", jsonpath, "--timeout=60s")


async def test_the_control_plane_works_on_an_etcd_over_restarts_of_both(tmp_path: Path) -> None:
    controller, data = Controller(tmp_path / "d"), tmp_path / "etcd"
    async with etcd_server.etcd_server(data, election_ms=200) as etcd, controller.running(etcd):
        await controller.kubectl("create", "deployment", "web", "--image=web:1")
        await controller.scale(1)
    port = int(etcd.rpartition(":")[2])
    async with etcd_server.etcd_server(data, port=port, election_ms=200):
        async with controller.running(etcd) as process:
            await controller.scale(2)  # what was there before is there
            process.kill()
            await process.wait()
        async with controller.running(etcd):
            await controller.scale(3)


async def test_an_etcd_that_is_restarted_under_the_control_plane_is_found_again(tmp_path: Path) -> None:
    controller, data = Controller(tmp_path / "d"), tmp_path / "etcd"
    async with AsyncExitStack() as until_the_end:
        async with etcd_server.etcd_server(data, election_ms=200) as etcd:
            process = await until_the_end.enter_async_context(controller.running(etcd))
            await controller.kubectl("create", "deployment", "web", "--image=web:1")
        await controller.says("etcd_silent")
        port = int(etcd.rpartition(":")[2])
        await until_the_end.enter_async_context(etcd_server.etcd_server(data, port=port, election_ms=200))
        await controller.until_ready()
        await controller.scale(2)
        assert process.returncode is None
