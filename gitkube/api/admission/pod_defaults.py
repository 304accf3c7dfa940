"""What every Pod gets besides the defaults of its schema: the secrets of its account for pulling images, and
time on a host that is lost."""

from __future__ import annotations

from typing import Any

from gitkube.api.admission.request import AdmissionRequest, Verb
from gitkube.objects.kinds import POD, SERVICE_ACCOUNT

NOT_READY_TAINT = "node.kubernetes.io/not-ready"
UNREACHABLE_TAINT = "node.kubernetes.io/unreachable"


def pull_secrets(request: AdmissionRequest) -> None:
    """A pod that names no secrets for pulling images has those of its account."""
    if request.kind is not POD or request.verb is not Verb.CREATE or request.subresource:
        return
    spec = request.obj["spec"]
    account = request.cache.of(SERVICE_ACCOUNT).get(str(spec.get("serviceAccountName")), request.namespace)
    secrets = (account or {}).get("imagePullSecrets")
    if secrets and not spec.get("imagePullSecrets"):
        spec["imagePullSecrets"] = [dict(secret) for secret in secrets]


def default_tolerations(request: AdmissionRequest) -> None:
    """A Pod that says nothing about lost hosts stays on one for `toleration_s`, then it is replaced."""
    if request.kind is not POD or request.verb is Verb.DELETE or request.subresource:
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
