"""Checks of what a pod says about its host: selectors, affinity, tolerations, spread."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gitkube.objects import names
from gitkube.objects.validation.causes import Causes
from gitkube.objects.validation.metadata import check_labels
from gitkube.objects.validation.selectors import check_label_selector

_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_REQUIRED_TERMS = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED_TERMS = "preferredDuringSchedulingIgnoredDuringExecution"
_POLICIES = ("Honor", "Ignore")


def check_scheduling(causes: Causes, spec: Mapping[str, Any], path: str) -> None:
    check_labels(causes, spec.get("nodeSelector"), f"{path}.nodeSelector")
    for index, toleration in enumerate(spec.get("tolerations") or ()):
        _check_toleration(causes, toleration, f"{path}.tolerations[{index}]")
    affinity = spec.get("affinity") or {}
    if node_affinity := affinity.get("nodeAffinity"):
        _check_node_affinity(causes, node_affinity, f"{path}.affinity.nodeAffinity")
    for field in ("podAffinity", "podAntiAffinity"):
        if pod_affinity := affinity.get(field):
            _check_pod_affinity(causes, pod_affinity, f"{path}.affinity.{field}")
    _check_spread(causes, spec.get("topologySpreadConstraints") or (), f"{path}.topologySpreadConstraints")


def _check_toleration(causes: Causes, toleration: Mapping[str, Any], path: str) -> None:
    key, operator = toleration.get("key") or "", toleration.get("operator") or ""
    value, effect = toleration.get("value") or "", toleration.get("effect") or ""
    if key:
        causes.invalids(f"{path}.key", key, names.qualified_name(key))
    elif operator != "Exists":
        causes.invalid(
            f"{path}.operator",
            operator,
            'operator must be Exists when `key` is empty, which means "match all values and all keys"',
        )
    if toleration.get("tolerationSeconds") is not None and effect != "NoExecute":
        causes.invalid(f"{path}.effect", effect, "effect must be 'NoExecute' when `tolerationSeconds` is set")
    if operator in ("", "Equal"):
        causes.invalids(f"{path}.operator", value, names.label_value(value))
    elif operator == "Exists":
        if value:
            causes.invalid(f"{path}.operator", value, "value must be empty when `operator` is 'Exists'")
    else:
        causes.not_supported(f"{path}.operator", operator, ("Equal", "Exists"))
    causes.one_of(f"{path}.effect", effect, _EFFECTS, is_required=False)


def _check_node_affinity(causes: Causes, affinity: Mapping[str, Any], path: str) -> None:
    required = affinity.get(_REQUIRED_TERMS)
    if required is not None:
        where = f"{path}.{_REQUIRED_TERMS}.nodeSelectorTerms"
        terms = required.get("nodeSelectorTerms") or ()
        if not terms:
            causes.required(where, "must have at least one node selector term")
        for index, term in enumerate(terms):
            check_node_term(causes, term, f"{where}[{index}]")
    for index, preferred in enumerate(affinity.get(_PREFERRED_TERMS) or ()):
        where = f"{path}.{_PREFERRED_TERMS}[{index}]"
        _check_weight(causes, preferred.get("weight"), f"{where}.weight")
        check_node_term(causes, preferred.get("preference") or {}, f"{where}.preference")


def check_node_term(causes: Causes, term: Mapping[str, Any], path: str) -> None:
    for index, expression in enumerate(term.get("matchExpressions") or ()):
        where = f"{path}.matchExpressions[{index}]"
        key = expression.get("key") or ""
        values = expression.get("values") or ()
        match expression.get("operator"):
            case "In" | "NotIn":
                if not values:
                    causes.required(f"{where}.values", "must be specified when `operator` is 'In' or 'NotIn'")
            case "Exists" | "DoesNotExist":
                if values:
                    causes.forbidden(
                        f"{where}.values",
                        "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                    )
            case "Gt" | "Lt":
                if len(values) != 1:
                    causes.required(
                        f"{where}.values", "must be specified single value when `operator` is 'Lt' or 'Gt'"
                    )
            case operator:
                causes.invalid(f"{where}.operator", operator or "", "not a valid selector operator")
        causes.invalids(f"{where}.key", key, names.qualified_name(key))
        for position, value in enumerate(values):
            causes.invalids(f"{where}.values[{position}]", value, names.label_value(value or ""))
    for index, expression in enumerate(term.get("matchFields") or ()):
        where = f"{path}.matchFields[{index}]"
        if expression.get("operator") not in ("In", "NotIn"):
            causes.invalid(
                f"{where}.operator", expression.get("operator") or "", "not a valid selector operator"
            )
        elif len(expression.get("values") or ()) != 1:
            causes.required(
                f"{where}.values",
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
            )
        if expression.get("key") != "metadata.name":
            causes.invalid(f"{where}.key", expression.get("key") or "", "not a valid field selector key")


def _check_pod_affinity(causes: Causes, affinity: Mapping[str, Any], path: str) -> None:
    for index, term in enumerate(affinity.get(_REQUIRED_TERMS) or ()):
        _check_pod_term(causes, term, f"{path}.{_REQUIRED_TERMS}[{index}]")
    for index, preferred in enumerate(affinity.get(_PREFERRED_TERMS) or ()):
        where = f"{path}.{_PREFERRED_TERMS}[{index}]"
        _check_weight(causes, preferred.get("weight"), f"{where}.weight")
        _check_pod_term(causes, preferred.get("podAffinityTerm") or {}, f"{where}.podAffinityTerm")


def _check_pod_term(causes: Causes, term: Mapping[str, Any], path: str) -> None:
    check_label_selector(causes, term.get("labelSelector"), f"{path}.labelSelector")
    check_label_selector(causes, term.get("namespaceSelector"), f"{path}.namespaceSelector")
    for namespace in term.get("namespaces") or ():
        causes.invalids(f"{path}.namespace", namespace, names.dns_label(namespace))
    key = term.get("topologyKey") or ""
    if not key:
        causes.required(f"{path}.topologyKey", "can not be empty")
    else:
        causes.invalids(f"{path}.topologyKey", key, names.qualified_name(key))


def _check_weight(causes: Causes, weight: Any, path: str) -> None:
    if weight is None or not 1 <= weight <= 100:
        causes.invalid(path, weight or 0, "must be in the range 1-100")


def _check_spread(causes: Causes, constraints: Any, path: str) -> None:
    seen: set[tuple[str, str]] = set()
    for index, constraint in enumerate(constraints):
        where = f"{path}[{index}]"
        skew = constraint.get("maxSkew") or 0
        if skew <= 0:
            causes.invalid(f"{where}.maxSkew", skew, "must be greater than zero")
        key = constraint.get("topologyKey") or ""
        if not key:
            causes.required(f"{where}.topologyKey", "can not be empty")
        else:
            causes.invalids(f"{where}.topologyKey", key, names.qualified_name(key))
        action = constraint.get("whenUnsatisfiable") or ""
        causes.one_of(f"{where}.whenUnsatisfiable", action, ("DoNotSchedule", "ScheduleAnyway"))
        if (key, action) in seen:
            causes.duplicate(f"{where}.{{topologyKey, whenUnsatisfiable}}", f"{{{key}, {action}}}")
        seen.add((key, action))
        minimum = constraint.get("minDomains")
        if minimum is not None:
            if minimum <= 0:
                causes.invalid(f"{where}.minDomains", minimum, "must be greater than zero")
            if action != "DoNotSchedule":
                causes.invalid(
                    f"{where}.minDomains",
                    minimum,
                    "can only use minDomains if whenUnsatisfiable=DoNotSchedule, "
                    f"not whenUnsatisfiable={action}",
                )
        for field in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
            causes.one_of(f"{where}.{field}", constraint.get(field), _POLICIES, is_required=False)
        check_label_selector(causes, constraint.get("labelSelector"), f"{where}.labelSelector")
        if constraint.get("matchLabelKeys"):
            _check_match_label_keys(causes, constraint, f"{where}.matchLabelKeys")


def _check_match_label_keys(causes: Causes, constraint: Mapping[str, Any], path: str) -> None:
    """Keys of labels that a pod brings to the selector; none of them may stand there already."""
    selector = constraint.get("labelSelector")
    if selector is None:
        causes.forbidden(path, "must not be specified when labelSelector is not set")
    present = {*((selector or {}).get("matchLabels") or ())}
    present |= {one.get("key") for one in (selector or {}).get("matchExpressions") or ()}
    for index, key in enumerate(constraint["matchLabelKeys"]):
        causes.invalids(f"{path}[{index}]", key, names.qualified_name(key))
        if key in present:
            causes.invalid(f"{path}[{index}]", key, "exists in both matchLabelKeys and labelSelector")
