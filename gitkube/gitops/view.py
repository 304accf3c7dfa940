"""What the sync sees of the cluster: informers on everything it manages, and the health they add up to.

The only place of the package that keeps live objects. What workloads are made of is always watched; every
other kind, those of definitions among them, while git has objects of it and the cluster serves it (`follow`).
It lags behind the API by a moment, so whatever was just applied counts as rolling until the view has caught
up with it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection, Iterable, Mapping

from gitkube.api.client import Client
from gitkube.api.informer import Handler, Informer
from gitkube.api.informers import Informers
from gitkube.clock import Clock
from gitkube.gitops.applier import Applier
from gitkube.gitops.check import Ref
from gitkube.gitops.desired import Desired
from gitkube.gitops.health import FAILED, HEALTHY, ROLLING, Health, Related, health_of
from gitkube.gitops.rollout import Seen
from gitkube.objects import kinds, meta, pods
from gitkube.objects.kinds import Kind
from gitkube.objects.types import Object

WATCHED: tuple[Kind, ...] = (
    kinds.NAMESPACE,
    kinds.CONFIG_MAP,
    kinds.SECRET,
    kinds.SERVICE_ACCOUNT,
    kinds.SERVICE,
    kinds.DEPLOYMENT,
    kinds.REPLICA_SET,
    kinds.REPLICATION_CONTROLLER,
    kinds.JOB,
    kinds.POD,
)
WITH_HEALTH = (
    kinds.DEPLOYMENT,
    kinds.REPLICA_SET,
    kinds.REPLICATION_CONTROLLER,
    kinds.JOB,
    kinds.POD,
)
SYNC_WITHIN_S = 5.0
"""How long a deployment waits for the first list of a kind; one that cannot be listed must not hold it up."""


def _nothing(before: Object | None, after: Object | None) -> None:
    """The handler until there is one."""


class View:
    """Live objects by reference.

    Args:
        informers: those that other loops use, too; what is always watched is taken from there.
    """

    def __init__(
        self, client: Client, *, clock: Clock, rng: random.Random, informers: Informers | None = None
    ) -> None:
        self._client, self._clock, self._rng = client, clock, rng
        self._shared = informers or Informers(client, clock=clock, rng=rng)
        self._informers = {kind: self._shared.of(kind) for kind in WATCHED}
        self._followed: dict[Kind, asyncio.Task[None]] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._handler: Handler = _nothing

    async def start(self, tasks: asyncio.TaskGroup, handler: Handler) -> None:
        """Run the informers in `tasks`; returns when each has its first list."""
        self._tasks, self._handler = tasks, handler
        for informer in self._informers.values():
            informer.add_handler(handler)
        tasks.create_task(self._shared.run(), name="gitops-informers")
        for informer in self._informers.values():
            await informer.wait_synced()

    def _run(self, informer: Informer) -> asyncio.Task[None]:
        assert self._tasks is not None, "started by `start`"
        informer.add_handler(self._handler)
        return self._tasks.create_task(informer.run(), name=f"gitops-{informer.kind}")

    async def follow(self, wanted: Collection[Kind]) -> set[Kind]:
        """Watch these kinds beside those that always are, and no others any more.

        Returns:
            The kinds that were not watched before, when each has its first list or SYNC_WITHIN_S are over.
        """
        for kind in [kind for kind in self._followed if kind not in wanted]:
            self._followed.pop(kind).cancel()
            del self._informers[kind]
        fresh = {
            kind: Informer(self._client, kind, clock=self._clock, rng=self._rng)
            for kind in wanted
            if kind not in self._informers
        }
        for kind, informer in fresh.items():
            self._informers[kind] = informer
            self._followed[kind] = self._run(informer)
        try:
            async with asyncio.timeout(SYNC_WITHIN_S):
                for informer in fresh.values():
                    await informer.wait_synced()
        except TimeoutError:
            pass  # it goes on trying, and says in the log why it cannot
        return set(fresh)

    def live(self, ref: Ref) -> Object | None:
        """An object, or None when it is not there (or of a kind that is not watched)."""
        informer = self._informers.get(ref.kind)
        return None if informer is None else informer.get(ref.name, ref.namespace)

    def namespaces(self) -> list[str]:
        return [meta.name(one) for one in self._informers[kinds.NAMESPACE].list()]

    def seen(self, desired: Mapping[Ref, Desired], applier: Applier) -> dict[Ref, Seen]:
        """Every object that came from git, and how it is."""
        related = self._related()
        return {ref: self._one(ref, wanted, applier, related) for ref, wanted in desired.items()}

    def ready_pods(self, refs: Iterable[Ref]) -> dict[Ref, set[str]]:
        """The uids of the ready pods of each workload, of whatever revision."""
        related = self._related()
        found: dict[Ref, set[str]] = {}
        for ref in refs:
            live = self.live(ref) if ref.kind in WITH_HEALTH else None
            if live is not None:
                found[ref] = {meta.uid(pod) for pod in related.all_pods(live) if pods.is_ready(pod)}
        return found

    def _one(self, ref: Ref, wanted: Desired, applier: Applier, related: Related) -> Seen:
        quarantined = applier.quarantined.get(ref)
        if quarantined is not None:
            reason = f"refused by the API: {quarantined.message}"
            return Seen(Health(FAILED, reason, is_stuck=True), wanted.place)
        informer = self._informers.get(ref.kind)
        if informer is None or not informer.has_synced:
            return Seen(Health(HEALTHY), wanted.place)
        live = self.live(ref)
        applied = applier.applied.get(ref)
        if live is None and applied is not None and applied.is_complete:
            return Seen(Health(HEALTHY, "completed", 1, 1), wanted.place)
        health = health_of(ref.kind, live, related)
        version = int(meta.resource_version(live) or 0) if live is not None else 0
        if live is not None and applied is not None and version < applied.resource_version:
            health = Health(ROLLING, "just applied", 0, health.wanted)
        return Seen(health, wanted.place, related.newest_pods(live) if live is not None else ())

    def _related(self) -> Related:
        return Related(self._informers[kinds.REPLICA_SET].list(), self._informers[kinds.POD].list())
