"""Keeps the default roles and bindings in the cluster, at every start of a server.

What is missing is made; what is there gets what it lacks and keeps what somebody added, so that servers of
two releases can start side by side and neither takes away from the other. Whoever annotates one of them
`rbac.authorization.kubernetes.io/autoupdate: "false"` keeps it as it is. A binding to another role than
ours is made anew, for a binding's role cannot be changed.
"""

from __future__ import annotations

import asyncio

from gitkube.api.client import Client
from gitkube.api.errors import StatusError, is_already_exists, is_conflict, is_not_found
from gitkube.api.rbac.defaults import AUTOUPDATE, CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLES
from gitkube.api.rbac.rules import compact, rules_of, uncovered
from gitkube.objects import meta
from gitkube.objects.kinds import CLUSTER_ROLE, CLUSTER_ROLE_BINDING, ROLE, Kind
from gitkube.objects.types import Object

_TRIES = 5

DEFAULTS: tuple[tuple[Kind, Object], ...] = (
    *((CLUSTER_ROLE, role) for role in CLUSTER_ROLES),
    *((ROLE, role) for role in ROLES),
    *((CLUSTER_ROLE_BINDING, binding) for binding in CLUSTER_ROLE_BINDINGS),
)


async def ensure_default_roles(client: Client) -> None:
    """Make what is missing and complete what is there.

    Raises:
        StatusError: the store does not answer, or others write the same all the time.
    """
    await asyncio.gather(*(_ensure(client, kind, wanted) for kind, wanted in DEFAULTS))


async def _ensure(client: Client, kind: Kind, wanted: Object) -> None:
    name, namespace = meta.name(wanted), meta.namespace(wanted)
    for attempt in range(_TRIES):
        try:
            try:
                present = await client.get(kind, name, namespace)
            except StatusError as error:
                if not is_not_found(error):
                    raise
                await client.create(kind, wanted)
                return
            if _is_of_another_role(present, wanted):
                await client.delete(kind, name, namespace, uid=meta.uid(present))
                continue
            completed = complete(present, wanted)
            if completed is not None:
                await client.update(kind, completed)
            return
        except StatusError as error:
            # Another server does the same at the same time.
            is_race = is_conflict(error) or is_already_exists(error) or is_not_found(error)
            if not is_race or attempt == _TRIES - 1:
                raise


def complete(present: Object, wanted: Object) -> Object | None:
    """What is there, with all that ours has and it lacks; None when it lacks nothing or is to be let
    alone."""
    metadata = present["metadata"]
    if (metadata.get("annotations") or {}).get(AUTOUPDATE) == "false":
        return None
    completed: Object = {**present, "metadata": dict(metadata)}
    for field in ("labels", "annotations"):
        completed["metadata"][field] = {**wanted["metadata"][field], **(metadata.get(field) or {})}
    if "aggregationRule" in wanted:
        selectors = list((present.get("aggregationRule") or {}).get("clusterRoleSelectors") or ())
        missing = [
            selector
            for selector in wanted["aggregationRule"]["clusterRoleSelectors"]
            if selector not in selectors
        ]
        completed["aggregationRule"] = {"clusterRoleSelectors": [*selectors, *missing]}
    elif "rules" in wanted:
        lacking = compact(uncovered(rules_of(present), rules_of(wanted)))
        rules = [*(present.get("rules") or ()), *(rule.to_object() for rule in lacking)]
        if lacking:
            completed["rules"] = rules
    else:
        subjects = list(present.get("subjects") or ())
        missing = [subject for subject in wanted.get("subjects") or () if subject not in subjects]
        if missing:
            completed["subjects"] = [*subjects, *missing]
    return None if completed == present else completed


def _is_of_another_role(present: Object, wanted: Object) -> bool:
    if "roleRef" not in wanted or present.get("roleRef") == wanted["roleRef"]:
        return False
    return (present["metadata"].get("annotations") or {}).get(AUTOUPDATE) != "false"
