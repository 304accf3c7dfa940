"""The numbers of the controllers, each with its unit and its reason."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass


class SigningError(Exception):
    """A certificate cannot be made of a request; the text says why."""


Sign = Callable[[bytes, bool, int], Awaitable[bytes]]
"""From a PKCS #10 request in PEM, whether it is a node's, and a lifetime in seconds to a certificate in PEM.

Raises:
    SigningError.
"""


@dataclass(frozen=True, slots=True)
class ControlSettings:
    cluster_cidr: str = "10.42.0.0/16"
    """The pods' network; each host gets a part of it."""
    node_prefix_length: int = 24
    """Of a host's part: 254 pods and the bridge."""
    workers: int = 4
    """Objects of one kind reconciled at once. They wait for the store most of the time."""
    burst_replicas: int = 500
    """Pods that one look at a ReplicaSet or Job creates or deletes at most."""
    terminated_pods_max: int = 1000
    """Pods that have ended are kept for their logs; beyond this many the oldest are deleted."""
    pod_gc_interval_s: float = 20.0
    pod_gc_quarantine_s: float = 40.0
    """How long a host must be unknown before its pods are deleted: it may be about to join again."""
    root_ca: str = ""
    """PEM of the cluster's CA, put into each namespace's ConfigMap kube-root-ca.crt; "" writes none."""
    sign: Sign | None = None
    """Signs what CertificateSigningRequests ask for; None leaves them to others."""
    restart_backoff_s: float = 1.0
    """The first pause before a crashed controller is started again; doubles up to the next."""
    restart_backoff_max_s: float = 60.0
