"""What a Deployment's status says: counts, and whether the rollout moves, is done or is stuck. Pure.

Progressing is True while something moves within progressDeadlineSeconds and once all is done (reason
NewReplicaSetAvailable); it turns False when nothing moved for the deadline. Available is True while at least
replicas - maxUnavailable pods are. Source: Kubernetes' `progress.go`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gitkube.clock import rfc3339
from gitkube.control import rollout
from gitkube.objects import conditions, meta
from gitkube.objects.conditions import Condition
from gitkube.objects.types import Object

NO_DEADLINE = 2**31 - 1
DONE, STUCK, MOVED = "NewReplicaSetAvailable", "ProgressDeadlineExceeded", "ReplicaSetUpdated"
CREATED, FOUND, FAILED = "NewReplicaSetCreated", "FoundNewReplicaSet", "ReplicaSetCreateError"
PAUSED, RESUMED = "DeploymentPaused", "DeploymentResumed"


def counts(deployment: Object, new: Object | None, owned: Sequence[Object]) -> dict[str, Any]:
    """The numbers of the status."""
    total = _total(owned, "replicas")
    available = _total(owned, "availableReplicas")
    status: dict[str, Any] = {
        "observedGeneration": meta.generation(deployment),
        "replicas": total,
        "updatedReplicas": _total([new] if new is not None else [], "replicas"),
        "readyReplicas": _total(owned, "readyReplicas"),
        "availableReplicas": available,
        "unavailableReplicas": max(_spec_total(owned) - available, 0),
        "terminatingReplicas": _total(owned, "terminatingReplicas"),
    }
    collisions = (deployment.get("status") or {}).get("collisionCount")
    if collisions:
        status["collisionCount"] = collisions
    return status


def is_complete(deployment: Object, status: Mapping[str, Any]) -> bool:
    """All pods are of the newest template and available, and no others are left."""
    desired = deployment["spec"].get("replicas", 1)
    return bool(
        status["updatedReplicas"] == desired
        and status["replicas"] == desired
        and status["availableReplicas"] == desired
        and status["observedGeneration"] >= meta.generation(deployment)
    )


def has_moved(deployment: Object, status: Mapping[str, Any]) -> bool:
    """Whether there is progress since the status that is stored."""
    before = deployment.get("status") or {}

    def old(field: str) -> int:
        return int(before.get(field) or 0)

    return bool(
        status["updatedReplicas"] > old("updatedReplicas")
        or status["replicas"] - status["updatedReplicas"] < old("replicas") - old("updatedReplicas")
        or status["readyReplicas"] > old("readyReplicas")
        or status["availableReplicas"] > old("availableReplicas")
    )


def with_available(deployment: Object, status: Mapping[str, Any], now_s: float) -> list[Condition]:
    """The present conditions, with Available brought up to date."""
    desired = deployment["spec"].get("replicas", 1)
    limits = rollout.fences((deployment["spec"].get("strategy") or {}).get("rollingUpdate"), desired)
    is_rolling = (deployment["spec"].get("strategy") or {}).get("type", "RollingUpdate") == "RollingUpdate"
    needed = desired - (limits.max_unavailable if is_rolling else 0)
    if status["availableReplicas"] >= needed:
        condition = conditions.make(
            "Available",
            True,
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.",
        )
    else:
        condition = conditions.make(
            "Available",
            False,
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
        )
    return set_condition(conditions.conditions(deployment), condition, now_s)


def with_progress(
    deployment: Object,
    status: Mapping[str, Any],
    present: Sequence[Condition],
    new: Object | None,
    found: Condition | None,
    now_s: float,
) -> list[Condition]:
    """The conditions, with Progressing brought up to date.

    Args:
        found: what this look has to say first (a new ReplicaSet was created, or found again).
    """
    result = [dict(one) for one in present]
    if deadline_s(deployment) is None:
        return conditions.without_condition(result, "Progressing")
    current = conditions.find(result, "Progressing")
    if found is not None:
        result = set_condition(result, found, now_s)
        current = conditions.find(result, "Progressing")
    was_done = current is not None and current.get("reason") == DONE
    # A Deployment that was done and lost a pod is not a rollout.
    is_settled = status["replicas"] == status["updatedReplicas"] and was_done
    if is_settled:
        return result
    subject = f'ReplicaSet "{meta.name(new)}"' if new is not None else f'Deployment "{meta.name(deployment)}"'
    if is_complete(deployment, status):
        text = f"{subject} has successfully progressed."
        return set_condition(result, conditions.make("Progressing", True, DONE, text), now_s)
    if has_moved(deployment, status):
        text = f"{subject} is progressing."
        moved = conditions.make("Progressing", True, MOVED, text)
        moved["lastUpdateTime"] = rfc3339(now_s)
        return set_condition(result, moved, now_s)
    if current is not None and has_timed_out(deployment, current, now_s):
        text = f"{subject} has timed out progressing."
        return set_condition(result, conditions.make("Progressing", False, STUCK, text), now_s)
    return result


def paused(deployment: Object, *, is_paused: bool) -> Condition | None:
    """What Progressing says when a Deployment was just paused or resumed."""
    if deadline_s(deployment) is None:
        return None
    reason = (conditions.get_condition(deployment, "Progressing") or {}).get("reason")
    if is_paused and reason not in (PAUSED, STUCK):
        return conditions.make("Progressing", "Unknown", PAUSED, "Deployment is paused")
    if not is_paused and reason == PAUSED:
        return conditions.make("Progressing", "Unknown", RESUMED, "Deployment is resumed")
    return None


def with_replica_failure(
    present: list[Condition], replica_sets: Sequence[Object | None], now_s: float
) -> list[Condition]:
    """The conditions with the trouble of the first ReplicaSet that has any; the newest comes first."""
    for replica_set in replica_sets:
        failure = conditions.get_condition(replica_set, "ReplicaFailure") if replica_set is not None else None
        if failure is not None:
            condition = conditions.make(
                "ReplicaFailure",
                str(failure["status"]),
                str(failure.get("reason", "")),
                str(failure.get("message", "")),
            )
            return set_condition(present, condition, now_s)
    return conditions.without_condition(present, "ReplicaFailure")


def has_timed_out(deployment: Object, progressing: Mapping[str, Any], now_s: float) -> bool:
    """Whether nothing has moved for the deadline."""
    if progressing.get("reason") == DONE:
        return False
    if progressing.get("reason") == STUCK:
        return True
    return (deadline_left_s(deployment, progressing, now_s) or 1.0) <= 0


def deadline_left_s(deployment: Object, progressing: Mapping[str, Any], now_s: float) -> float | None:
    """How long until the rollout counts as stuck; None when it never does."""
    deadline = deadline_s(deployment)
    since = meta.time_s(progressing.get("lastUpdateTime") or progressing.get("lastTransitionTime"))
    if deadline is None or not since or deployment["spec"].get("paused"):
        return None
    return since + deadline - now_s


def deadline_s(deployment: Object) -> int | None:
    """`progressDeadlineSeconds`; None for "no deadline"."""
    deadline = deployment["spec"].get("progressDeadlineSeconds", 600)
    return None if deadline in (None, NO_DEADLINE) else int(deadline)


def set_condition(present: Sequence[Condition], condition: Condition, now_s: float) -> list[Condition]:
    """As `conditions.with_condition`, with Deployments' own lastUpdateTime."""
    current = conditions.find(present, str(condition["type"]))
    changed = current is None or any(
        current.get(key, "") != condition.get(key, "") for key in ("status", "reason", "message")
    )
    if not changed and "lastUpdateTime" not in condition:
        return [dict(one) for one in present]
    entry = dict(condition)
    entry.setdefault("lastUpdateTime", rfc3339(now_s))
    return conditions.with_condition(present, entry, now_s)


def _total(replica_sets: Sequence[Object], field: str) -> int:
    return sum(int((one.get("status") or {}).get(field) or 0) for one in replica_sets)


def _spec_total(replica_sets: Sequence[Object]) -> int:
    return sum(int(one["spec"].get("replicas") or 0) for one in replica_sets)
