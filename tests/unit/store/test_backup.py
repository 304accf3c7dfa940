"""A backup is whole or refused; what is made of one is a new cluster, all of it or nothing."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from gitkube.sim.disk import PowerCut, SimDisk
from gitkube.store import command
from gitkube.store.backup import (
    REVISION_BUMP,
    BackupError,
    encode_backup,
    force_new_cluster,
    restore,
    save_backup,
    verify,
)
from gitkube.store.checking import check
from gitkube.store.command import LeaseGrant, Txn
from gitkube.store.directory import Identity, check_identity, create_member, read_identity
from gitkube.store.disk import Disk, SystemDisk
from gitkube.store.mvcc import KeySpace
from gitkube.store.protocol import CompactedError, CorruptError, Get, IdentityError, LeaseId, Put, Revision
from gitkube.store.raft.types import ConfState, Entry, EntryKind, HardState, MemberId, SnapshotMeta
from gitkube.store.snapshot import newest_snapshot, read_snapshot, write_snapshot
from gitkube.store.wal import Wal

ROOT = Path("/data")
FILE = ROOT / "backup"
SOURCE = Identity(77, MemberId(1), "old")
META = SnapshotMeta(40, 3, ConfState((MemberId(1), MemberId(2), MemberId(3))))
SMALL = 4096


def new_disk(seed: int = 1) -> SimDisk:
    disk = SimDisk(random.Random(seed))
    disk.make_directory(ROOT)
    return disk


def put(key: bytes, value: bytes, lease: int = 0) -> Txn:
    return Txn((), (Put(key, value, LeaseId(lease)),), ())


def filled_space() -> KeySpace:
    space = KeySpace()
    space.apply(LeaseGrant(LeaseId(5), 60))
    for number in range(20):
        space.apply(put(b"k%d" % (number % 7), b"%d" % number))
    space.apply(put(b"leased", b"x", 5))
    return space


def member_parts(identity: Identity, peer_address: str) -> Iterable[Sequence[Any]]:
    return [["members", [[identity.member_id, identity.name, peer_address]]]]


def parts_of(space: KeySpace) -> list[list[Any]]:
    return [["members", [[1, "old", "a:1"], [2, "other", "b:1"]]], *space.dump()]


def saved(disk: Disk, path: Path = FILE) -> KeySpace:
    space = filled_space()
    save_backup(disk, path, encode_backup(SOURCE, META, parts_of(space), created_s=1000))
    return space


def restored(disk: Disk, directory: Path, file: Path = FILE, bump: int = 1000) -> Identity:
    return restore(
        disk,
        directory,
        file,
        name="new",
        rng=random.Random(3),
        peer_address="c:1",
        member_parts=member_parts,
        revision_bump=bump,
        segment_bytes=SMALL,
    )


def load(
    disk: Disk, directory: Path
) -> tuple[SnapshotMeta, list[list[Any]], KeySpace, list[Entry], HardState]:
    """A start, as far as it is the disk's business."""
    meta = newest_snapshot(disk, directory / "snap")
    assert meta is not None
    parts = list(read_snapshot(disk, directory / "snap", meta))
    space = KeySpace.load(part for part in parts if part[0] != "members")
    wal = Wal(disk, directory / "wal", segment_bytes=SMALL)
    entries = wal.open(meta.index, meta.term)
    wal.close()
    return meta, [part for part in parts if part[0] == "members"], space, entries, wal.hard_state


def test_a_backup_says_what_it_is_of() -> None:
    disk = new_disk()
    space = saved(disk)
    info = verify(disk, FILE)
    assert (info.meta, info.source, info.created_s) == (META, SOURCE, 1000)
    assert info.revision == space.revision
    assert info.size_bytes == disk.size(FILE)
    assert info.parts == len(parts_of(space))
    assert disk.names(ROOT) == ["backup"]


def test_a_restore_is_a_new_cluster_of_one_at_a_later_revision() -> None:
    disk = new_disk()
    before = saved(disk)
    identity = restored(disk, ROOT / "new")
    assert check_identity(disk, ROOT / "new") == identity
    assert identity.name == "new"
    assert identity.cluster_id != SOURCE.cluster_id
    assert identity.member_id not in META.conf.voters
    meta, members, space, entries, hard_state = load(disk, ROOT / "new")
    assert meta == SnapshotMeta(40, 3, ConfState((identity.member_id,)))
    assert members == [["members", [[identity.member_id, "new", "c:1"]]]]
    assert entries == []
    assert hard_state == HardState(3, MemberId(0), 40)
    assert space.revision == before.revision + 1000
    everything = Get(b"\0", b"\0")
    assert list(space.read(everything).kvs) == list(before.read(everything).kvs)
    assert dict(space.leases) == {5: 60}
    assert check(disk, ROOT / "new") == []


def test_watchers_of_the_old_cluster_are_told_to_read_again() -> None:
    disk = new_disk()
    before = saved(disk)
    restored(disk, ROOT / "new")
    space = load(disk, ROOT / "new")[2]
    for revision in (1, before.revision, before.revision + 500, before.revision + 999):
        with pytest.raises(CompactedError):
            space.read(Get(b"k1", revision=Revision(revision)))
    space.apply(put(b"k1", b"after"))
    assert space.revision == before.revision + 1001


def test_any_flipped_bit_and_any_missing_end_of_a_backup_is_refused_and_nothing_is_restored() -> None:
    disk = new_disk()
    saved(disk)
    whole = disk.read(FILE)
    damaged = [whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :] for at in range(len(whole))]
    damaged += [whole[:end] for end in range(len(whole))] + [whole + b"\0"]
    for number, data in enumerate(damaged):
        disk.replace_data(FILE, data)
        with pytest.raises(CorruptError, match=str(FILE)):
            verify(disk, FILE)
        if number % 100 == 0:
            with pytest.raises(CorruptError):
                restored(disk, ROOT / "new")
            assert disk.names(ROOT) == ["backup"]


def test_a_snapshot_or_an_empty_backup_is_no_backup() -> None:
    disk = new_disk()
    path = write_snapshot(disk, ROOT / "snap", META, parts_of(filled_space()))
    with pytest.raises(CorruptError, match="gitkube back"):
        verify(disk, path)
    with pytest.raises(CorruptError, match="no revision"):
        save_backup(disk, FILE, encode_backup(SOURCE, META, [["members", []]], created_s=1))
    assert not disk.exists(FILE)


def test_a_backup_that_arrives_incomplete_replaces_none() -> None:
    disk = new_disk()
    saved(disk)
    before = disk.read(FILE)
    pieces = [b"".join(encode_backup(SOURCE, META, parts_of(filled_space()), created_s=2))[:-1]]
    with pytest.raises(CorruptError, match="end record"):
        save_backup(disk, FILE, pieces)
    disk.is_full = True
    with pytest.raises(OSError, match="No space"):
        save_backup(disk, FILE, pieces)
    assert disk.read(FILE) == before
    assert disk.names(ROOT) == ["backup"]


def test_a_directory_with_anything_in_it_is_not_restored_into() -> None:
    disk = new_disk()
    saved(disk)
    create_member(disk, ROOT / "member", SOURCE, segment_bytes=SMALL)
    with pytest.raises(BackupError, match="not empty"):
        restored(disk, ROOT / "member")
    assert check_identity(disk, ROOT / "member") == SOURCE


def test_a_restore_on_a_real_disk(tmp_path: Path) -> None:
    disk = SystemDisk()
    saved(disk, tmp_path / "file")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "lock").touch()
    for name in ("empty", "absent"):
        identity = restored(disk, tmp_path / name, tmp_path / "file")
        assert check_identity(disk, tmp_path / name) == identity
        assert check(disk, tmp_path / name) == []
        assert len(load(disk, tmp_path / name)[2]) == 8
    assert sorted(path.name for path in tmp_path.iterdir()) == ["absent", "empty", "file"]


@pytest.mark.parametrize("seed", range(6))
def test_a_restore_that_dies_anywhere_leaves_nothing_or_all_and_can_be_repeated(seed: int) -> None:
    operations = 0
    while True:
        disk = new_disk(seed * 1000 + operations)
        saved(disk)
        disk.cut_power_after = operations
        try:
            restored(disk, ROOT / "new")
            break
        except PowerCut:
            disk.crash()
        if disk.exists(ROOT / "new") and disk.names(ROOT / "new"):
            assert check(disk, ROOT / "new") == []
        else:
            restored(disk, ROOT / "new")
        assert len(load(disk, ROOT / "new")[2]) == 8
        operations += 1
    assert operations > 15


def survivor(disk: Disk, directory: Path) -> None:
    """One of three, with a snapshot and entries behind it, of which it knows some to be committed."""
    space = filled_space()
    entries = [
        Entry(41, 3, command.encode(put(b"a", b"1"))),
        Entry(42, 4, b""),
        Entry(43, 4, b"remove me", EntryKind.CONF_CHANGE),
        Entry(44, 4, command.encode(put(b"b", b"2"))),
    ]
    create_member(
        disk,
        directory,
        SOURCE,
        META,
        parts_of(space),
        entries=entries,
        hard_state=HardState(6, MemberId(2), 42),
        segment_bytes=SMALL,
    )


def forced(disk: Disk, directory: Path) -> Identity:
    return force_new_cluster(
        disk,
        directory,
        rng=random.Random(4),
        peer_address="c:1",
        member_parts=member_parts,
        segment_bytes=SMALL,
    )


def check_forced(disk: Disk, directory: Path) -> None:
    identity = check_identity(disk, directory)
    assert identity.name == "old"
    assert identity.cluster_id != SOURCE.cluster_id
    meta, members, space, entries, hard_state = load(disk, directory)
    assert meta == SnapshotMeta(44, 4, ConfState((identity.member_id,)))
    assert members == [["members", [[identity.member_id, "old", "c:1"]]]]
    assert [space.range(key).kvs[0].value for key in (b"a", b"b")] == [b"1", b"2"], "from behind the snapshot"
    assert space.revision == filled_space().revision + 2 + REVISION_BUMP
    with pytest.raises(CompactedError):  # a watcher that saw what this member had not is told to read again
        space.range(b"a", revision=Revision(space.revision - REVISION_BUMP + 5))
    assert entries == []
    assert hard_state == HardState(6, MemberId(0), 44)
    assert check(disk, directory) == []


def test_a_survivor_becomes_a_cluster_of_its_own_and_keeps_all_it_has() -> None:
    disk = new_disk()
    survivor(disk, ROOT / "member")
    assert forced(disk, ROOT / "member") == check_identity(disk, ROOT / "member")
    check_forced(disk, ROOT / "member")
    assert check_identity(disk, ROOT / "member.before-new-cluster") == SOURCE
    with pytest.raises(BackupError, match="without --force-new-cluster; else move that directory away"):
        forced(disk, ROOT / "member")


def test_only_a_members_directory_can_become_a_cluster(tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match="not the data directory of a member"):
        forced(SystemDisk(), tmp_path)
    survivor(SystemDisk(), tmp_path / "member")
    forced(SystemDisk(), tmp_path / "member")
    check_forced(SystemDisk(), tmp_path / "member")


def test_a_new_cluster_by_force_that_dies_anywhere_is_finished_by_the_next_try() -> None:
    operations = 0
    while True:
        disk = new_disk(operations)
        survivor(disk, ROOT / "member")
        disk.cut_power_after = operations
        try:
            forced(disk, ROOT / "member")
            break
        except PowerCut:
            disk.crash()
        if read_identity(disk, ROOT / "member") in (SOURCE, None):
            forced(disk, ROOT / "member")
        check_forced(disk, ROOT / "member")
        assert check_identity(disk, ROOT / "member.before-new-cluster") == SOURCE
        operations += 1
    assert operations > 15
