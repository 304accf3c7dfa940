"""ClusterRoles that gather the rules of others."""

from __future__ import annotations

from typing import Any

from gitkube.control.cluster_role_aggregation import gathered_rules
from gitkube.objects.types import Object

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
