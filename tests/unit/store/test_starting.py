"""What a member takes a directory for when it starts in it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from gitkube.sim.disk import PowerCut, SimDisk
from gitkube.store.directory import Identity, create_member, read_identity
from gitkube.store.mvcc import KeySpace
from gitkube.store.protocol import CorruptError
from gitkube.store.raft.types import ConfState, Entry, HardState, MemberId, SnapshotMeta
from gitkube.store.replica import ReplicaSettings
from gitkube.store.starting import open_replica
from gitkube.store.wal import Wal

DIRECTORY = Path("/data")
SMALL = 2048
MEMBER = MemberId(0x123)


def start(disk: SimDisk) -> None:
    open_replica(
        disk, DIRECTORY, name="one", rng=random.Random(1), join=None, peer_address="", client_urls=(),
        settings=ReplicaSettings(segment_bytes=SMALL),
    )  # fmt: skip


def work_in(disk: SimDisk, after_index: int) -> None:
    wal = Wal(disk, DIRECTORY / "wal", segment_bytes=SMALL)
    wal.open(after_index)
    wal.append([Entry(after_index + 1, 2, b"x")], HardState(2, MEMBER, after_index + 1))
    wal.sync()
    wal.close()


def files(disk: SimDisk) -> dict[str, bytes]:
    return {
        f"{inner}/{name}": disk.read(DIRECTORY / inner / name)
        for inner in ("wal", "snap")
        for name in disk.names(DIRECTORY / inner)
    }


def test_a_member_whose_identity_was_lost_is_not_begun_anew_over_its_data() -> None:
    disk = SimDisk(random.Random(1))
    start(disk)
    work_in(disk, after_index=1)
    disk.unlink(DIRECTORY / "member.json")
    before = files(disk)

    with pytest.raises(CorruptError, match=r"member\.json is missing.*entry 2.*Nothing was changed"):
        start(disk)

    assert files(disk) == before


def test_a_member_that_has_only_a_later_snapshot_is_not_begun_anew_either() -> None:
    disk = SimDisk(random.Random(1))
    meta = SnapshotMeta(10, 2, ConfState((MEMBER,)))
    create_member(disk, DIRECTORY, Identity(1, MEMBER, "one"), meta, KeySpace().dump(), segment_bytes=SMALL)
    disk.unlink(DIRECTORY / "member.json")

    with pytest.raises(CorruptError, match="up to entry 10"):
        start(disk)


def test_a_first_start_that_is_cut_short_anywhere_is_made_again() -> None:
    operations = 0
    while True:
        disk = SimDisk(random.Random(operations))
        disk.cut_power_after = operations
        try:
            start(disk)
            break
        except PowerCut:
            disk.crash()
        start(disk)
        assert read_identity(disk, DIRECTORY) is not None
        operations += 1
    assert operations > 10
