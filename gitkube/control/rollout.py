"""The arithmetic of a Deployment's rollout: how many replicas each of its ReplicaSets should have next.

Pure. A rolling update moves between two walls: never more than replicas + maxSurge pods in all, never fewer
than replicas - maxUnavailable available ones. New ones come as far as the first wall lets them; old ones go
as far as the second does, and unhealthy old ones, which serve nobody, go first. When a Deployment is scaled
in the middle of a rollout, what is added or taken away is shared out in proportion, leftovers to the largest.
Source: Kubernetes' deployment controller, `sync.go`, `rolling.go`, `util/deployment_util.go`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Part:
    """A ReplicaSet of a Deployment, as far as the arithmetic goes."""

    name: str
    replicas: int
    available: int
    created_at: float
    max_replicas: int | None = None
    """Of the annotation deployment.kubernetes.io/max-replicas: replicas + maxSurge when last scaled."""
    desired_replicas: int | None = None
    """Of the annotation deployment.kubernetes.io/desired-replicas."""


@dataclass(frozen=True, slots=True)
class Fences:
    max_surge: int
    max_unavailable: int


def fences(rolling_update: Mapping[str, Any] | None, replicas: int) -> Fences:
    """Whole numbers for maxSurge (percent rounded up) and maxUnavailable (rounded down).

    Both zero would never move, so then one may be unavailable.
    """
    strategy = rolling_update or {}
    max_surge = _share(strategy.get("maxSurge", "25%"), replicas, math.ceil)
    max_unavailable = _share(strategy.get("maxUnavailable", "25%"), replicas, math.floor)
    if max_surge == 0 and max_unavailable == 0:
        max_unavailable = 1
    return Fences(max_surge, min(max_unavailable, replicas) if replicas else max_unavailable)


def new_replicas(new: Part, old: Sequence[Part], desired: int, max_surge: int) -> int:
    """How many replicas the new ReplicaSet should have next in a rolling update."""
    if new.replicas >= desired:
        return desired
    room = desired + max_surge - new.replicas - sum(part.replicas for part in old)
    if room <= 0:
        return new.replicas
    return new.replicas + min(room, desired - new.replicas)


def old_replicas(new: Part, old: Sequence[Part], desired: int, max_unavailable: int) -> dict[str, int]:
    """How many replicas old ReplicaSets should have next; those not named stay."""
    if not sum(part.replicas for part in old):
        return {}
    min_available = desired - max_unavailable
    total = new.replicas + sum(part.replicas for part in old)
    # New pods that are not available yet count as lost, or every bad rollout would take down the good pods.
    room = total - min_available - max(new.replicas - new.available, 0)
    if room <= 0:
        return {}
    after = {part.name: part for part in old}
    oldest_first = sorted(old, key=lambda part: part.created_at)
    for part in oldest_first:
        unhealthy = min(room, max(part.replicas - part.available, 0))
        if unhealthy > 0:
            after[part.name] = replace(part, replicas=part.replicas - unhealthy)
            room -= unhealthy
    surplus = new.available + sum(part.available for part in old) - min_available
    for name in [part.name for part in oldest_first]:
        if surplus <= 0:
            break
        fewer = min(after[name].replicas, surplus)
        after[name] = replace(after[name], replicas=after[name].replicas - fewer)
        surplus -= fewer
    before = {part.name: part.replicas for part in old}
    return {name: part.replicas for name, part in after.items() if part.replicas != before[name]}


def scaled(
    new: Part | None,
    old: Sequence[Part],
    desired: int,
    limits: Fences,
    *,
    is_rolling: bool,
    status_replicas: int,
) -> dict[str, int]:
    """How a change of `spec.replicas` is shared among the ReplicaSets; those not named stay.

    Args:
        status_replicas: of the Deployment; what a part without the annotation was sized by.
    """
    single = _active_or_latest(new, old)
    if single is not None:
        return {} if single.replicas == desired else {single.name: desired}
    if new is not None and _is_saturated(new, desired):
        return {part.name: 0 for part in old if part.replicas > 0}
    if not is_rolling:
        return {}
    parts = [part for part in [*old, *([new] if new is not None else [])] if part.replicas > 0]
    allowed = desired + limits.max_surge if desired > 0 else 0
    to_add = allowed - sum(part.replicas for part in parts)
    # Large ones change first; of equals, the newer grow first and the older shrink first.
    newest_first = to_add > 0
    parts.sort(key=lambda part: (-part.replicas, -part.created_at if newest_first else part.created_at))
    sizes: dict[str, int] = {}
    added = 0
    for part in parts:
        change = _proportion(part, desired, limits.max_surge, to_add, added, status_replicas)
        sizes[part.name] = max(part.replicas + change, 0)
        added += change
    # What rounding left over goes to the largest, and to the next where that one cannot shrink any further.
    # (Kubernetes stops at the largest and keeps more than is allowed: of four of 1 scaled down to 1, 3 stay.)
    left = to_add - sum(sizes[part.name] - part.replicas for part in parts)
    for part in parts:
        size = max(sizes[part.name] + left, 0)
        left -= size - sizes[part.name]
        sizes[part.name] = size
    return {part.name: sizes[part.name] for part in parts if sizes[part.name] != part.replicas}


def _active_or_latest(new: Part | None, old: Sequence[Part]) -> Part | None:
    """The only part that counts: the one active, or the newest when none is. None when several are active."""
    everyone = [*([new] if new is not None else []), *old]
    active = [part for part in everyone if part.replicas > 0]
    if len(active) == 1:
        return active[0]
    if active:
        return None
    return new if new is not None else max(old, key=lambda part: part.created_at, default=None)


def _is_saturated(new: Part, desired: int) -> bool:
    return new.desired_replicas == desired and new.replicas == desired and new.available == desired


def _proportion(
    part: Part, desired: int, max_surge: int, to_add: int, added: int, status_replicas: int
) -> int:
    if part.replicas == 0 or to_add in (0, added):
        return 0
    if desired == 0:
        fraction = -part.replicas
    else:
        sized_by = part.max_replicas or status_replicas or part.replicas
        fraction = _round_half_away(part.replicas * (desired + max_surge) / sized_by) - part.replicas
    allowed = to_add - added
    return min(fraction, allowed) if to_add > 0 else max(fraction, allowed)


def _round_half_away(value: float) -> int:
    return math.floor(value + 0.5) if value >= 0 else math.ceil(value - 0.5)


def _share(value: Any, whole: int, rounded: Any) -> int:
    """An IntOrString: a number, or a percentage of `whole`."""
    if isinstance(value, str):
        return int(rounded(whole * int(value.removesuffix("%")) / 100))
    return int(value)
