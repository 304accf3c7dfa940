"""What `gitkube lab status` shows: what is there, as it was seen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class HostStatus:
    name: str
    address: str
    zone: str
    state: str
    """"on", "off" (killed, or never booted) or "cut" (on, its cable pulled out)."""
    pid: int | None
    """Of its PID 1, as the machine counts."""


@dataclass(frozen=True, slots=True)
class ControllerStatus:
    name: str
    address: str
    url: str
    state: str
    """As of a host."""
    pid: int | None
    """Of its `gitkube serve`."""


@dataclass(frozen=True, slots=True)
class LabStatus:
    directory: Path
    exists: bool
    machine_address: str
    registry: str
    """As the hosts name it; "" when it does not run."""
    hosts: tuple[HostStatus, ...]
    controllers: tuple[ControllerStatus, ...] = ()
    """Empty while the control side runs on the machine itself."""
