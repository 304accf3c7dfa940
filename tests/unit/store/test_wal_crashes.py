"""Lives of a member's log and snapshots, each ended at a random operation: what was promised is there."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gitkube.sim.disk import PowerCut, SimDisk
from gitkube.store.raft.types import Entry, EntryKind, HardState, MemberId, SnapshotMeta
from gitkube.store.snapshot import newest_snapshot, remove_leftovers, write_snapshot
from gitkube.store.wal import Wal

WAL, SNAPSHOTS = Path("/data/wal"), Path("/data/snap")
SEGMENT_BYTES = 2048


@dataclass
class Story:
    """What a member does to its log and snapshots, with a record of what it may rely on."""

    disk: SimDisk
    rng: random.Random
    wal: Wal = field(init=False)
    log: list[Entry] = field(default_factory=list)
    """As it is to be; what is synced is a prefix of what was written."""
    snapshot: SnapshotMeta = field(default_factory=SnapshotMeta)
    hard_state: HardState = field(default_factory=HardState)
    may_be: list[tuple[SnapshotMeta, list[Entry], HardState]] = field(default_factory=list)
    """What may be found instead of `log`, as an operation was under way."""
    term: int = 1

    def start(self) -> None:
        """Open, and compare what is there with what may be there."""
        if self.rng.random() < 0.5:
            remove_leftovers(self.disk, SNAPSHOTS)
        meta = newest_snapshot(self.disk, SNAPSHOTS) or SnapshotMeta()
        self.wal = Wal(self.disk, WAL, segment_bytes=SEGMENT_BYTES)
        entries = self.wal.open(meta.index, meta.term)
        found = meta, entries, self.wal.hard_state
        known = self.snapshot, self.log, self.hard_state
        assert found in [known, *self.may_be], f"found {_short(found)}, not {_short(known)}"
        assert self.wal.last_index == (entries[-1].index if entries else meta.index)
        self.snapshot, self.log, self.hard_state = found
        self.may_be = []

    def last_index(self) -> int:
        return self.log[-1].index if self.log else self.snapshot.index

    def act(self) -> None:
        if self.rng.random() < 0.3:
            self.term += 1
        self.rng.choice(
            [self.write, self.write, self.write, self.prepare, self.compact, self.correct, self.receive]
        )()

    def write(self, first: int | None = None) -> None:
        first = first or self.last_index() + 1
        count = self.rng.randint(0, 5)
        size_bytes = self.rng.choice([0, 10, 200, 700, 3000])
        filler = self.rng.choice([b"x", b"\0", b"\x01\0\0\0\0\0\0\0"])
        kinds = list(EntryKind)
        entries = [
            Entry(
                index, self.term, (b"%d" % index + filler * size_bytes)[:size_bytes], self.rng.choice(kinds)
            )
            for index in range(first, first + count)
        ]
        log = self.log[: first - self.snapshot.index - 1] + entries if entries else self.log
        commit = self.rng.randint(self.hard_state.commit, log[-1].index) if log else self.hard_state.commit
        state = HardState(self.term, MemberId(self.rng.randint(0, 3)), commit)
        self.may_be = [(self.snapshot, log, state)]
        self.wal.append(entries, state)
        self.wal.sync()
        self.log, self.hard_state, self.may_be = log, state, []

    def correct(self) -> None:
        """A leader replaces what was never committed."""
        first = max(self.hard_state.commit, self.snapshot.index) + 1
        if self.log and first <= self.last_index():
            self.term += 1
            self.write(self.rng.randint(first, self.last_index()))

    def prepare(self) -> None:
        self.wal.prepare_next()

    def compact(self) -> None:
        if self.hard_state.commit <= self.snapshot.index:
            return
        index = self.rng.randint(self.snapshot.index + 1, self.hard_state.commit)
        entry = self.log[index - self.snapshot.index - 1]
        meta = SnapshotMeta(index, entry.term)
        log = self.log[index - self.snapshot.index :]
        self.may_be = [(meta, log, self.hard_state)]
        write_snapshot(self.disk, SNAPSHOTS, meta, [["state", index]])
        self.snapshot, self.log, self.may_be = meta, log, []
        self.wal.trim(index)

    def receive(self) -> None:
        """A snapshot of another member, from further on or about another past."""
        index = self.rng.randint(max(self.snapshot.index + 1, self.hard_state.commit), self.last_index() + 10)
        meta = SnapshotMeta(index, self.term)
        position = index - self.snapshot.index - 1
        has_it = position < len(self.log) and self.log[position].term == self.term
        rest = self.log[position + 1 :] if has_it else []
        # Once the snapshot has its name: the log's own rest, until reset has come as far as its segment.
        self.may_be = [(meta, rest, self.hard_state), (meta, [], self.hard_state)]
        write_snapshot(self.disk, SNAPSHOTS, meta, [["state", index]])
        self.snapshot, self.log = meta, rest
        self.wal.reset(meta.index, meta.term)
        self.log, self.may_be = [], []


def _short(state: tuple[SnapshotMeta, list[Entry], HardState]) -> object:
    meta, log, hard_state = state
    return meta.index, meta.term, [(entry.index, entry.term, len(entry.data)) for entry in log], hard_state


def live(seed: int, lives: int = 6) -> None:
    """Several lives of one member, each ended at a random operation by a power cut or a kill."""
    rng = random.Random(seed)
    disk = SimDisk(random.Random(seed + 1))
    story = Story(disk, rng)
    for _ in range(lives):
        disk.cut_power_after = rng.randint(0, 60)
        try:
            story.start()
            while True:
                story.act()
        except PowerCut:
            pass
        if rng.random() < 0.7:
            disk.crash()
        else:
            disk.kill()
    story.start()


@pytest.mark.parametrize("hundred", range(10))
def test_whatever_operation_dies_all_that_was_synced_is_there_and_nothing_is_half_done(hundred: int) -> None:
    for seed in range(hundred * 100, hundred * 100 + 100):
        try:
            live(seed)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
