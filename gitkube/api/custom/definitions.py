"""The loop behind definitions: accepts their names, and empties those that are being deleted.

Every API process runs it, so that a kind comes and goes also where no leader is; they meet in the store,
whose comparison lets one of them win, and the others find that there is nothing left to do. What serves a
kind is not here: the watch cache does that as soon as it sees that the definition is established.

A definition that is deleted keeps being served until its objects are gone, which may take as long as their
finalizers do; then its own finalizer is taken off, and that ends it.
"""

from __future__ import annotations

import random

from gitkube.api.cache import WatchCache
from gitkube.api.client import Client
from gitkube.api.errors import StatusError, is_conflict, is_not_found
from gitkube.api.informer import Informer
from gitkube.api.workqueue import WorkQueue, run_workers
from gitkube.clock import Clock
from gitkube.objects import conditions, meta
from gitkube.objects.custom.definition import (
    CLEANUP_FINALIZER,
    TERMINATING,
    is_established,
    kind_of_storage,
)
from gitkube.objects.custom.naming import status_with_names
from gitkube.objects.kinds import CUSTOM_RESOURCE_DEFINITION, Kind
from gitkube.objects.types import Object

RETRY_S = 0.5
"""Between two looks whether the last objects of a definition are gone."""


class Definitions:
    """See the module's text."""

    def __init__(self, client: Client, cache: WatchCache, *, clock: Clock, rng: random.Random) -> None:
        self._client = client
        self._cache = cache
        self._clock = clock
        self._queue: WorkQueue[str] = WorkQueue(clock, rng)
        self._informer = Informer(client, CUSTOM_RESOURCE_DEFINITION, clock=clock, rng=rng)
        self._informer.add_handler(self._on_change)

    async def follow(self) -> None:
        """Keep the copy of all definitions, for ever."""
        await self._cache.wait_synced()
        await self._informer.run()

    async def run(self) -> None:
        """Accept and empty, for ever; `follow` must be running, too."""
        await self._informer.wait_synced()
        await run_workers(self._queue, self._reconcile, workers=1, name="definitions")

    def _on_change(self, before: Object | None, after: Object | None) -> None:
        changed = after if after is not None else before
        assert changed is not None
        if after is not None:
            self._queue.add(meta.name(after))
        # A name that it had may be free now for others of the group.
        group = changed["spec"]["group"]
        for other in self._informer.list():
            if other["spec"]["group"] == group and not conditions.is_true(other, "NamesAccepted"):
                self._queue.add(meta.name(other))

    async def _reconcile(self, name: str) -> float | None:
        await self._cache.reach_current()
        definition = self._cache.of(CUSTOM_RESOURCE_DEFINITION).get(name)
        if definition is None:
            return None
        if meta.is_deleting(definition):
            if CLEANUP_FINALIZER in meta.finalizers(definition):
                return await self._empty(definition)
            return None
        others = [other for _, other in self._cache.of(CUSTOM_RESOURCE_DEFINITION).select()]
        await self._write_status(definition, status_with_names(definition, others, self._clock.now()))
        return None

    async def _empty(self, definition: Object) -> float | None:
        if is_established(definition):
            kind = kind_of_storage(definition)
            if left := await self._delete_all(kind):
                text = f"CustomResource deletion is in progress, {left} left"
                await self._set_terminating(definition, True, "InstanceDeletionInProgress", text)
                return RETRY_S
        finalizers = [one for one in meta.finalizers(definition) if one != CLEANUP_FINALIZER]
        patch = {
            "metadata": {
                "uid": meta.uid(definition),
                "resourceVersion": meta.resource_version(definition),
                "finalizers": finalizers or None,
            }
        }
        try:
            await self._client.patch(CUSTOM_RESOURCE_DEFINITION, meta.name(definition), "", patch)
        except StatusError as error:
            if is_conflict(error):
                return 0.0
            if not is_not_found(error):
                raise
        return None

    async def _delete_all(self, kind: Kind) -> int:
        """Delete every object; how many are still there."""
        for _, obj in list(self._cache.of(kind).select()):
            if meta.is_deleting(obj):
                continue
            try:
                await self._client.delete(kind, meta.name(obj), meta.namespace(obj), uid=meta.uid(obj))
            except StatusError as error:
                if not is_not_found(error) and not is_conflict(error):
                    raise
        await self._cache.reach_current()
        return sum(1 for _ in self._cache.of(kind).select())

    async def _set_terminating(self, definition: Object, status: bool, reason: str, message: str) -> None:
        condition = conditions.make(TERMINATING, status, reason, message)
        before = conditions.conditions(definition)
        after = conditions.with_condition(before, condition, self._clock.now())
        await self._write_status(definition, {**(definition.get("status") or {}), "conditions": after})

    async def _write_status(self, definition: Object, status: Object) -> None:
        if status == definition.get("status"):
            return
        try:
            await self._client.update(
                CUSTOM_RESOURCE_DEFINITION, {**definition, "status": status}, subresource="status"
            )
        except StatusError as error:
            # Somebody else was first; the change comes to us, and we look again.
            if not is_conflict(error) and not is_not_found(error):
                raise
