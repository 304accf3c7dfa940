"""The last controller of a cluster goes on alone, and a power cut on the way loses nothing."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from gitkube.clock import SystemClock
from gitkube.server.alone import finish_going_alone, go_on_alone
from gitkube.server.joining import NOTE, check_directory, has_joined
from gitkube.server.settings import ControlPlaneSettings
from gitkube.store.directory import check_identity
from gitkube.store.disk import SystemDisk
from gitkube.store.member import Member
from gitkube.store.protocol import Put, StoreError


async def survivor(data_dir: Path) -> ControlPlaneSettings:
    """A controller that had joined others; its member has a key."""
    member = await Member.open(data_dir / "store")
    await member.txn([], [Put(b"a", b"1")])
    await member.close()
    note = {"cluster": 1, "member": 2, "by": "x", "stage": "joined"}
    (data_dir / NOTE).write_text(json.dumps(note))
    return ControlPlaneSettings(data_dir=data_dir, inventory=data_dir / "i", repository=data_dir / "r")


async def check_alone(data_dir: Path) -> None:
    assert not has_joined(data_dir)
    check_directory(data_dir)
    assert (data_dir / "store.before-new-cluster").is_dir()
    member = await Member.open(data_dir / "store")
    assert [kv.value for kv in (await member.range(b"a")).kvs] == [b"1"]
    await member.close()


async def force(settings: ControlPlaneSettings) -> None:
    await go_on_alone(settings, clock=SystemClock(), rng=random.Random(1))


async def test_a_survivor_goes_on_alone_as_another_cluster(tmp_path: Path) -> None:
    settings = await survivor(tmp_path)
    before = check_identity(SystemDisk(), settings.store_dir)
    assert not finish_going_alone(settings)
    await force(settings)
    assert check_identity(SystemDisk(), settings.store_dir).cluster_id != before.cluster_id
    assert not finish_going_alone(settings)
    await check_alone(tmp_path)


@pytest.mark.parametrize("renames", [0, 1])
async def test_the_next_start_finishes_what_a_crash_cut_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    """Between the two renames there is no store under the name, and a start would begin an empty one."""
    settings, rename = await survivor(tmp_path), SystemDisk.rename
    left = [renames]

    def dying(disk: SystemDisk, source: Path, target: Path) -> None:
        if source.is_dir():
            if not left[0]:
                raise OSError("the power went")
            left[0] -= 1
        rename(disk, source, target)

    with monkeypatch.context() as failing, pytest.raises(OSError, match="the power went"):
        failing.setattr(SystemDisk, "rename", dying)
        await force(settings)
    is_finished = finish_going_alone(settings)
    assert is_finished == (renames == 1)
    if not is_finished:
        await force(settings)
    await check_alone(tmp_path)


async def test_where_no_store_is_nobody_goes_on_alone(tmp_path: Path) -> None:
    settings = ControlPlaneSettings(data_dir=tmp_path, inventory=tmp_path / "i", repository=tmp_path / "r")
    assert not finish_going_alone(settings)
    with pytest.raises(StoreError, match="no store"):
        await force(settings)
