"""Conditions of a status: found, read and set, each type at most once.

`lastTransitionTime` says when the condition's `status` last changed, not when it was last written; so a
setter that finds nothing changed returns what was there, and a status patch stays empty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gitkube.clock import rfc3339
from gitkube.objects.types import Object

Condition = dict[str, Any]

TRUE, FALSE, UNKNOWN = "True", "False", "Unknown"


def conditions(obj: Object) -> list[Condition]:
    return list((obj.get("status") or {}).get("conditions") or ())


def find(conditions: Sequence[Mapping[str, Any]] | None, type: str) -> Mapping[str, Any] | None:
    """The condition of a type, or None."""
    return next((one for one in conditions or () if one.get("type") == type), None)


def get_condition(obj: Object, type: str) -> Mapping[str, Any] | None:
    """A condition of an object's status, or None."""
    return find((obj.get("status") or {}).get("conditions"), type)


def status_of(obj: Object, type: str) -> str:
    """The condition's status: "True", "False" or "Unknown"; "" when the object has no such condition."""
    condition = get_condition(obj, type)
    return str(condition.get("status") or "") if condition else ""


def is_true(obj: Object, type: str) -> bool:
    return status_of(obj, type) == TRUE


def make(type: str, status: str | bool, reason: str = "", message: str = "") -> Condition:
    """A condition without times: `with_condition` adds them."""
    text = status if isinstance(status, str) else (TRUE if status else FALSE)
    condition: Condition = {"type": type, "status": text}
    if reason:
        condition["reason"] = reason
    if message:
        condition["message"] = message
    return condition


def with_condition(
    conditions: Sequence[Mapping[str, Any]] | None, condition: Mapping[str, Any], now_s: float
) -> list[Condition]:
    """The conditions with one set: replaced at its place, or added at the end.

    Its `lastTransitionTime` is kept when the status stayed the same, else it is now. A condition that carries
    a time of its own keeps it.
    """
    result = [dict(one) for one in conditions or ()]
    entry = dict(condition)
    for position, existing in enumerate(result):
        if existing.get("type") != entry["type"]:
            continue
        if existing.get("status") == entry["status"] and existing.get("lastTransitionTime"):
            entry["lastTransitionTime"] = existing["lastTransitionTime"]
        else:
            entry.setdefault("lastTransitionTime", rfc3339(now_s))
        # Times of other sorts (lastProbeTime, lastUpdateTime) stay unless the new one brings its own.
        kept = {key: value for key, value in existing.items() if key.endswith("Time") and key not in entry}
        result[position] = {**kept, **entry}
        return result
    entry.setdefault("lastTransitionTime", rfc3339(now_s))
    result.append(entry)
    return result


def without_condition(conditions: Sequence[Mapping[str, Any]] | None, type: str) -> list[Condition]:
    return [dict(one) for one in conditions or () if one.get("type") != type]
