"""ClusterRoles that gather the rules of others."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

from gitkube.clock import SystemClock
from gitkube.control.cluster_role_aggregation import ClusterRoleAggregationController, gathered_rules
from gitkube.control.manager import Manager
from gitkube.control.settings import ControlSettings
from gitkube.objects.kinds import CLUSTER_ROLE
from gitkube.objects.types import Object
from tests.support.real_api import real_client

PODS: dict[str, Any] = {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}
MAPS: dict[str, Any] = {"verbs": ["get"], "apiGroups": [""], "resources": ["configmaps"]}


def role(name: str, *rules: dict[str, Any], labels: dict[str, str] | None = None) -> Object:
    return {"metadata": {"name": name, "labels": labels or {}}, "rules": list(rules)}


def gathering(name: str, *selectors: dict[str, Any], labels: dict[str, str] | None = None) -> Object:
    return {**role(name, labels=labels), "aggregationRule": {"clusterRoleSelectors": list(selectors)}}


VIEW = gathering("view", {"matchLabels": {"to-view": "true"}})


def test_the_rules_of_all_that_are_selected_are_gathered_each_once_in_the_order_of_names() -> None:
    roles = [
        role("b", MAPS, PODS, labels={"to-view": "true"}),
        role("a", PODS, labels={"to-view": "true"}),
        role("c", {**PODS, "verbs": ["delete"]}, labels={"to-view": "false"}),
        role("d", {**PODS, "verbs": ["*"]}),
    ]
    assert gathered_rules(VIEW, [*roles, VIEW]) == [PODS, MAPS]
    assert gathered_rules(VIEW, [*reversed(roles)]) == [PODS, MAPS]


def test_one_of_several_selectors_is_enough_and_none_selects_nothing() -> None:
    two = gathering(
        "x", {"matchLabels": {"one": "1"}}, {"matchExpressions": [{"key": "two", "operator": "Exists"}]}
    )
    assert gathered_rules(
        two, [role("a", PODS, labels={"two": ""}), role("b", MAPS, labels={"one": "1"})]
    ) == [
        PODS,
        MAPS,
    ]
    assert gathered_rules(two, [role("a", PODS)]) == []


def test_a_role_does_not_gather_itself() -> None:
    own = {**gathering("x", {"matchLabels": {"a": "b"}}, labels={"a": "b"}), "rules": [PODS]}
    assert gathered_rules(own, [own]) == []


async def test_what_is_given_to_view_is_in_edit_and_admin_too_until_it_is_taken_away(tmp_path: Path) -> None:
    widgets: dict[str, Any] = {"verbs": ["get"], "apiGroups": ["example.org"], "resources": ["widgets"]}
    async with real_client(tmp_path) as client:
        manager = Manager(
            client,
            clock=SystemClock(),
            rng=random.Random(5),
            settings=ControlSettings(),
            controllers=[ClusterRoleAggregationController],
        )
        running = asyncio.create_task(manager.run())

        async def until_all(name: str, *, have: bool) -> None:
            for _ in range(1500):
                roles = [await client.get(CLUSTER_ROLE, each) for each in ("view", "edit", "admin")]
                if all((widgets in (role.get("rules") or [])) is have for role in roles):
                    return
                await asyncio.sleep(0.01)
            raise AssertionError(f"waited in vain until {name}")

        label = {"rbac.authorization.k8s.io/aggregate-to-view": "true"}
        await client.create(
            CLUSTER_ROLE,
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRole",
                "metadata": {"name": "widgets", "labels": label},
                "rules": [widgets],
            },
        )
        await until_all("the rule is gathered", have=True)
        view, edit = await client.get(CLUSTER_ROLE, "view"), await client.get(CLUSTER_ROLE, "edit")
        assert all(rule in edit["rules"] for rule in view["rules"]) and len(edit["rules"]) > len(
            view["rules"]
        )
        await client.delete(CLUSTER_ROLE, "widgets")
        await until_all("the rule is gone", have=False)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
