"""Node objects: what the inventory says of a machine, and what its link and its agent tell.

`NodeSync` owns, of each Node that comes from the inventory: its labels and annotations by server-side apply
(so that others' stay), the inventory's taints among others' taints, and its status. Heartbeats never reach
the store: a Node is written only when something about it has changed. Each reconcile computes the whole
Node from the facts in memory (rebuilt by the next hello) and writes the difference.

A Node whose host has left the inventory is deleted; the marker annotation says which Nodes came from there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import structlog

from gitkube import wire
from gitkube.api.client import Client
from gitkube.api.errors import StatusError, is_not_found
from gitkube.api.informer import Informer
from gitkube.api.workqueue import WorkQueue, run_workers
from gitkube.clock import Clock
from gitkube.fleet.desired import ENDPOINT_ANNOTATION, PUBLIC_KEY_ANNOTATION, endpoint, pod_cidr_of
from gitkube.fleet.hosts import Host
from gitkube.fleet.link import LinkState
from gitkube.fleet.settings import FleetSettings
from gitkube.objects import conditions, meta
from gitkube.objects.kinds import NODE
from gitkube.objects.types import Object

FIELD_MANAGER = "gitkube-fleet"
INVENTORY_ANNOTATION = "gitkube.dev/inventory-host"
"""Marks a Node as ours, and says where the inventory names its host."""
TAINTS_ANNOTATION = "gitkube.dev/inventory-taints"
"""The inventory's taints that were put on the Node, as JSON: what may be taken off again."""
ARCHITECTURE_LABEL = "kubernetes.io/arch"
MAX_IMAGES = 50
"""As Kubernetes: the largest images of a node, for the scheduler."""
_WORKERS = 4

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class HostFacts:
    """What is known of one host right now. Changed by the fleet, read here."""

    host: Host
    link: LinkState
    since_s: float
    """Monotonic: when this process began to know the host."""
    last_up_s: float | None = None
    """Monotonic: when the link was last known to be up."""
    address: str = ""
    """The IP address that the host was last reached at."""
    hello: wire.Hello | None = None
    report: Mapping[str, Any] | None = None
    """The agent's last NodeReport."""
    network_error: str | None = None
    """"" once the pod network is in force, a sentence when it is not, None when that is not known."""


class NodeSync:
    """Writes the Nodes. `touch` says that something about a host may have changed."""

    def __init__(
        self,
        client: Client,
        nodes: Informer,
        facts: Mapping[str, HostFacts],
        *,
        clock: Clock,
        rng: Random,
        settings: FleetSettings,
    ) -> None:
        self._client, self._nodes, self._facts = client, nodes, facts
        self._clock, self._settings = clock, settings
        self._queue: WorkQueue[str] = WorkQueue(clock, rng)
        self._applied: dict[str, str] = {}
        """Host -> digest of what was last applied by this process."""
        nodes.add_handler(self._node_changed)

    def touch(self, name: str) -> None:
        self._queue.add(name)

    async def run(self) -> None:
        await self._nodes.wait_synced()
        for name in {*self._facts, *(meta.name(node) for node in self._nodes.list())}:
            self.touch(name)
        await run_workers(self._queue, self._reconcile, workers=_WORKERS, name="fleet-nodes")

    def _node_changed(self, before: Object | None, after: Object | None) -> None:
        self.touch(meta.name(after or before or {}))

    async def _reconcile(self, name: str) -> float | None:
        node = self._nodes.get(name)
        facts = self._facts.get(name)
        if facts is None:
            if node is not None and INVENTORY_ANNOTATION in meta.annotations(node):
                await self._remove(node)
            return None
        node = await self._apply_identity(facts, node)
        node = await self._apply_taints(facts.host, node)
        return await self._apply_status(facts, node)

    async def _remove(self, node: Object) -> None:
        try:
            await self._client.delete(NODE, meta.name(node), uid=meta.uid(node))
            log.info("node_removed", host=meta.name(node), reason="it has left the inventory")
        except StatusError as error:
            if not is_not_found(error):
                raise
        self._applied.pop(meta.name(node), None)

    async def _apply_identity(self, facts: HostFacts, node: Object | None) -> Object:
        body = identity(facts, node, self._settings)
        digest = wire.digest_of(body)
        if node is not None and self._applied.get(facts.host.name) == digest and _has(node, body):
            return node
        applied = await self._client.apply(NODE, body, field_manager=FIELD_MANAGER, force=True)
        self._applied[facts.host.name] = digest
        return applied

    async def _apply_taints(self, host: Host, node: Object) -> Object:
        wanted = [taint.to_object() for taint in host.taints]
        before = _taints_put(node)
        current = (node.get("spec") or {}).get("taints") or []
        merged = merge_taints(current, before, wanted)
        if merged == current and before == wanted:
            return node
        # The list is atomic to the API, so the version guards what others put in between: on a conflict
        # the queue brings us back here with what they wrote.
        patch = {
            "metadata": {
                "resourceVersion": meta.resource_version(node),
                "annotations": {TAINTS_ANNOTATION: json.dumps(wanted) if wanted else None},
            },
            "spec": {"taints": merged or None},
        }
        return await self._client.patch(NODE, host.name, "", patch, field_manager=f"{FIELD_MANAGER}-taints")

    async def _apply_status(self, facts: HostFacts, node: Object) -> float | None:
        now_s = self._clock.monotonic()
        wanted = status(facts, node, now_s, self._clock.now(), self._settings)
        current = node.get("status") or {}
        changed = {key: value for key, value in wanted.items() if current.get(key) != value}
        if changed:
            await self._client.patch(
                NODE,
                facts.host.name,
                "",
                {"status": changed},
                subresource="status",
                field_manager=FIELD_MANAGER,
            )
        return None if facts.link.is_up else _grace_left_s(facts, now_s, self._settings)


# ------------------------------------------------------------------ decisions


def identity(facts: HostFacts, node: Object | None, settings: FleetSettings) -> Object:
    """What server-side apply says of a Node: labels, annotations and a fixed share of the pod network.

    What only the agent knows (its key, its architecture) is kept from the Node as long as the agent has not
    said hello: a restarted control side must not take the network apart.
    """
    host = facts.host
    known = node or {}
    labels = {"kubernetes.io/hostname": host.name, "kubernetes.io/os": "linux"}
    told = facts.hello["nodeInfo"].get("architecture") if facts.hello else ""
    architecture = told or meta.labels(known).get(ARCHITECTURE_LABEL)
    if architecture:
        labels[ARCHITECTURE_LABEL] = architecture
    annotations = {INVENTORY_ANNOTATION: str(host.place) if host.place.file else host.name}
    told = facts.hello["publicKey"] if facts.hello else ""
    key = told or meta.annotations(known).get(PUBLIC_KEY_ANNOTATION)
    if key:
        annotations[PUBLIC_KEY_ANNOTATION] = key
    end = endpoint(facts.address, settings.wireguard_port) if facts.address else ""
    end = end or meta.annotations(known).get(ENDPOINT_ANNOTATION, "")
    if end:
        annotations[ENDPOINT_ANNOTATION] = end
    body: Object = {
        "apiVersion": "v1",
        "kind": "Node",
        # The inventory's words win over the ones that were found out.
        "metadata": {"name": host.name, "labels": {**labels, **host.labels}, "annotations": annotations},
    }
    if host.pod_cidr:
        body["spec"] = {"podCIDR": host.pod_cidr, "podCIDRs": [host.pod_cidr]}
    return body


def merge_taints(
    current: Sequence[Mapping[str, Any]],
    before: Sequence[Mapping[str, Any]],
    wanted: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """`current` without what we put there `before`, with what is `wanted`; others' taints stay in place."""

    def key(taint: Mapping[str, Any]) -> tuple[str, str]:
        return str(taint.get("key")), str(taint.get("effect"))

    new = {key(taint): dict(taint) for taint in wanted}
    old = {key(taint) for taint in before}
    kept = []
    for taint in current:
        if key(taint) in new:
            kept.append({**taint, **new.pop(key(taint))})
        elif key(taint) not in old:
            kept.append(dict(taint))
    return kept + list(new.values())


def status(
    facts: HostFacts, node: Object, monotonic_s: float, now_s: float, settings: FleetSettings
) -> dict[str, Any]:
    """The fields of NodeStatus that the fleet answers for."""
    current = node.get("status") or {}
    wanted: dict[str, Any] = {}
    address = facts.address or facts.host.address
    if facts.address or not current.get("addresses"):
        kind = "InternalIP" if facts.address or _is_ip(address) else "InternalDNS"
        wanted["addresses"] = [
            {"type": kind, "address": address},
            {"type": "Hostname", "address": facts.host.name},
        ]
    if facts.hello is not None:
        wanted["nodeInfo"] = {**(current.get("nodeInfo") or {}), **facts.hello["nodeInfo"]}
        wanted["capacity"] = dict(facts.hello["capacity"])
        wanted["allocatable"] = dict(facts.hello["capacity"])
    result = list(current.get("conditions") or ())
    if facts.report is not None:
        wanted["images"] = list(facts.report.get("images") or ())[:MAX_IMAGES]
        for condition in facts.report.get("conditions") or ():
            if condition.get("type") != "Ready":
                result = _set(result, condition, now_s)
    ready = ready_condition(facts, node, monotonic_s, settings)
    if ready is not None:
        result = _set(result, ready, now_s)
    if result:
        wanted["conditions"] = result
    return wanted


def ready_condition(
    facts: HostFacts, node: Object, monotonic_s: float, settings: FleetSettings
) -> conditions.Condition | None:
    """What Ready should say; None leaves it as it is."""
    was = conditions.status_of(node, "Ready")
    if facts.link.phase == "stopped":
        return conditions.make("Ready", conditions.UNKNOWN, facts.link.reason, facts.link.sentence)
    if not facts.link.is_up:
        if was and _grace_left_s(facts, monotonic_s, settings) is not None:
            return None
        return conditions.make("Ready", conditions.UNKNOWN, "NodeStatusUnknown", facts.link.sentence)
    if not pod_cidr_of(node):
        return conditions.make(
            "Ready", False, "NetworkNotReady", "the node has no share of the pod network yet"
        )
    if facts.network_error:
        return conditions.make("Ready", False, "NetworkNotReady", facts.network_error)
    if facts.network_error is None:
        # Asked for and not answered yet: a node that was ready stays so for these milliseconds.
        if was == conditions.TRUE:
            return None
        return conditions.make("Ready", False, "NetworkNotReady", "the pod network is being set up")
    return conditions.make("Ready", True, "AgentReady", "the agent is connected and the pod network is up")


def _grace_left_s(facts: HostFacts, monotonic_s: float, settings: FleetSettings) -> float | None:
    """How long a lost link is still excused; None when it is no longer."""
    if facts.link.phase == "stopped":
        return None
    left_s = max(facts.last_up_s or 0.0, facts.since_s) + settings.node_lost_grace_s - monotonic_s
    return left_s if left_s > 0 else None


def _set(
    current: list[conditions.Condition], condition: Mapping[str, Any], now_s: float
) -> list[conditions.Condition]:
    """As `with_condition`, but what says the same stays untouched: heartbeats are not written."""
    existing = conditions.find(current, str(condition["type"]))
    same = existing is not None and all(
        existing.get(key) == condition.get(key) for key in ("status", "reason", "message")
    )
    if same:
        return current
    without_times = {key: value for key, value in condition.items() if not key.endswith("Time")}
    return conditions.with_condition(current, without_times, now_s)


def _taints_put(node: Object) -> list[dict[str, Any]]:
    try:
        found = json.loads(meta.annotations(node).get(TAINTS_ANNOTATION) or "[]")
    except ValueError:
        return []  # somebody edited it: then nothing may be taken off
    return [taint for taint in found if isinstance(taint, dict)] if isinstance(found, list) else []


def _has(node: Object, body: Object) -> bool:
    labels, annotations = meta.labels(node), meta.annotations(node)
    wanted = body["metadata"]
    return (
        wanted["labels"].items() <= labels.items()
        and wanted["annotations"].items() <= annotations.items()
        and (not body.get("spec") or pod_cidr_of(node) == body["spec"]["podCIDR"])
    )


def _is_ip(text: str) -> bool:
    return ":" in text or text.replace(".", "").isdigit()
