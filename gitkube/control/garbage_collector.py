"""Deletes what has lost its owner, and carries out foreground and orphaning deletions.

An object whose owners are all gone is deleted. Whether an owner is gone is asked of the API, not of the copy:
the copy may lag, and a wrong "gone" would delete what somebody needs. An owner is its uid, not its name.

*Foreground*: an object being deleted with the finalizer `foregroundDeletion` waits for the dependents that
block it (`blockOwnerDeletion`); they are deleted first, then the finalizer is taken off. Where a dependent of
a dependent is itself being deleted so, the wait may run in a circle: that reference is made non-blocking.
*Orphan*: the dependents' references to the object are removed, then the finalizer. *Background*: the object
went at once, and its dependents are found here afterwards.
Source: Kubernetes' garbage collector.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gitkube.api.client import Propagation
from gitkube.api.errors import StatusError, is_not_found
from gitkube.api.informer import Informer
from gitkube.api.workqueue import WorkQueue, run_workers
from gitkube.control.context import Context
from gitkube.control.custom_informers import CustomInformers, Resource, resource_of
from gitkube.objects import meta
from gitkube.objects.kinds import BUILT_IN, EVENT, Kind
from gitkube.objects.meta import FOREGROUND_FINALIZER, ORPHAN_FINALIZER
from gitkube.objects.types import Object

BY_OWNER = "owner"

OwnerReference = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Item:
    """An object to look at."""

    kind: Kind
    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        return f"{self.kind.kind} {meta.key_of(self.namespace, self.name)}"


@dataclass(slots=True)
class Owners:
    """An object's owner references, sorted by what has become of the owners."""

    solid: list[OwnerReference] = field(default_factory=list)
    gone: list[OwnerReference] = field(default_factory=list)
    waiting: list[OwnerReference] = field(default_factory=list)
    """Being deleted in the foreground, and waiting for this object."""


class GarbageCollector:
    name = "garbage-collector"

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._workers = context.settings.workers
        self._queue: WorkQueue[Item] = WorkQueue(context.clock, context.rng)
        self._registry = context.registry
        self._informers: dict[Resource, Informer] = {}
        for kind in BUILT_IN:
            if kind is not EVENT:  # they own nothing and are owned by nobody
                self._look_at(kind, context.informer(kind))
        self._custom = CustomInformers(context, self._look_at, self._look_away)

    async def run(self) -> None:
        """Collect for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._custom.run(), name=f"{self.name} custom kinds")
            await self._custom.wait_synced()  # or a dependent of a custom kind might not be seen
            workers = run_workers(self._queue, self._reconcile, workers=self._workers, name=self.name)
            tasks.create_task(workers, name=f"{self.name} workers")

    def _look_at(self, kind: Kind, informer: Informer) -> None:
        informer.add_index(BY_OWNER, _owner_uids)
        self._informers[resource_of(kind)] = informer
        informer.add_handler(_Handler(self, kind))

    def _look_away(self, kind: Kind) -> None:
        self._informers.pop(resource_of(kind), None)

    async def _reconcile(self, item: Item) -> float | None:
        informer = self._informers.get(resource_of(item.kind))
        obj = informer.get(item.name, item.namespace) if informer is not None else None
        if obj is None or meta.uid(obj) != item.uid:
            return None
        finalizers = meta.finalizers(obj)
        if meta.is_deleting(obj):
            if ORPHAN_FINALIZER in finalizers:
                await self._orphan(item, obj)
            elif FOREGROUND_FINALIZER in finalizers:
                await self._finish_foreground(item, obj)
            return None
        if meta.owner_references(obj):
            await self._collect(item, obj)
        return None

    async def _collect(self, item: Item, obj: Object) -> None:
        """Delete the object if nobody owns it any more; else drop references to owners that are gone."""
        owners = await self._sort_owners(obj)
        if owners.solid:
            if owners.gone or owners.waiting:
                await self._set_owners(item, obj, owners.solid)
            return
        dependents = self._dependents(item.uid) if owners.waiting else []
        if any(_is_in_foreground(dependent) for _, dependent in dependents):
            # Perhaps no circle, only a diamond; not to block is right for that, too.
            references = [{**one, "blockOwnerDeletion": False} for one in meta.owner_references(obj)]
            unblocked = await self._set_owners(item, obj, references)
            if unblocked is None:
                return
            obj = unblocked
        if dependents:
            propagation = Propagation.FOREGROUND
        elif ORPHAN_FINALIZER in meta.finalizers(obj):
            propagation = Propagation.ORPHAN
        elif FOREGROUND_FINALIZER in meta.finalizers(obj):
            propagation = Propagation.FOREGROUND
        else:
            propagation = Propagation.BACKGROUND
        try:
            await self._client.delete(
                item.kind,
                item.name,
                item.namespace,
                propagation=propagation,
                uid=item.uid,
                resource_version=meta.resource_version(obj),
            )
        except StatusError as error:
            if not is_not_found(error):
                raise  # a conflict means that it changed: look again

    async def _sort_owners(self, obj: Object) -> Owners:
        owners = Owners()
        for reference in meta.owner_references(obj):
            owner = await self._owner(obj, reference)
            if owner is None:
                owners.gone.append(reference)
            elif _is_in_foreground(owner) and reference.get("blockOwnerDeletion"):
                owners.waiting.append(reference)
            else:
                owners.solid.append(reference)
        return owners

    async def _owner(self, obj: Object, reference: OwnerReference) -> Object | None:
        """The owner that a reference means, or None when it is gone for certain."""
        kind = self._registry.by_gvk(reference["apiVersion"], reference["kind"])
        if kind is None:
            return {"metadata": {}}  # of a kind that is not served: nothing can be known, so it stays
        namespace = meta.namespace(obj) if kind.namespaced else ""
        if kind.namespaced and not namespace:
            return {"metadata": {}}  # a cluster-scoped object cannot have a namespaced owner; leave it
        informer = self._informers.get(resource_of(kind))
        owner = informer.get(reference["name"], namespace) if informer is not None else None
        if owner is not None and meta.uid(owner) == reference["uid"]:
            return owner
        try:
            owner = await self._client.get(kind, reference["name"], namespace)
        except StatusError as error:
            if is_not_found(error):
                return None
            raise
        return owner if meta.uid(owner) == reference["uid"] else None

    async def _finish_foreground(self, item: Item, obj: Object) -> None:
        blocking = [
            (kind, dependent)
            for kind, dependent in self._dependents(item.uid)
            if _blocks(dependent, item.uid)
        ]
        if blocking:
            for kind, dependent in blocking:
                # One that waits for its own dependents is looked at when those go; to ask for it here would
                # send a circle of them round and round.
                if not _is_in_foreground(dependent):
                    self._enqueue(kind, dependent)
            return
        await self._remove_finalizer(item, obj, FOREGROUND_FINALIZER)

    async def _orphan(self, item: Item, obj: Object) -> None:
        for kind, dependent in self._dependents(item.uid):
            kept = [one for one in meta.owner_references(dependent) if one.get("uid") != item.uid]
            await self._set_owners(_item(kind, dependent), dependent, kept)
        await self._remove_finalizer(item, obj, ORPHAN_FINALIZER)

    async def _set_owners(self, item: Item, obj: Object, owners: Sequence[OwnerReference]) -> Object | None:
        return await self._patch(item, obj, {"ownerReferences": list(owners) or None})

    async def _remove_finalizer(self, item: Item, obj: Object, finalizer: str) -> None:
        left = [one for one in meta.finalizers(obj) if one != finalizer]
        await self._patch(item, obj, {"finalizers": left or None})

    async def _patch(self, item: Item, obj: Object, metadata: Object) -> Object | None:
        """The object as it is then; None when it is gone."""
        preconditions = {"uid": item.uid, "resourceVersion": meta.resource_version(obj)}
        try:
            return await self._client.patch(
                item.kind, item.name, item.namespace, {"metadata": preconditions | metadata}
            )
        except StatusError as error:
            if not is_not_found(error):
                raise
            return None

    def _dependents(self, uid: str) -> list[tuple[Kind, Object]]:
        return [
            (informer.kind, obj)
            for informer in self._informers.values()
            for obj in informer.by_index(BY_OWNER, uid)
        ]

    def _enqueue(self, kind: Kind, obj: Object) -> None:
        self._queue.add(_item(kind, obj))

    def on_change(self, kind: Kind, before: Object | None, after: Object | None) -> None:
        """An informer's news."""
        if after is None:
            assert before is not None
            for dependent_kind, dependent in self._dependents(meta.uid(before)):
                self._enqueue(dependent_kind, dependent)
            self._enqueue_waiting_owners(before)
            return
        if meta.is_deleting(after) and meta.finalizers(after):
            self._enqueue(kind, after)
            for dependent_kind, dependent in self._dependents(meta.uid(after)):
                self._enqueue(dependent_kind, dependent)
        if meta.owner_references(after):
            if before is None or meta.owner_references(before) != meta.owner_references(after):
                self._enqueue(kind, after)
                self._enqueue_waiting_owners(after)
                if before is not None:
                    self._enqueue_waiting_owners(before)
        elif before is not None and meta.owner_references(before):
            self._enqueue_waiting_owners(before)

    def _enqueue_waiting_owners(self, obj: Object) -> None:
        """Owners in foreground deletion may have waited for this one."""
        for reference in meta.owner_references(obj):
            kind = self._registry.by_gvk(reference["apiVersion"], reference["kind"])
            informer = self._informers.get(resource_of(kind)) if kind is not None else None
            if kind is None or informer is None:
                continue
            owner = informer.get(reference["name"], meta.namespace(obj) if kind.namespaced else "")
            if owner is not None and meta.is_deleting(owner):
                self._enqueue(kind, owner)


class _Handler:
    """An informer's handler that knows of which kind the news is."""

    def __init__(self, collector: GarbageCollector, kind: Kind) -> None:
        self._collector = collector
        self._kind = kind

    def __call__(self, before: Object | None, after: Object | None) -> None:
        self._collector.on_change(self._kind, before, after)


def _item(kind: Kind, obj: Object) -> Item:
    return Item(kind, meta.namespace(obj), meta.name(obj), meta.uid(obj))


def _is_in_foreground(obj: Object) -> bool:
    """Whether it is being deleted and waits for its dependents."""
    return meta.is_deleting(obj) and FOREGROUND_FINALIZER in meta.finalizers(obj)


def _owner_uids(obj: Object) -> list[str]:
    return [str(reference["uid"]) for reference in meta.owner_references(obj)]


def _blocks(dependent: Object, owner_uid: str) -> bool:
    return any(
        reference.get("blockOwnerDeletion")
        for reference in meta.owner_references(dependent)
        if reference.get("uid") == owner_uid
    )
