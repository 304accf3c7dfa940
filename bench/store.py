"""Durable writes a second: our store in its own process, beside etcd on the same disk in the same run.

Both are one member with fsync on, 1 KB values, distinct keys, one client process in Python. Ours is reached
over its unix socket, etcd over its JSON gateway on loopback, so the figures include what each costs its
client. Rounds alternate; the median of the rounds is shown. Without etcd on the PATH only ours is measured.
"""

from __future__ import annotations

import asyncio
import base64
import random
import shutil
import socket
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import uvloop

from gitkube.clock import SystemClock
from gitkube.store.config import MemberConfig
from gitkube.store.protocol import Put
from gitkube.store.remote import RemoteStore, StoreProcess
from harness import Row, against, options, percentile, report

VALUE = random.Random(1).randbytes(1024)
CLIENTS = (1, 16, 64)


async def load(
    put: Callable[[bytes], Awaitable[None]], clients: int, seconds: float, mark: bytes
) -> list[float]:
    """Latencies in ms of all writes done in that time."""
    latencies: list[float] = []
    end = time.perf_counter() + seconds

    async def client(number: int) -> None:
        count = 0
        while (started := time.perf_counter()) < end:
            await put(b"bench/%s/%d/%d" % (mark, number, count))
            latencies.append((time.perf_counter() - started) * 1000)
            count += 1

    await asyncio.gather(*(client(number) for number in range(clients)))
    return latencies


async def start_etcd(directory: Path) -> tuple[asyncio.subprocess.Process, str] | None:
    if shutil.which("etcd") is None:
        return None
    ports = []
    for _ in range(2):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            ports.append(probe.getsockname()[1])
    client, peer = (f"http://127.0.0.1:{port}" for port in ports)
    process = await asyncio.create_subprocess_exec(
        "etcd", "--data-dir", str(directory),
        "--listen-client-urls", client, "--advertise-client-urls", client,
        "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
        "--initial-cluster", f"default={peer}",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    return process, client


async def main() -> None:
    arguments = options(__doc__ or "")
    seconds, rounds = (1.0, 3) if arguments.quick else (3.0, 5)
    clock = SystemClock()
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as name:
        directory = Path(name)
        process = StoreProcess(
            MemberConfig(directory / "ours", directory / "s"), clock=clock, rng=random.Random(1)
        )
        keeper = asyncio.create_task(process.run())
        store = RemoteStore(directory / "s", clock=clock)
        await store.status()
        etcd = await start_etcd(directory / "etcd")
        value = base64.b64encode(VALUE).decode()

        async def put_ours(key: bytes) -> None:
            await store.txn([], [Put(key, VALUE)])

        results: dict[tuple[str, int], list[list[float]]] = {}
        connector = aiohttp.TCPConnector(limit=64)
        async with aiohttp.ClientSession(connector=connector) as session:

            async def put_etcd(key: bytes) -> None:
                assert etcd is not None
                body = {"key": base64.b64encode(key).decode(), "value": value}
                async with session.post(f"{etcd[1]}/v3/kv/put", json=body) as answer:
                    await answer.read()
                    answer.raise_for_status()

            if etcd is not None:
                await wait_until_up(lambda: put_etcd(b"up"))
            for number in range(rounds):
                for clients in CLIENTS:
                    mark = b"%d-%d" % (number, clients)
                    results.setdefault(("ours", clients), []).append(
                        await load(put_ours, clients, seconds, mark)
                    )
                    if etcd is not None:
                        results.setdefault(("etcd", clients), []).append(
                            await load(put_etcd, clients, seconds, mark)
                        )
        await store.close()
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)
        if etcd is not None:
            etcd[0].terminate()
            await etcd[0].wait()

    rows: list[Row] = []
    for clients in CLIENTS:
        ours = results[("ours", clients)]
        rate = statistics.median(len(each) / seconds for each in ours)
        p99 = statistics.median(percentile(each, 0.99) for each in ours)
        theirs = results.get(("etcd", clients))
        if theirs is None:
            rows += [Row(f"writes, {clients} clients", rate, "/s"), Row(f"p99, {clients} clients", p99, "ms")]
            continue
        their_rate = statistics.median(len(each) / seconds for each in theirs)
        their_p99 = statistics.median(percentile(each, 0.99) for each in theirs)
        rows.append(against(f"writes, {clients} clients", rate, "/s", their_rate, "etcd"))
        rows.append(against(f"p99, {clients} clients", p99, "ms", their_p99, "etcd"))
    how = f"median of {rounds} rounds of {seconds:.0f} s, alternating; etcd through its JSON gateway"
    report(rows, how, arguments.json)


async def wait_until_up(put: Callable[[], Awaitable[None]]) -> None:
    for _ in range(100):
        try:
            await put()
            return
        except aiohttp.ClientError:
            await asyncio.sleep(0.1)
    raise SystemExit("etcd does not answer")


if __name__ == "__main__":
    uvloop.run(main())
