"""A bound claim may grow only where its StorageClass says that volumes can; validation holds the others.

Source: Kubernetes' PersistentVolumeClaimResize.
"""

from __future__ import annotations

from gitkube.api import errors
from gitkube.api.admission.request import AdmissionRequest, Verb
from gitkube.objects.kinds import PERSISTENT_VOLUME_CLAIM, STORAGE_CLASS
from gitkube.objects.quantity import ZERO, Quantity
from gitkube.objects.types import Object


def claim_resize(request: AdmissionRequest) -> None:
    if request.kind is not PERSISTENT_VOLUME_CLAIM or request.verb is not Verb.UPDATE or request.subresource:
        return
    if request.old is None or _size(request.obj) <= _size(request.old):
        return
    if (request.old.get("status") or {}).get("phase") == "Bound" and not _allows_growth(request):
        why = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc "
        why += "must support resize"
        raise errors.forbidden("", PERSISTENT_VOLUME_CLAIM.plural, request.name, why)


def _allows_growth(request: AdmissionRequest) -> bool:
    name = (request.obj.get("spec") or {}).get("storageClassName") or ""
    found = request.cache.of(STORAGE_CLASS).get(name) if name else None
    return bool(found is not None and found.get("allowVolumeExpansion"))


def _size(claim: Object) -> Quantity:
    requests = ((claim.get("spec") or {}).get("resources") or {}).get("requests") or {}
    return Quantity.parse(requests["storage"]) if "storage" in requests else ZERO
