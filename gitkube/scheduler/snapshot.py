"""The cluster as the scheduler sees it: hosts in slots, their resources in columns.

Each host has a slot, and what plugins compare lies in numpy arrays indexed by slot: resources that can be
given, resources that were given, pods counted by selector (`counts.py`). A change of one pod or host changes
a few numbers; nothing is rebuilt per pod. A scheduling cycle never awaits, so that within it this is a
consistent snapshot without a copy.

A pod that was decided on but not yet seen bound is *assumed*: it holds its resources from the moment of the
decision. Binding's failure forgets it; the informer's confirmation makes it an ordinary pod; if neither comes
within ASSUMED_S after the binding, it expires.

Answers that depend on a host alone (taints, labels) are remembered as columns by the question, and brought up
to date for the hosts that changed since.

Invariants: `requested[r][slot]` is the sum over the pods of that slot; a pod is counted at most once, whether
assumed or seen; slots without a host have `valid` False.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gitkube.objects.types import Object
from gitkube.scheduler.counts import PodCounts
from gitkube.scheduler.framework import Mask
from gitkube.scheduler.pod_info import Key, PodInfo, Taint, amount, taint

Amounts = NDArray[np.int64]
Domains = NDArray[np.int32]

FIRST_CAPACITY = 16
MAX_COLUMNS = 512
MAX_CHANGES = 4096
"""Host changes remembered; a column older than all of them is computed anew."""
ASSUMED_S = 60.0
"""How long after its binding a pod may take to show up in the informer."""
NO_DOMAIN = -1


@dataclass(slots=True, eq=False)
class NodeInfo:
    name: str
    slot: int
    node: Object
    labels: Mapping[str, str]
    taints: tuple[Taint, ...]
    is_unschedulable: bool
    image_sizes: Mapping[str, int]
    pods: dict[Key, PodInfo]
    """Shared with the snapshot's book of pods by host."""

    def static_part(self) -> tuple[Any, ...]:
        """What remembered columns may depend on."""
        return (self.name, self.labels, self.taints, self.is_unschedulable, self.image_sizes)


@dataclass(slots=True)
class _Column:
    values: NDArray[Any]
    version: int


@dataclass(slots=True)
class _Assumed:
    pod: PodInfo
    deadline: float | None = None
    """None while the binding is under way."""


@dataclass(slots=True)
class _Changes:
    """The slots whose host changed, one per version from `first` on."""

    first: int = 1
    slots: list[int] = field(default_factory=list)

    @property
    def version(self) -> int:
        return self.first + len(self.slots) - 1


class Snapshot:
    def __init__(self) -> None:
        self.capacity = FIRST_CAPACITY
        self.valid: Mask = np.zeros(self.capacity, np.bool_)
        self.scored_cpu: Amounts = np.zeros(self.capacity, np.int64)
        self.scored_memory: Amounts = np.zeros(self.capacity, np.int64)
        self.counts = PodCounts(self.capacity)
        self.namespace_labels: dict[str, Mapping[str, str]] = {}
        self.image_slots: dict[str, set[int]] = {}
        """Image name -> the slots of the hosts that have it."""
        self._allocatable: dict[str, Amounts] = {}
        self._requested: dict[str, Amounts] = {}
        self._nodes: dict[str, NodeInfo] = {}
        self._slots: list[NodeInfo | None] = [None] * self.capacity
        self._free = list(range(self.capacity - 1, -1, -1))
        self._pods: dict[Key, PodInfo] = {}
        self._pods_of: dict[str, dict[Key, PodInfo]] = {}
        self._assumed: dict[Key, _Assumed] = {}
        self._columns: OrderedDict[Hashable, _Column] = OrderedDict()
        self._changes = _Changes()
        self._domain_ids: dict[str, dict[str, int]] = {}

    # ------------------------------------------------------------------ reading

    def __len__(self) -> int:
        """How many hosts there are."""
        return len(self._nodes)

    def nodes(self) -> Iterator[NodeInfo]:
        return iter(self._nodes.values())

    def node(self, name: str) -> NodeInfo | None:
        return self._nodes.get(name)

    def at(self, slot: int) -> NodeInfo:
        node = self._slots[slot]
        assert node is not None, f"slot {slot} has no host"
        return node

    def allocatable(self, resource: str) -> Amounts:
        """Per slot, how much of a resource the host gives to pods."""
        return self._amounts(self._allocatable, resource)

    def requested(self, resource: str) -> Amounts:
        """Per slot, how much of it pods have."""
        return self._amounts(self._requested, resource)

    def pod(self, key: Key) -> PodInfo | None:
        """A placed or assumed pod."""
        return self._pods.get(key)

    def column(self, key: Hashable, function: Callable[[NodeInfo], Any], dtype: type) -> NDArray[Any]:
        """`function` of each host, remembered by `key`; it may depend on the host's static part only."""
        column = self._columns.get(key)
        if column is None or column.version < self._changes.first - 1:
            column = _Column(np.zeros(self.capacity, dtype), self._changes.version)
            for node in self._nodes.values():
                column.values[node.slot] = function(node)
            self._columns[key] = column
            if len(self._columns) > MAX_COLUMNS:
                self._columns.popitem(last=False)
        elif column.version < self._changes.version:
            for slot in self._changes.slots[column.version - self._changes.first + 1 :]:
                changed = self._slots[slot]
                column.values[slot] = function(changed) if changed is not None else 0
            column.version = self._changes.version
        self._columns.move_to_end(key)
        return column.values

    def domains(self, topology_key: str) -> tuple[Domains, int]:
        """Per slot, the number of its topology domain (NO_DOMAIN without the label), and how many exist."""
        ids = self._domain_ids.setdefault(topology_key, {})

        def domain(node: NodeInfo) -> int:
            value = node.labels.get(topology_key)
            return NO_DOMAIN if value is None else ids.setdefault(value, len(ids))

        values: Domains = self.column(("domain", topology_key), domain, np.int32)
        return values, len(ids)

    def namespaces_of(self, namespaces: frozenset[str], selector: Any) -> frozenset[str]:
        """Namespaces named, with those that a namespace selector matches."""
        if selector is None:
            return namespaces
        return namespaces | {
            name for name, labels in self.namespace_labels.items() if selector.matches(labels)
        }

    # ------------------------------------------------------------------ hosts

    def set_node(self, node: Object) -> None:
        """A host was added or changed."""
        name = node["metadata"]["name"]
        before = self._nodes.get(name)
        slot = before.slot if before is not None else self._take_slot()
        spec, status = node.get("spec") or {}, node.get("status") or {}
        info = NodeInfo(
            name,
            slot,
            node,
            node["metadata"].get("labels") or {},
            tuple(taint(item) for item in spec.get("taints") or ()),
            bool(spec.get("unschedulable")),
            {
                image_name: image.get("sizeBytes") or 0
                for image in status.get("images") or ()
                for image_name in image.get("names") or ()
            },
            self._pods_of.setdefault(name, {}),
        )
        self._nodes[name] = info
        self._slots[slot] = info
        self.valid[slot] = True
        allocatable = status.get("allocatable") or status.get("capacity") or {}
        for column in self._allocatable.values():
            column[slot] = 0
        for resource, text in allocatable.items():
            self._amounts(self._allocatable, resource)[slot] = amount(resource, text)
        if before is None or before.static_part() != info.static_part():
            self._note_images(before, info)
            self._note_change(slot)
        if before is None:
            for pod in info.pods.values():
                self._count(pod, slot, 1)

    def remove_node(self, name: str) -> None:
        """A host is gone. Its pods stay in the book until they are deleted or it returns."""
        node = self._nodes.pop(name, None)
        if node is None:
            return
        for pod in node.pods.values():
            self._count(pod, node.slot, -1)
        self._note_images(node, None)
        self._slots[node.slot] = None
        self.valid[node.slot] = False
        for column in self._allocatable.values():
            column[node.slot] = 0
        self._note_change(node.slot)
        self._free.append(node.slot)
        if not node.pods:
            self._pods_of.pop(name, None)

    # ------------------------------------------------------------------ pods

    def set_pod(self, pod: PodInfo) -> None:
        """A pod was seen bound to its host."""
        self._assumed.pop(pod.key, None)
        self._put(pod)

    def remove_pod(self, key: Key) -> None:
        """A pod is gone or over."""
        self._assumed.pop(key, None)
        self._drop(key)

    def assume(self, pod: PodInfo, node_name: str) -> None:
        """A pod was decided on: it holds its place from now on."""
        assumed = replace(pod, node_name=node_name)
        self._assumed[pod.key] = _Assumed(assumed)
        self._put(assumed)

    def is_assumed(self, key: Key) -> bool:
        return key in self._assumed

    def finish_binding(self, key: Key, now: float) -> None:
        """The API took the binding; the informer should say so soon."""
        if key in self._assumed:
            self._assumed[key].deadline = now + ASSUMED_S

    def forget(self, key: Key) -> None:
        """The binding failed: give the place back."""
        if self._assumed.pop(key, None) is not None:
            self._drop(key)

    def expire_assumed(self, now: float) -> list[PodInfo]:
        """Forget the assumed pods that nobody confirmed, and say which."""
        expired = [
            assumed.pod
            for assumed in self._assumed.values()
            if assumed.deadline is not None and assumed.deadline <= now
        ]
        for pod in expired:
            self.forget(pod.key)
        return expired

    # ------------------------------------------------------------------ inside

    def _put(self, pod: PodInfo) -> None:
        self._drop(pod.key)
        self._pods[pod.key] = pod
        self._pods_of.setdefault(pod.node_name, {})[pod.key] = pod
        node = self._nodes.get(pod.node_name)
        if node is not None:
            self._count(pod, node.slot, 1)

    def _drop(self, key: Key) -> None:
        pod = self._pods.pop(key, None)
        if pod is None:
            return
        del self._pods_of[pod.node_name][key]
        node = self._nodes.get(pod.node_name)
        if node is not None:
            self._count(pod, node.slot, -1)
        elif not self._pods_of[pod.node_name]:
            del self._pods_of[pod.node_name]

    def _count(self, pod: PodInfo, slot: int, by: int) -> None:
        for resource, asked in pod.requests.items():
            self._amounts(self._requested, resource)[slot] += by * asked
        self.scored_cpu[slot] += by * pod.scored_cpu
        self.scored_memory[slot] += by * pod.scored_memory
        if by > 0:
            self.counts.add(pod, slot)
        else:
            self.counts.remove(pod, slot)

    def _amounts(self, book: dict[str, Amounts], resource: str) -> Amounts:
        amounts = book.get(resource)
        if amounts is None:
            amounts = book[resource] = np.zeros(self.capacity, np.int64)
        return amounts

    def _note_images(self, before: NodeInfo | None, after: NodeInfo | None) -> None:
        for image in before.image_sizes if before is not None else ():
            slots = self.image_slots[image]
            slots.discard(before.slot if before is not None else -1)
            if not slots:
                del self.image_slots[image]
        if after is not None:
            for image in after.image_sizes:
                self.image_slots.setdefault(image, set()).add(after.slot)

    def _note_change(self, slot: int) -> None:
        self._changes.slots.append(slot)
        if len(self._changes.slots) > MAX_CHANGES:
            dropped = MAX_CHANGES // 2
            self._changes.first += dropped
            del self._changes.slots[:dropped]

    def _take_slot(self) -> int:
        if not self._free:
            self._grow()
        return self._free.pop()

    def _grow(self) -> None:
        old, self.capacity = self.capacity, self.capacity * 2
        extra = self.capacity - old
        self.valid = np.concatenate([self.valid, np.zeros(extra, np.bool_)])
        self.scored_cpu = np.concatenate([self.scored_cpu, np.zeros(extra, np.int64)])
        self.scored_memory = np.concatenate([self.scored_memory, np.zeros(extra, np.int64)])
        for book in (self._allocatable, self._requested):
            for resource in book:
                book[resource] = np.concatenate([book[resource], np.zeros(extra, np.int64)])
        self.counts.grow(self.capacity)
        self._columns.clear()
        self._slots.extend([None] * extra)
        self._free.extend(range(self.capacity - 1, old - 1, -1))
