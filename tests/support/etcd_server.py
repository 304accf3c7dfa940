"""A real etcd (Debian's `etcd-server`) on loopback, to stand ours beside."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.ports import free_ports

MISSING = "etcd is not installed: apt-get install etcd-server"
START_TIMEOUT_S = 60.0


def is_installed() -> bool:
    return shutil.which("etcd") is not None


@asynccontextmanager
async def etcd_server(directory: Path, *, port: int = 0, election_ms: int = 1000) -> AsyncIterator[str]:
    """HOST:PORT of one that answers, for as long as the block; its data stays in `directory`.

    Args:
        port: where it listens; 0 finds one.
        election_ms: its election timeout. A lone member waits about as long before it serves, and takes no
            lease shorter than 1.5 times of it; 1000 is etcd's default.
    """
    client_port, peer_port = free_ports(2)
    client, peer = f"127.0.0.1:{port or client_port}", f"http://127.0.0.1:{peer_port}"
    log = directory.with_suffix(".log")
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            "etcd", "--data-dir", str(directory), "--logger", "zap", "--log-outputs", "stderr",
            "--listen-client-urls", f"http://{client}", "--advertise-client-urls", f"http://{client}",
            "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
            "--initial-cluster", f"default={peer}",
            "--election-timeout", str(election_ms), "--heartbeat-interval", str(election_ms // 10),
            stdout=output, stderr=output,
        )  # fmt: skip
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            await _wait_until_healthy(client, process, log)
        yield client
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _wait_until_healthy(client: str, process: asyncio.subprocess.Process, log: Path) -> None:
    host, port = client.rsplit(":", 1)
    while True:
        if process.returncode is not None:
            raise RuntimeError(f"etcd ended with {process.returncode}: {log.read_text()[-2000:]}")
        try:
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"GET /health HTTP/1.0\r\n\r\n")
            answer = await reader.read()
            writer.close()
            if b'"true"' in answer:
                return
        except OSError:
            pass
        await asyncio.sleep(0.05)
