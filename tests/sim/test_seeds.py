"""Fresh seeds, as many as there is time for. A failure prints the one command that shows it again."""

from __future__ import annotations

import os
from collections.abc import Callable

from gitkube.sim.__main__ import failure_line, random_start
from gitkube.sim.runner import available_jobs, live_many

BUDGET_S = float(os.environ.get("GITKUBE_SIM_BUDGET_S", "50"))
"""No life is begun after it. With two processors to itself that is some five hundred lives; beside the other
tests, most of which wait, somewhat fewer."""


def test_fresh_seeds_keep_every_promise(say: Callable[[str], None]) -> None:
    # As property tests do: a change must not be refused for a life that chance found in somebody else's.
    start = int(os.environ.get("GITKUBE_SIM_START", "0")) or (1 if os.environ.get("CI") else random_start())

    summary = live_many(start, budget_s=BUDGET_S, jobs=available_jobs())

    say(f"simulation, from seed {start} on: {summary}")
    assert not summary.failures, "\n".join(failure_line(outcome) for outcome in summary.failures)
    assert summary.acknowledged_writes > 0
