"""Checks of other servers that extend the API, and of flow control.

Source: k8s.io/kube-aggregator/pkg/apis/apiregistration/validation, k8s.io/kubernetes/pkg/apis/flowcontrol.
"""

from __future__ import annotations

import re

from gitkube.objects import names
from gitkube.objects.types import Object
from gitkube.objects.validation.causes import Causes

_VERSION = re.compile(r"v[1-9][0-9]*((alpha|beta)[1-9][0-9]*)?")
_MAX_PRECEDENCE = 10_000


def check_api_service(causes: Causes, api_service: Object) -> None:
    spec = api_service.get("spec") or {}
    group, version = spec.get("group") or "", spec.get("version") or ""
    name = (api_service.get("metadata") or {}).get("name") or ""
    wanted = f"{version}.{group}"
    if name != wanted:
        causes.invalid("metadata.name", name, f'`spec.version+"."+spec.group` must be {wanted}')
    if not version:
        causes.required("spec.version")
    else:
        causes.invalids("spec.version", version, names.dns_label(version))
    for field, most in (("groupPriorityMinimum", 20_000), ("versionPriority", 1_000)):
        number = spec.get(field) or 0
        if not 0 < number <= most:
            causes.invalid(f"spec.{field}", number, f"must be positive and less than {most}")
    service = spec.get("service")
    if service is None:
        for field in ("caBundle", "insecureSkipTLSVerify"):
            if spec.get(field):
                causes.invalid(f"spec.{field}", "<value>", "local APIServices may not have it")
        return
    for field in ("namespace", "name"):
        if not service.get(field):
            causes.required(f"spec.service.{field}")
    if spec.get("insecureSkipTLSVerify") and spec.get("caBundle"):
        causes.invalid("spec.insecureSkipTLSVerify", True, "may not be true if caBundle is present")


# --------------------------------------------------------------------------------------------- flow control


def check_flow_schema(causes: Causes, flow_schema: Object) -> None:
    spec = flow_schema.get("spec") or {}
    precedence = spec.get("matchingPrecedence") or 0
    if not 1 <= precedence <= _MAX_PRECEDENCE:
        causes.invalid("spec.matchingPrecedence", precedence, f"must be between 1 and {_MAX_PRECEDENCE}")
    if not (spec.get("priorityLevelConfiguration") or {}).get("name"):
        causes.required("spec.priorityLevelConfiguration.name", "must reference a priority level")


def check_priority_level(causes: Causes, level: Object) -> None:
    spec = level.get("spec") or {}
    kind = spec.get("type") or ""
    if kind not in ("Exempt", "Limited"):
        causes.not_supported("spec.type", kind, ("Exempt", "Limited"))
    elif kind == "Limited" and spec.get("limited") is None:
        causes.required("spec.limited", "must not be empty when type is Limited")
    elif kind == "Exempt" and spec.get("limited") is not None:
        causes.forbidden("spec.limited", "must be nil if the type is not Limited")
