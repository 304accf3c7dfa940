"""Which pods of a ReplicaSet go first when there are too many.

Those whose loss costs least: not yet on a host before those that are, pending before running, not ready
before ready, a lower `controller.kubernetes.io/pod-deletion-cost`, crowded hosts before others, ready for a
shorter time, restarted more often, younger. Times are compared by order of magnitude, so that not always the
newest host's pods go. Source: Kubernetes' ActivePodsWithRanks.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from gitkube.objects import meta, pods
from gitkube.objects.types import Object

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
_PHASES = {"Pending": 0, "Unknown": 1, "Running": 2}


def pods_to_delete(
    candidates: Sequence[Object], related: Sequence[Object], count: int, now_s: float
) -> list[Object]:
    """The `count` pods to delete first.

    Args:
        candidates: the active pods of the ReplicaSet.
        related: active pods of all ReplicaSets of the same owner; they make a host crowded.
    """
    crowds = Counter(pods.node_name(pod) for pod in related if pods.node_name(pod))
    ranked = sorted(candidates, key=lambda pod: deletion_rank(pod, crowds[pods.node_name(pod)], now_s))
    return ranked[:count]


def deletion_rank(pod: Object, crowd: int, now_s: float) -> tuple[object, ...]:
    """A key; the smallest goes first."""
    is_ready = pods.is_ready(pod)
    return (
        bool(pods.node_name(pod)),
        _PHASES.get(pods.phase(pod), 1),
        is_ready,
        _deletion_cost(pod),
        -crowd,
        _magnitude(now_s - pods.ready_since_s(pod)) if is_ready else 0,
        -pods.restarts(pod),
        _magnitude(now_s - meta.created_at_s(pod)),
        meta.uid(pod),
    )


def _deletion_cost(pod: Object) -> int:
    text = meta.annotations(pod).get(DELETION_COST, "0")
    try:
        return int(text)
    except ValueError:
        return 0


def _magnitude(age_s: float) -> int:
    return math.floor(math.log2(age_s)) if age_s >= 1 else -1
