"""What a real API server 1.20 answered, replayed against the verbs.

Differences that are known are listed by name with their reason; a listed case that is equal fails as well,
so that the list stays true.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from gitkube.api.settings import ApiSettings
from gitkube.clock import SystemClock
from tests.support.oracle import ROOT, Replay, cases, lacks
from tests.support.real_api import real_api

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
    wrong, equal = [], 0
    async with real_api(tmp_path, clock=SteppingClock(), settings=SETTINGS) as api:
        for case in cases(name):
            if lacks(case):
                continue
            difference = await Replay(api, case).differences()
            if bool(difference) == (case["name"] in known):
                equal += not difference
                known.pop(case["name"], None)
            else:
                wrong.append(f"{case['name']}: {difference or 'is listed as different, and is equal'}")
    assert not wrong, "\n".join(wrong)
    assert not known, f"listed, but not among the cases: {sorted(known)}"
    assert equal
