"""The numbers of the API server, each with its unit and its reason."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ApiSettings:
    service_cidr: str = "10.43.0.0/16"
    """ClusterIPs come from here; the first address is the Service `kubernetes`."""
    node_port_min: int = 30000
    node_port_max: int = 32767
    toleration_s: int = 300
    """What pods get to stay on a host that is not ready or out of reach, when they don't say."""
    api_port: int = 6443
    """The target port of the Service `kubernetes`."""
    watch_ring_events: int = 4096
    """Recent events kept for each kind, however old. A watch that lags further behind is ended with 410."""
    watch_ring_fresh_s: float = 75.0
    """Events younger than this are kept as well, so that a client whose connection broke during a rollout
    goes on where it was; as long as in Kubernetes."""
    watch_ring_events_max: int = 16_384
    """But never more events of a kind than this, however young: each holds an object."""
    bookmark_interval_s: float = 60.0
    """A watcher that sees no event still learns a recent version, so that it can resume after a break."""
    store_timeout_s: float = 15.0
    """How long a request waits for the store, or for the cache to reach a revision, before it answers 504.
    The store gives up after ten seconds and can say why, so it is not cut off before."""
    event_ttl_s: int = 3600
    """Events tell what happened lately; nobody reads them later, and they would fill the store."""
    retries: int = 16
    """Attempts of one write against others on the same object, before it answers 409."""
    mounts_tokens: bool = True
    """Whether new pods get a token of their ServiceAccount by themselves."""
    list_limit_max: int = 100_000
    """Objects in one answer."""

    @property
    def kubernetes_service_ip(self) -> str:
        return str(ipaddress.ip_network(self.service_cidr)[1])
