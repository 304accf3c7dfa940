"""The door that speaks etcd's API beside etcd itself, with one gRPC client, on the same disk in the same run.

Both are one member with fsync on, in a process of its own on loopback without TLS; the client is one process
in Python, so a good part of each figure is the client's own cost, the same for both. Puts are of 1 KB, gets
of one such key. The 1,000 watches of one prefix share ten streams; their figure is from the put of a key
until the last of them was told. Rounds alternate; the median of the rounds is shown.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvloop

from gitkube.clock import SystemClock
from gitkube.store.door import serve_door
from gitkube.store.etcd.wire import grpc, rpc
from gitkube.store.member import Member
from harness import Row, against, options, percentile, report

VALUE = random.Random(1).randbytes(1024)
CLIENTS = (1, 16, 64)
STREAMS, WATCHES_PER_STREAM = 10, 100
WATCHED_PUTS = 20


class Client:
    """etcd's API over one channel."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address)
        self.put = self._unary("Put", rpc.PutRequest, rpc.PutResponse)
        self.range = self._unary("Range", rpc.RangeRequest, rpc.RangeResponse)
        self.watch = self._channel.stream_stream(
            "/etcdserverpb.Watch/Watch",
            request_serializer=rpc.WatchRequest.SerializeToString,
            response_deserializer=rpc.WatchResponse.FromString,
        )

    def _unary(self, method: str, request: Any, response: Any) -> Any:
        return self._channel.unary_unary(
            f"/etcdserverpb.KV/{method}",
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )

    async def wait_until_up(self) -> None:
        await self.put(rpc.PutRequest(key=b"up", value=VALUE), timeout=60, wait_for_ready=True)

    async def close(self) -> None:
        await self._channel.close()


async def load(request: Callable[[int], Awaitable[Any]], clients: int, seconds: float) -> list[float]:
    """Latencies in ms of all requests answered in that time."""
    latencies: list[float] = []
    end = time.perf_counter() + seconds

    async def client(number: int) -> None:
        while (started := time.perf_counter()) < end:
            await request(number)
            latencies.append((time.perf_counter() - started) * 1000)

    await asyncio.gather(*(client(number) for number in range(clients)))
    return latencies


async def deliveries(client: Client) -> list[float]:
    """For each of some puts, ms until the last of 1,000 watches was told."""
    told = asyncio.Semaphore(0)
    streams = []

    async def read(stream: Any) -> None:
        while (response := await stream.read()) is not grpc.aio.EOF:
            if response.events:
                told.release()

    for _ in range(STREAMS):
        stream = client.watch()
        for _ in range(WATCHES_PER_STREAM):
            create = rpc.WatchCreateRequest(key=b"watched/", range_end=b"watched0")
            await stream.write(rpc.WatchRequest(create_request=create))
            assert (await stream.read()).created
        streams.append(stream)
    readers = [asyncio.create_task(read(stream)) for stream in streams]
    found = []
    for number in range(WATCHED_PUTS):
        started = time.perf_counter()
        await client.put(rpc.PutRequest(key=b"watched/%d" % number, value=VALUE))
        for _ in range(STREAMS * WATCHES_PER_STREAM):
            await told.acquire()
        found.append((time.perf_counter() - started) * 1000)
    for stream in streams:
        stream.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    return found


async def measure(client: Client, seconds: float) -> dict[str, list[float]]:
    count = 0

    async def put(number: int) -> None:
        nonlocal count
        count += 1
        await client.put(rpc.PutRequest(key=b"bench/%d/%d" % (number, count % 1000), value=VALUE))

    found = {f"puts, {clients} clients": await load(put, clients, seconds) for clients in CLIENTS}
    for name, serializable in (("linearizable", False), ("serializable", True)):
        request = rpc.RangeRequest(key=b"up", serializable=serializable)
        for clients in CLIENTS:
            found[f"{name} gets, {clients} clients"] = await load(
                lambda _, request=request: client.range(request), clients, seconds
            )
    found["watch"] = await deliveries(client)
    return found


# ---------------------------------------------------------------------- the servers


@asynccontextmanager
async def serving(*command: str) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def etcd_command(directory: Path, address: str) -> list[str]:
    client, peer = f"http://{address}", f"http://{free_address()}"
    return [
        "etcd", "--data-dir", str(directory),
        "--listen-client-urls", client, "--advertise-client-urls", client,
        "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
        "--initial-cluster", f"default={peer}",
    ]  # fmt: skip


async def serve(directory: Path, address: str) -> None:
    member = await Member.open(directory)
    door = await serve_door(member, member.administration, address, clock=SystemClock())
    try:
        await asyncio.Event().wait()
    finally:
        await door.close()


async def main(arguments: argparse.Namespace) -> None:
    seconds, rounds = (0.5, 3) if arguments.quick else (2.0, 5)
    results: dict[str, dict[str, list[list[float]]]] = {"ours": {}, "etcd": {}}
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as name:
        directory = Path(name)
        addresses = {"ours": free_address(), "etcd": free_address()}
        ours = [sys.executable, __file__, "--serve", str(directory / "ours"), addresses["ours"]]
        commands = {"ours": ours, "etcd": etcd_command(directory / "etcd", addresses["etcd"])}
        if shutil.which("etcd") is None:
            del commands["etcd"]
        for _ in range(rounds):
            for which, command in commands.items():
                async with serving(*command):
                    client = Client(addresses[which])
                    await client.wait_until_up()
                    for measured, values in (await measure(client, seconds)).items():
                        results[which].setdefault(measured, []).append(values)
                    await client.close()
    how = f"median of {rounds} rounds of {seconds:g} s each, alternating; one client process, grpc.aio"
    report(list(rows(results, seconds)), how, arguments.json)


def rows(results: dict[str, dict[str, list[list[float]]]], seconds: float) -> list[Row]:
    found = []
    for measured, each_round in results["ours"].items():
        kinds = [("p50", "ms", lambda values: percentile(values, 0.5))]
        if measured != "watch":
            kinds = [
                ("", "/s", lambda values: len(values) / seconds),
                (", p99", "ms", lambda values: percentile(values, 0.99)),
            ]
        for suffix, unit, figure in kinds:
            title = "1,000 watches, put to last event" if measured == "watch" else measured + suffix
            value = statistics.median(figure(values) for values in each_round)
            theirs = results["etcd"].get(measured)
            if theirs is None:
                found.append(Row(title, value, unit))
                continue
            reference = statistics.median(figure(values) for values in theirs)
            found.append(against(title, value, unit, reference, "etcd"))
    return found


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        uvloop.run(serve(Path(sys.argv[2]), sys.argv[3]))
    else:
        asyncio.run(main(options(__doc__ or "")))
