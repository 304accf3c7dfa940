"""All hollow hosts of one control side, and the dialer that reaches them.

`run` is the one task of all hosts: it serves the pipes that were dialled and keeps one heap of times at which
something is due on any host, so that thousands of hosts cost no timer each. `inventory` names the hosts, with
addresses of the network for benchmarks (RFC 2544, section C.2.2), which nobody routes.

Invariant: the heap holds, of each host, the soonest time that it asked for; it asks for later ones then.
"""

from __future__ import annotations

import asyncio
import heapq
import ipaddress
import math
from collections.abc import Callable
from pathlib import Path

from gitkube.clock import Clock, set_within
from gitkube.fleet.errors import HostUnreachable
from gitkube.fleet.hosts import Host, Inventory
from gitkube.sim.hollow.ended import EndedPods
from gitkube.sim.hollow.faults import ON, follow_faults
from gitkube.sim.hollow.host import HollowHost
from gitkube.sim.hollow.pipe import MemoryPipe, memory_pipe
from gitkube.sim.hollow.settings import HollowSettings

ADDRESSES = ipaddress.ip_network("198.18.0.0/15")
MAX_HOSTS = 10_000
"""As of an inventory."""
SMALL_NETWORK, SMALL_NETWORK_HOSTS = "10.42.0.0/16", 250
LARGE_NETWORK = "10.128.0.0/9"
LABELS = {"gitkube.dev/hollow": "true"}


class HollowHosts:
    """A `fleet.link.Dialer`. `run` must be running for anything to happen.

    Args:
        faults: the file that asks for faults; it need not exist.
        disk: the file that remembers what has ended; None forgets it with the process.

    Raises:
        ValueError: not between 1 and MAX_HOSTS hosts.
    """

    agent_digest = ""

    def __init__(
        self,
        count: int,
        *,
        settings: HollowSettings,
        clock: Clock,
        faults: Path | None = None,
        disk: Path | None = None,
    ) -> None:
        if not 1 <= count <= MAX_HOSTS:
            raise ValueError(f"{count} hollow hosts are asked for; there can be 1 to {MAX_HOSTS}")
        self._clock, self._faults = clock, faults
        self._due: list[tuple[float, int, HollowHost]] = []
        self._asked: dict[str, float] = {}
        """Host -> the soonest time for which it is in the heap."""
        self._sequence = 0
        self._sooner = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None
        self.hosts: dict[str, HollowHost] = {}
        ended = EndedPods(disk)
        for number in range(1, count + 1):
            name, address = f"hollow-{number}", str(ADDRESSES[number])
            self.hosts[name] = HollowHost(
                name, address, settings=settings, clock=clock, wake=self._wake, ended=ended
            )

    @property
    def cluster_cidr(self) -> str:
        """A pod network with a /24 for each host, outside of the Services' 10.43.0.0/16."""
        return SMALL_NETWORK if len(self.hosts) <= SMALL_NETWORK_HOSTS else LARGE_NETWORK

    def inventory(self) -> Inventory:
        """The hosts, as the fleet takes them."""
        return Inventory({name: Host(name, one.address, labels=LABELS) for name, one in self.hosts.items()})

    async def dial(self, host: Host, *, restart: bool, on_progress: Callable[[str], None]) -> MemoryPipe:
        """A pipe to a host.

        Raises:
            HostUnreachable: there is no such hollow host, its cable is out, or it is off.
        """
        hollow = self.hosts.get(host.name)
        if hollow is None or hollow.state != ON or self._group is None:
            raise HostUnreachable(f"hollow host {host.name} does not answer")
        ours, theirs = memory_pipe(hollow.address)
        self._group.create_task(hollow.serve(theirs), name=f"hollow-{host.name}")
        return ours

    async def run(self) -> None:
        """Be the hosts, until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            if self._faults is not None:
                following = follow_faults(self._faults, list(self.hosts.values()), clock=self._clock)
                group.create_task(following, name="hollow-faults")
            try:
                while True:
                    await self._wait()
                    for host in self._take_due():
                        await host.advance()
            finally:
                self._group = None

    def _wake(self, host: HollowHost, due_s: float) -> None:
        if due_s >= self._asked.get(host.name, math.inf):
            return  # it is called before that anyway, and asks again then
        self._asked[host.name] = due_s
        is_sooner = not self._due or due_s < self._due[0][0]
        self._sequence += 1
        heapq.heappush(self._due, (due_s, self._sequence, host))
        if is_sooner:
            self._sooner.set()

    def _take_due(self) -> list[HollowHost]:
        now_s = self._clock.monotonic()
        found: dict[str, HollowHost] = {}
        while self._due and self._due[0][0] <= now_s:
            due_s, _, host = heapq.heappop(self._due)
            if self._asked.get(host.name, math.inf) <= due_s:
                self._asked.pop(host.name, None)
                found[host.name] = host
        return list(found.values())

    async def _wait(self) -> None:
        """Until the first time that was asked for, or until one is asked for that is sooner."""
        self._sooner.clear()
        if not self._due:
            await self._sooner.wait()
            return
        await set_within(self._clock, self._sooner, max(0.0, self._due[0][0] - self._clock.monotonic()))
