"""What the rules of a definition may cost together, by the bounds that its schema sets.

A rule on the elements of a list costs what it costs for one, times the elements. Where no bound is set, a
request of three megabytes is one. Too dear is refused when the definition is written, since it would be found
out only when somebody has a long list. The limits and the sentences are Kubernetes'.
Source: k8s.io/apiextensions-apiserver, pkg/apis/apiextensions/validation (cel_validation.go, validation.go).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gitkube.objects.cel.cost import MOST_UNITS
from gitkube.objects.declared_types import MAX_REQUEST_BYTES
from gitkube.objects.validation.causes import Causes

PER_RULE_UNITS = 10_000_000
PER_SCHEMA_UNITS = 100_000_000
_NAMED = 4
"""Rules that are named when all together are too dear."""
_REMEDY = (
    "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and "
    "strings are declared)"
)
_TOTAL = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema"
_SHARE = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"

Count = int | None
"""How often a part of a schema can be in an object; None: no bound is set."""


class RuleCosts:
    """The costs of one schema's rules."""

    def __init__(self) -> None:
        self._total = 0
        self._dear: list[tuple[int, str]] = []

    def add(self, causes: Causes, path: str, units: int, count: Count, smallest: int, what: str) -> None:
        """Note an expression, and refuse it when it is too dear by itself.

        Args:
            path: of the expression.
            units: for one evaluation.
            count: how often it may be evaluated for an object.
            smallest: bytes of the smallest value that it may be about.
            what: it is, such as `rule`.
        """
        times = MAX_REQUEST_BYTES // (smallest + 1) if count is None else count
        cost = min(units * times, MOST_UNITS)
        self._total = min(self._total + cost, MOST_UNITS)
        if cost > PER_SCHEMA_UNITS // 100:
            self._dear.append((cost, path))
        if cost > PER_RULE_UNITS:
            causes.forbidden(path, _too_dear(f"estimated {what} cost", cost, PER_RULE_UNITS))

    def check_total(self, causes: Causes, path: str) -> None:
        """Refuse a schema whose rules are too dear together."""
        if self._total <= PER_SCHEMA_UNITS:
            return
        for _, place in sorted(self._dear, key=lambda dear: -dear[0])[:_NAMED]:
            causes.forbidden(place, _SHARE)
        causes.forbidden(path, _too_dear(_TOTAL, self._total, PER_SCHEMA_UNITS))


def count_below(count: Count, schema: Mapping[str, Any], word: str) -> Count:
    """How often the elements (`items`) or values (`additionalProperties`) of a schema can be in an object."""
    if word not in ("items", "additionalProperties"):
        return count
    most = schema.get("maxItems" if word == "items" else "maxProperties")
    return None if count is None or most is None else min(count * int(most), MOST_UNITS)


def _too_dear(what: str, cost: int, limit: int) -> str:
    factor = cost / limit
    if factor > 100:
        shown = "more than 100x"
    else:
        shown = f"{factor:f}x" if factor < 1.5 else f"{factor:.1f}x"
    return f"{what} exceeds budget by factor of {shown} {_REMEDY}"
