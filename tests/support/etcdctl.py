"""The real etcdctl (Debian's `etcd-client`), as a person in a shell would use it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

COMMAND_TIMEOUT_S = 60.0

needs_etcdctl = pytest.mark.skipif(
    shutil.which("etcdctl") is None, reason="etcdctl is not installed: apt-get install etcd-client"
)


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str


class Etcdctl:
    """The command, as a person in a shell would use it."""

    def __init__(self, address: str, options: Sequence[str] = ()) -> None:
        self._options = [f"--endpoints={address}", "--command-timeout=30s", *options]
        self._environment = os.environ | {"ETCDCTL_API": "3"}

    async def run(self, *arguments: str, stdin: str = "") -> Said:
        async with self.started(*arguments) as process, asyncio.timeout(COMMAND_TIMEOUT_S):
            out, err = await process.communicate(stdin.encode())
        assert process.returncode is not None
        return Said(process.returncode, out.decode(), err.decode())

    async def lines(self, *arguments: str, stdin: str = "") -> list[str]:
        said = await self.run(*arguments, stdin=stdin)
        assert said.code == 0, said
        return said.out.splitlines()

    async def json(self, *arguments: str) -> Any:
        return json.loads("".join(await self.lines(*arguments, "-w", "json")))

    async def refused(self, *arguments: str, stdin: str = "") -> str:
        said = await self.run(*arguments, stdin=stdin)
        assert said.code != 0, said
        return said.err

    @asynccontextmanager
    async def started(self, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
        process = await asyncio.create_subprocess_exec(
            "etcdctl", *self._options, *arguments, env=self._environment,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def read_lines(process: asyncio.subprocess.Process, count: int) -> list[str]:
    assert process.stdout is not None
    async with asyncio.timeout(COMMAND_TIMEOUT_S):
        return [(await process.stdout.readline()).decode().rstrip("\n") for _ in range(count)]
