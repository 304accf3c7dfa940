"""Checks of limits, quotas, budgets, priorities and autoscalers.

Source: k8s.io/kubernetes/pkg/apis/{core,policy,scheduling,autoscaling,node}/validation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gitkube.objects import names
from gitkube.objects.quantity import Quantity
from gitkube.objects.types import Object
from gitkube.objects.validation.causes import Causes
from gitkube.objects.validation.selectors import check_label_selector
from gitkube.objects.validation.workloads import check_share

MAX_USER_PRIORITY = 1_000_000_000
SYSTEM_PRIORITIES: Mapping[str, int] = {
    "system-cluster-critical": 2_000_000_000,
    "system-node-critical": 2_000_001_000,
}
_LIMIT_TYPES = ("Pod", "Container", "PersistentVolumeClaim")
_COMPUTE = ("cpu", "memory", "ephemeral-storage")
_COUNTED = (
    "pods", "services", "replicationcontrollers", "resourcequotas", "secrets", "configmaps",
    "persistentvolumeclaims", "services.nodeports", "services.loadbalancers",
)  # fmt: skip
_QUOTA_AMOUNTS = (
    *_COMPUTE, "requests.cpu", "requests.memory", "requests.storage", "requests.ephemeral-storage",
    "limits.cpu", "limits.memory", "limits.ephemeral-storage",
)  # fmt: skip
_SCOPES = (
    "Terminating", "NotTerminating", "BestEffort", "NotBestEffort", "PriorityClass",
    "CrossNamespacePodAffinity", "VolumeAttributesClass",
)  # fmt: skip
_OPPOSED = (("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating"))
_SCOPED = frozenset(
    {
        "pods", "cpu", "memory", "ephemeral-storage", "requests.cpu", "requests.memory",
        "requests.ephemeral-storage", "limits.cpu", "limits.memory", "limits.ephemeral-storage",
    }
)  # fmt: skip
"""What may be counted for a part of the pods."""
_METRICS = {
    "Resource": "resource",
    "ContainerResource": "containerResource",
    "Pods": "pods",
    "Object": "object",
    "External": "external",
}


# ---------------------------------------------------------------------------------------- limits and quotas


def check_limit_range(causes: Causes, limit_range: Object) -> None:
    seen: set[str] = set()
    for index, item in enumerate((limit_range.get("spec") or {}).get("limits") or ()):
        path, kind = f"spec.limits[{index}]", item.get("type") or ""
        if wrong := names.qualified_name(kind):
            causes.invalids(f"{path}.type", kind, wrong)
        elif "/" not in kind and kind not in _LIMIT_TYPES:
            causes.invalid(f"{path}.type", kind, "must be a standard limit type or fully qualified")
        if kind in seen:
            causes.duplicate(f"{path}.type", kind)
        seen.add(kind)
        _check_limits(causes, item, path, kind)


def _check_limits(causes: Causes, item: Mapping[str, Any], path: str, kind: str) -> None:
    least, most = _amounts(item, "min"), _amounts(item, "max")
    given, asked = _amounts(item, "default"), _amounts(item, "defaultRequest")
    ratios = _amounts(item, "maxLimitRequestRatio")
    if kind == "Pod":
        for field in ("default", "defaultRequest"):
            if item.get(field):
                causes.forbidden(f"{path}.{field}", "may not be specified when `type` is 'Pod'")
        given, asked = {}, {}
    elif kind == "PersistentVolumeClaim" and "storage" not in least and "storage" not in most:
        why = "either minimum or maximum storage value is required, but neither was provided"
        causes.required(f"{path}.limits", why)
    for name in sorted({*least, *most, *given, *asked, *ratios}):
        for field, other, low, high in (
            ("min", "max", least, most),
            ("defaultRequest", "max", asked, most),
            ("defaultRequest", "default limit", asked, given),
            ("default", "max", given, most),
        ):
            if name in low and name in high and low[name] > high[name]:
                message = f"{_words(field)} value {low[name]} is greater than {other} value {high[name]}"
                causes.invalid(f"{path}.{field}[{name}]", str(low[name]), message)
        for field, values in (("defaultRequest", asked), ("default", given)):
            if name in least and name in values and least[name] > values[name]:
                message = f"min value {least[name]} is greater than {_words(field)} value {values[name]}"
                causes.invalid(f"{path}.{field}[{name}]", str(least[name]), message)
        if name in ratios and ratios[name] < Quantity.parse("1"):
            message = f"ratio {ratios[name]} is less than 1"
            causes.invalid(f"{path}.maxLimitRequestRatio[{name}]", str(ratios[name]), message)


def _words(field: str) -> str:
    return "default request" if field == "defaultRequest" else field


def _amounts(item: Mapping[str, Any], field: str) -> dict[str, Quantity]:
    return {name: Quantity.parse(text) for name, text in (item.get(field) or {}).items()}


def check_resource_quota(causes: Causes, quota: Object) -> None:
    spec = quota.get("spec") or {}
    hard = spec.get("hard") or {}
    for name, text in hard.items():
        path = f"spec.hard[{name}]"
        _check_quota_name(causes, name, path)
        amount = Quantity.parse(text)
        if amount.nanos < 0:
            causes.invalid(path, str(amount), "must be greater than or equal to 0")
        elif name not in _QUOTA_AMOUNTS and "storage" not in name and not amount.is_integer:
            causes.invalid(path, str(amount), "must be an integer")
    _check_scopes(causes, spec.get("scopes") or (), hard, "spec.scopes")
    expressions = (spec.get("scopeSelector") or {}).get("matchExpressions") or ()
    for index, expression in enumerate(expressions):
        path = f"spec.scopeSelector.matchExpressions[{index}]"
        operator, values = expression.get("operator"), expression.get("values") or ()
        if operator in ("In", "NotIn") and not values:
            causes.required(f"{path}.values", "must be at least one value when `operator` is 'In' or 'NotIn'")
        elif operator in ("Exists", "DoesNotExist") and values:
            causes.invalid(
                f"{path}.values", values, "must be no value when `operator` is 'Exists' or 'DoesNotExist'"
            )
        elif operator not in ("In", "NotIn", "Exists", "DoesNotExist"):
            causes.invalid(f"{path}.operator", operator or "", "not a valid selector operator")
    _check_scopes(
        causes, [one.get("scopeName") for one in expressions], hard, "spec.scopeSelector.matchExpressions"
    )


def _check_quota_name(causes: Causes, name: str, path: str) -> None:
    if wrong := names.qualified_name(name):
        causes.invalids(path, name, wrong)
    elif "/" not in name and not _is_standard(name):
        causes.invalid(path, name, "must be a standard resource type or fully qualified")
        causes.invalid(path, name, "must be a standard resource for quota")


def _is_standard(name: str) -> bool:
    return (
        name in _QUOTA_AMOUNTS or name in _COUNTED or name.startswith(("hugepages-", "requests.hugepages-"))
    )


def _check_scopes(causes: Causes, scopes: Sequence[Any], hard: Mapping[str, Any], path: str) -> None:
    for scope in scopes:
        if scope not in _SCOPES:
            causes.invalid(path, list(scopes), "unsupported scope")
        elif any(_is_standard(name) and not _fits_scope(scope, name) for name in hard):
            causes.invalid(path, list(scopes), "unsupported scope applied to resource")
    for pair in _OPPOSED:
        if set(pair) <= set(scopes):
            causes.invalid(path, list(scopes), "conflicting scopes")


def _fits_scope(scope: str, resource: str) -> bool:
    if scope == "BestEffort":
        return resource == "pods"
    if scope == "VolumeAttributesClass":
        return resource in ("persistentvolumeclaims", "requests.storage")
    return resource in _SCOPED or resource.startswith(("hugepages-", "requests.hugepages-"))


def check_resource_quota_update(causes: Causes, quota: Object, old: Object) -> None:
    scopes, before = _scopes(quota), _scopes(old)
    if scopes != before:
        causes.invalid("spec.scopes", sorted(scopes), "field is immutable")


def _scopes(quota: Object) -> set[str]:
    return set((quota.get("spec") or {}).get("scopes") or ())


# ------------------------------------------------------------------------------------ budgets and priorities


def check_budget(causes: Causes, budget: Object) -> None:
    spec = budget.get("spec") or {}
    least, most = spec.get("minAvailable"), spec.get("maxUnavailable")
    if least is not None and most is not None:
        causes.invalid("spec", dict(spec), "minAvailable and maxUnavailable cannot be both set")
    for field, value in (("minAvailable", least), ("maxUnavailable", most)):
        if value is None:
            continue
        check_share(causes, value, f"spec.{field}")
        if (
            isinstance(value, str)
            and value.removesuffix("%").isdigit()
            and int(value.removesuffix("%")) > 100
        ):
            causes.invalid(f"spec.{field}", value, "must not be greater than 100%")
    check_label_selector(causes, spec.get("selector"), "spec.selector")
    causes.one_of(
        "spec.unhealthyPodEvictionPolicy",
        spec.get("unhealthyPodEvictionPolicy"),
        ("AlwaysAllow", "IfHealthyBudget"),
        is_required=False,
    )


def check_priority_class(causes: Causes, priority_class: Object) -> None:
    value = priority_class.get("value") or 0
    if not _name(priority_class).startswith("system-") and value > MAX_USER_PRIORITY:
        causes.forbidden("value", f"maximum allowed value of a user defined priority is {MAX_USER_PRIORITY}")
    policies = ("Never", "PreemptLowerPriority")
    causes.one_of("preemptionPolicy", priority_class.get("preemptionPolicy"), policies, is_required=False)


def _name(obj: Object) -> str:
    return (obj.get("metadata") or {}).get("name") or ""


def check_priority_class_create(causes: Causes, priority_class: Object) -> None:
    name, value = _name(priority_class), priority_class.get("value") or 0
    if name.startswith("system-") and SYSTEM_PRIORITIES.get(name) != value:
        why = "has another value" if name in SYSTEM_PRIORITIES else "is not a known system priority class"
        message = "priority class names with 'system-' prefix are reserved for system use only. "
        causes.forbidden("metadata.name", f"{message}error: {name} {why}")


def check_priority_class_update(causes: Causes, priority_class: Object, old: Object) -> None:
    if priority_class.get("value") != old.get("value"):
        causes.forbidden("value", "may not be changed in an update.")
    causes.immutable("preemptionPolicy", priority_class.get("preemptionPolicy"), old.get("preemptionPolicy"))


def check_runtime_class(causes: Causes, runtime_class: Object) -> None:
    handler = runtime_class.get("handler") or ""
    causes.invalids("handler", handler, names.dns_label(handler))


def check_runtime_class_update(causes: Causes, runtime_class: Object, old: Object) -> None:
    causes.immutable("handler", runtime_class.get("handler"), old.get("handler"))


# ---------------------------------------------------------------------------------------------- autoscalers


def check_autoscaler(causes: Causes, autoscaler: Object) -> None:
    spec = autoscaler.get("spec") or {}
    least, most = spec.get("minReplicas"), spec.get("maxReplicas") or 0
    metrics = spec.get("metrics") or ()
    if least is not None:
        # Nothing measured inside of pods can bring the first pod back.
        has_outside_metric = any(metric.get("type") in ("Object", "External") for metric in metrics)
        if least < 1:
            causes.invalid("spec.minReplicas", least, "must be greater than or equal to 1")
        if least == 0 and not has_outside_metric:
            message = (
                "must specify at least one Object or External metric to support scaling to zero replicas"
            )
            causes.forbidden("spec.metrics", message)
    if most < 1:
        causes.invalid("spec.maxReplicas", most, "must be greater than 0")
    if least is not None and most < least:
        causes.invalid("spec.maxReplicas", most, "must be greater than or equal to `minReplicas`")
    _check_reference(causes, spec.get("scaleTargetRef") or {}, "spec.scaleTargetRef")
    for index, metric in enumerate(metrics):
        _check_metric(causes, metric, f"spec.metrics[{index}]")
    for field, rules in (spec.get("behavior") or {}).items():
        _check_rules(causes, rules or {}, f"spec.behavior.{field}")


def _check_reference(causes: Causes, reference: Mapping[str, Any], path: str) -> None:
    for field in ("kind", "name"):
        value = reference.get(field) or ""
        if not value:
            causes.required(f"{path}.{field}")
        else:
            causes.invalids(f"{path}.{field}", value, names.path_segment(value))


def _check_metric(causes: Causes, metric: Mapping[str, Any], path: str) -> None:
    kind = metric.get("type") or ""
    if not kind:
        causes.required(f"{path}.type", "must specify a metric source type")
        return
    if kind not in _METRICS:
        causes.not_supported(f"{path}.type", kind, tuple(sorted(_METRICS)))
        return
    field = _METRICS[kind]
    source = metric.get(field)
    for other in _METRICS.values():
        if other != field and metric.get(other) is not None:
            causes.forbidden(f"{path}.{other}", "must populate the given metric source only")
    if source is None:
        causes.required(f"{path}.{field}", "must populate information for the given metric source")
        return
    where = f"{path}.{field}"
    if kind in ("Resource", "ContainerResource"):
        if not source.get("name"):
            causes.required(f"{where}.name", "must specify a resource name")
    elif not (source.get("metric") or {}).get("name"):
        causes.required(f"{where}.metric.name", "must specify a metric name")
    if kind == "ContainerResource" and not source.get("container"):
        causes.required(f"{where}.container", "must specify a container")
    if kind == "Object":
        _check_reference(causes, source.get("describedObject") or {}, f"{where}.describedObject")
    _check_target(causes, source.get("target") or {}, f"{where}.target", kind)


def _check_target(causes: Causes, target: Mapping[str, Any], path: str, kind: str) -> None:
    words = ("AverageValue", "Utilization", "Value")
    causes.one_of(f"{path}.type", target.get("type"), words)
    for field in ("value", "averageValue"):
        text = target.get(field)
        if text is not None and Quantity.parse(text).nanos <= 0:
            causes.invalid(f"{path}.{field}", str(text), "must be positive")
    share = target.get("averageUtilization")
    if share is not None and share < 1:
        causes.invalid(f"{path}.averageUtilization", share, "must be greater than 0")
    has_value, has_average = target.get("value") is not None, target.get("averageValue") is not None
    if kind in ("Resource", "ContainerResource"):
        if share is None and not has_average:
            why = "must set either a target raw value or a target utilization"
            causes.required(f"{path}.averageUtilization", why)
        elif share is not None and has_average:
            causes.forbidden(
                f"{path}.averageValue", "may not set both a target raw value and a target utilization"
            )
    elif kind == "Pods":
        if not has_average:
            causes.required(f"{path}.averageValue", "must specify a positive target averageValue")
    elif not has_value and not has_average:
        causes.required(f"{path}.averageValue", "must set either a target value or averageValue")


def _check_rules(causes: Causes, rules: Mapping[str, Any], path: str) -> None:
    window_s = rules.get("stabilizationWindowSeconds")
    causes.not_negative(f"{path}.stabilizationWindowSeconds", window_s)
    if window_s is not None and window_s > 3600:
        causes.invalid(f"{path}.stabilizationWindowSeconds", window_s, "must be less than or equal to 3600")
    tolerance = rules.get("tolerance")
    if tolerance is not None and Quantity.parse(tolerance).nanos < 0:
        causes.invalid(f"{path}.tolerance", tolerance, "must be greater or equal to zero")
    words = ("Disabled", "Max", "Min")
    causes.one_of(f"{path}.selectPolicy", rules.get("selectPolicy"), words, is_required=False)
    policies = rules.get("policies") or ()
    if not policies:
        causes.required(f"{path}.policies", "must specify at least one Policy")
    for index, policy in enumerate(policies):
        where = f"{path}.policies[{index}]"
        causes.one_of(f"{where}.type", policy.get("type"), ("Percent", "Pods"))
        for field in ("value", "periodSeconds"):
            if (policy.get(field) or 0) <= 0:
                causes.invalid(f"{where}.{field}", policy.get(field) or 0, "must be greater than zero")
        if (policy.get("periodSeconds") or 0) > 1800:
            causes.invalid(
                f"{where}.periodSeconds", policy["periodSeconds"], "must be less than or equal to 1800"
            )
