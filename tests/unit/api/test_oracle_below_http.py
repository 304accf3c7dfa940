"""What a real API server 1.20 answered, replayed against the verbs.

Differences that are known are listed by name with their reason; a listed case that is equal fails as well,
so that the list stays true.
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from gitkube.api.machinery import Api
from gitkube.api.settings import ApiSettings
from gitkube.clock import SystemClock
from gitkube.store.member import Member
from tests.support.oracle import ROOT, Replay, cases, lacks

SETTINGS = ApiSettings(service_cidr="10.96.0.0/16")


class SteppingClock(SystemClock):
    """Each look at it is a second later, as the recording's requests were apart."""

    def __init__(self) -> None:
        self._now_s = 1_700_000_000.0

    def now(self) -> float:
        self._now_s += 1
        return self._now_s


def known_differences(name: str) -> dict[str, str]:
    known = {}
    for line in (ROOT / "below-http-differences.txt").read_text().splitlines():
        case, _, reason = line.partition("  # ")
        if case.startswith(f"{name}: "):
            known[case.removeprefix(f"{name}: ")] = reason
    return known


@pytest.mark.parametrize("name", ["patches", "apply", "deletion", "lists-watches"])
async def test_recorded_answers_are_ours(name: str, tmp_path: Path) -> None:
    known = known_differences(name)
    store = await Member.open(tmp_path)
    api = Api(store, clock=SteppingClock(), rng=random.Random(1), settings=SETTINGS)
    running = asyncio.create_task(api.run())
    await asyncio.wait_for(api.wait_ready(), 10)
    wrong, equal = [], 0
    for case in cases(name):
        if lacks(case):
            continue
        difference = await Replay(api, case).differences()
        if bool(difference) == (case["name"] in known):
            equal += not difference
            known.pop(case["name"], None)
        else:
            wrong.append(f"{case['name']}: {difference or 'is listed as different, and is equal'}")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await store.close()
    assert not wrong, "\n".join(wrong)
    assert not known, f"listed, but not among the cases: {sorted(known)}"
    assert equal
