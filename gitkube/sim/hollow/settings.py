"""How long pretended things take on hollow hosts, and how large such a host says it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class HollowSettings:
    """For all hosts alike; annotations of a pod win over them (see `fate.py`)."""

    pull_s: float = 0.0
    """For the first pod of each image on each host."""
    start_s: float = 0.1
    """From a pod's arrival, or from the end of the pull, until its containers run and are ready."""
    stop_s: float = 0.1
    """From a pod's deletion until nothing is left of it; never longer than its grace period."""
    run_s: float = 1.0
    """How long a container of a pod that is meant to end (restartPolicy Never or OnFailure) runs."""
    restart_backoff_s: float = 10.0
    """Before the first restart of a container that ended; doubles with each, as in kubelet."""
    restart_backoff_cap_s: float = 300.0
    capacity: Mapping[str, str] = field(
        default_factory=lambda: MappingProxyType(
            {"cpu": "8", "memory": "32Gi", "ephemeral-storage": "100Gi", "pods": "110"}
        )
    )
    """As in NodeStatus.capacity."""
