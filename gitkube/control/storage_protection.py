"""Lets claims and volumes that are being deleted go once nobody uses them.

The API makes them with a finalizer; here it is taken off from a claim that no pod on a host names, and from a
volume that is bound to no claim. Whether a pod names a claim is asked of the API, not of the copy, which may
lag: a pod that started a moment ago must not lose what it writes to.
Source: Kubernetes' pvcprotection and pvprotection controllers.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable

from gitkube.api.admission.storage_protection import FINALIZERS
from gitkube.control.context import Context, Controller, unless_changed
from gitkube.objects import meta, pods
from gitkube.objects.kinds import PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM, POD, Kind
from gitkube.objects.types import Object

CONFLICT_RETRY_S = 0.2


class _Protection(Controller):
    """Takes a kind's finalizer off what may go; puts it on what came without, from before there was one."""

    kind: Kind

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.informer = context.informer(self.kind)
        self.informer.add_handler(self.enqueue_changed)

    async def reconcile(self, key: str) -> float | None:
        """One look at one object."""
        namespace, name = meta.split_key(key)
        obj = self.informer.get(name, namespace)
        if obj is None:
            return None
        finalizer, present = FINALIZERS[self.kind], meta.finalizers(obj)
        if not meta.is_deleting(obj):
            if finalizer in present:
                return None
            return await self._set_finalizers(obj, [*present, finalizer])
        if finalizer not in present or await self.is_used(obj):
            return None
        return await self._set_finalizers(obj, [one for one in present if one != finalizer])

    @abc.abstractmethod
    async def is_used(self, obj: Object) -> bool:
        """Whether something would lose what it needs."""

    async def _set_finalizers(self, obj: Object, finalizers: list[str]) -> float | None:
        metadata = {
            "uid": meta.uid(obj),
            "resourceVersion": meta.resource_version(obj),
            "finalizers": finalizers or None,
        }
        write = self.client.patch(self.kind, meta.name(obj), meta.namespace(obj), {"metadata": metadata})
        return await unless_changed(write, CONFLICT_RETRY_S)


class ClaimProtectionController(_Protection):
    name = "persistentvolumeclaim-protection-controller"
    kind = PERSISTENT_VOLUME_CLAIM

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._pods = context.informer(POD)
        self._pods.add_handler(self._on_pod)

    async def is_used(self, obj: Object) -> bool:
        """Whether a pod on a host names the claim; one that waits for a host is not let start with it."""
        if self._names(self._pods.list(meta.namespace(obj)), obj):
            return True
        return self._names((await self.client.list(POD, meta.namespace(obj))).items, obj)

    @staticmethod
    def _names(everyone: Iterable[Object], claim: Object) -> bool:
        return any(pods.node_name(pod) and meta.name(claim) in claim_names(pod) for pod in everyone)

    def _on_pod(self, before: Object | None, after: Object | None) -> None:
        if before is None or (after is not None and not pods.is_terminal(after)):
            return  # only a pod that ends, or goes, sets a claim free
        for name in claim_names(before):
            self.queue.add(meta.key_of(meta.namespace(before), name))


class VolumeProtectionController(_Protection):
    name = "persistentvolume-protection-controller"
    kind = PERSISTENT_VOLUME

    async def is_used(self, obj: Object) -> bool:
        """Whether it is bound to a claim."""
        return bool((obj.get("status") or {}).get("phase") == "Bound")


def claim_names(pod: Object) -> set[str]:
    """The claims that a pod's volumes name, and those that are made for its ephemeral volumes."""
    found = set()
    for volume in pods.spec(pod).get("volumes") or ():
        if volume.get("persistentVolumeClaim"):
            found.add(str(volume["persistentVolumeClaim"].get("claimName")))
        elif volume.get("ephemeral") and not pods.is_terminal(pod):
            found.add(f"{meta.name(pod)}-{volume.get('name')}")
    return found
