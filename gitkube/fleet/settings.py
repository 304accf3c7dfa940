"""The numbers of the fleet, each with its unit and reason, in one place so that a test can shorten them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """What the fleet needs to know beside the inventory."""

    cluster_cidr: str = "10.42.0.0/16"
    service_cidr: str = "10.43.0.0/16"
    cluster_domain: str = "cluster.local"
    wireguard_port: int = 51820
    node_lost_grace_s: float = 5.0
    """A link down for longer makes the Node's Ready condition Unknown."""
    push_delay_s: float = 0.004
    """How long changes are gathered before a section goes out: a rollout changes many objects at once."""
    connect_timeout_s: float = 10.0
    """For TCP, and again for SSH's key exchange and login."""
    prepare_timeout_s: float = 30.0
    """For looking at a host and for starting its agent."""
    install_timeout_s: float = 900.0
    """For the package manager of a slow machine on a slow line."""
    hello_timeout_s: float = 20.0
    """From opening the channel to the agent's first message."""
    trial_s: float = 60.0
    """How long a host waits for a new agent to be confirmed before it takes the earlier one back."""
    backoff_first_s: float = 0.25
    backoff_cap_s: float = 30.0
    parallel_connects: int = 20
    """Key exchanges are CPU work on this side; hundreds at once would starve the API."""
    let_go_s: float = 40.0
    """How long the link to a host that left the inventory is kept, so that its pods can end with grace."""
