"""One seed, one life: in whatever process, with or without somebody who listens."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from gitkube.sim.__main__ import main
from gitkube.sim.life import live

ROOT = Path(__file__).parents[2]
SEEDS = (3, 5054, 1000117)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_seed_has_the_same_life_twice(seed: int) -> None:
    notes: list[str] = []

    assert live(seed).fingerprint == live(seed, tell=notes.append).fingerprint
    assert notes


def test_a_seed_has_the_same_life_whatever_order_python_hashes_in() -> None:
    program = f"from gitkube.sim.life import live; print([live(seed).fingerprint for seed in {SEEDS}])"
    told = set()
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", program]
        told.add(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)

    assert len(told) == 1


def test_a_failing_seed_is_told_with_the_command_that_shows_it_again() -> None:
    result = CliRunner().invoke(main, ["--seeds", "4", "--start", "0", "--bug", "forget-sessions"])

    assert result.exit_code == 1
    assert "python -m gitkube.sim --seed 0 --trace --bug forget-sessions" in result.output

    again = CliRunner().invoke(main, ["--seed", "0", "--trace", "--bug", "forget-sessions"])

    assert again.exit_code == 1
    assert "failed at step" in again.output
    assert "starts in term" in again.output, "the trace tells what happened before"


def test_a_seed_that_is_well_says_what_it_saw() -> None:
    result = CliRunner().invoke(main, ["--seed", "3"])

    assert result.exit_code == 0
    assert "1 seeds" in result.output
    assert "acknowledged writes" in result.output


def test_somebody_who_says_no_number_is_told_what_to_say() -> None:
    result = CliRunner().invoke(main, [])

    assert result.exit_code == 2
    assert "--seeds N" in result.output
