"""Many lives: spread over processes, until a number of seeds or a time is reached.

A seed is handed to whichever process is free, so the seeds that are lived are a run of numbers from the first
one on, in nearly that order. A failing life is told at once, with the command that replays it.

Invariant: which seeds fail depends on neither the number of processes nor their speed.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field, fields
from itertools import count
from multiprocessing import get_context

from gitkube.sim.bugs import planted
from gitkube.sim.life import Outcome, live
from gitkube.sim.world import Counts

SEEDS_A_BATCH = 4
"""Lived by a process before it answers: less talk, and still a quick end."""


@dataclass(slots=True)
class Summary:
    """Of many lives."""

    seeds: int = 0
    duration_s: float = 0.0
    steps: int = 0
    elections: int = 0
    acknowledged_writes: int = 0
    reads: int = 0
    counts: Counts = field(default_factory=Counts)
    failures: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        self.seeds += 1
        self.steps += outcome.steps
        self.elections += outcome.elections
        self.acknowledged_writes += outcome.acknowledged_writes
        self.reads += outcome.reads
        for each in fields(Counts):
            setattr(
                self.counts, each.name, getattr(self.counts, each.name) + getattr(outcome.counts, each.name)
            )
        if outcome.failure:
            self.failures.append(outcome)

    def __str__(self) -> str:
        counts = self.counts
        rate = self.seeds / self.duration_s if self.duration_s else 0.0
        return (
            f"{self.seeds} seeds in {self.duration_s:.1f} s ({rate:.1f}/s), {len(self.failures)} failed; "
            f"{self.steps} steps, {counts.crashes} crashes, {self.elections} elections, "
            f"{self.acknowledged_writes} acknowledged writes, {self.reads} reads, "
            f"{counts.partitions} partitions, {counts.membership_changes} changes of members, "
            f"{counts.snapshots_sent} states sent, {counts.damaged} disks damaged ({counts.refused} refused)"
        )


def replay_command(seed: int, bug: str = "") -> str:
    """What lives a seed again, with everything that happens in it."""
    return f"python -m gitkube.sim --seed {seed} --trace" + (f" --bug {bug}" if bug else "")


def live_many(
    start: int,
    *,
    seeds: int | None = None,
    budget_s: float | None = None,
    jobs: int = 1,
    bug: str = "",
    stop_at_first: bool = False,
    on_failure: Callable[[Outcome], None] | None = None,
    on_minute: Callable[[Summary], None] | None = None,
) -> Summary:
    """Live the seeds from `start` on.

    Args:
        seeds: how many; None is no limit.
        budget_s: begin none after so many seconds; None is no limit. One of both must be given.
        jobs: processes; 1 is this one.
        bug: of `bugs.BUGS`, to be planted.
        stop_at_first: begin none after the first failure.
        on_failure: told each failure when it is known.
        on_minute: told about once a minute how far it has come.
    """
    assert seeds is not None or budget_s is not None, "this would never end"
    summary, began_s = Summary(), time.monotonic()
    told_s = began_s

    def may_go_on() -> bool:
        is_over = budget_s is not None and time.monotonic() - began_s >= budget_s
        return not is_over and not (stop_at_first and summary.failures)

    def take(outcome: Outcome) -> None:
        nonlocal told_s
        summary.add(outcome)
        summary.duration_s = time.monotonic() - began_s
        if on_minute is not None and time.monotonic() - told_s >= 60:
            told_s = time.monotonic()
            on_minute(summary)
        if outcome.failure and on_failure is not None:
            on_failure(outcome)

    batches = _batches(start, seeds)
    if jobs == 1:
        for each in batches:
            if not may_go_on():
                break
            for outcome in _live_batch(each, bug):
                take(outcome)
    else:
        # New processes: in a forked one nobody runs the threads that this one has, and an object that waits
        # for its own at its end (gRPC's) waits for ever.
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            under_way: set[Future[list[Outcome]]] = set()
            while True:
                while (
                    len(under_way) < 2 * jobs and may_go_on() and (batch := next(batches, None)) is not None
                ):
                    under_way.add(pool.submit(_live_batch, batch, bug))
                if not under_way:
                    break
                done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                for future in done:
                    for outcome in future.result():
                        take(outcome)
    summary.duration_s = time.monotonic() - began_s
    return summary


def _batches(start: int, seeds: int | None) -> Iterator[range]:
    end = None if seeds is None else start + seeds
    for first in count(start, SEEDS_A_BATCH):
        if end is not None and first >= end:
            return
        yield range(first, first + SEEDS_A_BATCH if end is None else min(end, first + SEEDS_A_BATCH))


def _live_batch(seeds: range, bug: str) -> list[Outcome]:
    gc.disable()  # a life makes few cycles, and looking for them all the time costs a tenth of it
    try:
        with planted(bug):
            return [live(seed) for seed in seeds]
    finally:
        gc.enable()
        gc.collect()


def available_jobs() -> int:
    """As many as there are processors for us."""
    return len(os.sched_getaffinity(0))
