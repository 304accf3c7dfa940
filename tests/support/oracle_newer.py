"""How what release 1.20 was asked and answered reads in release 1.37.

Versions that are gone have a successor that is alike field by field; fields that later releases fill in by
themselves are no difference. What differs beyond that stands in the lists of differences, case by case.
"""

from __future__ import annotations

from typing import Any

_SUCCESSORS = {
    "policy/v1beta1": "policy/v1",
    "discovery.k8s.io/v1beta1": "discovery.k8s.io/v1",
    "batch/v1beta1": "batch/v1",
    "autoscaling/v2beta2": "autoscaling/v2",
    "rbac.authorization.k8s.io/v1beta1": "rbac.authorization.k8s.io/v1",
    "storage.k8s.io/v1beta1": "storage.k8s.io/v1",
    "scheduling.k8s.io/v1beta1": "scheduling.k8s.io/v1",
    "node.k8s.io/v1beta1": "node.k8s.io/v1",
    "events.k8s.io/v1beta1": "events.k8s.io/v1",
    "flowcontrol.apiserver.k8s.io/v1beta1": "flowcontrol.apiserver.k8s.io/v1",
}

_NEWER_DEFAULTS: dict[str, dict[str, tuple[Any, ...]]] = {
    "Service": {
        "internalTrafficPolicy": ("Cluster",),
        "ipFamilies": (["IPv4"],),
        "ipFamilyPolicy": ("SingleStack",),
        "allocateLoadBalancerNodePorts": (True,),
    },
    "Job": {
        "completionMode": ("NonIndexed",),
        "suspend": (False,),
        "podReplacementPolicy": ("TerminatingOrFailed",),
        "manualSelector": (False,),
        "generation": (1, 2, 3, 4, 5),
    },
    "CronJob": {"generation": (1, 2, 3, 4, 5)},
    "Pod": {"generation": (1, 2, 3, 4, 5), "observedGeneration": (1, 2, 3)},
    "StatefulSet": {
        "persistentVolumeClaimRetentionPolicy": ({"whenDeleted": "Retain", "whenScaled": "Retain"},),
        "availableReplicas": (0,),
    },
    "DaemonSet": {"maxSurge": (0,)},
    "CSIDriver": {
        "requiresRepublish": (False,),
        "seLinuxMount": (False,),
        "storageCapacity": (False,),
        "podInfoOnMount": (False,),
    },
    "IngressClass": {"scope": ("Cluster",)},
}
"""By kind: fields that later releases fill in, and the values that they fill in."""
_NEWER_LABELS = {
    "kubernetes.io/metadata.name",
    "batch.kubernetes.io/controller-uid",
    "batch.kubernetes.io/job-name",
}
_IN_CRON_JOBS = _NEWER_DEFAULTS["Job"].keys() - {"generation"}


def in_newer_versions(text: str) -> str:
    """The text of a case with each version that is gone replaced by its successor."""
    for gone, successor in _SUCCESSORS.items():
        text = text.replace(gone, successor)
    return text


def is_newer(kind: str, at: str, key: str, value: Any, *, is_gone: bool = False) -> bool:
    """Whether a field is one that release 1.20 had not, or (`is_gone`) that later ones have no more.

    Args:
        kind: of the object that the field is in.
        at: JSON pointer of the map that it is in.
    """
    if is_gone:
        return False
    if key in _NEWER_LABELS or key.removeprefix("f:") in _NEWER_LABELS:
        return True
    if key in ("labels", "f:labels") and isinstance(value, dict):
        return all(is_newer(kind, at, name, None) for name in value if name != ".")
    if key == "f:metadata" and isinstance(value, dict):
        return all(is_newer(kind, at, name, below) for name, below in value.items() if name != ".")
    known = _NEWER_DEFAULTS.get(kind, {})
    if key.startswith("f:"):
        return key.removeprefix("f:") in known
    if kind == "CronJob" and "jobTemplate" in at and key in _IN_CRON_JOBS:
        return value in _NEWER_DEFAULTS["Job"][key]
    return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in known.get(key, ()))


def without_subresources(entries: list[Any]) -> list[Any]:
    """Owners of fields as 1.20 noted them: one entry for a manager, by whatever door it came."""
    merged: dict[tuple[str, ...], dict[str, Any]] = {}
    for entry in entries:
        key = tuple(str(entry.get(part, "")) for part in ("manager", "operation", "apiVersion"))
        plain = {name: value for name, value in entry.items() if name != "subresource"}
        if key in merged:
            plain["fieldsV1"] = _union(merged[key].get("fieldsV1") or {}, entry.get("fieldsV1") or {})
        merged[key] = plain
    return list(merged.values())


def _union(left: dict[str, Any], right: dict[str, Any]) -> dict[str, Any]:
    result = dict(left)
    for key, value in right.items():
        result[key] = _union(result[key], value) if key in result else value
    return result
