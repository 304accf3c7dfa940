"""The API beside a real kube-apiserver over etcd: one client, in the same run, one round of each in turn.

KUBE_APISERVER names the other's binary, ETCD etcd's (or it is on the PATH); without them only ours is
measured. Ours is all of `gitkube serve`, with controllers and scheduler; the other is the API server and etcd
alone. The client is one process in Python and shares the machine's cores with what it measures.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import uvloop

from api_client import Connection, Server, request
from api_sides import Side, sides
from harness import Row, against, either, options, percentile, report

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
CLIENTS = (1, 16, 64)
KEYS = 1000
"""Objects that reads, updates and applies go to."""
LISTS = (500, 5000)
WATCHERS = 1000
FILL_CLIENTS = 32
CALLS_PER_S = 100.0
NAMESPACE = "/api/v1/namespaces/bench"


@dataclass(frozen=True, slots=True)
class Scale:
    rounds: int
    seconds: float
    """Of each load in each round."""
    events: int
    pods: int
    nodes: int
    mixed_s: float


FULL = Scale(rounds=3, seconds=3.0, events=20, pods=30_000, nodes=5_000, mixed_s=30.0)
QUICK = Scale(rounds=1, seconds=0.5, events=5, pods=2_000, nodes=200, mixed_s=3.0)


@dataclass(frozen=True, slots=True)
class Measure:
    name: str
    make: Callable[[random.Random], bytes]
    clients: tuple[int, ...] = CLIENTS


def config_map(name: str, value: str) -> dict[str, object]:
    data = {f"key-{number}": "x" * 80 for number in range(8)} | {"changes": value}
    metadata = {"name": name, "labels": {"app": "bench"}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def pod(name: str) -> dict[str, object]:
    """As a Deployment makes them, but for nobody's scheduler."""
    container = {
        "name": "web", "image": "registry.lab:5000/web:1", "ports": [{"containerPort": 8080}],
        "env": [{"name": f"VARIABLE_{number}", "value": "value"} for number in range(5)],
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/web"}],
    }  # fmt: skip
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "web", "pod-template-hash": "5d4f8c7b9"}},
        "spec": {
            "schedulerName": "nobody", "containers": [container],
            "volumes": [{"name": "config", "configMap": {"name": "web"}}],
        },
    }  # fmt: skip


def node(name: str) -> dict[str, object]:
    quantities = {"cpu": "8", "memory": "32Gi", "pods": "110", "ephemeral-storage": "100Gi"}
    return {
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}},
        "status": {"capacity": quantities, "allocatable": quantities},
    }  # fmt: skip


def body(obj: dict[str, object]) -> bytes:
    return json.dumps(obj, separators=(",", ":")).encode()


def measures() -> list[Measure]:
    maps = f"{NAMESPACE}/configmaps"

    def create(rng: random.Random) -> bytes:
        return request("POST", maps, body(config_map(f"new-{rng.getrandbits(60):x}", "0")))

    def update(rng: random.Random) -> bytes:
        name = f"old-{rng.randrange(KEYS)}"
        return request("PUT", f"{maps}/{name}", body(config_map(name, str(rng.random()))))

    def apply(rng: random.Random) -> bytes:
        name = f"old-{rng.randrange(KEYS)}"
        path = f"{maps}/{name}?fieldManager=bench&force=true"
        return request("PATCH", path, body(config_map(name, str(rng.random()))), type=APPLY)

    def get(rng: random.Random) -> bytes:
        return request("GET", f"{maps}/old-{rng.randrange(KEYS)}")

    def pods(count: int, accept: str) -> Callable[[random.Random], bytes]:
        return lambda _: request("GET", f"/api/v1/namespaces/list-{count}/pods", accept=accept)

    found = [
        Measure("creates", create), Measure("updates", update), Measure("applies", apply),
        Measure("gets", get),
    ]  # fmt: skip
    for count in LISTS:
        clients = CLIENTS if count < 1000 else (1, 16)
        found.append(Measure(f"lists of {count} pods", pods(count, "application/json"), clients))
        found.append(Measure(f"tables of {count} pods", pods(count, TABLE), clients))
    return found


async def load(server: Server, measure: Measure, clients: int, seconds: float) -> float:
    """Answers for each second."""
    connections = [await Connection.open(server) for _ in range(clients)]
    done = 0
    end = time.perf_counter() + seconds

    async def one(connection: Connection) -> None:
        nonlocal done
        rng = random.Random()
        while time.perf_counter() < end:
            status, text = await connection.send(measure.make(rng))
            if status >= 300:
                raise RuntimeError(f"{measure.name}: {status} {text[:300]!r}")
            done += 1

    began = time.perf_counter()
    try:
        await asyncio.gather(*(one(connection) for connection in connections))
        return done / (time.perf_counter() - began)
    finally:
        for connection in connections:
            connection.close()


async def fill(server: Server, requests: list[bytes]) -> None:
    waiting = iter(requests)

    async def one() -> None:
        connection = await Connection.open(server)
        try:
            for data in waiting:
                status, text = await connection.send(data)
                if status not in (201, 409):
                    raise RuntimeError(f"filling: {status} {text[:300]!r}")
        finally:
            connection.close()

    await asyncio.gather(*(one() for _ in range(FILL_CLIENTS)))


async def prepare(server: Server) -> None:
    namespaces = ["bench", "many", *(f"list-{count}" for count in LISTS)]
    made = [
        body({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}) for name in namespaces
    ]
    await fill(server, [request("POST", "/api/v1/namespaces", each) for each in made])
    maps = [body(config_map(f"old-{number}", "0")) for number in range(KEYS)]
    await fill(server, [request("POST", f"{NAMESPACE}/configmaps", each) for each in maps])
    for count in LISTS:
        path = f"/api/v1/namespaces/list-{count}/pods"
        await fill(server, [request("POST", path, body(pod(f"web-{number}"))) for number in range(count)])


async def watch_delays_ms(server: Server, events: int) -> list[float]:
    """From the sending of a write to the moment when the last of all watchers has its event."""
    name = "watched"
    path = f"{NAMESPACE}/configmaps"
    writer = await Connection.open(server)
    await writer.send(request("POST", path, body(config_map(name, "0"))))
    # Not the version of the object: since it was written last, servers may have forgotten that far back.
    _, text = await writer.send(request("GET", f"{path}?limit=1"))
    version = json.loads(text)["metadata"]["resourceVersion"]
    query = f"watch=true&fieldSelector=metadata.name%3D{name}&resourceVersion={version}"
    ready, told = 0, 0
    all_ready, all_told = asyncio.Event(), asyncio.Event()

    def on_ready() -> None:
        nonlocal ready
        ready += 1
        if ready == WATCHERS:
            all_ready.set()

    def on_line() -> None:
        nonlocal told
        told += 1
        if told == WATCHERS:
            all_told.set()

    connections = [await Connection.open(server) for _ in range(WATCHERS)]
    tasks = [
        asyncio.create_task(each.watch(request("GET", f"{path}?{query}"), on_line, on_ready))
        for each in connections
    ]
    watching = asyncio.gather(*tasks)
    delays = []
    try:
        async with asyncio.timeout(60):
            await either(all_ready, watching)
        for number in range(events):
            told = 0
            all_told.clear()
            await asyncio.sleep(0.05)
            change = json.dumps({"data": {"changes": f"event {number}"}}).encode()
            started = time.perf_counter()
            await writer.send(request("PATCH", f"{path}/{name}", change, type=MERGE))
            async with asyncio.timeout(60):
                await either(all_told, watching)
            delays.append((time.perf_counter() - started) * 1000)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(watching, *tasks, return_exceptions=True)
        for each in [*connections, writer]:
            each.close()
    return delays


async def mixed_ms(server: Server, seconds: float) -> list[float]:
    """Latencies of the writes among 100 calls a second: of ten calls three create, two update, four read one
    object and one lists 500 pods. Calls are sent when they are due, whatever has been answered."""
    found = {measure.name: measure.make for measure in measures()}
    pattern = [
        "creates", "gets", "updates", "gets", "creates", "gets", "lists of 500 pods", "updates", "gets",
        "creates",
    ]  # fmt: skip
    idle = [await Connection.open(server) for _ in range(64)]
    latencies: list[float] = []
    rng = random.Random(1)

    async def call(name: str, due: float) -> None:
        connection = idle.pop() if idle else await Connection.open(server)
        status, text = await connection.send(found[name](rng))
        idle.append(connection)
        if status >= 300:
            raise RuntimeError(f"{name}: {status} {text[:300]!r}")
        if name in ("creates", "updates"):
            latencies.append((time.perf_counter() - due) * 1000)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for number in range(int(seconds * CALLS_PER_S)):
            due = began + number / CALLS_PER_S
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.create_task(call(pattern[number % len(pattern)], due))
    for connection in idle:
        connection.close()
    return latencies


async def measure(side: Side, scale: Scale, results: dict[str, dict[str, list[float]]]) -> None:
    """One round."""
    for each in measures():
        for clients in each.clients:
            rate = await load(side.server, each, clients, scale.seconds)
            results[f"{each.name}, {clients} client{'s' if clients > 1 else ''}"][side.name].append(rate)
    results[_WATCH][side.name] += await watch_delays_ms(side.server, scale.events)


_WATCH = f"1 event to {WATCHERS} watchers"
_LATE = ("ms", "MB", "s")


async def run(scale: Scale, rows: list[Row]) -> None:
    rates: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    costs: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    with tempfile.TemporaryDirectory() as directory:
        found = sides(Path(directory))
        try:
            for side in found:
                costs["start to ready, empty", "s"][side.name] = await side.start()
            await asyncio.sleep(3)
            for side in found:
                costs["memory, idle", "MB"][side.name] = side.rss_mb()
                await prepare(side.server)
            for _ in range(scale.rounds):
                for side in found:
                    await measure(side, scale, rates)
            many = f"with {scale.pods:,} pods and {scale.nodes:,} nodes"
            for side in found:
                await _fill_many(side, scale)
                latencies = await mixed_ms(side.server, scale.mixed_s)
                name = f"p99 of writes, {CALLS_PER_S:.0f} calls/s, {many}"
                costs[name, "ms"][side.name] = percentile(latencies, 0.99)
                costs[f"memory {many}", "MB"][side.name] = side.rss_mb()
            for side in found:
                side.stop()
            for side in found:
                costs[f"start to ready {many}", "s"][side.name] = await side.start()
                side.stop()
        finally:
            for side in found:
                with contextlib.suppress(OSError):
                    side.stop()
            # What was measured before something failed is shown, too.
            for name, by_side in rates.items():
                unit = "ms" if name == _WATCH else "/s"
                medians = {key: statistics.median(values) for key, values in by_side.items() if values}
                rows += _rows(name, unit, medians)
            for (name, unit), values in costs.items():
                rows += _rows(name, unit, values)


async def _fill_many(side: Side, scale: Scale) -> None:
    path = "/api/v1/namespaces/many/pods"
    pods = [request("POST", path, body(pod(f"web-{number}"))) for number in range(scale.pods)]
    nodes = [request("POST", "/api/v1/nodes", body(node(f"host-{number}"))) for number in range(scale.nodes)]
    await fill(side.server, pods)
    await fill(side.server, nodes)


def _rows(name: str, unit: str, values: dict[str, float]) -> list[Row]:
    ours, other = values.get("gitkube"), values.get("kube-apiserver")
    if ours is None:
        return []
    if other is None:
        return [Row(name, ours, unit)]
    return [against(name, ours, unit, other, "kube-apiserver and etcd")]


def main() -> None:
    def more(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--pods", type=int, help="stored when latency, memory and start are measured")
        parser.add_argument("--rounds", type=int, help="of each load")

    arguments = options(__doc__ or "", more)
    scale = QUICK if arguments.quick else FULL
    scale = Scale(
        arguments.rounds or scale.rounds,
        scale.seconds,
        scale.events,
        arguments.pods or scale.pods,
        scale.nodes,
        scale.mixed_s,
    )
    rows: list[Row] = []
    failure: BaseException | None = None
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(run(scale, rows))
        except Exception as error:
            failure = error
    how = (
        f"{scale.rounds} rounds of {scale.seconds:g} s for each load, one server after the other, median; "
        "all on one machine, over TLS on loopback. A ratio above 1 is more for rates (better) and more for "
        "times and memory (worse)."
    )
    report(rows, how, arguments.json)
    if failure is not None:
        raise failure


if __name__ == "__main__":
    sys.exit(main())
