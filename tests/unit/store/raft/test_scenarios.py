"""Stories of the Raft paper and of etcd's experience, told in `testdata/*.txt` (see `raft_scenarios`)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.raft_scenarios import run_file

SCENARIOS = sorted((Path(__file__).parent / "testdata").glob("*.txt"))


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_the_members_do_what_the_scenario_tells(path: Path) -> None:
    run_file(path)


def test_there_are_scenarios() -> None:
    assert len(SCENARIOS) >= 12
