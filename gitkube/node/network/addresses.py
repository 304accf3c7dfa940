"""Which pod has which address of this host's share.

A pod keeps its address for as long as it lives, over restarts of the agent and of the host, because the file
is written before the address is used. A free address is taken in turn, not the lowest: what was just given
back is still known to others (connections, caches of names) and should rest for a while.
"""

from __future__ import annotations

import ipaddress
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gitkube.node.files import read_json, write_json
from gitkube.node.network.errors import NetworkError


def gateway_of(pod_cidr: str) -> str:
    """The first address: the pods' gateway and name server on this host."""
    return str(ipaddress.IPv4Network(pod_cidr)[1])


def choose_address(pod_cidr: str, taken: Mapping[str, str], uid: str, last: str) -> str:
    """The address for a pod: the one it has, else the next free one after `last`. Pure.

    Raises:
        NetworkError: all are taken.
    """
    network = ipaddress.IPv4Network(pod_cidr)
    has = taken.get(uid)
    if has is not None and ipaddress.IPv4Address(has) in network:
        return has
    first, count = 2, network.num_addresses - 3  # without network, gateway and broadcast address
    used = {ipaddress.IPv4Address(address) for address in taken.values()}
    start = 0
    if last and ipaddress.IPv4Address(last) in network:
        start = int(ipaddress.IPv4Address(last)) - int(network.network_address) - first + 1
    for step in range(count):
        candidate = network[first + (start + step) % count]
        if candidate not in used:
            return str(candidate)
    raise NetworkError(
        f"all {count} pod addresses of {pod_cidr} are taken on this host;"
        " move pods away or give the host a larger share"
    )


@dataclass
class _Book:
    last: str = ""
    addresses: dict[str, str] = field(default_factory=dict)


class Addresses:
    """The book of addresses, in one file. May be used from several threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._book: _Book | None = None

    def take(self, pod_cidr: str, uid: str) -> str:
        """The pod's address, written down before it is returned.

        Raises:
            NetworkError: none is free, or the book is damaged.
        """
        with self._lock:
            book = self._read()
            address = choose_address(pod_cidr, book.addresses, uid, book.last)
            if book.addresses.get(uid) != address:
                book.addresses[uid] = address
                book.last = address
                self._write(book)
            return address

    def release(self, uid: str) -> None:
        """Give a pod's address back; one that has none is fine."""
        with self._lock:
            book = self._read()
            if book.addresses.pop(uid, None) is not None:
                self._write(book)

    def uids(self) -> set[str]:
        with self._lock:
            return set(self._read().addresses)

    def _read(self) -> _Book:
        if self._book is None:
            try:
                record = read_json(self._path) or {}
                self._book = _Book(str(record.get("last", "")), dict(record.get("addresses", {})))
            except (ValueError, TypeError, AttributeError) as error:
                raise NetworkError(
                    f"the book of pod addresses {self._path} is damaged ({error}); when no pod runs on this"
                    " host, remove it, and it is begun anew"
                ) from error
        return self._book

    def _write(self, book: _Book) -> None:
        write_json(self._path, {"last": book.last, "addresses": book.addresses})
