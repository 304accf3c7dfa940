"""Whether a pod may be evicted now: what its PodDisruptionBudget says, and how the budget changes.

Evicting is deleting with leave. The leave is taken and the pod deleted in one transaction: the budget's new
status is written beside the pod, with the comparison that both are as they were read. So two evictions never
share one disruption, and none is used up by an eviction that did not happen. That the pod is going is noted
in `disruptedPods`, by which the controller knows of it before its copy of the pods does.
Source: Kubernetes' pkg/registry/core/pod/storage/eviction.go, of which the sentences are.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gitkube.api import errors
from gitkube.api.keys import object_key
from gitkube.api.stored import encode
from gitkube.api.transactions import Write
from gitkube.clock import rfc3339
from gitkube.objects import conditions, meta, pods
from gitkube.objects.budgets import with_allowance
from gitkube.objects.kinds import POD_DISRUPTION_BUDGET
from gitkube.objects.labels import selector_of
from gitkube.objects.types import Object
from gitkube.store.protocol import Compare, Op, Put, Target

MAX_DISRUPTED_PODS = 2000
"""Evictions that the controller has not confirmed; more would bloat the budget."""
_REFUSED = "Cannot evict pod as it would violate the pod's disruption budget."
_SEVERAL = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
_RETRY_S = 10


def budget_after(pod: Object, budgets: Iterable[Object], now_s: float) -> Object | None:
    """The budget as it is after the pod's eviction; None when no budget has to be asked.

    Raises:
        StatusError: 429, the budget does not allow it now; 500, there are several budgets.
    """
    # One that has ended, has not begun or is going already disturbs nobody.
    if pods.is_terminal(pod) or pods.phase(pod) == "Pending" or meta.is_deleting(pod):
        return None
    found = [one for one in budgets if _selects(one, pod)]
    if len(found) > 1:
        raise errors.StatusError(500, "", _SEVERAL)
    if not found or (not pods.is_ready(pod) and _may_go_unready(found[0])):
        return None
    budget = found[0]
    _check_allowance(budget)
    status = budget["status"]
    going = {**(status.get("disruptedPods") or {}), meta.name(pod): rfc3339(now_s)}
    status = {**status, "disruptedPods": going, "disruptionsAllowed": status["disruptionsAllowed"] - 1}
    return with_allowance({**budget, "status": status}, now_s)


def _selects(budget: Object, pod: Object) -> bool:
    return selector_of((budget.get("spec") or {}).get("selector")).matches(meta.labels(pod))


def _may_go_unready(budget: Object) -> bool:
    """Whether a pod that is not ready may go without asking: it is not one of the healthy ones."""
    if (budget.get("spec") or {}).get("unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    status = budget.get("status") or {}
    desired = int(status.get("desiredHealthy") or 0)
    return int(status.get("currentHealthy") or 0) >= desired > 0


def _check_allowance(budget: Object) -> None:
    name, status = meta.name(budget), budget.get("status") or {}
    if meta.observed_generation(budget) < meta.generation(budget):
        text = f"The disruption budget {name} is still being processed by the server."
        raise _too_many(text, retry_after_s=_RETRY_S)
    allowed = int(status.get("disruptionsAllowed") or 0)
    if allowed < 0:
        raise errors.forbidden("policy", "poddisruptionbudget", name, "pdb disruptions allowed is negative")
    if len(status.get("disruptedPods") or ()) > MAX_DISRUPTED_PODS:
        why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller"
        raise errors.forbidden("policy", "poddisruptionbudget", name, why)
    if allowed == 0:
        condition = conditions.get_condition(budget, "DisruptionAllowed") or {}
        if condition.get("reason") == "SyncFailed":
            text = f"The disruption budget {name} does not allow evicting pods currently because it failed "
            raise _too_many(f"{text}sync: {condition.get('message', '')}")
        desired, current = status.get("desiredHealthy", 0), status.get("currentHealthy", 0)
        raise _too_many(
            f"The disruption budget {name} needs {desired} healthy pods and has {current} currently"
        )


def _too_many(why: str, *, retry_after_s: int | None = None) -> errors.StatusError:
    details: dict[str, Any] = {"causes": [{"reason": "DisruptionBudget", "message": why}]}
    return errors.StatusError(429, "TooManyRequests", _REFUSED, details=details, retry_after_s=retry_after_s)


def add_to_deletion(write: Write, pod: Object, budget: Object | None, now_s: float) -> Write:
    """The deletion of a pod as an eviction: with why it goes, and with the budget it used up. In place."""
    namespace = meta.namespace(pod)
    if not write.is_end and not meta.is_deleting(pod):
        condition = conditions.make(
            "DisruptionTarget", True, "EvictionByEvictionAPI", "Eviction API: evicting"
        )
        present = conditions.conditions(write.result)
        status = {
            **(write.result.get("status") or {}),
            "conditions": conditions.with_condition(present, condition, now_s),
        }
        write.result = {**write.result, "status": status}
        write.operations = [
            Put(one.key, encode(write.result)) if number == 0 and isinstance(one, Put) else one
            for number, one in enumerate(write.operations)
        ]
    if budget is not None:
        key = object_key(POD_DISRUPTION_BUDGET, namespace, meta.name(budget))
        write.compares.append(Compare(key, Target.MOD, Op.EQUAL, int(meta.resource_version(budget))))
        write.operations.append(Put(key, encode(budget)))
    return write
