"""The pods' network in parts of one size, and who has which.

Each question costs the same whether ten hosts have a part or ten thousand: parts are numbers, and the search
for a free one goes on from the lowest that may be free. A host may also have been given, by a person, a range
of another size; such ranges are few, and looked through one by one.

Invariant: a part that `take_free` gives out overlaps nothing that anybody has.
"""

from __future__ import annotations

import ipaddress
from collections import Counter

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Subnets:
    """See the module's text.

    Args:
        network: what is given away.
        prefix_length: of each part; at least the network's own.
    """

    def __init__(self, network: Network, prefix_length: int) -> None:
        self.network = network
        self.count = 2 ** (prefix_length - network.prefixlen)
        self._prefix_length = prefix_length
        self._part_addresses = 2 ** (network.max_prefixlen - prefix_length)
        self._texts: dict[str, str] = {}
        self._ranges: dict[str, range] = {}
        """Owner -> the numbers of the parts that what it has overlaps."""
        self._taken: Counter[int] = Counter()
        """Part -> how many have it; those who have several parts are in `_wide`."""
        self._wide: dict[str, range] = {}
        self._maybe_free = 0
        """No part before this one is free."""

    def of(self, owner: str) -> str | None:
        """What an owner has."""
        return self._texts.get(owner)

    def take(self, owner: str, text: str) -> None:
        """An owner has this range, whoever gave it; what it had before is free again.

        Raises:
            ValueError: the text is no range of addresses.
        """
        if self._texts.get(owner) == text:
            return
        taken = self._parts_of(ipaddress.ip_network(text, strict=False))
        self.release(owner)
        self._texts[owner], self._ranges[owner] = text, taken
        if len(taken) == 1:
            self._taken[taken[0]] += 1
        elif taken:
            self._wide[owner] = taken

    def holds(self, text: str) -> bool:
        """Whether this range lies within the network.

        Raises:
            ValueError: the text is no range of addresses.
        """
        given = ipaddress.ip_network(text, strict=False)
        within = self.network
        return (
            given.version == within.version
            and given.network_address in within
            and given.broadcast_address in within
        )

    def take_free(self, owner: str) -> str | None:
        """Give the owner the first free part; None when there is none."""
        for number in range(self._maybe_free, self.count):
            if number not in self._taken and not any(number in wide for wide in self._wide.values()):
                first = self.network.network_address + number * self._part_addresses
                self.take(owner, f"{first}/{self._prefix_length}")
                self._maybe_free = number + 1
                return self._texts[owner]
        self._maybe_free = self.count
        return None

    def release(self, owner: str) -> None:
        """The owner is gone."""
        if self._texts.pop(owner, None) is None:
            return
        parts = self._ranges.pop(owner)
        if self._wide.pop(owner, None) is None and parts:
            self._taken[parts[0]] -= 1
            if not self._taken[parts[0]]:
                del self._taken[parts[0]]
        if parts:
            self._maybe_free = min(self._maybe_free, parts[0])

    def _parts_of(self, taken: Network) -> range:
        if taken.version != self.network.version:
            return range(0)
        base = int(self.network.network_address)
        first = (int(taken.network_address) - base) // self._part_addresses
        last = (int(taken.broadcast_address) - base) // self._part_addresses
        return range(max(first, 0), min(last + 1, self.count))
