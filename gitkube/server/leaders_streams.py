"""Logs and exec of pods, while we lead: they go over the links to the hosts, which only the leader holds.

On other controllers `relay.py` passes such requests on before they come here. Connections that the server
itself wants, to webhooks, are carried by the leader (`pod_forwards.py`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from gitkube.api.errors import unavailable
from gitkube.api.streams import ExecOptions, LogOptions, StreamSession
from gitkube.objects.types import Object
from gitkube.server.pod_forwards import LeadersForwards

if TYPE_CHECKING:
    from gitkube.fleet.fleet import Fleet


class LeadersStreams:
    """Logs and exec go over the links that the leader holds."""

    def __init__(self) -> None:
        self.leader: Fleet | None = None
        self.forwards: LeadersForwards | None = None
        """Reaches pods through the leader, while that is another."""

    def _get(self) -> Fleet:
        if self.leader is None:
            raise unavailable("this controller does not lead, so it holds no link to the hosts")
        return self.leader

    async def logs(self, pod: Object, options: LogOptions) -> AsyncIterator[bytes]:
        async for chunk in self._get().logs(pod, options):
            yield chunk

    async def exec(self, pod: Object, options: ExecOptions) -> StreamSession:
        return await self._get().exec(pod, options)

    async def attach(self, pod: Object, options: ExecOptions) -> StreamSession:
        return await self._get().attach(pod, options)

    async def port_forward(self, pod: Object, port: int) -> StreamSession:
        if self.leader is None and self.forwards is not None:
            return await self.forwards.port_forward(pod, port)
        return await self._get().port_forward(pod, port)
