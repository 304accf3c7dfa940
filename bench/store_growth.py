"""What happens as the key space grows: durable writes a second and memory at 10,000, 100,000 and 1,000,000
keys.

Distinct keys with values of 1 KB, 64 clients of one process on the leader, beside etcd in the same run. At
each size the last writes are timed while they add keys. A million keys take minutes and some gigabytes:
`--full`.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import uvloop

from harness import Row, against, options, report
from store import FILL_CLIENTS, fill
from store_sides import Client, Cluster, EtcdCluster, OurCluster, rss_mb

SIZES = (10_000, 100_000)
FULL_SIZES = (*SIZES, 1_000_000)
TIMED = 5_000
"""Keys of each size that are added while the clock runs."""
QUOTA_BYTES = 8 << 30


async def grow(cluster: Cluster, sizes: tuple[int, ...]) -> dict[int, tuple[float, float]]:
    """Writes a second, and the largest member's memory in MB, at each number of keys."""
    found: dict[int, tuple[float, float]] = {}
    client: Client = cluster.client(await cluster.leader())
    try:
        there = 0
        for size in sizes:
            await fill(client, b"grow-%d" % size, size - there - TIMED)
            started = time.perf_counter()
            await fill(client, b"timed-%d" % size, TIMED)
            rate = TIMED / (time.perf_counter() - started)
            found[size] = (rate, max(map(rss_mb, cluster.pids())))
            there = size
    finally:
        await client.close()
    return found


async def main() -> None:
    arguments = options(__doc__ or "", _more_options)
    sizes = FULL_SIZES if arguments.full else SIZES[:1] if arguments.quick else SIZES
    found: dict[str, dict[int, tuple[float, float]]] = {}
    for name in ("gitkube", "etcd"):
        if name == "etcd" and shutil.which("etcd") is None:
            continue
        with tempfile.TemporaryDirectory(dir=arguments.directory, prefix=".bench-") as directory:
            cluster: Cluster
            if name == "gitkube":
                settings = {"quota_bytes": QUOTA_BYTES}
                cluster = OurCluster(Path(directory), arguments.members, settings=settings)
            else:
                cluster = EtcdCluster(Path(directory), arguments.members)
            try:
                await cluster.start()
                found[name] = await grow(cluster, sizes)
            finally:
                await cluster.close()
    rows: list[Row] = []
    for size in sizes:
        for index, (title, unit) in enumerate((("writes", "/s"), ("memory of the largest member", "MB"))):
            value = found["gitkube"][size][index]
            label = f"{title} at {size:,} keys"
            if "etcd" in found:
                rows.append(against(label, value, unit, found["etcd"][size][index], "etcd"))
            else:
                rows.append(Row(label, value, unit))
    how = (
        f"{arguments.members} members on this machine, distinct keys, 1 KB values, {FILL_CLIENTS} clients "
        "of one "
        f"process on the leader, the last {TIMED:,} writes of each size timed; one side after the other"
    )
    report(rows, how, arguments.json)


def _more_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--full", action="store_true", help="also a million keys")
    parser.add_argument("--members", type=int, default=3, help="of each cluster")
    parser.add_argument("--directory", type=Path, default=Path.cwd(), help="on the disk to measure")


if __name__ == "__main__":
    uvloop.run(main())
