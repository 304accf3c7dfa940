"""What a Source says of all its objects: one phase and one sentence.

What is worst is said, with its place in git; a commit that is refused comes before everything else, for it is
what the person who pushed has to mend.
"""

from __future__ import annotations

from collections.abc import Mapping

from gitkube.gitops.check import Ref
from gitkube.gitops.health import DEGRADED, FAILED, HEALTHY, WORST_FIRST
from gitkube.gitops.problem import count
from gitkube.gitops.rollout import Rollout, Seen


def summary(health: Mapping[Ref, Seen], newest: Rollout, *, refused: str, held_back: int) -> tuple[str, str]:
    """Phase and message.

    Args:
        refused: why the newest commit is; "" when it is not.
        held_back: how many objects that are gone from git the brake keeps.
    """
    if refused:
        return FAILED, refused
    worst = min(health.items(), key=lambda item: WORST_FIRST.index(item[1].health.state), default=None)
    if worst is None or worst[1].health.state == HEALTHY:
        if held_back:
            return DEGRADED, f"{count(held_back, 'object')} gone from git still run: see Applied"
        return HEALTHY, newest.lines[-1].partition(" ")[2].strip() if newest.lines else ""
    ref, seen = worst
    reason = f": {seen.health.reason}" if seen.health.reason else ""
    return seen.health.state, f"{ref}{reason} ({seen.place.path}:{seen.place.line})"
