"""Ports of loopback for programs that must be told one before they listen.

A port that the kernel gives away (bind to 0) may be given to somebody else before the program takes it, a
client's connection for instance, and with several processes of tests that happens. So these lie below the
range that the kernel gives away from, and each process of tests has a share of its own.
"""

from __future__ import annotations

import itertools
import os
import socket

_FIRST = 20_000
_SHARE = 1_000
"""Ten processes fit below 30000, where the hosts' NodePorts begin."""
_numbers = itertools.count(os.getpid())


def free_port() -> int:
    """One that nobody listens on, and that nobody else is told."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 10
    for _ in range(_SHARE):
        port = _FIRST + worker * _SHARE + next(_numbers) % _SHARE
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise OSError(f"all ports from {_FIRST + worker * _SHARE} on are taken")


def free_ports(count: int) -> list[int]:
    """Several, all different."""
    return [free_port() for _ in range(count)]
