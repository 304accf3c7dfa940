"""What every Pod gets besides the defaults of its schema: an account, and time on a host that is lost."""

from __future__ import annotations

from typing import Any

from gitkube.api import errors
from gitkube.api.admission.request import AdmissionRequest, Verb
from gitkube.objects.kinds import POD

NOT_READY_TAINT = "node.kubernetes.io/not-ready"
UNREACHABLE_TAINT = "node.kubernetes.io/unreachable"
SYSTEM_PRIORITIES = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}


def service_account_name(request: AdmissionRequest) -> None:
    if request.kind is not POD or request.verb is not Verb.CREATE or request.subresource:
        return
    spec = request.obj["spec"]
    name = spec.get("serviceAccountName") or spec.get("serviceAccount") or "default"
    # `serviceAccount` is the older name of the same field; Kubernetes keeps both alike.
    spec["serviceAccountName"] = spec["serviceAccount"] = name


def priority(request: AdmissionRequest) -> None:
    """A number for the class; the two classes of the system are there without being made."""
    if request.kind is not POD or request.verb is not Verb.CREATE or request.subresource:
        return
    spec = request.obj["spec"]
    name = spec.get("priorityClassName") or ""
    if name and name not in SYSTEM_PRIORITIES:
        raise errors.forbidden("", "pods", request.name, f"no PriorityClass with name {name} was found")
    spec["priority"] = SYSTEM_PRIORITIES[name] if name else 0
    spec.setdefault("preemptionPolicy", "PreemptLowerPriority")


def default_tolerations(request: AdmissionRequest) -> None:
    """A Pod that says nothing about lost hosts stays on one for `toleration_s`, then it is replaced."""
    if request.kind is not POD or request.verb is not Verb.CREATE or request.subresource:
        return
    spec = request.obj["spec"]
    tolerations: list[dict[str, Any]] = list(spec.get("tolerations") or [])
    for taint in (NOT_READY_TAINT, UNREACHABLE_TAINT):
        if not any(_tolerates(toleration, taint) for toleration in tolerations):
            tolerations.append(
                {
                    "key": taint,
                    "operator": "Exists",
                    "effect": "NoExecute",
                    "tolerationSeconds": request.settings.toleration_s,
                }
            )
    spec["tolerations"] = tolerations


def _tolerates(toleration: dict[str, Any], taint: str) -> bool:
    key, effect = toleration.get("key") or "", toleration.get("effect") or ""
    return key in ("", taint) and effect in ("", "NoExecute")
