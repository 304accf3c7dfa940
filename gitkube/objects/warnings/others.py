"""Warnings about Services, Ingresses, storage, accounts and custom resources."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gitkube.objects.quantity import Quantity, QuantityError
from gitkube.objects.types import Object

_TOPOLOGY_HINTS = "service.kubernetes.io/topology-aware-hints"
_TOPOLOGY_MODE = "service.kubernetes.io/topology-mode"
_INGRESS_CLASS = "kubernetes.io/ingress.class"
_STORAGE_CLASSES = ("volume.alpha.kubernetes.io/storage-class", "volume.beta.kubernetes.io/storage-class")
_MOUNTABLE = "kubernetes.io/enforce-mountable-secrets"
_PLAIN_FINALIZERS = frozenset({"orphan", "foregroundDeletion", "kubernetes"})


def of_service(service: Object, old: Object | None) -> list[str]:
    spec, found = service.get("spec") or {}, []
    if old is not None and old.get("spec") == spec:
        return []
    kind = spec.get("type")
    is_headless = kind == "ClusterIP" and spec.get("clusterIP") == "None"
    if _TOPOLOGY_HINTS in _annotations(service):
        found.append(f"annotation {_TOPOLOGY_HINTS} is deprecated, please use {_TOPOLOGY_MODE} instead")
    if is_headless:
        for field in ("loadBalancerIP", "externalIPs"):
            if spec.get(field):
                found.append(f"spec.{field} is ignored for headless services")
        if spec.get("sessionAffinity") not in (None, "None"):
            found.append("spec.SessionAffinity is ignored for headless services")
    if spec.get("externalIPs") and not is_headless:
        found.append(
            'spec.externalIPs is ignored when spec.type is "ExternalName"'
            if kind == "ExternalName"
            else "spec.externalIPs is deprecated and may no longer be implemented in some clusters"
        )
    if kind != "ExternalName" and spec.get("externalName"):
        found.append('spec.externalName is ignored when spec.type is not "ExternalName"')
    if spec.get("trafficDistribution") == "PreferClose":
        found.append('spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"')
    return found


def of_ingress(ingress: Object, old: Object | None) -> list[str]:
    if old is not None or _INGRESS_CLASS not in _annotations(ingress):
        return []
    return [f"annotation \"{_INGRESS_CLASS}\" is deprecated, please use 'spec.ingressClassName' instead"]


def of_volume(volume: Object, old: Object | None) -> list[str]:
    spec, found = volume.get("spec") or {}, _of_storage_class(volume, old)
    before = ((old or {}).get("spec") or {}).get("persistentVolumeReclaimPolicy")
    if spec.get("persistentVolumeReclaimPolicy") == "Recycle" != before:
        found.append(
            "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the "
            "recommended approach is to use dynamic provisioning."
        )
    return found


def of_claim(claim: Object, old: Object | None) -> list[str]:
    found, spec = _of_storage_class(claim, old), claim.get("spec") or {}
    if old is None or old.get("spec") != spec:
        found += of_claim_spec(spec, "spec")
    return found


def of_claim_spec(spec: Mapping[str, Any], path: str) -> list[str]:
    amount = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    if amount is None or is_whole(amount):
        return []
    why = f'fractional byte value "{amount}" is invalid, must be an integer'
    return [f"{path}.resources.requests[storage]: {why}"]


def is_whole(amount: Any) -> bool:
    """Whether an amount of bytes ends with one, and not within."""
    if isinstance(amount, str) and amount.isalnum() and amount[-1] not in "mun":
        return True  # as nearly all are: digits, and a unit that is no fraction
    try:
        return Quantity.parse(amount).milli % 1000 == 0
    except QuantityError:
        return True  # what is no amount at all, validation has refused


def of_account(account: Object, old: Object | None) -> list[str]:
    if _MOUNTABLE not in _annotations(account) or (old is not None and _MOUNTABLE in _annotations(old)):
        return []
    why = "deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"
    return [f"metadata.annotations[{_MOUNTABLE}]: {why}"]


def of_custom(obj: Object, old: Object | None) -> list[str]:
    """About finalizers that anybody else could use, too."""
    finalizers = obj["metadata"].get("finalizers") or ()
    before = (old["metadata"].get("finalizers") or ()) if old is not None and finalizers else ()
    why = (
        "prefer a domain-qualified finalizer name including a path (/) to avoid accidental conflicts with "
        "other finalizer writers"
    )
    return [
        f'metadata.finalizers: "{name}": {why}'
        for name in finalizers
        if "/" not in name and name not in _PLAIN_FINALIZERS and name not in before
    ]


def _of_storage_class(obj: Object, old: Object | None) -> list[str]:
    given, before = _annotations(obj), _annotations(old or {})
    why = 'deprecated since v1.8; use "storageClassName" attribute instead'
    return [
        f"metadata.annotations[{key}]: {why}"
        for key in _STORAGE_CLASSES
        if key in given and key not in before
    ]


def _annotations(obj: Mapping[str, Any]) -> Mapping[str, Any]:
    return (obj.get("metadata") or {}).get("annotations") or {}
