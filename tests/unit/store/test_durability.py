"""Power cuts and bit rot: what was acknowledged is there, and damage is said, never guessed around."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import random
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from gitkube.clock import SystemClock
from gitkube.store.config import MemberConfig
from gitkube.store.disk import SystemDisk
from gitkube.store.member import Member
from gitkube.store.protocol import CorruptError, Put, StoreError, UnavailableError, prefix_end
from gitkube.store.raft.types import Entry, HardState, MemberId
from gitkube.store.remote import RemoteStore, StoreProcess
from gitkube.store.replica import Replica, Turn
from gitkube.store.settings import MemberSettings
from gitkube.store.snapshot import newest_snapshot
from gitkube.store.wal import Wal

SMALL = 4096


@pytest.fixture
def no_disk_to_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where damage is written by the test itself, after the writer has closed, fsync decides nothing."""
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda descriptor: None)


def filled_wal(directory: Path, entries: int, value_bytes: int = 20) -> list[int]:
    """A log with one synced record an entry; gives the offset at which each record ended."""
    wal = Wal(SystemDisk(), directory, segment_bytes=SMALL * 4)
    wal.open(0)
    ends = []
    rng = random.Random(1)
    for index in range(1, entries + 1):
        wal.append([Entry(index, 1, rng.randbytes(value_bytes))], HardState(1, MemberId(1), index))
        wal.sync()
        ends.append(wal._offset)
    wal.close()
    return ends


def reread(directory: Path) -> list[Entry]:
    wal = Wal(SystemDisk(), directory, segment_bytes=SMALL)
    try:
        return wal.open(0)
    finally:
        wal.close()


@pytest.mark.usefixtures("no_disk_to_wait_for")
def test_a_log_cut_at_any_byte_keeps_all_that_was_written_before_the_cut(tmp_path: Path) -> None:
    ends = filled_wal(tmp_path / "wal", 12)
    (segment,) = (tmp_path / "wal").iterdir()
    whole = segment.read_bytes()
    for cut in range(64, ends[-1] + 1):
        segment.write_bytes(whole[:cut])
        expected = sum(1 for end in ends if end <= cut)
        assert len(reread(tmp_path / "wal")) == expected, f"cut at {cut}"


@pytest.mark.usefixtures("no_disk_to_wait_for")
def test_a_log_whose_last_write_lost_a_sector_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    ends = filled_wal(tmp_path / "wal", 5, value_bytes=3000)
    (segment,) = (tmp_path / "wal").iterdir()
    whole = segment.read_bytes()
    for sector in range(ends[-2] // 512 + 1, ends[-1] // 512):
        torn = whole[: sector * 512] + bytes(512) + whole[(sector + 1) * 512 :]
        segment.write_bytes(torn)
        assert [entry.index for entry in reread(tmp_path / "wal")] == [1, 2, 3, 4]


@pytest.mark.usefixtures("no_disk_to_wait_for")
def test_a_flipped_bit_anywhere_in_the_log_is_an_error_that_names_the_place(tmp_path: Path) -> None:
    ends = filled_wal(tmp_path / "wal", 12)
    (segment,) = (tmp_path / "wal").iterdir()
    whole = segment.read_bytes()
    for at in range(ends[-1]):
        segment.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        with pytest.raises(CorruptError, match=segment.name):
            reread(tmp_path / "wal")


def test_a_log_that_was_torn_can_be_written_on(tmp_path: Path) -> None:
    ends = filled_wal(tmp_path / "wal", 10)
    (segment,) = (tmp_path / "wal").iterdir()
    segment.write_bytes(segment.read_bytes()[: ends[-1] - 5])
    wal = Wal(SystemDisk(), tmp_path / "wal", segment_bytes=SMALL * 16)
    assert len(wal.open(0)) == 9
    wal.append([Entry(10, 2, b"again")])
    wal.sync()
    wal.close()
    assert reread(tmp_path / "wal")[-1] == Entry(10, 2, b"again")


def test_entries_go_on_over_segments_and_a_missing_one_is_noticed(tmp_path: Path) -> None:
    wal = Wal(SystemDisk(), tmp_path, segment_bytes=SMALL)
    wal.open(0)
    for index in range(1, 200):
        wal.append([Entry(index, 1, b"x" * 100)], HardState(1, MemberId(0), index))
        wal.sync()
    wal.close()
    segments = sorted(tmp_path.iterdir())
    assert len(segments) > 5
    again = Wal(SystemDisk(), tmp_path, segment_bytes=SMALL)
    assert [entry.index for entry in again.open(0)] == list(range(1, 200))
    assert again.hard_state == HardState(1, MemberId(0), 199)
    again.trim(100)
    assert len(list(tmp_path.iterdir())) < len(segments)
    again.close()
    sorted(tmp_path.iterdir())[1].unlink()
    with pytest.raises(CorruptError, match="hole"):
        Wal(SystemDisk(), tmp_path, segment_bytes=SMALL).open(100)


def test_a_leaders_entry_replaces_those_that_were_never_committed(tmp_path: Path) -> None:
    filled_wal(tmp_path, 10)
    wal = Wal(SystemDisk(), tmp_path, segment_bytes=SMALL * 16)
    wal.open(0)
    wal.append([Entry(8, 2, b"other")])
    wal.sync()
    wal.close()
    entries = reread(tmp_path)
    assert [entry.index for entry in entries] == list(range(1, 9))
    assert entries[-1].term == 2


async def fill(member: Member, count: int) -> None:
    for number in range(count):
        await member.txn([], [Put(b"k/%d" % (number % 50), b"%d" % number)])


SETTINGS = MemberSettings(segment_bytes=SMALL * 4, snapshot_entries=300, keep_revisions=100)


async def state(member: Member) -> list[object]:
    result = await member.range(b"\x00", b"\x00")
    return [list(result.kvs), result.revision]


@pytest.mark.usefixtures("no_disk_to_wait_for")
async def test_a_member_starts_from_its_snapshot_and_the_log_behind_it(tmp_path: Path) -> None:
    member = await Member.open(tmp_path, settings=SETTINGS)
    lease = await member.lease_grant(1000)
    await member.txn([], [Put(b"leased", b"x", lease.id)])
    await fill(member, 2000)
    term = (await member.status()).term
    await member.close()
    assert newest_snapshot(SystemDisk(), tmp_path / "snap") is not None
    segments = len(list((tmp_path / "wal").iterdir()))
    assert segments < 10
    before = member.engine.replica.space
    again = await Member.open(tmp_path, settings=SETTINGS)
    assert again.engine.replica.space.revision == before.revision
    assert list(again.engine.replica.space.dump()) == list(before.dump())
    assert (await again.lease_keep_alive(lease.id)).keys == [b"leased"]
    assert (await again.status()).term == term + 1
    batch = None
    async for batch in again.watch(b"k/", prefix_end(b"k/"), start_revision=before.revision - 20):
        if batch.revision == before.revision:
            break
    assert batch is not None
    assert batch.events[-1].kv.value == b"1999"
    await again.close()


@pytest.mark.usefixtures("no_disk_to_wait_for")
async def test_a_damaged_snapshot_stops_the_start(tmp_path: Path) -> None:
    member = await Member.open(tmp_path, settings=SETTINGS)
    await fill(member, 400)
    await member.close()
    newest = sorted((tmp_path / "snap").iterdir())[-1]
    whole = newest.read_bytes()
    rng = random.Random(3)
    for at in [0, 12, 40, len(whole) - 1, *(rng.randrange(len(whole)) for _ in range(200))]:
        newest.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(CorruptError, match=newest.name):
            await Member.open(tmp_path, settings=SETTINGS)
    newest.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptError):
        await Member.open(tmp_path, settings=SETTINGS)
    newest.write_bytes(whole)
    await (await Member.open(tmp_path, settings=SETTINGS)).close()


async def test_two_processes_never_have_one_directory(tmp_path: Path) -> None:
    impatient = MemberSettings(lock_wait_s=0)
    member = await Member.open(tmp_path)
    with pytest.raises(StoreError, match="in use"):
        await Member.open(tmp_path, settings=impatient)
    successor = asyncio.create_task(Member.open(tmp_path))
    await asyncio.sleep(0.1)
    await member.close()
    await (await successor).close()


async def test_data_of_a_newer_format_is_not_touched(tmp_path: Path) -> None:
    await (await Member.open(tmp_path)).close()
    (tmp_path / "format").write_text("9\n")
    with pytest.raises(CorruptError, match="format '9'"):
        await Member.open(tmp_path)


async def test_a_disk_that_fails_ends_the_member_and_answers_nobody_with_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = await Member.open(tmp_path)
    await member.txn([], [Put(b"a", b"1")])

    def broken(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", broken)
    with pytest.raises(UnavailableError, match="Input/output error"):
        await member.txn([], [Put(b"a", b"2")])
    with pytest.raises(UnavailableError):
        await member.range(b"a")
    assert isinstance(await member.wait_failed(), OSError)
    await member.close()


async def test_writes_too_large_for_one_record_are_all_answered_and_all_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gitkube.store.proposals.MAX_TURN_BYTES", 1000)
    member = await Member.open(tmp_path)
    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(member.txn([], [Put(b"large/%d" % number, bytes(400))]))
    before = await state(member)
    await member.close()
    again = await Member.open(tmp_path)
    assert await state(again) == before
    await again.close()


@pytest.mark.slow
async def test_nothing_acknowledged_is_lost_when_the_process_is_killed(tmp_path: Path) -> None:
    """Kill -9 at a random moment under load, many times; then all that was answered is read back."""
    clock, rng = SystemClock(), random.Random(11)
    socket = tmp_path / "store.sock"
    process = StoreProcess(MemberConfig(tmp_path / "data", socket), clock=clock, rng=rng)
    keeper = asyncio.create_task(process.run())
    store = RemoteStore(socket, clock=clock)
    acknowledged: dict[bytes, bytes] = {}
    answered = asyncio.Event()

    async def write(writer: int) -> None:
        number = 0
        while True:
            key, value = b"w%d/%d" % (writer, number), b"%d" % number
            with contextlib.suppress(UnavailableError):
                await store.txn([], [Put(key, value)])
                acknowledged[key] = value
                answered.set()
            number += 1

    seen: list[int] = []

    async def watch() -> None:
        async for batch in store.watch(b"w", b"x", start_revision=2):  # type: ignore[arg-type]
            seen.extend(event.kv.mod_revision for event in batch.events)

    await store.status()
    tasks = [asyncio.create_task(write(writer)) for writer in range(8)] + [asyncio.create_task(watch())]

    async def wait_for_writes(count: int) -> None:
        before = len(acknowledged)
        async with asyncio.timeout(60):
            while len(acknowledged) < before + count:
                answered.clear()
                await answered.wait()

    for _ in range(5):
        await wait_for_writes(rng.randint(1, 60))
        if process.pid:  # else the answers came from one that is dead already
            os.kill(process.pid, signal.SIGKILL)
    await wait_for_writes(30)
    for task in tasks[:-1]:
        task.cancel()
    await asyncio.gather(*tasks[:-1], return_exceptions=True)
    result = await store.range(b"w", b"x")
    found = {kv.key: kv.value for kv in result.kvs}
    assert {key: found.get(key) for key in acknowledged} == acknowledged
    for _ in range(600):
        result = await store.range(b"w", b"x")  # what was under way when its writer went may come later
        if seen and seen[-1] == max(kv.mod_revision for kv in result.kvs):
            break
        await asyncio.sleep(0.05)
    assert seen == sorted(kv.mod_revision for kv in result.kvs), "each event once, in order"
    tasks[-1].cancel()
    await asyncio.gather(tasks[-1], return_exceptions=True)
    await store.close()
    keeper.cancel()
    await asyncio.gather(keeper, return_exceptions=True)


async def test_a_process_whose_data_is_damaged_is_not_started_again(tmp_path: Path) -> None:
    member = await Member.open(tmp_path / "data")
    await member.txn([], [Put(b"a", b"1")])
    await member.txn([], [Put(b"a", b"2")])
    await member.close()
    (segment,) = (tmp_path / "data" / "wal").iterdir()
    whole = segment.read_bytes()
    at = 64 + 20  # in the first record behind the segment's header
    segment.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    process = StoreProcess(
        MemberConfig(tmp_path / "data", tmp_path / "s.sock"), clock=SystemClock(), rng=random.Random(1)
    )
    with pytest.raises(CorruptError, match="damaged at offset"):
        await process.run()


async def test_a_process_that_may_not_open_its_data_is_not_started_again_and_says_whose_they_must_be(
    tmp_path: Path,
) -> None:
    await (await Member.open(tmp_path / "data")).close()
    shutil.rmtree(tmp_path / "data" / "wal")
    (tmp_path / "data" / "wal").write_text("a file where a directory must be")
    process = StoreProcess(
        MemberConfig(tmp_path / "data", tmp_path / "s.sock"), clock=SystemClock(), rng=random.Random(1)
    )
    # A test may run as root, who may open everything; this cannot be opened by anybody.
    with pytest.raises(CorruptError, match=r"cannot be opened: File exists; all of .* must belong"):
        await process.run()


def test_a_full_disk_does_not_end_the_control_plane_by_what_its_process_was_told_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = MemberConfig(tmp_path / "data", tmp_path / "s.sock")
    config.write(tmp_path / "data.json")

    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("gitkube.store.config.replace_durably", full)
    StoreProcess(config, clock=SystemClock(), rng=random.Random(1)).write_config(tmp_path / "data.json")

    another = StoreProcess(replace(config, name="two"), clock=SystemClock(), rng=random.Random(1))
    with pytest.raises(StoreError, match=r"data\.json cannot be written: No space left on device; the disk"):
        another.write_config(tmp_path / "data.json")


async def test_a_disk_that_fails_while_a_member_starts_is_told_and_lets_the_directory_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lone member waits for its own election, which needs the disk."""
    await (await Member.open(tmp_path)).close()
    with monkeypatch.context() as failing, pytest.raises(UnavailableError, match="No space left"):

        def full(replica: Replica, turn: Turn) -> None:
            raise OSError(28, "No space left on device")

        failing.setattr(Replica, "persist", full)
        async with asyncio.timeout(30):
            await Member.open(tmp_path)
    await (await Member.open(tmp_path)).close()
