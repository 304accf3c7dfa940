"""Durations as kubectl writes them: `45s`, `3m20s`, `5d4h`: about two figures, less the longer it is.

Source: k8s.io/apimachinery/pkg/util/duration.HumanDuration.
"""

from __future__ import annotations

from typing import Any

from gitkube.objects.meta import time_s

UNKNOWN = "<unknown>"
_MINUTE_S = 60
_HOUR_S = 60 * _MINUTE_S
_DAY_S = 24 * _HOUR_S
_YEAR_S = 365 * _DAY_S


def human_duration(duration_s: float) -> str:
    """A duration for a column; clocks may differ by a second, more is shown as `<invalid>`."""
    seconds = int(duration_s)
    if seconds < -1:
        return "<invalid>"
    if seconds < 2 * _MINUTE_S:
        return f"{max(seconds, 0)}s"
    if seconds < 10 * _MINUTE_S:
        return _two(seconds, _MINUTE_S, "m", 1, "s")
    if seconds < 3 * _HOUR_S:
        return f"{seconds // _MINUTE_S}m"
    if seconds < 8 * _HOUR_S:
        return _two(seconds, _HOUR_S, "h", _MINUTE_S, "m")
    if seconds < 2 * _DAY_S:
        return f"{seconds // _HOUR_S}h"
    if seconds < 8 * _DAY_S:
        return _two(seconds, _DAY_S, "d", _HOUR_S, "h")
    if seconds < 2 * _YEAR_S:
        return f"{seconds // _DAY_S}d"
    if seconds < 8 * _YEAR_S:
        return _two(seconds, _YEAR_S, "y", _DAY_S, "d")
    return f"{seconds // _YEAR_S}y"


def age(timestamp: Any, now_s: float) -> str:
    """How long ago a time in an object is; `<unknown>` when it is missing."""
    return human_duration(now_s - time_s(timestamp)) if timestamp else UNKNOWN


def _two(seconds: int, large_s: int, large: str, small_s: int, small: str) -> str:
    rest = seconds % large_s // small_s
    return f"{seconds // large_s}{large}{rest}{small}" if rest else f"{seconds // large_s}{large}"
