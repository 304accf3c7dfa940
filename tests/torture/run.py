"""One run: a cluster, a load, faults, and at the end the question whether every answer was right."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gitkube.store.protocol import Revision, UnavailableError, prefix_end
from gitkube.store.remote import RemoteStore
from tests.support.store_cluster import StoreCluster
from tests.torture.checks import Judgement, judge
from tests.torture.history import WRITES, Ending, History
from tests.torture.nemesis import Nemesis
from tests.torture.workload import PREFIX, Load, Workload

SETTLE_TIMEOUT_S = 60.0
"""Until all members are equal after the last fault."""


@dataclass(frozen=True, slots=True)
class Options:
    directory: Path
    members: int = 3
    seconds: float = 60.0
    script: Sequence[str] = ()
    """Just these faults in this order, in place of `seconds` of faults that are drawn."""
    seed: int = 1
    max_kills: int = 0
    """End earlier after so many; 0 is never."""
    with_membership: bool = False
    load: Load = field(default_factory=Load)
    settings: dict[str, Any] = field(default_factory=dict)
    """Of the members; see `MemberConfig`."""


@dataclass(frozen=True, slots=True)
class Summary:
    history: History
    judgement: Judgement
    recoveries_s: dict[str, list[float]]
    """By kind of fault: from when the cluster was able to go on, to an answer to a write called after
    that.
    """

    @property
    def kills(self) -> int:
        return sum(fault.kills for fault in self.history.faults)

    @property
    def is_good(self) -> bool:
        return not self.judgement.findings

    def text(self) -> str:
        """For a person."""
        attempts = self.history.attempts
        writes = [each for each in attempts if each.kind in WRITES]
        linearizable = {True: "yes", False: "NO", None: "undecided"}[self.judgement.linearizable]
        lines = [
            f"seed {self.history.seed}: {len(self.history.faults)} faults, {self.kills} kills",
            f"requests: {len(attempts):,}, without an answer: "
            f"{sum(each.outcome == 'unknown' for each in attempts):,}",
            f"acknowledged writes: {sum(each.outcome == 'ok' for each in writes):,}, "
            f"lost: {self.judgement.lost}",
            f"events seen by watchers: {sum(len(each.events) for each in self.history.watches):,} "
            f"by {len(self.history.watches)}",
            f"linearizable: {linearizable}",
        ]
        for kind, times in sorted(self.recoveries_s.items()):
            lines.append(
                f"  {kind}: {len(times)}, writes again after {statistics.median(times):.2f} s (median), "
                f"{max(times):.2f} s (longest)"
            )
        lines += [f"FOUND: {finding}" for finding in self.judgement.findings]
        return "\n".join(lines)


def recoveries(history: History) -> dict[str, list[float]]:
    """See `Summary.recoveries_s`."""
    found: defaultdict[str, list[float]] = defaultdict(list)
    writes = sorted(
        (each.call, each.returned)
        for each in history.attempts
        if each.kind in WRITES and each.outcome == "ok" and each.returned is not None
    )
    for fault in history.faults:
        answers = [returned for call, returned in writes if call >= fault.able]
        if answers:
            found[fault.what].append(min(answers) - fault.able)
    return dict(found)


async def torture(options: Options) -> Summary:
    """Run, judge, and give what was found; the caller keeps or drops the history."""
    began = time.monotonic()

    def now() -> float:
        return time.monotonic() - began

    history = History(options.seed)
    cluster = StoreCluster(options.directory, members=options.members, settings=options.settings)
    async with cluster:
        began = time.monotonic()
        await _run(cluster, history, options, now)
    return Summary(history, judge(history), recoveries(history))


async def _run(cluster: StoreCluster, history: History, options: Options, now: Callable[[], float]) -> None:
    clients: dict[int, RemoteStore] = {}

    def store_of(number: int) -> RemoteStore | None:
        if number not in cluster.members:
            return None
        if number not in clients:
            clients[number] = cluster.store(number)
        return clients[number]

    workload = Workload(
        history, options.load, stores=store_of, numbers=lambda: sorted(cluster.members), now=now
    )
    nemesis = Nemesis(
        cluster, history, acknowledged=lambda: workload.acknowledged, now=now,
        with_membership=options.with_membership,
    )  # fmt: skip
    watching = asyncio.create_task(workload.run_watchers())
    working = asyncio.create_task(workload.run_clients())
    try:
        if options.script:
            await nemesis.run_script(options.script)
        else:
            await nemesis.run(options.seconds, max_kills=options.max_kills)
        await nemesis.heal()
        workload.finish()
        await working
        nemesis.note_deaths()
        await _settle(cluster, history, watching)
    finally:
        for task in (working, watching):
            task.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


async def _settle(cluster: StoreCluster, history: History, watching: asyncio.Task[None]) -> None:
    """Wait until all members and their watchers have come to the same revision, and write down the state."""
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    revisions: dict[int, int] = {}
    while time.monotonic() < deadline:
        for number in sorted(cluster.members):
            try:
                revisions[number] = (await cluster.status(number)).revision
            except TimeoutError:
                history.incidents.append(f"member {number} hangs: {await cluster.abort(number)}")
                return
        highest = max(revisions.values())
        # One that began after the last change has nothing to see, and has seen it all.
        reached = {w.member for w in history.watches if w.through >= highest or w.start > highest}
        if set(revisions.values()) == {highest} and reached >= set(revisions):
            break
        await asyncio.sleep(0.2)
    else:
        seen = {
            number: max((w.through for w in history.watches if w.member == number), default=0)
            for number in revisions
        }
        history.incidents.append(
            f"after {SETTLE_TIMEOUT_S:.0f} s of quiet the members are at {revisions}, their watchers at "
            f"{seen}"
        )
    if watching.done():
        watching.result()
    for number in sorted(cluster.members):
        store = cluster.store(number)
        try:
            history.endings.append(await _ending(number, store, max(revisions.values())))
        except UnavailableError as error:
            history.incidents.append(f"member {number} does not answer in the end: {error}")


async def _ending(number: int, store: RemoteStore, revision: int) -> Ending:
    found = await store.range(PREFIX, prefix_end(PREFIX), serializable=True)
    state = await store.hash(Revision(revision))
    keys = {
        kv.key.decode().removeprefix(PREFIX.decode()): (kv.value.decode(), int(kv.mod_revision))
        for kv in found.kvs
    }
    return Ending(number, found.revision, state.hash, keys)
