"""Labs that begin at the same time get different networks."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from gitkube.lab import blocks
from gitkube.lab.blocks import release_block, taken_block

STATE = "lab.json"


@pytest.fixture(autouse=True)
def _own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCKS_FILE", tmp_path / "run" / "blocks.json")


def lab(tmp_path: Path, name: str) -> int:
    directory = tmp_path / name
    directory.mkdir(exist_ok=True)
    with taken_block(directory, state_name=STATE) as block:
        (directory / STATE).touch()
    return block


def test_a_lab_keeps_its_block_and_another_gets_the_next(tmp_path: Path) -> None:
    assert [lab(tmp_path, name) for name in ("one", "two", "one")] == [0, 1, 0]


def test_the_block_of_a_lab_that_is_gone_is_free(tmp_path: Path) -> None:
    lab(tmp_path, "one")
    (tmp_path / "one" / STATE).unlink()
    assert lab(tmp_path, "two") == 0
    release_block(tmp_path / "two")
    assert lab(tmp_path, "three") == 0


def test_a_lab_that_has_only_just_taken_its_block_keeps_it(tmp_path: Path) -> None:
    first = tmp_path / "first"
    first.mkdir()
    seen: list[int] = []
    second = threading.Thread(target=lambda: seen.append(lab(tmp_path, "second")))
    with taken_block(first, state_name=STATE) as block:
        second.start()
        second.join(0.2)
        assert not seen, "the other lab waits until the first has written down that it exists"
        (first / STATE).touch()
    second.join()
    assert (block, seen) == (0, [1])
