"""Removes pods that nobody else would: those of lost hosts, and the oldest of too many ended ones.

A host that is missing is waited for (it may be about to join again), and asked for once more at the API
before its pods go. Such pods are deleted without grace, for no agent is left to stop them.
Source: Kubernetes' podgc.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from gitkube.api.errors import StatusError, is_conflict, is_not_found
from gitkube.control.context import Context
from gitkube.objects import meta, pods
from gitkube.objects.kinds import NODE, POD
from gitkube.objects.types import Object

log = structlog.get_logger(__name__)


class PodGarbageCollector:
    name = "pod-garbage-collector"

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._clock = context.clock
        self._settings = context.settings
        self._nodes = context.informer(NODE)
        self._pods = context.informer(POD)
        self._missing_since: dict[str, float] = {}

    async def run(self) -> None:
        """Look every few seconds, for ever."""
        while True:
            await self._clock.sleep(self._settings.pod_gc_interval_s)
            await self.collect()

    async def collect(self) -> None:
        """One pass."""
        everyone = self._pods.list()
        for pod in surplus_terminated(everyone, self._settings.terminated_pods_max):
            await self._delete(pod, "too many pods have ended")
        for pod in everyone:
            if meta.is_deleting(pod) and not pods.node_name(pod):
                await self._delete(pod, "it was deleted before it had a host")
        gone = await self._gone_hosts({pods.node_name(pod) for pod in everyone if pods.node_name(pod)})
        for pod in everyone:
            if pods.node_name(pod) in gone:
                await self._delete(pod, "its host is no more")

    async def _gone_hosts(self, hosts: set[str]) -> set[str]:
        """Hosts that have been missing for the whole quarantine, and are missing at the API too."""
        now = self._clock.monotonic()
        missing = {host for host in hosts if self._nodes.get(host) is None}
        self._missing_since = {host: self._missing_since.get(host, now) for host in missing}
        gone = set()
        for host, since in self._missing_since.items():
            if now - since >= self._settings.pod_gc_quarantine_s and not await self._exists(host):
                gone.add(host)
        return gone

    async def _exists(self, host: str) -> bool:
        try:
            await self._client.get(NODE, host)
        except StatusError as error:
            if is_not_found(error):
                return False
            raise
        return True

    async def _delete(self, pod: Object, why: str) -> None:
        log.info("pod_collected", namespace=meta.namespace(pod), name=meta.name(pod), why=why)
        try:
            await self._client.delete(
                POD, meta.name(pod), meta.namespace(pod), grace_period_s=0, uid=meta.uid(pod)
            )
        except StatusError as error:
            if not is_not_found(error) and not is_conflict(error):
                raise


def surplus_terminated(everyone: Sequence[Object], limit: int) -> list[Object]:
    """Ended pods beyond the limit, the oldest first."""
    ended = [pod for pod in everyone if pods.is_terminal(pod) and not meta.is_deleting(pod)]
    surplus = len(ended) - limit
    return sorted(ended, key=meta.created_at_s)[:surplus] if surplus > 0 else []
