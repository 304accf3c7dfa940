"""Counts what a namespace uses, for its ResourceQuotas.

The API charges a quota for what is made; this loop takes over new limits, finds what was there before, and
gives back what has gone. It counts afresh instead of adding up, so nothing can be lost: the quota is read,
then the objects are listed, both live, and the count is written only if the quota is still the one that was
read. A charge made meanwhile changes the quota, so a count never hides an object from the quota.
Invariant: `status.used` is never less than what was charged and still is there.
Source: Kubernetes' resourcequota controller; listing after reading the quota, not from a copy, is ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from gitkube.api.errors import StatusError, is_not_found
from gitkube.api.informer import Informer
from gitkube.control.context import Context, Controller, unless_changed
from gitkube.control.custom_informers import CustomInformers
from gitkube.objects import meta, pods, quota
from gitkube.objects.kinds import BUILT_IN, EVENT, PERSISTENT_VOLUME_CLAIM, POD, RESOURCE_QUOTA, SERVICE, Kind
from gitkube.objects.pods import Resources
from gitkube.objects.quantity import ZERO, Notation, Quantity
from gitkube.objects.types import Object

RESYNC_S = 300.0
"""A count of everything from time to time: what a pod that never ends should have freed is found then."""
CONFLICT_RETRY_S = 0.05
"""A charge came between reading and writing; the next count sees it."""
_OBJECTS_AT_ONCE = 1000
"""Counted without letting others have their turn."""
_BUILT_IN = tuple(kind for kind in BUILT_IN if kind.namespaced and kind is not EVENT)
_Known = dict[str, tuple[str, Resources]]


class ResourceQuotaController(Controller):
    name = "resourcequota-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._quotas = context.informer(RESOURCE_QUOTA)
        self._quotas.add_handler(self._on_quota)
        self._known: dict[tuple[str, Kind], _Known] = {}
        """What each object of a namespace costs, by uid, with the version of which that is true."""
        for kind in _BUILT_IN:
            self._look_at(kind, context.informer(kind))
        self._custom = CustomInformers(context, self._look_at, lambda kind: None)

    async def run(self) -> None:
        """Count for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._custom.run(), name=f"{self.name} custom kinds")
            tasks.create_task(super().run(), name=f"{self.name} workers")

    def _look_at(self, kind: Kind, informer: Informer) -> None:
        if kind.namespaced:
            informer.add_handler(_Handler(self, kind))

    async def reconcile(self, key: str) -> float | None:
        """Count for one quota."""
        namespace, name = meta.split_key(key)
        try:
            current = await self.client.get(RESOURCE_QUOTA, name, namespace)
        except StatusError as error:
            if not is_not_found(error):
                raise
            self._forget(namespace)
            return None
        if meta.is_deleting(current):
            return None
        wanted = new_status(current, await self._count(current))
        if wanted == current.get("status"):
            return RESYNC_S
        write = self.client.update(RESOURCE_QUOTA, {**current, "status": wanted}, subresource="status")
        return await unless_changed(write, CONFLICT_RETRY_S) or RESYNC_S

    async def _count(self, current: Object) -> Resources:
        hard = (current.get("spec") or {}).get("hard") or {}
        found: Resources = {}
        for kind in self._counted():
            names = quota.tracked(kind, hard)
            if names:
                total = await self._count_kind(current, kind, hard)
                found |= {name: total.get(name, ZERO) for name in names}
        return found

    def _counted(self) -> list[Kind]:
        custom = [one for one in self.context.registry.stored if one.custom is not None and one.namespaced]
        return [*_BUILT_IN, *custom]

    async def _count_kind(self, current: Object, kind: Kind, hard: Mapping[str, Any]) -> Resources:
        namespace = meta.namespace(current)
        listing = await self.client.list(kind, namespace)
        before = self._known.get((namespace, kind), {})
        known: _Known = {}
        totals: dict[str, int] = {}
        notations: dict[str, Notation] = {}
        for number, obj in enumerate(listing.items):
            if number % _OBJECTS_AT_ONCE == _OBJECTS_AT_ONCE - 1:
                await asyncio.sleep(0)
            uid, version = meta.uid(obj), meta.resource_version(obj)
            entry = before.get(uid)
            # What a pod that is ending costs depends on the time.
            if entry is None or entry[0] != version or meta.is_deleting(obj):
                entry = (version, quota.usage(kind, obj, self.clock.now()))
            known[uid] = entry
            if quota.counts(current, kind, obj, hard):
                for name, amount in entry[1].items():
                    totals[name] = totals.get(name, 0) + amount.nanos
                    notations.setdefault(name, amount.notation)
        self._known[namespace, kind] = known
        return {name: Quantity(nanos, notations[name]) for name, nanos in totals.items()}

    def _forget(self, namespace: str) -> None:
        if not self._quotas.list(namespace):
            for key in [key for key in self._known if key[0] == namespace]:
                del self._known[key]

    def _on_quota(self, before: Object | None, after: Object | None) -> None:
        """Charges change a quota, too, and need no count; other limits do, also when they come into force:
        what was written until then was not charged."""
        if before is None or after is None or _limits(before) != _limits(after):
            self.enqueue_changed(before, after)

    def on_change(self, kind: Kind, before: Object | None, after: Object | None) -> None:
        """Count again when an object gave something back."""
        if before is None or not frees(kind, before, after):
            return
        for one in self._quotas.list(meta.namespace(before)):
            if quota.tracked(kind, (one.get("spec") or {}).get("hard") or {}):
                self.enqueue(one)


class _Handler:
    """An informer's handler that knows of which kind the news is."""

    def __init__(self, controller: ResourceQuotaController, kind: Kind) -> None:
        self._controller = controller
        self._kind = kind

    def __call__(self, before: Object | None, after: Object | None) -> None:
        self._controller.on_change(self._kind, before, after)


def _limits(one: Object) -> tuple[Any, Any]:
    return one.get("spec"), (one.get("status") or {}).get("hard")


def frees(kind: Kind, before: Object, after: Object | None) -> bool:
    """Whether a change may have lessened what an object costs."""
    if after is None:
        return True
    if kind is POD:
        is_end = pods.is_terminal(after) and not pods.is_terminal(before)
        return is_end or before.get("spec") != after.get("spec")
    if kind in (SERVICE, PERSISTENT_VOLUME_CLAIM):
        return bool(before.get("spec") != after.get("spec"))
    return False


def new_status(current: Object, counted: Mapping[str, Quantity]) -> dict[str, Any]:
    """A quota's status after a count; names that nothing is counted for keep what they said."""
    hard = (current.get("spec") or {}).get("hard") or {}
    before = (current.get("status") or {}).get("used") or {}
    used = {name: counted.get(name, before.get(name)) for name in sorted(hard)}
    known = {name: str(amount) for name, amount in used.items() if amount is not None}
    return {"hard": {name: hard[name] for name in sorted(hard)}, "used": known}
