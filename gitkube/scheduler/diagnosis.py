"""Why a pod waits, in words: first Kubernetes' sentence with counts, then each host with its numbers.

Tools know the first sentence ("0/3 nodes are available: …"); a person needs the second: which rule refused
which host, by how much. Hosts are sorted by name and cut off at a limit that is said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from gitkube.scheduler.cycle import Decision
from gitkube.scheduler.framework import Status

MAX_HOSTS_SHOWN = 12
"""In a large cluster the counts say more than a list; the message goes into an Event of 1 KiB."""


def message(decision: Decision, node_count: int) -> str:
    """The message of condition PodScheduled and of event FailedScheduling."""
    if decision.pre_filter is not None:
        why = ", ".join(decision.pre_filter.reasons)
        return f"0/{node_count} nodes are available: {why}."
    if node_count == 0:
        return "no nodes available to schedule pods"
    sentence = f"0/{node_count} nodes are available: {_counted(decision.refused)}."
    if decision.post_filter is not None and decision.post_filter.reasons:
        sentence += " " + " ".join(decision.post_filter.reasons)
    details = per_host(decision.refused)
    return f"{sentence} {details}" if details else sentence


def per_host(refused: Mapping[str, Status]) -> str:
    """`ant: has taint gpu=only:NoSchedule, not tolerated; bee: needs 4 cores, 1.2 of 8 free`."""
    shown = [f"{name}: {refused[name].detail}" for name in sorted(refused)[:MAX_HOSTS_SHOWN]]
    more = len(refused) - len(shown)
    if more > 0:
        shown.append(f"and {more} more hosts")
    return "; ".join(shown)


def _counted(refused: Mapping[str, Status]) -> str:
    counts = Counter(reason for status in refused.values() for reason in status.reasons)
    return ", ".join(sorted(f"{count} {reason}" for reason, count in counts.items()))
