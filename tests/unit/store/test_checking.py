"""Whose directory it is, and whether every byte of it is as it should be."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from gitkube.sim.disk import PowerCut, SimDisk
from gitkube.store.checking import Finding, check
from gitkube.store.directory import (
    Identity,
    check_format,
    check_identity,
    create_member,
    read_identity,
    write_identity,
)
from gitkube.store.mvcc import KeySpace
from gitkube.store.protocol import CorruptError, IdentityError
from gitkube.store.raft.types import ConfState, Entry, HardState, MemberId, SnapshotMeta
from gitkube.store.snapshot import write_snapshot
from gitkube.store.wal import Wal

DIRECTORY = Path("/data")
IDENTITY = Identity(0xABC, MemberId(0x123), "one")
META = SnapshotMeta(10, 2, ConfState((MemberId(0x123),)))
SMALL = 2048


def new_disk(seed: int = 1) -> SimDisk:
    return SimDisk(random.Random(seed))


def filled(disk: SimDisk) -> None:
    create_member(disk, DIRECTORY, IDENTITY, META, KeySpace().dump(), segment_bytes=SMALL)
    wal = Wal(disk, DIRECTORY / "wal", segment_bytes=SMALL)
    wal.open(10)
    for index in range(11, 40):
        wal.append([Entry(index, 2, b"x" * 100)], HardState(2, MemberId(1), index))
        wal.sync()
    wal.close()


def files(disk: SimDisk, directory: Path = DIRECTORY) -> list[Path]:
    found = []
    for name in disk.names(directory):
        path = directory / name
        found += files(disk, path) if name in ("wal", "snap") else [path]
    return found


def findings(disk: SimDisk) -> list[Finding]:
    return check(disk, DIRECTORY, load=KeySpace.load)


def test_a_whole_directory_has_no_findings_and_is_not_changed_by_the_check() -> None:
    disk = new_disk()
    filled(disk)
    operations = disk.operations
    assert findings(disk) == []
    assert disk.operations == operations


def test_a_flipped_bit_in_any_file_is_found_and_the_finding_says_where_and_what_to_do() -> None:
    disk = new_disk()
    filled(disk)
    rng = random.Random(1)
    for path in files(disk):
        whole = disk.read(path)
        used = len(whole.rstrip(b"\0"))
        for _ in range(40):
            at = rng.randrange(used)
            disk.replace_data(path, whole[:at] + bytes([whole[at] ^ 1 << rng.randrange(8)]) + whole[at + 1 :])
            found = findings(disk)
            assert found, (path, at)
            assert found[0].remedy
            assert str(path) in f"{found[0].place} {found[0].what}" or path.name == "format"
        disk.replace_data(path, whole)
    assert findings(disk) == []


def test_damage_that_the_newest_snapshot_makes_up_for_is_told_and_does_not_stop_a_start() -> None:
    disk = new_disk()
    filled(disk)
    write_snapshot(disk, DIRECTORY / "snap", SnapshotMeta(39, 2, META.conf), KeySpace().dump())
    segment = files(disk)[-2]
    disk.flip_bit(segment, 100)
    old = DIRECTORY / "snap" / disk.names(DIRECTORY / "snap")[0]
    disk.flip_bit(old, 100)
    found = findings(disk)
    assert [finding.is_fatal for finding in found] == [False, False]
    assert Wal(disk, DIRECTORY / "wal", segment_bytes=SMALL).open(39) == []


@pytest.mark.parametrize("name", ["snap", "wal"])
def test_missing_files_are_found(name: str) -> None:
    disk = new_disk()
    filled(disk)
    path = DIRECTORY / name / disk.names(DIRECTORY / name)[0]
    disk.unlink(path)
    (finding,) = findings(disk)
    assert finding.is_fatal
    assert "missing" in finding.what


def test_a_snapshot_that_cannot_be_loaded_is_found() -> None:
    disk = new_disk()
    create_member(disk, DIRECTORY, IDENTITY, META, [["nonsense"]], segment_bytes=SMALL)
    assert check(disk, DIRECTORY) == []
    (finding,) = findings(disk)
    assert "nonsense" in finding.what


def test_entries_and_terms_that_contradict_each_other_are_found() -> None:
    disk = new_disk()
    filled(disk)
    wal = Wal(disk, DIRECTORY / "wal", segment_bytes=SMALL)
    wal.open(10)
    wal.append([Entry(40, 1, b"")], HardState(3, MemberId(0), 50))
    wal.sync()
    assert [finding.is_fatal for finding in findings(disk)] == [True, True]


def test_what_the_next_start_sets_right_is_told_and_not_fatal() -> None:
    disk = new_disk()
    filled(disk)
    segment = [path for path in files(disk) if path.parent.name == "wal"][-1]
    whole = disk.read(segment)
    end = len(whole.rstrip(b"\0"))
    disk.replace_data(segment, whole[: end - 8].ljust(len(whole), b"\0"))
    disk.create(DIRECTORY / "wal" / "next-1.tmp")
    disk.create(DIRECTORY / "notes.txt")
    found = findings(disk)
    assert [finding.is_fatal for finding in found] == [False] * 3
    assert {finding.place.name for finding in found} == {segment.name, "next-1.tmp", "notes.txt"}


def test_another_directory_and_another_format_are_the_only_finding() -> None:
    disk = new_disk()
    assert "no member.json" in findings(disk)[0].what
    filled(disk)
    disk.replace_data(DIRECTORY / "format", b"9\n")
    (finding,) = findings(disk)
    assert "format '9'" in finding.what


# ------------------------------------------------------------------ identity and format


def test_a_directory_knows_whose_it_is() -> None:
    disk = new_disk()
    assert read_identity(disk, DIRECTORY) is None
    create_member(disk, DIRECTORY, IDENTITY, segment_bytes=SMALL)
    assert read_identity(disk, DIRECTORY) == IDENTITY
    assert check_identity(disk, DIRECTORY, cluster_id=0xABC, member_id=0x123) == IDENTITY
    renamed = Identity(0xABC, MemberId(0x123), "Zürich")
    write_identity(disk, DIRECTORY, renamed)
    assert read_identity(disk, DIRECTORY) == renamed


@pytest.mark.parametrize(
    ("cluster_id", "member_id", "words"), [(0xABD, None, "cluster abc"), (0xABC, 0x124, "member 123")]
)
def test_anothers_directory_is_refused_with_a_remedy(
    cluster_id: int, member_id: int | None, words: str
) -> None:
    disk = new_disk()
    create_member(disk, DIRECTORY, IDENTITY, segment_bytes=SMALL)
    with pytest.raises(IdentityError, match=f"{words}.*own directory"):
        check_identity(disk, DIRECTORY, cluster_id=cluster_id, member_id=member_id)
    with pytest.raises(IdentityError, match="already has the data of member 'one'"):
        create_member(disk, DIRECTORY, Identity(1, MemberId(2), "two"), segment_bytes=SMALL)
    assert read_identity(disk, DIRECTORY) == IDENTITY


def test_any_flipped_bit_in_the_identity_is_damage() -> None:
    disk = new_disk()
    create_member(disk, DIRECTORY, IDENTITY, segment_bytes=SMALL)
    path = DIRECTORY / "member.json"
    whole = disk.read(path)
    for at in range(len(whole)):
        for bit in range(8):
            disk.replace_data(path, whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
            with pytest.raises(CorruptError, match=path.name):
                read_identity(disk, DIRECTORY)
    for data in (b"", b"[]", b"null", whole[:-1]):
        disk.replace_data(path, data)
        with pytest.raises(CorruptError, match=path.name):
            read_identity(disk, DIRECTORY)


@pytest.mark.parametrize(("text", "remedy"), [("1\n", "cannot be converted"), ("3\n", "newer gitkube")])
def test_data_of_another_format_is_refused_and_not_touched(text: str, remedy: str) -> None:
    disk = new_disk()
    disk.make_directory(DIRECTORY)
    disk.create(DIRECTORY / "format").write_at(0, text.encode())
    disk.create(DIRECTORY / "x.tmp")
    for operation in (check_format, read_identity):
        with pytest.raises(CorruptError, match=remedy):
            operation(disk, DIRECTORY)
    with pytest.raises(CorruptError, match=remedy):
        create_member(disk, DIRECTORY, IDENTITY, segment_bytes=SMALL)
    assert disk.names(DIRECTORY) == ["format", "x.tmp"]
    assert "The data may be whole" in findings(disk)[0].remedy


def test_a_creation_that_dies_anywhere_leaves_nobodys_directory_or_a_member() -> None:
    operations = 0
    while True:
        disk = new_disk(operations)
        disk.cut_power_after = operations
        entries = [Entry(index, 3, b"x" * 100) for index in range(11, 50)]
        try:
            create_member(
                disk, DIRECTORY, IDENTITY, META, KeySpace().dump(), entries=entries, segment_bytes=SMALL
            )
            break
        except PowerCut:
            disk.crash()
        if read_identity(disk, DIRECTORY) is None:
            create_member(
                disk, DIRECTORY, IDENTITY, META, KeySpace().dump(), entries=entries, segment_bytes=SMALL
            )
        assert [finding for finding in findings(disk) if finding.is_fatal] == []
        assert Wal(disk, DIRECTORY / "wal", segment_bytes=SMALL).open(10, 2) == entries
        operations += 1
    assert operations > 15
