"""The two networks of a cluster: the pods' (`--cluster-cidr`) and the Services' (`--service-cidr`).

Both are chosen once: Services' addresses are in the store, pods' on the hosts, and neither can move.
"""

from __future__ import annotations

import ipaddress

CLUSTER_CIDR = "10.42.0.0/16"
SERVICE_CIDR = "10.43.0.0/16"
MAX_CLUSTER_PREFIX = 24
"""Each host gets a /24 of the pods' network."""
MIN_SERVICE_PREFIX, MAX_SERVICE_PREFIX = 12, 28
"""A million addresses, as in Kubernetes, and at least a few."""


def check_networks(cluster_cidr: str, service_cidr: str) -> None:
    """Raises:
    ValueError: one of them cannot be used, or they overlap; the text names the option.
    """
    cluster = _network("--cluster-cidr", cluster_cidr)
    service = _network("--service-cidr", service_cidr)
    if cluster.prefixlen > MAX_CLUSTER_PREFIX:
        raise ValueError(
            f"--cluster-cidr {cluster} has no room for one host: each gets a /24 of it; give at least a /24"
        )
    if not MIN_SERVICE_PREFIX <= service.prefixlen <= MAX_SERVICE_PREFIX:
        raise ValueError(
            f"--service-cidr {service} must have a prefix of "
            f"{MIN_SERVICE_PREFIX} to {MAX_SERVICE_PREFIX} bits"
        )
    if cluster.overlaps(service):
        raise ValueError(
            f"--cluster-cidr {cluster} and --service-cidr {service} overlap: an address would be a pod's and "
            "a Service's; give them networks apart"
        )


def _network(option: str, text: str) -> ipaddress.IPv4Network:
    try:
        network = ipaddress.IPv4Network(text)
    except ValueError as error:
        raise ValueError(f"{option}: {text!r} is no IPv4 network such as {CLUSTER_CIDR}: {error}") from error
    if text != str(network):
        raise ValueError(f"{option}: write {text!r} as {network}")
    if network.is_loopback or network.is_link_local or network.is_multicast:
        raise ValueError(f"{option}: {network} is no network of ordinary addresses")
    return network
