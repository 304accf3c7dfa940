"""PodDisruptionBudgets: what the API, which takes disruptions, and the controller, which counts, both write.

Source: k8s.io/component-helpers/apps/poddisruptionbudget.
"""

from __future__ import annotations

from gitkube.objects import conditions, meta
from gitkube.objects.types import Object


def with_allowance(budget: Object, now_s: float) -> Object:
    """The budget with the condition that says whether a pod may be disrupted."""
    status = budget.get("status") or {}
    is_allowed = int(status.get("disruptionsAllowed") or 0) > 0
    reason = "SufficientPods" if is_allowed else "InsufficientPods"
    return with_condition(budget, is_allowed, reason, "", now_s)


def with_condition(budget: Object, is_allowed: bool, reason: str, message: str, now_s: float) -> Object:
    """The budget with its condition DisruptionAllowed set."""
    condition = conditions.make("DisruptionAllowed", is_allowed, reason)
    condition["message"] = message
    condition["observedGeneration"] = meta.generation(budget)
    found = conditions.with_condition(conditions.conditions(budget), condition, now_s)
    return {**budget, "status": {**(budget.get("status") or {}), "conditions": found}}
