"""Faults of hollow hosts, asked for by a file: {"hollow-2": "off", "hollow-3": "cut"}; others are on.

A file and not a command, so that whoever asks need not be there when the hosts come up, and asking twice is
asking once. It is looked at twice a second. A file that is not understood changes nothing, and is in the log.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import structlog

from gitkube.clock import Clock

ON, OFF, CUT = "on", "off", "cut"
LOOK_INTERVAL_S = 0.5

log = structlog.get_logger(__name__)


class Faulty(Protocol):
    """A host that faults can happen to."""

    @property
    def name(self) -> str: ...

    async def set_state(self, state: str) -> None: ...


def read_faults(path: Path) -> dict[str, str]:
    """Host -> "off" or "cut".

    Raises:
        ValueError: the file holds something else.
    """
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    if not isinstance(found, dict) or any(state not in (ON, OFF, CUT) for state in found.values()):
        raise ValueError(f'{path} must be a map of hosts to "on", "off" or "cut"')
    return {str(name): state for name, state in found.items() if state != ON}


async def follow_faults(path: Path, hosts: Iterable[Faulty], *, clock: Clock) -> None:
    """Keep the hosts as the file asks, for ever."""
    in_force: dict[str, str] = {}
    complained = ""
    while True:
        try:
            wanted, complaint = read_faults(path), ""
        except (ValueError, OSError) as error:
            wanted, complaint = in_force, str(error)
        if complaint and complaint != complained:
            log.warning("hollow_faults_not_understood", error=complaint, in_force=in_force)
        complained = complaint
        for host in hosts:
            state = wanted.get(host.name, ON)
            if state != in_force.get(host.name, ON):
                await host.set_state(state)
                log.info("hollow_host_set", host=host.name, state=state)
        in_force = wanted
        await clock.sleep(LOOK_INTERVAL_S)
