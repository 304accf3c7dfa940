"""Informers on kinds that definitions make, started and ended as the kinds come and go.

A controller that must see objects of all kinds says what to do with a new informer and when one is over; the
registry says when there is something to do. One version of each kind is watched, the best that is served.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gitkube.api.informer import Informer
from gitkube.control.context import Context
from gitkube.objects.kinds import Kind

Resource = tuple[str, str]
"""Group and plural: what all versions of a kind have in common."""
SYNC_WITHIN_S = 30.0
"""How long is waited for the first list of a kind; one that cannot be listed must not hold up the others."""


def resource_of(kind: Kind) -> Resource:
    return (kind.group, kind.plural)


class CustomInformers:
    """See the module's text."""

    def __init__(
        self,
        context: Context,
        on_new: Callable[[Kind, Informer], None],
        on_end: Callable[[Kind], None],
    ) -> None:
        """
        Args:
            on_new: gets an informer before it runs, to add handlers and indexes.
            on_end: the kind is served no more, or in another version, for which `on_new` is called then.
        """
        self._context = context
        self._on_new = on_new
        self._on_end = on_end
        self._running: dict[Resource, tuple[Informer, asyncio.Task[None]]] = {}
        self._synced = asyncio.Event()

    async def wait_synced(self) -> None:
        """Return when the kinds that were there at the start have been listed."""
        await self._synced.wait()

    async def run(self) -> None:
        """Follow the registry for ever."""
        changed = asyncio.Event()
        forget = self._context.registry.on_change(changed.set)
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    changed.clear()
                    await self._update(tasks)
                    self._synced.set()
                    await changed.wait()
        finally:
            forget()
            for informer, _ in self._running.values():
                self._on_end(informer.kind)
            self._running.clear()

    async def _update(self, tasks: asyncio.TaskGroup) -> None:
        wanted = {
            resource_of(kind): kind for kind in self._context.registry.stored if kind.custom is not None
        }
        for resource, (informer, task) in list(self._running.items()):
            if wanted.get(resource) != informer.kind:
                task.cancel()
                del self._running[resource]
                self._on_end(informer.kind)
        fresh: list[Informer] = []
        for resource, kind in wanted.items():
            if resource in self._running:
                continue
            informer = Informer(self._context.client, kind, clock=self._context.clock, rng=self._context.rng)
            self._on_new(kind, informer)
            self._running[resource] = (informer, tasks.create_task(informer.run(), name=f"informer {kind}"))
            fresh.append(informer)
        try:
            async with asyncio.timeout(SYNC_WITHIN_S):
                await asyncio.gather(*(informer.wait_synced() for informer in fresh))
        except TimeoutError:
            return  # they go on trying, and say in the log why they cannot
