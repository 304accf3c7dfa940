"""The pods' addresses on one hollow host, out of its share of the pod network."""

from __future__ import annotations

import ipaddress
from collections import deque

_FREED_FIRST_AFTER = 32
"""A freed address rests until so many others are free, as in the agent: old endpoints may still name it."""


class AddressPool:
    """Gives and takes back. The first address of the share is the gateway's and the last is the broadcast.

    Invariant: no address is given to two pods at once.
    """

    def __init__(self, pod_cidr: str) -> None:
        network = ipaddress.ip_network(pod_cidr)
        self.pod_cidr = pod_cidr
        self._base = int(network.network_address)
        self._next, self._end = 2, network.num_addresses - 1
        self._make = type(network.network_address)
        self._free: deque[str] = deque()

    def take(self) -> str:
        """An address; "" when there is none left."""
        if self._free and (len(self._free) > _FREED_FIRST_AFTER or self._next >= self._end):
            return self._free.popleft()
        if self._next >= self._end:
            return ""
        self._next += 1
        return str(self._make(self._base + self._next - 1))

    def give_back(self, address: str) -> None:
        if address:
            self._free.append(address)
