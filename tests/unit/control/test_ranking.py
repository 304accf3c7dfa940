"""Which pods go first: each rule decides only when those before it are equal."""

from __future__ import annotations

from typing import Any

import pytest

from gitkube.clock import rfc3339
from gitkube.control.ranking import pods_to_delete
from gitkube.objects import meta
from gitkube.objects.types import Object

NOW = 1_700_000_000.0


def pod(
    name: str,
    *,
    host: str = "ant",
    phase: str = "Running",
    ready_for_s: float | None = 1000.0,
    age_s: float = 2000.0,
    restarts: int = 0,
    cost: str | None = None,
) -> Object:
    conditions: list[dict[str, Any]] = []
    if ready_for_s is not None:
        conditions.append(
            {"type": "Ready", "status": "True", "lastTransitionTime": rfc3339(NOW - ready_for_s)}
        )
    metadata: Object = {"name": name, "uid": name, "creationTimestamp": rfc3339(NOW - age_s)}
    if cost is not None:
        metadata["annotations"] = {"controller.kubernetes.io/pod-deletion-cost": cost}
    return {
        "metadata": metadata,
        "spec": {"nodeName": host} if host else {},
        "status": {
            "phase": phase,
            "conditions": conditions,
            "containerStatuses": [{"restartCount": restarts}],
        },
    }


GOOD = pod("good")


@pytest.mark.parametrize(
    ("story", "worse"),
    [
        ("has no host yet", pod("x", host="", ready_for_s=None, phase="Pending")),
        ("is pending", pod("x", phase="Pending", ready_for_s=None)),
        ("is of unknown phase", pod("x", phase="Unknown")),
        ("is not ready", pod("x", ready_for_s=None)),
        ("costs less", pod("x", cost="-5")),
        ("is ready for a shorter time", pod("x", ready_for_s=10)),
        ("was restarted more often", pod("x", restarts=3)),
        ("is younger", pod("x", age_s=1010)),
    ],
)
def test_the_worse_pod_goes_first(story: str, worse: Object) -> None:
    for candidates in ([GOOD, worse], [worse, GOOD]):
        assert [meta.name(one) for one in pods_to_delete(candidates, candidates, 1, NOW)] == ["x"], story


def test_pods_on_crowded_hosts_go_first_counting_siblings() -> None:
    lonely, crowded = pod("lonely", host="ant"), pod("crowded", host="bee")
    sibling = pod("sibling", host="bee")
    (first,) = pods_to_delete([lonely, crowded], [lonely, crowded, sibling], 1, NOW)
    assert meta.name(first) == "crowded"


def test_an_earlier_rule_beats_all_later_ones() -> None:
    not_ready = pod("not-ready", ready_for_s=None, cost="1000", age_s=1e6)
    cheap = pod("cheap", cost="-1000", ready_for_s=1, restarts=50, age_s=2)
    assert [meta.name(one) for one in pods_to_delete([cheap, not_ready], [], 1, NOW)] == ["not-ready"]


def test_times_of_the_same_magnitude_are_equal() -> None:
    one, other = pod("b", ready_for_s=1000), pod("a", ready_for_s=1020)
    assert [meta.name(x) for x in pods_to_delete([one, other], [], 2, NOW)] == ["a", "b"]
