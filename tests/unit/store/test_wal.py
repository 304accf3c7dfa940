"""What the log keeps, what it forgets, and what it refuses; `test_wal_crashes.py` has its deaths."""

from __future__ import annotations

import errno
import random
import threading
from pathlib import Path

import pytest

from gitkube.sim.disk import SimDisk
from gitkube.store.disk import SystemDisk
from gitkube.store.protocol import CorruptError
from gitkube.store.raft.types import Entry, EntryKind, HardState, MemberId, SnapshotMeta
from gitkube.store.segments import read_log
from gitkube.store.snapshot import newest_snapshot, remove_leftovers, write_snapshot
from gitkube.store.wal import Wal

WAL, SNAPSHOTS = Path("/data/wal"), Path("/data/snap")
SEGMENT_BYTES = 2048


def new_disk(seed: int = 1) -> SimDisk:
    return SimDisk(random.Random(seed))


def opened(disk: SimDisk, after_index: int = 0, after_term: int | None = None) -> tuple[Wal, list[Entry]]:
    wal = Wal(disk, WAL, segment_bytes=SEGMENT_BYTES)
    return wal, wal.open(after_index, after_term)


def write(wal: Wal, *entries: Entry, hard_state: HardState | None = None) -> None:
    wal.append(entries, hard_state)
    wal.sync()


def entries_of(first: int, last: int, term: int = 1, size_bytes: int = 100) -> list[Entry]:
    return [Entry(index, term, b"%d" % index + b"x" * size_bytes) for index in range(first, last + 1)]


def segments(disk: SimDisk) -> list[Path]:
    return [WAL / name for name in disk.names(WAL) if name.endswith(".log")]


# ------------------------------------------------------------------ what the log keeps


def test_entries_of_every_kind_come_back_as_they_were() -> None:
    disk = new_disk()
    wal, _ = opened(disk)
    entries = [Entry(1, 1, b""), Entry(2, 1, b"\0" * 500), Entry(3, 2, b"members", EntryKind.CONF_CHANGE)]
    write(wal, *entries, hard_state=HardState(2**62, MemberId(2**63 - 1), 3))
    wal, found = opened(disk)
    assert found == entries
    assert found[2].kind is EntryKind.CONF_CHANGE
    assert wal.hard_state == HardState(2**62, MemberId(2**63 - 1), 3)
    assert wal.last_index == 3


def test_the_hard_state_outlives_rotation_trim_and_reset() -> None:
    disk = new_disk()
    wal, _ = opened(disk)
    state = HardState(7, MemberId(3), 1)
    write(wal, *entries_of(1, 1), hard_state=state)
    for index in range(2, 100):
        write(wal, *entries_of(index, index))
    wal.trim(98)
    assert len(segments(disk)) == 1
    wal, found = opened(disk, 98)
    assert (found, wal.hard_state) == (entries_of(99, 99), state)
    wal.reset(200, 7)
    wal, found = opened(disk, 200)
    assert (found, wal.hard_state, wal.last_index) == ([], state, 200)


def test_a_correction_holds_over_the_borders_of_segments() -> None:
    """Entries 40 to 60 lie in several segments; a leader replaces them from 45 on, twice."""
    disk = new_disk()
    wal, _ = opened(disk)
    for index in range(1, 61):
        write(wal, *entries_of(index, index))
    write(wal, *entries_of(45, 50, term=2))
    write(wal, *entries_of(51, 52, term=2))
    write(wal, *entries_of(48, 48, term=3))
    for index in range(49, 80):
        write(wal, *entries_of(index, index, term=3))
    expected = entries_of(1, 44) + entries_of(45, 47, term=2) + entries_of(48, 79, term=3)
    for after_index in range(80):
        assert opened(disk, after_index)[1] == expected[after_index:], after_index
    for after_index in range(47, 80):
        wal.trim(after_index)
        assert opened(disk, after_index)[1] == expected[after_index:], after_index
    with pytest.raises(CorruptError, match="entries between them are missing"):
        opened(disk, 20)


def test_a_batch_larger_than_a_segment_has_one_for_itself() -> None:
    disk = new_disk()
    wal, _ = opened(disk)
    entries = [*entries_of(1, 3), *entries_of(4, 9, size_bytes=1000), *entries_of(10, 12)]
    write(wal, *entries[:3])
    write(wal, *entries[3:9])
    write(wal, *entries[9:])
    assert opened(disk)[1] == entries
    assert len(segments(disk)) == 3
    assert wal.size_bytes == sum(disk.size(path) for path in segments(disk))


def test_a_turn_without_changes_costs_nothing_and_one_with_many_costs_one_write_and_one_sync() -> None:
    disk = new_disk()
    wal, _ = opened(disk)
    write(wal, hard_state=HardState(1))
    writes, syncs = disk.writes, disk.syncs
    write(wal, hard_state=HardState(1))
    wal.append([])
    wal.sync()
    assert (disk.writes, disk.syncs) == (writes, syncs)
    write(wal, *entries_of(1, 10), hard_state=HardState(1, MemberId(0), 1))
    assert (disk.writes, disk.syncs) == (writes + 1, syncs + 1)


# ------------------------------------------------------------------ the next segment


def test_with_the_next_segment_prepared_a_rotation_writes_no_zeros() -> None:
    disk = new_disk()
    wal, _ = opened(disk)
    assert wal.needs_next
    for _ in range(3):
        wal.prepare_next()  # one at most
    assert not wal.needs_next
    assert len([name for name in disk.names(WAL) if name.endswith(".tmp")]) == 1
    write(wal, *entries_of(1, 10))
    written: list[int] = []
    disk.on_operation = lambda word, length: written.append(length) if word == "write" else None
    write(wal, *entries_of(11, 18))
    assert len(segments(disk)) == 2
    assert len(written) == 1
    assert written[0] < SEGMENT_BYTES
    assert wal.needs_next
    assert opened(disk)[1] == entries_of(1, 18)


def test_the_next_segment_is_on_the_disk_piece_by_piece() -> None:
    """Else the log's own syncs would wait for all of it at once."""
    disk, unsynced, pauses = new_disk(), [0], [0]

    def note(word: str, length: int) -> None:
        unsynced[0] = 0 if word == "sync" else unsynced[0] + length
        assert unsynced[0] <= 1024 * 1024

    def pause() -> None:
        pauses[0] += 1
        assert unsynced[0] == 0

    wal = Wal(disk, WAL, segment_bytes=3 * 1024 * 1024 + 1)
    wal.open(0)
    disk.on_operation = note
    wal.prepare_next(pause)
    assert pauses[0] == 4
    assert not wal.needs_next


def test_a_full_disk_is_told_of_ahead_and_ends_the_log_only_when_it_is_in_the_way() -> None:
    disk = new_disk()
    wal, _ = opened(disk)
    disk.is_full = True
    with pytest.raises(OSError, match="No space left"):
        wal.prepare_next()
    assert wal.prepare_failure is not None
    assert wal.prepare_failure.errno == errno.ENOSPC
    assert wal.needs_next
    assert not [name for name in disk.names(WAL) if name.endswith(".tmp")]
    write(wal, *entries_of(1, 10))
    wal.append(entries_of(11, 20))
    with pytest.raises(OSError, match="No space left"):
        wal.sync()
    disk.is_full = False
    with pytest.raises(OSError, match="must not go on"):
        wal.sync()
    assert opened(disk)[1] == entries_of(1, 10)


def test_room_that_is_there_again_clears_the_condition() -> None:
    disk = new_disk()
    wal, _ = opened(disk)
    disk.is_full = True
    with pytest.raises(OSError, match="No space left"):
        wal.prepare_next()
    disk.is_full = False
    wal.prepare_next()
    assert wal.prepare_failure is None
    assert not wal.needs_next


def test_a_sync_that_failed_is_never_tried_again_and_what_it_had_is_durable_once_it_was_read() -> None:
    """The entry may be there or not; but one that a new start has read is not lost by the next power cut."""
    found = set()
    for seed in range(60):
        disk = new_disk(seed)
        wal, _ = opened(disk)
        write(wal, *entries_of(1, 1))
        wal.append(entries_of(2, 2))
        disk.syncs_fail = True
        with pytest.raises(OSError, match="Input/output"):
            wal.sync()
        disk.syncs_fail = False
        with pytest.raises(OSError, match="must not go on"):
            wal.sync()
        disk.kill()
        read = opened(disk)[1]
        disk.crash()
        assert opened(disk)[1] == read
        found.add(len(read))
    assert found == {2}


def test_preparing_in_a_thread_disturbs_no_writer(tmp_path: Path) -> None:
    wal = Wal(SystemDisk(), tmp_path, segment_bytes=4096)
    wal.open(0)
    done = threading.Event()

    def prepare() -> None:
        while not done.is_set():
            wal.prepare_next()

    threads = [threading.Thread(target=prepare) for _ in range(2)]
    for thread in threads:
        thread.start()
    entries = entries_of(1, 600)
    try:
        for start in range(0, 600, 5):
            write_to(wal, entries[start : start + 5])
    finally:
        done.set()
        for thread in threads:
            thread.join()
    wal.close()
    again = Wal(SystemDisk(), tmp_path, segment_bytes=4096)
    assert again.open(0) == entries
    again.close()
    assert not list(tmp_path.glob("*.tmp")), "what was prepared and not used is gone"


def write_to(wal: Wal, entries: list[Entry]) -> None:
    wal.append(entries)
    wal.sync()


# ------------------------------------------------------------------ what a snapshot does to the log


def test_a_log_that_ends_before_the_snapshot_goes_on_behind_it() -> None:
    disk = new_disk()
    wal, _ = opened(disk)
    write(wal, *entries_of(1, 30), hard_state=HardState(4, MemberId(2), 9))
    wal, found = opened(disk, 50, 3)
    assert (found, wal.last_index, wal.hard_state) == ([], 50, HardState(4, MemberId(2), 9))
    write(wal, *entries_of(51, 55, term=4))
    assert opened(disk, 50, 3)[1] == entries_of(51, 55, term=4)
    assert opened(disk, 53, 4)[1] == entries_of(54, 55, term=4)
    with pytest.raises(CorruptError, match="begins at entry 51, but the newest snapshot ends at 30"):
        opened(disk, 30)


def test_a_log_that_contradicts_the_snapshot_is_void_behind_it() -> None:
    disk = new_disk()
    wal, _ = opened(disk)
    write(wal, *entries_of(1, 30, term=2))
    assert opened(disk, 20, 2)[1] == entries_of(21, 30, term=2)
    wal, found = opened(disk, 20, 3)
    assert (found, wal.last_index) == ([], 20)
    assert opened(disk, 20, 3)[1] == []


def test_removed_segments_that_are_back_count_for_nothing() -> None:
    disk = new_disk()
    wal, _ = opened(disk)
    for index in range(1, 100):
        write(wal, *entries_of(index, index))
    before = {path: disk.read(path) for path in segments(disk)}
    wal.trim(90)
    kept = segments(disk)
    removed = [path for path in before if path not in kept]
    assert len(removed) > 3
    for back in removed:
        disk.replace_data(back, before[back])
        assert opened(disk, 90)[1] == entries_of(91, 99)
    for index in (95, 120):  # in the midst of what the log had, and behind it
        wal, _ = opened(disk, 90)
        wal.reset(index, 1)
        for back in before:
            disk.replace_data(back, before[back])
        assert opened(disk, index, 1)[1] == []
        assert len(segments(disk)) == 1
        for back in segments(disk):
            disk.unlink(back)
        for back, data in before.items():
            disk.replace_data(back, data)


def test_a_start_needs_no_room_on_a_full_disk() -> None:
    disk = new_disk()
    wal, _ = opened(disk)
    write(wal, *entries_of(1, 5))
    write_snapshot(disk, SNAPSHOTS, SnapshotMeta(3, 1), [["state"]])
    disk.is_full = True
    remove_leftovers(disk, SNAPSHOTS)
    assert newest_snapshot(disk, SNAPSHOTS) == SnapshotMeta(3, 1)
    wal, found = opened(disk, 3, 1)
    assert found == entries_of(4, 5)
    write(wal, *entries_of(6, 7))
    assert opened(disk, 3, 1)[1] == entries_of(4, 7)


def test_a_snapshot_without_a_log_is_refused_because_votes_would_be_forgotten() -> None:
    with pytest.raises(CorruptError, match="forgotten its votes"):
        opened(new_disk(), 5)


# ------------------------------------------------------------------ damage


def damaged_logs() -> tuple[SimDisk, Path, list[Entry], list[int]]:
    """A log of some hundred records in one segment, and where each record ends."""
    disk = new_disk()
    rng = random.Random(2)
    wal = Wal(disk, WAL, segment_bytes=20_000)
    wal.open(0)
    entries, ends = [], []
    for index in range(1, 202):
        entry = Entry(index, 1, rng.randbytes(rng.randint(0, 7)))
        write(wal, entry)
        entries.append(entry)
        ends.append(wal._offset)
    (path,) = segments(disk)
    return disk, path, entries, ends


def read_damaged(disk: SimDisk, path: Path, data: bytes) -> list[Entry]:
    disk.replace_data(path, data)
    return read_log(disk, WAL, 0).entries


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_a_log_of_some_hundred_records_cut_at_any_byte_keeps_all_before_the_cut(part: int) -> None:
    disk, path, entries, ends = damaged_logs()
    whole = disk.read(path)
    kept = 0
    for cut in range(112 + part, ends[-1] + 1, 4):
        while kept < len(ends) and ends[kept] <= cut:
            kept += 1
        assert read_damaged(disk, path, whole[:cut]) == entries[:kept], f"cut at {cut}"


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_a_log_of_some_hundred_records_with_any_byte_flipped_is_refused_with_the_place(part: int) -> None:
    disk, path, _, ends = damaged_logs()
    whole = disk.read(path)
    rng = random.Random(part)
    for at in range(part, ends[-1], 4):
        data = whole[:at] + bytes([whole[at] ^ 1 << rng.randrange(8)]) + whole[at + 1 :]
        with pytest.raises(CorruptError, match=rf"{path.name}.* offset \d+"):
            read_damaged(disk, path, data)


def test_a_last_record_with_any_sectors_missing_or_torn_is_forgotten_and_never_taken_for_damage() -> None:
    rng = random.Random(6)
    for filler in (b"x", b"\0", b"\x01\0\0\0", b"\0" * 700 + b"x"):
        disk = new_disk()
        wal = Wal(disk, WAL, segment_bytes=20_000)
        wal.open(0)
        write(wal, *entries_of(1, 3))
        start = wal._offset
        write(wal, Entry(4, 1, (filler * 5000)[:5000]))
        (path,) = segments(disk)
        whole = disk.read(path)
        for _ in range(300):
            data = bytearray(whole)
            for sector in range(start // 512, wal._offset // 512 + 1):
                if rng.random() < 0.3:
                    at = max(start, sector * 512 + rng.randrange(0, 512, 8))
                    data[at : (sector + 1) * 512] = bytes(max(0, (sector + 1) * 512 - at))
            expected = 4 if data == whole else 3
            assert len(read_damaged(disk, path, bytes(data))) == expected


def test_zeros_in_the_midst_of_the_log_are_damage_because_records_follow_them() -> None:
    disk = new_disk()
    wal = Wal(disk, WAL, segment_bytes=20_000)
    wal.open(0)
    for index in range(1, 16):
        write(wal, *entries_of(index, index, size_bytes=800))
    last_record = wal._offset - 800
    (path,) = segments(disk)
    whole = disk.read(path)
    for start in range(512, last_record - 512, 512):
        with pytest.raises(CorruptError, match="records follow it"):
            read_damaged(disk, path, whole[:start] + bytes(512) + whole[start + 512 :])


def test_damage_before_the_last_segment_is_refused_even_where_it_looks_torn() -> None:
    disk = new_disk()
    wal, _ = opened(disk)
    for index in range(1, 60):
        write(wal, *entries_of(index, index, size_bytes=300))
    first, *_ = segments(disk)
    whole = disk.read(first)
    end = len(whole.rstrip(b"\0"))
    for cut in (end - 5, end - 200, end - 1024):
        for data in (whole[:cut], whole[:cut].ljust(len(whole), b"\0")):
            with pytest.raises(CorruptError):
                read_damaged(disk, first, data)


def test_segments_of_other_formats_and_under_other_names_are_refused() -> None:
    disk = new_disk()
    wal, _ = opened(disk)
    write(wal, *entries_of(1, 3))
    (path,) = segments(disk)
    whole = disk.read(path)
    for version, word in ((3, "newer"), (1, "older")):
        with pytest.raises(CorruptError, match=f"{word} gitkube"):
            read_damaged(disk, path, whole[:12] + bytes([version]) + whole[13:])
    disk.replace_data(path, whole)
    disk.rename(path, path.with_name(path.name.replace("1.log", "2.log")))
    with pytest.raises(CorruptError, match="not the header of this segment"):
        opened(disk)
