"""Defaults of limits, priorities, scaling, access rules and flow control.

Source: k8s.io/kubernetes/pkg/apis/{core,scheduling,autoscaling,rbac,flowcontrol,resource}/v1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gitkube.objects.defaults.reading import fill, fill_zero, made_part, part, parts
from gitkube.objects.types import Object

_RBAC_GROUP = "rbac.authorization.k8s.io"
_PERIOD_S = 15
"""How often an autoscaler may use up what its policies allow."""


def default_limit_range(limit_range: Object) -> None:
    for item in parts(part(limit_range, "spec"), "limits"):
        if item.get("type") != "Container":
            continue
        limits = {**part(item, "max"), **part(item, "default")}
        requests = {**part(item, "min"), **limits, **part(item, "defaultRequest")}
        if limits:
            item["default"] = limits
        if requests:
            item["defaultRequest"] = requests


def default_priority_class(priority_class: Object) -> None:
    fill(priority_class, preemptionPolicy="PreemptLowerPriority")


def default_autoscaler(autoscaler: Object) -> None:
    spec = made_part(autoscaler, "spec")
    fill(spec, minReplicas=1)
    if not spec.get("metrics"):
        target = {"type": "Utilization", "averageUtilization": 80}
        spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    behavior = part(spec, "behavior")
    if not behavior:
        return
    percent = {"type": "Percent", "value": 100, "periodSeconds": _PERIOD_S}
    up, down = made_part(behavior, "scaleUp"), made_part(behavior, "scaleDown")
    fill(up, stabilizationWindowSeconds=0)
    for rules in (up, down):
        fill(rules, selectPolicy="Max")
    if not up.get("policies"):
        up["policies"] = [{"type": "Pods", "value": 4, "periodSeconds": _PERIOD_S}, percent]
    if not down.get("policies"):
        down["policies"] = [dict(percent)]


def default_role_binding(binding: Object) -> None:
    fill_zero(made_part(binding, "roleRef"), apiGroup=_RBAC_GROUP)
    for subject in parts(binding, "subjects"):
        if subject.get("kind") in ("User", "Group"):
            fill_zero(subject, apiGroup=_RBAC_GROUP)


def default_flow_schema(flow_schema: Object) -> None:
    fill_zero(made_part(flow_schema, "spec"), matchingPrecedence=1000)


def default_priority_level(level: Object) -> None:
    spec = made_part(level, "spec")
    if exempt := spec.get("exempt"):
        if isinstance(exempt, dict):
            fill(exempt, nominalConcurrencyShares=0, lendablePercent=0)
    elif spec.get("type") == "Exempt":
        fill(made_part(spec, "exempt"), nominalConcurrencyShares=0, lendablePercent=0)
    limited = part(spec, "limited")
    if limited:
        fill(limited, nominalConcurrencyShares=30, lendablePercent=0)
        if queuing := part(part(limited, "limitResponse"), "queuing"):
            fill_zero(queuing, queues=64, handSize=8, queueLengthLimit=50)


def default_resource_claim(claim: Object) -> None:
    _default_device_claim(part(part(claim, "spec"), "devices"))


def default_resource_claim_template(template: Object) -> None:
    _default_device_claim(part(part(part(template, "spec"), "spec"), "devices"))


def _default_device_claim(devices: dict[str, Any]) -> None:
    for request in _device_requests(devices):
        fill_zero(request, allocationMode="ExactCount")
        if request["allocationMode"] == "ExactCount":
            fill_zero(request, count=1)
        for toleration in parts(request, "tolerations"):
            fill_zero(toleration, operator="Equal")


def _device_requests(devices: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for request in parts(devices, "requests"):
        if exactly := part(request, "exactly"):
            yield exactly
        yield from parts(request, "firstAvailable")
