"""A data directory has one control plane at a time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gitkube.server.data_directory import LOCK, held, owner_of
from gitkube.server.settings import SettingsError
from tests.support.fake_clock import FakeClock


async def test_a_second_control_plane_is_refused_and_told_which_process_has_the_directory(
    tmp_path: Path,
) -> None:
    async with held(tmp_path, FakeClock()):
        with pytest.raises(SettingsError, match=rf"process {os.getpid()}\) runs on the data directory"):
            async with held(tmp_path, FakeClock(), wait_s=0):
                pytest.fail("both had it")


async def test_a_directory_that_cannot_be_made_is_named_with_the_option(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=r"cannot be used: .*; it must be a directory of the user"):
        async with held(tmp_path / "file" / "data", FakeClock()):
            pytest.fail("there is no such directory")


async def test_the_next_one_gets_what_the_one_before_gave_back(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text("4194305 of one that was killed\n")
    for _ in range(2):
        async with held(tmp_path, FakeClock()):
            assert (tmp_path / LOCK).read_text() == f"{os.getpid()}\n"


async def test_whoever_asks_is_told_which_process_has_a_directory(tmp_path: Path) -> None:
    assert owner_of(tmp_path) is None
    async with held(tmp_path, FakeClock()):
        assert owner_of(tmp_path) == str(os.getpid())
    assert owner_of(tmp_path) is None, "what is written there means nothing when nobody holds it"
