"""One local copy of each kind for all loops of a process.

Controllers, scheduler, fleet and git look at the same pods and configuration: with an informer each, a write
of a ConfigMap would be told, copied and indexed once for each of them. Who makes the loops makes one
`Informers` and hands it to all; a loop that is given none has its own.

Invariant: every copy is asked for before any of them runs, so that no loop starts on half a picture.
"""

from __future__ import annotations

import asyncio
import random

from gitkube.api.client import Client
from gitkube.api.informer import Informer
from gitkube.clock import Clock
from gitkube.objects import pods
from gitkube.objects.kinds import POD, Kind

BY_NODE = "node"
"""Index of the pods: their host."""


class Informers:
    """See the module's text.

    Args:
        client: with which all kinds that are asked for may be listed and watched.
    """

    def __init__(self, client: Client, *, clock: Clock, rng: random.Random) -> None:
        self._client, self._clock, self._rng = client, clock, rng
        self._by_kind: dict[Kind, Informer] = {}
        self._is_running = False

    def of(self, kind: Kind) -> Informer:
        """The copy of a kind. Names of its indexes are shared, too."""
        informer = self._by_kind.get(kind)
        if informer is None:
            assert not self._is_running, f"{kind} was asked for too late: the informers run"
            informer = Informer(self._client, kind, clock=self._clock, rng=self._rng)
            self._by_kind[kind] = informer
        return informer

    def pods_by_node(self) -> Informer:
        """The copy of the pods, with `by_index(BY_NODE, host)` for those that are bound to a host."""
        informer = self.of(POD)
        informer.add_index(BY_NODE, lambda pod: [pods.node_name(pod)] if pods.node_name(pod) else [])
        return informer

    async def run(self) -> None:
        """Keep all copies for ever; returns at once when somebody does it already."""
        if self._is_running:
            return
        self._is_running = True
        async with asyncio.TaskGroup() as group:
            for informer in self._by_kind.values():
                group.create_task(informer.run(), name=f"informer {informer.kind}")

    async def wait_synced(self) -> None:
        """Return when each copy has its first list."""
        for informer in self._by_kind.values():
            await informer.wait_synced()
