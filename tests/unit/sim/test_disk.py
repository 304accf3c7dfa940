"""The simulated disk loses what a real one may lose, nothing else, and the same for the same seed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gitkube.sim.disk import PowerCut, SimDisk
from gitkube.store.disk import Disk, SystemDisk

DIRECTORY = Path("/d")
FILE = DIRECTORY / "file"


def new_disk(seed: int = 1) -> SimDisk:
    disk = SimDisk(random.Random(seed))
    disk.make_directory(DIRECTORY)
    return disk


def durable_file(disk: SimDisk, data: bytes, path: Path = FILE) -> None:
    file = disk.create(path)
    file.write_at(0, data)
    file.sync()
    file.close()
    disk.sync_directory(path.parent)


@pytest.fixture(params=["simulated", "system"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Disk, Path]:
    """Both disks, as what holds for one without a crash holds for the other."""
    if request.param == "simulated":
        disk = SimDisk(random.Random(1))
        disk.make_directory(tmp_path)
        return disk, tmp_path
    return SystemDisk(), tmp_path


def test_files_are_written_read_renamed_and_removed(place: tuple[Disk, Path]) -> None:
    disk, root = place
    disk.make_directory(root / "a" / "b")
    assert disk.names(root) == ["a"]
    assert disk.names(root / "nowhere") == []
    path = root / "a" / "b" / "x"
    file = disk.create(path)
    file.write_at(0, b"hello")
    file.write_at(3, bytearray(b"LO world"))
    file.write_at(20, memoryview(b"far"))
    file.sync()
    assert file.size() == disk.size(path) == 23
    assert disk.read(path) == b"helLO world" + bytes(9) + b"far"
    assert file.read_at(3, 5) == b"LO wo"
    assert file.read_at(21, 100) == b"ar"
    assert file.read_at(100, 5) == b""
    file.close()
    disk.rename(path, root / "y")
    disk.sync_directory(root)
    assert disk.exists(root / "y")
    assert not disk.exists(path)
    again = disk.open(root / "y")
    disk.unlink(root / "y")
    assert again.read_at(0, 5) == b"helLO", "an open file outlives its name"
    again.close()
    for missing in (disk.open, disk.read, disk.size, disk.unlink):
        with pytest.raises(FileNotFoundError):
            missing(root / "y")
    assert disk.free_bytes(root) > 0


def test_creating_a_file_that_is_there_empties_it(place: tuple[Disk, Path]) -> None:
    disk, root = place
    for data in (b"long before", b"new"):
        file = disk.create(root / "x")
        file.write_at(0, data)
        file.close()
    assert disk.read(root / "x") == b"new"


def test_a_directory_is_moved_with_all_in_it_and_only_over_an_empty_one(place: tuple[Disk, Path]) -> None:
    disk, root = place
    for name in ("full", "other"):
        disk.make_directory(root / name / "inner")
        disk.create(root / name / "inner" / "x").close()
    disk.make_directory(root / "empty")
    with pytest.raises(OSError, match="not empty"):
        disk.rename(root / "full", root / "other")
    disk.rename(root / "full", root / "empty")
    assert disk.names(root) == ["empty", "other"]
    assert disk.names(root / "empty" / "inner") == ["x"]


@pytest.mark.parametrize("seed", range(50))
def test_what_was_synced_survives_any_number_of_crashes(seed: int) -> None:
    disk = new_disk(seed)
    data = random.Random(seed).randbytes(3000)
    durable_file(disk, data)
    for _ in range(3):
        disk.crash()
        assert disk.read(FILE) == data


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 2000)), min_size=1, max_size=8), st.integers())
@settings(max_examples=100, deadline=None)
def test_each_sector_has_its_old_bytes_its_new_ones_or_begins_new_and_ends_old(
    writes: list[tuple[int, int]], seed: int
) -> None:
    disk = new_disk(seed)
    before = b"\x01" * 3000
    durable_file(disk, before)
    file = disk.open(FILE)
    for offset, length in writes:
        file.write_at(offset, b"\x02" * length)
    after = disk.read(FILE)
    disk.crash()
    found = disk.read(FILE)
    assert len(before) <= len(found) <= len(after)
    old = before.ljust(len(after), b"\0")
    for start in range(0, len(found), 512):
        sector = found[start : start + 512]
        new_part, old_part = after[start : start + len(sector)], old[start : start + len(sector)]
        assert any(
            sector == new_part[:cut] + old_part[cut:] for cut in (*range(0, len(sector), 8), len(sector))
        )


def test_unsynced_bytes_are_lost_kept_and_torn_over_the_seeds() -> None:
    found = set()
    for seed in range(300):
        disk = new_disk(seed)
        durable_file(disk, bytes(512))
        disk.open(FILE).write_at(0, b"x" * 512)
        disk.crash()
        found.add(disk.read(FILE).count(b"x"))
    assert {0, 512} < found
    assert len(found) > 20


def test_names_are_lost_and_kept_until_the_directory_is_synced() -> None:
    found = set()
    for seed in range(100):
        disk = new_disk(seed)
        durable_file(disk, b"old", DIRECTORY / "a")
        durable_file(disk, b"new", DIRECTORY / "b")
        disk.rename(DIRECTORY / "b", DIRECTORY / "a")
        disk.unlink(DIRECTORY / "a")
        disk.create(DIRECTORY / "c")
        disk.crash()
        found.add(tuple((name, disk.read(DIRECTORY / name)) for name in disk.names(DIRECTORY)))
    old, new = (("a", b"old"), ("b", b"new")), (("a", b"new"),)
    assert {old, new, (), (*old, ("c", b"")), (("c", b""),)} <= found
    assert all(("a", b"old") not in names or ("b", b"new") in names for names in found), "a rename is atomic"


def test_synced_names_survive_a_crash() -> None:
    for seed in range(50):
        disk = new_disk(seed)
        durable_file(disk, b"1", DIRECTORY / "a")
        disk.rename(DIRECTORY / "a", DIRECTORY / "b")
        disk.sync_directory(DIRECTORY)
        disk.crash()
        assert disk.names(DIRECTORY) == ["b"]


def test_a_moved_directory_is_at_its_old_or_its_new_place_after_a_crash() -> None:
    found = set()
    for seed in range(50):
        disk = new_disk(seed)
        disk.make_directory(DIRECTORY / "old")
        durable_file(disk, b"1", DIRECTORY / "old" / "x")
        disk.rename(DIRECTORY / "old", DIRECTORY / "new")
        disk.crash()
        (name,) = disk.names(DIRECTORY)
        assert disk.read(DIRECTORY / name / "x") == b"1"
        found.add(name)
    assert found == {"old", "new"}


def test_a_dead_process_leaves_what_it_wrote_and_a_crash_then_takes_it() -> None:
    found = set()
    for seed in range(20):
        disk = new_disk(seed)
        durable_file(disk, bytes(1))
        file = disk.open(FILE)
        file.write_at(0, b"x")
        disk.kill()
        assert disk.read(FILE) == b"x"
        with pytest.raises(OSError, match="process has died"):
            file.sync()
        disk.crash()
        found.add(disk.read(FILE))
    assert found == {b"x", b"\0"}


def test_after_a_sync_that_failed_the_bytes_are_seen_and_no_later_sync_saves_them() -> None:
    found = set()
    for seed in range(40):
        disk = new_disk(seed)
        durable_file(disk, bytes(1))
        file = disk.open(FILE)
        file.write_at(0, b"x")
        disk.syncs_fail = True
        with pytest.raises(OSError, match="Input/output"):
            file.sync()
        disk.syncs_fail = False
        assert disk.read(FILE) == b"x"
        file.sync()
        disk.crash()
        found.add(disk.read(FILE))
    assert found == {b"x", b"\0"}


def test_bytes_that_are_written_again_after_a_failed_sync_are_durable() -> None:
    for seed in range(40):
        disk = new_disk(seed)
        durable_file(disk, bytes(1))
        file = disk.open(FILE)
        file.write_at(0, b"x")
        disk.syncs_fail = True
        with pytest.raises(OSError, match="Input/output"):
            file.sync()
        disk.syncs_fail = False
        file.write_at(0, b"x")
        file.sync()
        disk.crash()
        assert disk.read(FILE) == b"x"


def test_a_full_disk_takes_what_is_written_in_place_and_nothing_more() -> None:
    disk = new_disk()
    durable_file(disk, bytes(1000))
    disk.capacity_bytes = 1500
    file = disk.open(FILE)
    file.write_at(500, bytes(1000))
    with pytest.raises(OSError, match="No space left"):
        file.write_at(1400, b"x" * 200)
    assert disk.size(FILE) == 1500
    disk.is_full = True
    file.write_at(0, b"x" * 1500)
    with pytest.raises(OSError, match="No space left"):
        disk.create(DIRECTORY / "other")
    assert disk.free_bytes(DIRECTORY) == 0


def test_the_power_goes_at_the_operation_that_was_chosen_and_stays_off() -> None:
    disk = new_disk()
    disk.cut_power_after = 2
    file = disk.create(FILE)
    file.write_at(0, b"x")
    for _ in range(2):
        with pytest.raises(PowerCut):
            file.sync()
    with pytest.raises(PowerCut):
        disk.read(FILE)
    disk.crash()
    assert disk.names(DIRECTORY) in ([], ["file"])


def test_a_flipped_bit_is_one_bit_and_stays_through_a_crash() -> None:
    disk = new_disk()
    durable_file(disk, bytes(600))
    path, offset = disk.flip_bit()
    disk.crash()
    data = disk.read(path)
    assert [at for at, byte in enumerate(data) if byte] == [offset]
    assert data[offset].bit_count() == 1
    assert disk.flip_bit(FILE, 3) == (FILE, 3)
    with pytest.raises(ValueError, match="empty"):
        new_disk().flip_bit()


def test_a_listener_is_told_of_each_operation_and_its_bytes() -> None:
    told = []
    disk = new_disk()
    disk.on_operation = lambda word, length: told.append((word, length))
    file = disk.create(FILE)
    file.write_at(0, b"x" * 700)
    file.sync()
    disk.sync_directory(DIRECTORY)
    file.read_at(0, 10)
    assert told == [("name", 0), ("write", 700), ("sync", 1024), ("sync", 0), ("read", 10)]
    assert (disk.writes, disk.syncs, disk.directory_syncs, disk.operations) == (1, 1, 1, 5)


def test_one_seed_is_one_disk() -> None:
    def life(seed: int) -> list[bytes]:
        disk = new_disk(seed)
        rng = random.Random(5)
        for number in range(30):
            file = disk.create(DIRECTORY / str(number))
            file.write_at(rng.randrange(1000), rng.randbytes(1500))
            if number % 3 == 0:
                file.sync()
            if number % 5 == 0:
                disk.sync_directory(DIRECTORY)
        disk.crash()
        return [name.encode() + disk.read(DIRECTORY / name) for name in disk.names(DIRECTORY)]

    assert life(3) == life(3)
    assert life(3) != life(4)
