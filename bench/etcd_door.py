"""The door that speaks etcd's API beside etcd itself, with one gRPC client, on the same disk in the same run.

Both are clusters of real members with fsync on and mutual TLS, among each other and with the client, which
asks the leader. The client is one process in Python, so a good part of each figure is the client's own cost,
the same for both. Puts are of 1 KB, gets of one such key. The 1,000 watches of one prefix share ten streams;
their figure is from the put of a key until the last of them was told. Rounds alternate; the median of the
rounds is shown.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvloop

from gitkube.store.etcd.wire import grpc, rpc
from harness import Row, against, options, percentile, report
from store_sides import Cluster, EtcdCluster, OurCluster, answers

VALUE = random.Random(1).randbytes(1024)
CLIENTS = (1, 16, 64)
STREAMS, WATCHES_PER_STREAM = 10, 100
WATCHED_PUTS = 20


class Client:
    """etcd's API over one channel."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
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
        request = rpc.RangeRequest(key=b"bench/0/1", serializable=serializable)
        for clients in CLIENTS:
            found[f"{name} gets, {clients} clients"] = await load(
                lambda _, request=request: client.range(request), clients, seconds
            )
    found["watch"] = await deliveries(client)
    return found


async def main(arguments: argparse.Namespace) -> None:
    seconds, rounds = (0.5, 3) if arguments.quick else (2.0, 5)
    results: dict[str, dict[str, list[list[float]]]] = {"gitkube": {}, "etcd": {}}
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as name:
        directory = Path(name)
        clusters: list[Cluster] = [OurCluster(directory / "ours", arguments.members, has_door=True)]
        if shutil.which("etcd") is not None:
            clusters.append(EtcdCluster(directory / "etcd", arguments.members))
        try:
            for cluster in clusters:
                await cluster.start()
            for _ in range(rounds):
                for cluster in clusters:
                    for measured, values in (await one_round(cluster, seconds)).items():
                        results[cluster.name].setdefault(measured, []).append(values)
        finally:
            for cluster in clusters:
                await cluster.close()
    how = (
        f"{arguments.members} members each, mutual TLS; one client process, grpc.aio, on the leader; median "
        f"of {rounds} alternating rounds of {seconds:g} s each"
    )
    report(list(rows(results, seconds)), how, arguments.json)


async def one_round(cluster: Cluster, seconds: float) -> dict[str, list[float]]:
    door = cluster.door(await cluster.leader())
    try:
        await answers(door)
        return await measure(Client(door.channel), seconds)
    finally:
        await door.close()


def rows(results: dict[str, dict[str, list[list[float]]]], seconds: float) -> list[Row]:
    found = []
    for measured, each_round in results["gitkube"].items():
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


def _more_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--members", type=int, default=3, help="of each cluster")


if __name__ == "__main__":
    uvloop.run(main(options(__doc__ or "", _more_options)))
