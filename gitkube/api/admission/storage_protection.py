"""Claims and volumes are made with a finalizer that holds them while somebody uses them.

It is taken off by the controllers of `control/storage_protection.py`.
Source: Kubernetes' StorageObjectInUseProtection.
"""

from __future__ import annotations

from gitkube.api.admission.request import AdmissionRequest, Verb
from gitkube.objects import meta
from gitkube.objects.kinds import PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM

CLAIM_FINALIZER = "kubernetes.io/pvc-protection"
VOLUME_FINALIZER = "kubernetes.io/pv-protection"
FINALIZERS = {PERSISTENT_VOLUME_CLAIM: CLAIM_FINALIZER, PERSISTENT_VOLUME: VOLUME_FINALIZER}


def storage_protection(request: AdmissionRequest) -> None:
    finalizer = FINALIZERS.get(request.kind)
    if finalizer is None or request.verb is not Verb.CREATE or request.subresource:
        return
    present = meta.finalizers(request.obj)
    if finalizer not in present:
        request.obj["metadata"]["finalizers"] = [*present, finalizer]
