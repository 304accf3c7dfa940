"""ClusterRoles that gather the rules of others: `admin`, `edit`, `view`, and those that people make.

A ClusterRole with an `aggregationRule` gets the rules of all ClusterRoles that one of its selectors selects,
in the order of their names and each rule once. It may itself be gathered (`view` into `edit`), so a change
travels on, one step a look. Reconciling again changes nothing.
"""

from __future__ import annotations

from typing import Any

from gitkube.control.context import Context, Controller
from gitkube.objects import meta
from gitkube.objects.kinds import CLUSTER_ROLE
from gitkube.objects.labels import selector_of
from gitkube.objects.types import Object


class ClusterRoleAggregationController(Controller):
    name = "clusterrole-aggregation-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._roles = context.informer(CLUSTER_ROLE)
        self._roles.add_handler(self._on_role)

    async def reconcile(self, key: str) -> float | None:
        """One look at one gathering role."""
        role = self._roles.get(key)
        if role is None or meta.is_deleting(role) or not _selectors(role):
            return None
        rules = gathered_rules(role, self._roles.list())
        if rules != (role.get("rules") or []):
            await self.client.update(CLUSTER_ROLE, {**role, "rules": rules})
        return None

    def _on_role(self, before: Object | None, after: Object | None) -> None:
        """Any role may have come into a selection or left it."""
        for role in self._roles.list():
            if _selectors(role):
                self.enqueue(role)


def gathered_rules(role: Object, roles: list[Object]) -> list[dict[str, Any]]:
    """The rules that a gathering role shall have."""
    selectors = [selector_of(written) for written in _selectors(role)]
    found: list[dict[str, Any]] = []
    for other in sorted(roles, key=meta.name):
        if meta.name(other) == meta.name(role):
            continue
        labels = other["metadata"].get("labels")
        if any(selector.matches(labels) for selector in selectors):
            found.extend(rule for rule in other.get("rules") or () if rule not in found)
    return found


def _selectors(role: Object) -> list[Object]:
    return list((role.get("aggregationRule") or {}).get("clusterRoleSelectors") or ())
