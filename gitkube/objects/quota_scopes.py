"""Which pods a ResourceQuota means: its scopes, each of which must fit.

`spec.scopes` are names; `spec.scopeSelector` says the same with operators, which only PriorityClass needs.
Source: Kubernetes' pkg/quota/v1/evaluator/core/pods.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gitkube.objects import pods
from gitkube.objects.types import Object

Scope = Mapping[str, Any]


def scopes_of(quota: Object) -> list[Scope]:
    """The scopes as the expressions of a scopeSelector."""
    spec = quota.get("spec") or {}
    named = [{"scopeName": name, "operator": "Exists"} for name in spec.get("scopes") or ()]
    return [*named, *((spec.get("scopeSelector") or {}).get("matchExpressions") or ())]


def fits_scope(scope: Scope, pod: Object) -> bool:
    """Whether a pod is one of those that a scope means."""
    spec = pods.spec(pod)
    match scope.get("scopeName"):
        case "Terminating":
            return _has_deadline(spec)
        case "NotTerminating":
            return not _has_deadline(spec)
        case "BestEffort":
            return pods.qos_class(spec) == "BestEffort"
        case "NotBestEffort":
            return pods.qos_class(spec) != "BestEffort"
        case "PriorityClass":
            return _fits_priority(scope, str(spec.get("priorityClassName") or ""))
        case "CrossNamespacePodAffinity":
            return uses_other_namespaces(spec)
    return False


def _has_deadline(spec: Mapping[str, Any]) -> bool:
    deadline = spec.get("activeDeadlineSeconds")
    return deadline is not None and deadline >= 0


def _fits_priority(scope: Scope, name: str) -> bool:
    values = scope.get("values") or ()
    match scope.get("operator"):
        case "Exists":
            return bool(name)
        case "DoesNotExist":
            return not name
        case "In":
            return bool(name) and name in values
        case "NotIn":
            return name not in values
    return False


def uses_other_namespaces(spec: Mapping[str, Any]) -> bool:
    """Whether its (anti-)affinity looks at pods of other namespaces."""
    affinity = spec.get("affinity") or {}
    for field in ("podAffinity", "podAntiAffinity"):
        part = affinity.get(field) or {}
        preferred = part.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        terms = [
            *(part.get("requiredDuringSchedulingIgnoredDuringExecution") or ()),
            *((one.get("podAffinityTerm") or {}) for one in preferred),
        ]
        if any(term.get("namespaces") or term.get("namespaceSelector") is not None for term in terms):
            return True
    return False
