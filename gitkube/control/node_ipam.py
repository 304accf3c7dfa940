"""Gives each host its part of the pods' network (`spec.podCIDR`), once and for ever.

What is given away is read from the Nodes themselves, so nothing can be forgotten over a restart. One worker
gives, after the copy of Nodes has shown every earlier gift; a part that was chosen for a host stays that
host's until its Node is gone, also when nobody knows whether the write of it succeeded.

Hosts that found no part wait for one that is given back. They are not looked at again meanwhile, whatever
else changes about them: with thousands of hosts that would be all that the program does.

Invariant: no part is given to two hosts that exist at the same time.
"""

from __future__ import annotations

import ipaddress

import structlog

from gitkube.api.errors import StatusError, is_not_found
from gitkube.api.workqueue import run_workers
from gitkube.control.context import Context, Controller
from gitkube.control.subnets import Subnets
from gitkube.objects import meta
from gitkube.objects.kinds import NODE
from gitkube.objects.types import Object

log = structlog.get_logger(__name__)


class NodeIpamController(Controller):
    name = "node-ipam-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        network = ipaddress.ip_network(context.settings.cluster_cidr)
        self._subnets = Subnets(network, context.settings.node_prefix_length)
        self._written: set[str] = set()
        """Hosts whose part was written, and is soon seen in the copy of Nodes."""
        self._without: set[str] = set()
        """Hosts that found all parts taken, and whose users know it."""
        self._events = context.recorder(self.name)
        self._nodes = context.informer(NODE)
        self._nodes.add_handler(self._on_node)

    async def run(self) -> None:
        """Reconcile for ever, one host at a time."""
        await run_workers(self.queue, self.reconcile, workers=1, name=self.name)

    async def reconcile(self, key: str) -> float | None:
        """One look at one host."""
        node = self._nodes.get(key)
        if node is None or key in self._written:
            return None
        if own := pod_cidr(node):
            await self._say_outside(node, own)
            return None
        cidr = self._subnets.of(key) or self._subnets.take_free(key)
        if cidr is None:
            await self._say_full(key, node)
            return None
        self._without.discard(key)
        patch = {
            "metadata": {"uid": meta.uid(node), "resourceVersion": meta.resource_version(node)},
            "spec": {"podCIDR": cidr, "podCIDRs": [cidr]},
        }
        try:
            await self.client.patch(NODE, key, "", patch)
        except StatusError as error:
            if not is_not_found(error):
                raise
        else:
            self._written.add(key)
        return None

    async def _say_full(self, key: str, node: Object) -> None:
        if key in self._without:
            return
        self._without.add(key)
        message = (
            f"all {self._subnets.count} subnets of {self._subnets.network} are taken; remove Nodes that are "
            "gone, or start all controllers with a larger --cluster-cidr that holds this one"
        )
        log.warning("node_cidr_not_available", host=key, cluster_cidr=str(self._subnets.network))
        await self._events.event(node, "Warning", "CIDRNotAvailable", message)

    async def _say_outside(self, node: Object, cidr: str) -> None:
        if self._subnets.holds(cidr):
            return
        message = (
            f"its pods have addresses of {cidr}, which is no part of the cluster's network "
            f"{self._subnets.network}: others do not reach them. Start all controllers with the "
            "--cluster-cidr that they had before, or drain and delete this Node"
        )
        log.warning(
            "node_cidr_outside", host=meta.name(node), cidr=cidr, cluster_cidr=str(self._subnets.network)
        )
        await self._events.event(node, "Warning", "CIDRNotInCluster", message)

    def _on_node(self, before: Object | None, after: Object | None) -> None:
        node = after if after is not None else before
        assert node is not None
        name = meta.name(node)
        if after is None:
            self._written.discard(name)
            self._without.discard(name)
            self._release(name)
        elif cidr := pod_cidr(after):
            self._written.discard(name)
            self._without.discard(name)
            if self._subnets.of(name) not in (None, cidr):
                self._release(name)  # somebody else has given it another one
            self._subnets.take(name, cidr)
            if pod_cidr(before or {}) != cidr and not self._subnets.holds(cidr):
                self.queue.add(name)
        elif name not in self._written and name not in self._without:
            self.queue.add(name)

    def _release(self, name: str) -> None:
        self._subnets.release(name)
        for host in self._without:
            self.queue.add(host)


def pod_cidr(node: Object) -> str:
    """The host's part, or ""."""
    return str((node.get("spec") or {}).get("podCIDR") or "")
