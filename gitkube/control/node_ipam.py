"""Gives each host its part of the pods' network (`spec.podCIDR`), once and for ever.

What is given away is read from the Nodes themselves, so nothing can be forgotten over a restart. A part is
given by one worker only, after the copy of Nodes has shown every earlier gift (`_given` remembers those that
it may not show yet), and is written only if nobody wrote one meanwhile.

Invariant: no part is given to two hosts that exist at the same time.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

import structlog

from gitkube.api.errors import StatusError, is_not_found
from gitkube.api.workqueue import run_workers
from gitkube.control.context import Context, Controller
from gitkube.objects import meta
from gitkube.objects.kinds import NODE
from gitkube.objects.types import Object

FULL_RETRY_S = 30.0

log = structlog.get_logger(__name__)


class NodeIpamController(Controller):
    name = "node-ipam-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._nodes = context.informer(NODE)
        self._nodes.add_handler(self._on_node)
        self._events = context.recorder(self.name)
        self._network = ipaddress.ip_network(context.settings.cluster_cidr)
        self._prefix_length = context.settings.node_prefix_length
        self._given: dict[str, str] = {}
        """Host -> part, for gifts that the copy of Nodes may not show yet."""

    async def run(self) -> None:
        """Reconcile for ever, one host at a time."""
        await run_workers(self.queue, self.reconcile, workers=1, name=self.name)

    async def reconcile(self, key: str) -> float | None:
        """One look at one host."""
        node = self._nodes.get(key)
        if node is None:
            self._given.pop(key, None)
            return None
        if pod_cidr(node):
            self._given.pop(key, None)
            return None
        if key in self._given:
            return None  # given, and soon seen
        taken = [pod_cidr(other) for other in self._nodes.list()] + list(self._given.values())
        cidr = free_cidr(self._network, self._prefix_length, taken)
        if cidr is None:
            message = (
                f"all {2 ** (self._prefix_length - self._network.prefixlen)} subnets of "
                f"{self._network} are taken; remove Nodes that are gone, or configure a larger cluster CIDR"
            )
            log.warning("node_cidr_not_available", host=key, cluster_cidr=str(self._network))
            await self._events.event(node, "Warning", "CIDRNotAvailable", message)
            return FULL_RETRY_S
        self._given[key] = cidr
        try:
            patch = {
                "metadata": {"uid": meta.uid(node), "resourceVersion": meta.resource_version(node)},
                "spec": {"podCIDR": cidr, "podCIDRs": [cidr]},
            }
            await self.client.patch(NODE, key, "", patch)
        except StatusError as error:
            self._given.pop(key, None)
            if not is_not_found(error):
                raise
        return None

    def _on_node(self, before: Object | None, after: Object | None) -> None:
        node = after if after is not None else before
        assert node is not None
        if after is None or not pod_cidr(after) or meta.name(node) in self._given:
            self.enqueue(node)


def pod_cidr(node: Object) -> str:
    """The host's part, or ""."""
    return str((node.get("spec") or {}).get("podCIDR") or "")


def free_cidr(
    network: ipaddress.IPv4Network | ipaddress.IPv6Network, prefix_length: int, taken: Iterable[str]
) -> str | None:
    """The first part of the network that overlaps none of the taken ones."""
    used = [ipaddress.ip_network(text, strict=False) for text in taken if text]
    exact = {str(one) for one in used}
    others = [one for one in used if one.prefixlen != prefix_length]
    for part in network.subnets(new_prefix=prefix_length):
        if str(part) in exact:
            continue
        if not any(one.version == part.version and _overlap(one, part) for one in others):
            return str(part)
    return None


def _overlap(
    one: ipaddress.IPv4Network | ipaddress.IPv6Network, other: ipaddress.IPv4Network | ipaddress.IPv6Network
) -> bool:
    return int(one.network_address) <= int(other.broadcast_address) and int(other.network_address) <= int(
        one.broadcast_address
    )
