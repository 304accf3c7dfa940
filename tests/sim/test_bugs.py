"""What the simulation is worth: it finds mistakes that real systems have shipped."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gitkube.sim.bugs import BUGS, planted
from gitkube.sim.runner import available_jobs, live_many
from gitkube.store.replica import Replica

SEEDS = 400
"""Within so many each must be found: most were within ten, the rarest within seventy."""


@pytest.mark.parametrize("bug", sorted(BUGS))
def test_a_known_mistake_is_found_within_a_bounded_number_of_seeds(bug: str) -> None:
    summary = live_many(0, seeds=SEEDS, jobs=available_jobs(), bug=bug, stop_at_first=True)

    assert summary.failures, f"{summary}: none of them noticed {bug}"


def test_a_planted_bug_is_gone_afterwards() -> None:
    before = Replica.persist

    with planted("acknowledge-before-fsync"):
        assert Replica.persist is not before

    assert Replica.persist is before


def test_the_same_seeds_are_well_without_a_bug() -> None:
    summary = live_many(0, seeds=8, jobs=available_jobs())

    assert not summary.failures


THREADED = """
import asyncio, gc

import grpc.aio

from gitkube.sim.runner import live_many

async def leave_a_server() -> None:
    garbage = [grpc.aio.server()]
    garbage.append(garbage)

if __name__ == "__main__":
    gc.disable()
    asyncio.run(leave_a_server())
    assert not live_many(0, seeds=8, jobs=2).failures
"""


def test_lives_end_also_beside_threads_of_others() -> None:
    """As in a test process that has talked gRPC: its server, once forgotten, waits for its thread's end."""
    subprocess.run([sys.executable, "-c", THREADED], check=True, timeout=120)
