"""Our store beside etcd: three members each on this machine, in the same run, one round of each in turn.

Values are 1 KB and every write is synced on a quorum. One client process in Python, on the leader: ours over
its unix socket, etcd over gRPC (store_sides.py says why); what each costs its client is shown too, since
client and members share the cores. `--members 1` compares lone members. Without etcd on the PATH only ours is
measured.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvloop

from harness import Row, against, either, options, percentile, report
from store_sides import Client, Cluster, EtcdCluster, Failures, OurCluster, answers, cpu_s, rss_mb

VALUE = random.Random(1).randbytes(1024)
KEYS = 10_000
"""That writes and reads go to; all are there before the first round."""
WRITE_CLIENTS = (1, 16, 64)
READ_CLIENTS = (1, 64)
WATCHERS = 1000
FILL_CLIENTS = 64


@dataclass(frozen=True, slots=True)
class Scale:
    rounds: int
    seconds: float
    """Of each load in each round."""
    events: int
    """That the watchers are sent."""
    big_keys: int
    """In the members whose memory and recovery are measured."""
    elections: int


FULL = Scale(rounds=5, seconds=3.0, events=30, big_keys=100_000, elections=7)
QUICK = Scale(rounds=1, seconds=0.8, events=10, big_keys=10_000, elections=1)


@dataclass(frozen=True, slots=True)
class Load:
    """One load of one round."""

    rate: float
    p50_ms: float
    p99_ms: float
    client_us: float
    """CPU time of the client process for each request."""
    members_us: float
    """CPU time of all members together for each request."""


@dataclass(frozen=True, slots=True)
class Measure:
    name: str
    clients: int
    do: Callable[[Client, bytes], Awaitable[None]]
    through_door: bool = False


def measures(has_door: bool) -> list[Measure]:
    async def put(client: Client, key: bytes) -> None:
        await client.put(key, VALUE)

    async def get(client: Client, key: bytes) -> None:
        await client.get(key, serializable=False)

    async def stale(client: Client, key: bytes) -> None:
        await client.get(key, serializable=True)

    found = [Measure("writes", clients, put) for clients in WRITE_CLIENTS]
    found += [Measure("linearizable reads", clients, get) for clients in READ_CLIENTS]
    found += [Measure("serializable reads", clients, stale) for clients in READ_CLIENTS]
    if has_door:
        found += [Measure("writes by gRPC and TLS", clients, put, True) for clients in READ_CLIENTS]
        found += [Measure("reads by gRPC and TLS", 64, get, True)]
    return found


async def load(client: Client, measure: Measure, seconds: float, pids: Sequence[int]) -> Load:
    latencies: list[float] = []
    end = time.perf_counter() + seconds

    async def one(number: int) -> None:
        rng = random.Random(number)
        while (started := time.perf_counter()) < end:
            await measure.do(client, b"bench/%d" % rng.randrange(KEYS))
            latencies.append((time.perf_counter() - started) * 1000)

    began, cpu, members_before_s = time.perf_counter(), time.process_time(), cpu_s(pids)
    await asyncio.gather(*(one(number) for number in range(measure.clients)))
    took_s, client_s = time.perf_counter() - began, time.process_time() - cpu
    members_s = cpu_s(pids) - members_before_s
    return Load(
        len(latencies) / took_s, percentile(latencies, 0.5), percentile(latencies, 0.99),
        client_s / len(latencies) * 1e6, members_s / len(latencies) * 1e6,
    )  # fmt: skip


async def fill(client: Client, prefix: bytes, count: int) -> None:
    numbers = iter(range(count))

    async def one() -> None:
        for number in numbers:
            await client.put(b"%s/%d" % (prefix, number), VALUE)

    await asyncio.gather(*(one() for _ in range(FILL_CLIENTS)))


async def watch_delays_ms(client: Client, events: int) -> list[float]:
    """From the call of a write to the moment when the last of all watchers of its prefix has it."""
    in_force = asyncio.Event()
    all_told = asyncio.Event()
    counts = {"in force": 0, "told": 0}

    def delivered(number: int) -> None:
        which = "in force" if number < 0 else "told"
        counts[which] += 1
        if counts[which] == WATCHERS:
            (in_force if number < 0 else all_told).set()

    watching = asyncio.create_task(client.watch(b"watched/", WATCHERS, delivered))
    delays: list[float] = []
    try:
        await either(in_force, watching)
        for _ in range(events):
            counts["told"] = 0
            all_told.clear()
            started = time.perf_counter()
            await client.put(b"watched/key", VALUE)
            await either(all_told, watching)
            delays.append((time.perf_counter() - started) * 1000)
            await asyncio.sleep(0.02)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    return delays


async def recovery_s(cluster: Cluster, number: int) -> float:
    """From the start of a member that was killed to its first answer to a linearizable read."""
    await cluster.kill(number)
    started = time.perf_counter()
    await cluster.restart(number)
    client = cluster.client(number)
    try:
        await answers(client)
        return time.perf_counter() - started
    finally:
        await client.close()


async def election_s(cluster: Cluster, members: int) -> float:
    """From the leader's death to the answer to a write, at another member, that was called after it."""
    leader = await cluster.leader()
    client = cluster.client((leader + 1) % members)
    await answers(client)
    done = asyncio.Event()

    async def attempt() -> None:
        with contextlib.suppress(*Failures):
            await client.put(b"after", b"it")
            done.set()

    await cluster.kill(leader)
    started = time.perf_counter()
    attempts: set[asyncio.Task[None]] = set()
    while not done.is_set():
        attempts.add(asyncio.create_task(attempt()))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(done.wait(), 0.02)
    took_s = time.perf_counter() - started
    for each in attempts:
        each.cancel()
    await asyncio.gather(*attempts, return_exceptions=True)
    await client.close()
    await cluster.restart(leader)
    back = cluster.client(leader)
    await answers(back)
    await back.close()
    return took_s


# ---------------------------------------------------------------------- the run


class Bench:
    """Collects figures by measure and side."""

    def __init__(self, clusters: list[Cluster], members: int, scale: Scale, measures: list[Measure]) -> None:
        self.clusters = clusters
        self.members = members
        self.scale = scale
        self.measures = measures
        self.loads: defaultdict[tuple[str, int, str], list[Load]] = defaultdict(list)
        self.figures: defaultdict[tuple[str, str], list[float]] = defaultdict(list)

    async def run(self) -> None:
        for cluster in self.clusters:
            await cluster.start()
            client = cluster.client(await cluster.leader())
            await self._memory(cluster, client)
            await fill(client, b"bench", KEYS)
            await client.close()
        for number in range(self.scale.rounds):
            for measure in self.measures:
                # Who goes first changes, as what comes second may find the disk busy.
                for cluster in self.clusters if number % 2 == 0 else reversed(self.clusters):
                    await self._round(cluster, measure)
        for cluster in self.clusters:
            client = cluster.client(await cluster.leader())
            self.figures["watch", cluster.name] = await watch_delays_ms(client, self.scale.events)
            await client.close()
            await self._recoveries(cluster)
        for _ in range(self.scale.elections if self.members > 1 else 0):
            for cluster in self.clusters:
                self.figures["election", cluster.name].append(await election_s(cluster, self.members))

    async def _round(self, cluster: Cluster, measure: Measure) -> None:
        leader = await cluster.leader()
        client = cluster.door(leader) if measure.through_door else cluster.client(leader)
        try:
            await answers(client)
            key = (measure.name, measure.clients, cluster.name)
            self.loads[key].append(await load(client, measure, self.scale.seconds, cluster.pids()))
        finally:
            await client.close()

    async def _memory(self, cluster: Cluster, client: Client) -> None:
        """On a fresh cluster, as what a process once had it seldom gives back."""
        empty = [rss_mb(pid) for pid in cluster.pids()]
        await fill(client, b"big", self.scale.big_keys)
        grown = [rss_mb(pid) - before for pid, before in zip(cluster.pids(), empty, strict=True)]
        self.figures["memory of an empty member", cluster.name] = [max(empty)]
        self.figures["memory per 100,000 keys", cluster.name] = [max(grown) * 100_000 / self.scale.big_keys]

    async def _recoveries(self, cluster: Cluster) -> None:
        follower = (await cluster.leader() + 1) % self.members
        for _ in range(1 if self.scale is QUICK else 3):
            self.figures["recovery", cluster.name].append(await recovery_s(cluster, follower))

    def rows(self) -> list[Row]:
        """Each figure of ours beside etcd's, in the order in which they were measured."""
        rows: list[Row] = []
        for measure in self.measures:
            name = f"{measure.name}, {measure.clients} client{'s' if measure.clients > 1 else ''}"
            for title, unit, of in (
                (name, "/s", lambda each: each.rate),
                ("  p50", "ms", lambda each: each.p50_ms),
                ("  p99", "ms", lambda each: each.p99_ms),
                ("  CPU of the client, a request", "us", lambda each: each.client_us),
                ("  CPU of all members, a request", "us", lambda each: each.members_us),
            ):
                ours, theirs = (
                    [of(each) for each in self.loads[measure.name, measure.clients, side]]
                    for side in ("gitkube", "etcd")
                )
                rows.append(_row(title, unit, ours, theirs))
        for title, key, unit in (
            (f"{WATCHERS:,} watchers, write to the last one told, p50", "watch", "ms"),
            (f"member killed, its restart with {self.scale.big_keys + KEYS:,} keys", "recovery", "s"),
            ("leader killed, to the next write, p50", "election", "s"),
            ("memory per 100,000 keys of 1 KB, largest member", "memory per 100,000 keys", "MB"),
            ("memory of an empty member", "memory of an empty member", "MB"),
        ):
            if ours := self.figures[key, "gitkube"]:
                rows.append(_row(title, unit, ours, self.figures[key, "etcd"]))
                if key == "watch":
                    ninety = percentile(ours, 0.9)
                    theirs = self.figures[key, "etcd"]
                    rows.append(_row("  p90", unit, [ninety], [percentile(theirs, 0.9)] if theirs else []))
        return rows


def _row(name: str, unit: str, ours: list[float], theirs: list[float]) -> Row:
    value = statistics.median(ours)
    return against(name, value, unit, statistics.median(theirs), "etcd") if theirs else Row(name, value, unit)


async def main() -> None:
    arguments = options(__doc__ or "", _more_options)
    scale = QUICK if arguments.quick else FULL
    with tempfile.TemporaryDirectory(dir=arguments.directory, prefix=".bench-") as name:
        directory = Path(name)
        clusters: list[Cluster] = [
            OurCluster(directory / "ours", arguments.members, has_door=not arguments.no_door)
        ]
        if shutil.which("etcd") is not None:
            clusters.append(EtcdCluster(directory / "etcd", arguments.members))
        else:
            print("etcd is not on the PATH: only ours is measured", file=sys.stderr)
        bench = Bench(clusters, arguments.members, scale, measures(has_door=not arguments.no_door))
        try:
            await bench.run()
        finally:
            for cluster in clusters:
                await cluster.close()
    how = (
        f"{arguments.members} member{'s' if arguments.members > 1 else ''} each, on the same disk, TLS "
        "between "
        f"them, median of {scale.rounds} alternating rounds of {scale.seconds:g} s; one client process on "
        "the leader: "
        "ours over its unix socket, etcd over one gRPC channel without TLS"
    )
    report(bench.rows(), how, arguments.json)


def _more_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--members", type=int, default=3, help="of each cluster")
    parser.add_argument("--no-door", action="store_true", help="leave out our etcd door")
    parser.add_argument("--directory", type=Path, default=Path.cwd(), help="on the disk to measure")


if __name__ == "__main__":
    uvloop.run(main())
