"""The key space alone, without log, disk and network: what a member's loop spends on each command.

Values of 1 KB, each its own object, and keys as long as Kubernetes' usual ones. One thread that waits for
nothing, so time is the CPU's, which a busy machine stretches least. Memory is the growth of the process' RSS.
The last rows are the watch hub's: one write, from `collect` to the last `take`.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable
from pathlib import Path

import msgpack

from gitkube.store import command
from gitkube.store.command import Compact, Origin, Txn
from gitkube.store.mvcc import KeySpace
from gitkube.store.protocol import Delete, Get, Put, Revision, prefix_end
from gitkube.store.watching import WatchHub
from harness import Row, against, options, report

PREFIX = b"/registry/pods/default/"
VALUE_BYTES = 1024
PAGE = 500


def rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def seconds(action: Callable[[], object]) -> float:
    started = time.process_time()
    action()
    return time.process_time() - started


def writes(count: int, keys: int, origin: bool = False) -> list[bytes]:
    rng = random.Random(1)
    return [
        command.encode(
            Txn((), (Put(PREFIX + b"pod-%06d" % (number * 7919 % keys), rng.randbytes(VALUE_BYTES)),)),
            Origin(7, number + 1, number) if origin else command.NO_ORIGIN,
        )
        for number in range(count)
    ]


def apply_all(space: KeySpace, data: list[bytes]) -> None:
    for each in data:
        space.apply(*command.decode(each))


def writing(count: int) -> tuple[list[Row], KeySpace]:
    rows = []
    data = writes(count, count)
    gc.collect()
    before = rss_bytes()
    space = KeySpace()
    taken_s = seconds(lambda: apply_all(space, data))
    rows.append(against("put, new keys, decoded and applied", count / taken_s, "/s", 60_000, "goal"))
    gc.collect()
    grown = (rss_bytes() - before) * 100_000 / count / 1e6
    rows.append(against("memory per 100,000 keys", grown, "MB", VALUE_BYTES / 10, "their values alone"))
    rows.append(
        Row("bytes in use by our own count, beside RSS", space.live_bytes * 100_000 / count / 1e6, "MB")
    )
    taken_s = seconds(lambda: apply_all(space, data))
    rows.append(against("put, keys that are there", count / taken_s, "/s", 60_000, "goal"))
    sessions = writes(count, count, origin=True)
    taken_s = seconds(lambda: apply_all(space, sessions))
    rows.append(against("put, with session and sequence", count / taken_s, "/s", 60_000, "goal"))
    return rows, space


def reading(space: KeySpace, count: int) -> list[Row]:
    page = Get(PREFIX, prefix_end(PREFIX), limit=PAGE)
    past = Get(PREFIX, prefix_end(PREFIX), limit=PAGE, revision=Revision(space.revision - 1000))
    rounds = 200
    now_s = seconds(lambda: [space.read(page) for _ in range(rounds)])
    past_s = seconds(lambda: [space.read(past) for _ in range(rounds // 10)])
    one_s = seconds(lambda: [space.read(Get(PREFIX + b"pod-000007")) for _ in range(10_000)])
    return [
        Row("read one key", one_s / 10_000 * 1e6, "us"),
        Row(f"read {PAGE} keys of {count:,}", now_s / rounds * 1e6, "us"),
        Row(f"read {PAGE} keys as of 1,000 revisions ago", past_s / (rounds // 10) * 1e6, "us"),
        Row("hash of all that can be read", seconds(space.hash_at) * 1e3, "ms"),
        Row("full collection of garbage", seconds(gc.collect) * 1e3, "ms"),
    ]


def compacting(space: KeySpace) -> list[Row]:
    behind = space.revision - space.compact_revision
    command_s = seconds(lambda: space.apply(Compact(Revision(space.revision - 1000))))
    steps = []
    while not space.versions.is_swept:
        steps.append(seconds(lambda: space.sweep(64)))
    return [
        Row(f"compact {behind:,} revisions: the command", command_s * 1e6, "us"),
        Row("compact: the longest step of the sweep", max(steps) * 1e6, "us"),
        Row("compact: all steps", sum(steps) * 1e3, "ms"),
    ]


def dumping(space: KeySpace) -> list[Row]:
    started = time.process_time()
    parts = space.dump()
    stall_s = time.process_time() - started
    packed: list[bytes] = []
    pack_s = seconds(lambda: packed.extend(msgpack.packb(part) for part in parts))
    load_s = seconds(lambda: KeySpace.load(msgpack.unpackb(part) for part in packed))
    return [
        Row("dump: what is copied at once", stall_s * 1e3, "ms"),
        Row("dump: making and packing the parts", pack_s * 1e3, "ms"),
        against("load, with unpacking", load_s, "s", 1.5, "goal"),
    ]


def watching() -> list[Row]:
    rows = []
    for name, ranges in (
        ("1,000 watchers of one prefix", [(PREFIX, prefix_end(PREFIX))] * 1000),
        (
            "10,000 watchers of a key each",
            [(PREFIX + b"pod-%06d" % number, None) for number in range(10_000)],
        ),
        ("1,000 watchers of a prefix each", [(b"/%d/" % number, b"/%d0" % number) for number in range(1000)]),
    ):
        space = KeySpace()
        hub = WatchHub(space.versions)
        for key, end in ranges:
            hub.add(key, end)
        data = writes(1000, 1000)
        told = 0

        def one(each: bytes, space: KeySpace = space, hub: WatchHub = hub) -> int:
            space.apply(*command.decode(each))
            return sum(len(watcher.take(1000).events) for watcher in hub.collect(space.revision))

        started = time.process_time()
        for each in data:
            told += one(each)
        taken_s = time.process_time() - started
        rows.append(
            Row(f"{name}: a write, and {told / len(data):,.0f} told", taken_s / len(data) * 1e6, "us")
        )
    return rows


def deleting(space: KeySpace) -> list[Row]:
    count = len(space)
    taken_s = seconds(lambda: space.apply(Txn((), (Delete(PREFIX, prefix_end(PREFIX)),))))
    return [Row(f"delete a range of {count:,} keys", taken_s * 1e3, "ms")]


def main() -> None:
    arguments = options(__doc__ or "")
    count = 20_000 if arguments.quick else 100_000
    rows, space = writing(count)
    rows += reading(space, count)
    rows += compacting(space)
    rows += dumping(space)
    rows += watching()
    rows += deleting(space)
    report(rows, f"{count:,} keys, values of {VALUE_BYTES} bytes, one thread", arguments.json)


if __name__ == "__main__":
    main()
