"""Snapshots: whole or not there, the two newest kept, and received only when every byte is right."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gitkube.sim.disk import PowerCut, SimDisk
from gitkube.store.disk import SystemDisk
from gitkube.store.parts import PIECE_BYTES
from gitkube.store.protocol import CorruptError
from gitkube.store.raft.types import ConfState, MemberId, SnapshotMeta
from gitkube.store.snapshot import (
    SYNCED_BYTES,
    SnapshotReceiver,
    newest_snapshot,
    read_snapshot,
    remove_leftovers,
    snapshot_bytes,
    snapshot_chunks,
    write_snapshot,
)

DIRECTORY, OTHER = Path("/a/snap"), Path("/b/snap")
CONF = ConfState((MemberId(1), MemberId(2)), (MemberId(3),), (MemberId(1),), (MemberId(2),), True)
PARTS: list[list[Any]] = [
    ["conf", 1],
    ["key", b"k\0", [[1, None]]],
    ["last", -1, 2**60, {1: [True, 0.5]}],
]


def meta_at(index: int, term: int = 1) -> SnapshotMeta:
    return SnapshotMeta(index, term, CONF)


def new_disk(seed: int = 1) -> SimDisk:
    return SimDisk(random.Random(seed))


def only_file(disk: SimDisk, directory: Path = DIRECTORY) -> Path:
    (name,) = disk.names(directory)
    return directory / name


def received(disk: SimDisk, meta: SnapshotMeta, chunks: list[bytes]) -> SnapshotReceiver:
    receiver = SnapshotReceiver(disk, OTHER, meta)
    offset = 0
    for chunk in chunks:
        receiver.add(offset, chunk)
        offset += len(chunk)
    return receiver


def test_what_was_written_is_read_with_the_members_of_then() -> None:
    disk = new_disk()
    assert newest_snapshot(disk, DIRECTORY) is None
    write_snapshot(disk, DIRECTORY, meta_at(7), iter(PARTS))
    assert newest_snapshot(disk, DIRECTORY) == meta_at(7)
    assert list(read_snapshot(disk, DIRECTORY, meta_at(7))) == PARTS


def test_a_snapshot_larger_than_a_piece_and_parts_larger_than_that_come_back() -> None:
    disk = new_disk()
    parts = [[b"x" * (PIECE_BYTES // 3)] for _ in range(10)] + [[b"y" * (3 * PIECE_BYTES)], ["end"]]
    write_snapshot(disk, DIRECTORY, meta_at(1), parts)
    assert list(read_snapshot(disk, DIRECTORY, meta_at(1))) == parts
    assert snapshot_bytes(disk, DIRECTORY) == disk.size(only_file(disk))


def test_a_large_snapshot_is_synced_as_it_is_written() -> None:
    disk, unsynced, most = new_disk(), 0, 0

    def note(word: str, length: int) -> None:
        nonlocal unsynced, most
        unsynced = 0 if word == "sync" else unsynced + length
        most = max(most, unsynced)

    disk.on_operation = note
    write_snapshot(disk, DIRECTORY, meta_at(1), [[bytes(PIECE_BYTES)] for _ in range(20)])
    assert 2 * PIECE_BYTES < most < SYNCED_BYTES + 2 * PIECE_BYTES


def test_the_two_newest_are_kept() -> None:
    disk = new_disk()
    for index in (3, 20, 1000):
        write_snapshot(disk, DIRECTORY, meta_at(index), PARTS)
    assert [int(name[:16], 16) for name in disk.names(DIRECTORY)] == [20, 1000]
    assert newest_snapshot(disk, DIRECTORY) == meta_at(1000)


def test_any_flipped_bit_and_any_missing_end_is_an_error_that_names_the_file() -> None:
    disk = new_disk()
    write_snapshot(disk, DIRECTORY, meta_at(7), PARTS)
    path = only_file(disk)
    whole = disk.read(path)
    damaged = [whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :] for at in range(len(whole))]
    damaged += [whole[:end] for end in range(len(whole))]
    damaged += [whole + bytes(1), whole + bytes(16), whole + whole[-64:]]
    for data in damaged:
        disk.replace_data(path, data)
        with pytest.raises(CorruptError, match=path.name):
            list(read_snapshot(disk, DIRECTORY, meta_at(7)))


def test_a_part_that_is_missing_or_there_twice_is_an_error() -> None:
    disk = new_disk()
    write_snapshot(disk, DIRECTORY, meta_at(7), [["same"], ["same"], ["last"]])
    path = only_file(disk)
    whole = disk.read(path)
    first = whole.index(b"\x91\xa4same") - 16
    part = whole[first : whole.index(b"\x91\xa4same", first + 17) - 16]
    for data in (whole.replace(part, b"", 1), whole.replace(part, part * 2, 1)):
        disk.replace_data(path, data)
        with pytest.raises(CorruptError, match="end record"):
            list(read_snapshot(disk, DIRECTORY, meta_at(7)))


def test_a_file_under_another_name_and_one_of_a_newer_version_are_refused() -> None:
    disk = new_disk()
    path = write_snapshot(disk, DIRECTORY, meta_at(7), PARTS)
    disk.rename(path, DIRECTORY / path.name.replace("7", "8", 1))
    with pytest.raises(CorruptError, match="it is the snapshot up to entry 7"):
        newest_snapshot(disk, DIRECTORY)
    with pytest.raises(CorruptError, match="was asked for"):
        list(read_snapshot(disk, DIRECTORY, meta_at(8)))
    path = only_file(disk)
    data = disk.read(path)
    disk.replace_data(path, data[:12] + b"\x09" + data[13:])
    with pytest.raises(CorruptError, match="newer gitkube"):
        newest_snapshot(disk, DIRECTORY)


def test_a_full_disk_leaves_the_snapshots_that_were_there() -> None:
    disk = new_disk()
    write_snapshot(disk, DIRECTORY, meta_at(1), PARTS)
    for is_full, syncs_fail in ((True, False), (False, True)):
        disk.is_full, disk.syncs_fail = is_full, syncs_fail
        with pytest.raises(OSError, match=r"No space|Input/output"):
            write_snapshot(disk, DIRECTORY, meta_at(2), PARTS)
        disk.is_full = disk.syncs_fail = False
        assert len(disk.names(DIRECTORY)) == 1
        assert list(read_snapshot(disk, DIRECTORY, meta_at(1))) == PARTS


def test_a_part_that_cannot_be_made_leaves_nothing() -> None:
    def parts() -> Any:
        yield ["one"]
        raise RuntimeError("the state is gone")

    disk = new_disk()
    with pytest.raises(RuntimeError):
        write_snapshot(disk, DIRECTORY, meta_at(1), parts())
    assert disk.names(DIRECTORY) == []


@pytest.mark.parametrize("seed", range(30))
def test_a_crash_while_it_is_written_leaves_the_old_one_or_the_new_one(seed: int) -> None:
    for operations in range(20):
        disk = new_disk(seed)
        write_snapshot(disk, DIRECTORY, meta_at(1), [["old"]])
        disk.cut_power_after = operations
        try:
            write_snapshot(disk, DIRECTORY, meta_at(2), [["new"]])
            durable = 2
        except PowerCut:
            durable = 1
        disk.crash()
        remove_leftovers(disk, DIRECTORY)
        meta = newest_snapshot(disk, DIRECTORY)
        assert meta is not None
        assert meta.index >= durable
        assert list(read_snapshot(disk, DIRECTORY, meta)) == [["old"] if meta.index == 1 else ["new"]]
        assert not [name for name in disk.names(DIRECTORY) if name.endswith(".tmp")]


# ------------------------------------------------------------------ to another member


@given(st.integers(1, 300), st.lists(st.lists(st.binary(max_size=80), max_size=4), max_size=20))
@settings(max_examples=50, deadline=None)
def test_a_snapshot_travels_in_chunks_of_any_size(chunk_bytes: int, parts: list[list[bytes]]) -> None:
    disk = new_disk()
    write_snapshot(disk, DIRECTORY, meta_at(9, 3), parts)
    receiver = received(
        disk, meta_at(9, 3), list(snapshot_chunks(disk, DIRECTORY, meta_at(9, 3), chunk_bytes))
    )
    receiver.install()
    assert newest_snapshot(disk, OTHER) == meta_at(9, 3)
    assert list(read_snapshot(disk, OTHER, meta_at(9, 3))) == parts


def test_one_that_is_being_sent_can_be_replaced_meanwhile() -> None:
    disk = new_disk()
    write_snapshot(disk, DIRECTORY, meta_at(1), PARTS)
    chunks = snapshot_chunks(disk, DIRECTORY, meta_at(1), 20)
    first = next(chunks)
    for index in (2, 3, 4):
        write_snapshot(disk, DIRECTORY, meta_at(index), PARTS)
    received(disk, meta_at(1), [first, *chunks]).install()
    assert list(read_snapshot(disk, OTHER, meta_at(1))) == PARTS
    with pytest.raises(FileNotFoundError):
        snapshot_chunks(disk, DIRECTORY, meta_at(1))


def test_any_wrong_byte_on_the_way_is_refused_and_nothing_is_left() -> None:
    disk = new_disk()
    whole = disk.read(write_snapshot(disk, DIRECTORY, meta_at(7), PARTS))
    for at in range(len(whole)):
        data = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        with pytest.raises(CorruptError):
            received(disk, meta_at(7), [data[:50], data[50:]]).install()
        assert disk.names(OTHER) == []


def test_one_that_ends_early_or_has_more_or_comes_in_disorder_is_refused() -> None:
    disk = new_disk()
    whole = disk.read(write_snapshot(disk, DIRECTORY, meta_at(7), PARTS))
    for data in (b"", whole[:-1], whole[:40], whole + b"\0", whole + whole[32:80]):
        with pytest.raises(CorruptError):
            received(disk, meta_at(7), [data]).install()
        assert disk.names(OTHER) == []
    receiver = received(disk, meta_at(7), [whole[:60]])
    with pytest.raises(CorruptError, match="the next one begins at 60"):
        receiver.add(61, whole[61:])
    assert disk.names(OTHER) == []
    with pytest.raises(ValueError, match="given up"):
        receiver.add(60, whole[60:])


@pytest.mark.parametrize(
    "announced",
    [SnapshotMeta(8, 1, CONF), SnapshotMeta(7, 2, CONF), SnapshotMeta(7, 1, ConfState((MemberId(1),)))],
)
def test_another_snapshot_than_the_announced_one_is_refused(announced: SnapshotMeta) -> None:
    disk = new_disk()
    whole = disk.read(write_snapshot(disk, DIRECTORY, meta_at(7), PARTS))
    with pytest.raises(CorruptError, match="was asked for"):
        received(disk, announced, [whole])
    assert disk.names(OTHER) == []


def test_a_full_disk_ends_the_receiving_and_leaves_nothing() -> None:
    disk = new_disk()
    whole = disk.read(write_snapshot(disk, DIRECTORY, meta_at(7), PARTS))
    receiver = received(disk, meta_at(7), [whole[:60]])
    disk.is_full = True
    with pytest.raises(OSError, match="No space"):
        receiver.add(60, whole[60:])
    assert disk.names(OTHER) == []


def test_giving_up_leaves_nothing_and_comes_too_late_after_the_installation() -> None:
    disk = new_disk()
    whole = disk.read(write_snapshot(disk, DIRECTORY, meta_at(7), PARTS))
    received(disk, meta_at(7), [whole[:60]]).abort()
    assert disk.names(OTHER) == []
    receiver = received(disk, meta_at(7), [whole])
    receiver.install()
    receiver.abort()
    assert newest_snapshot(disk, OTHER) == meta_at(7)


@pytest.mark.parametrize("seed", range(30))
def test_a_crash_while_receiving_leaves_nothing_or_all(seed: int) -> None:
    source = new_disk()
    whole = source.read(write_snapshot(source, DIRECTORY, meta_at(7), PARTS))
    for operations in range(14):
        disk = new_disk(seed)
        disk.make_directory(OTHER)
        disk.cut_power_after = operations
        is_installed = False
        try:
            received(disk, meta_at(7), [whole[:60], whole[60:]]).install()
            is_installed = True
        except PowerCut:
            pass
        disk.crash()
        remove_leftovers(disk, OTHER)
        meta = newest_snapshot(disk, OTHER)
        assert meta is not None or not is_installed
        if meta is None:
            assert disk.names(OTHER) == []
        else:
            assert list(read_snapshot(disk, OTHER, meta)) == PARTS


def test_the_size_is_told_while_a_thread_removes_an_old_one(tmp_path: Path) -> None:
    class Removing(SystemDisk):
        def names(self, directory: Path) -> list[str]:
            found = super().names(directory)
            (directory / found[0]).unlink()
            return found

    for index in (1, 2):
        (tmp_path / f"{index:016x}-{1:016x}.snap").write_bytes(b"1234567")
    assert snapshot_bytes(Removing(), tmp_path) == 7
