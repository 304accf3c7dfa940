"""What the scheduler needs to know of a pod, read out of the object once.

A pod passes every plugin several times, and is read again for each placement of another pod near it; parsing
quantities and selectors each time would cost more than deciding. Everything here is frozen and, where plugins
remember by it, hashable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gitkube.objects import meta, pods
from gitkube.objects.labels import Selector
from gitkube.objects.pods import HostPort
from gitkube.objects.quantity import Quantity, QuantityError
from gitkube.objects.types import Object
from gitkube.scheduler.selectors import (
    NodeSelectorTerm,
    label_selector,
    labels_required,
    node_selector_term,
    with_label,
)

CPU = "cpu"
"""Counted in milli-cores; every other resource in whole units."""
MEMORY = "memory"
PODS = "pods"
DEFAULT_CPU_MILLI = 100
DEFAULT_MEMORY_BYTES = 200 * 1024 * 1024
"""What a container without requests counts for when hosts are *scored*, as in kube-scheduler: otherwise any
number of such pods would look free and land on one host."""
DEFAULT_SCHEDULER = "default-scheduler"

Key = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True, slots=True)
class Toleration:
    key: str
    operator: str
    value: str
    effect: str

    def tolerates(self, taint: Taint) -> bool:
        """Source: k8s.io/api/core/v1, Toleration.ToleratesTaint."""
        if self.effect and self.effect != taint.effect:
            return False
        if self.key and self.key != taint.key:
            return False
        if self.operator == "Exists":
            return True
        return self.operator in ("", "Equal") and self.value == taint.value


@dataclass(frozen=True, slots=True)
class Taint:
    key: str
    value: str
    effect: str

    def __str__(self) -> str:
        return f"{self.key}={self.value}:{self.effect}" if self.value else f"{self.key}:{self.effect}"


@dataclass(frozen=True, slots=True)
class AffinityTerm:
    """One `v1.PodAffinityTerm`, with the weight of a preferred one (0 for a required one)."""

    selector: Selector
    namespaces: frozenset[str]
    namespace_selector: Selector | None
    topology_key: str
    weight: int = 0

    def covers(self, namespace: str, namespace_labels: Mapping[str, str]) -> bool:
        """Whether pods of a namespace are meant at all."""
        if namespace in self.namespaces:
            return True
        return self.namespace_selector is not None and self.namespace_selector.matches(namespace_labels)


@dataclass(frozen=True, slots=True)
class SpreadConstraint:
    topology_key: str
    max_skew: int
    is_required: bool
    selector: Selector
    min_domains: int = 1
    honours_affinity: bool = True
    honours_taints: bool = False


@dataclass(frozen=True, slots=True)
class PreferredNodeTerm:
    term: NodeSelectorTerm
    weight: int


@dataclass(frozen=True, slots=True, eq=False)
class PodInfo:
    pod: Object
    key: Key
    uid: str
    node_name: str
    labels: Mapping[str, str]
    priority: int
    created_at: float
    owner_uid: str
    """Of the controller that owns it; "" for none."""
    requests: Mapping[str, int]
    """Resource -> amount; `pods` is always there, with 1."""
    scored_cpu: int
    scored_memory: int
    tolerations: tuple[Toleration, ...]
    node_selector: Selector
    node_affinity: tuple[NodeSelectorTerm, ...] | None
    """One of these must match; None asks for nothing."""
    preferred_nodes: tuple[PreferredNodeTerm, ...]
    affinity: tuple[AffinityTerm, ...]
    anti_affinity: tuple[AffinityTerm, ...]
    preferred_affinity: tuple[AffinityTerm, ...]
    """Anti-affinity has negative weights here."""
    spread: tuple[SpreadConstraint, ...]
    host_ports: tuple[HostPort, ...]
    images: tuple[str, ...]

    @property
    def namespace(self) -> str:
        return self.key[0]

    @property
    def has_ended(self) -> bool:
        """It will not run again, so that it holds nothing of its host."""
        return pods.is_terminal(self.pod)

    @property
    def is_deleted(self) -> bool:
        return "deletionTimestamp" in self.pod["metadata"]


def pod_info(pod: Object) -> PodInfo:
    """Read a pod. What cannot be read (the API has checked it long ago) counts as not asked for."""
    metadata, spec = pod["metadata"], pod.get("spec") or {}
    labels: dict[str, str] = metadata.get("labels") or {}
    namespace = metadata.get("namespace", "")
    requests = _requests(spec)
    scored_cpu, scored_memory = _scored(spec, requests)
    affinity = spec.get("affinity") or {}
    node_affinity = affinity.get("nodeAffinity") or {}
    required = node_affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    pod_affinity, anti_affinity = affinity.get("podAffinity") or {}, affinity.get("podAntiAffinity") or {}
    return PodInfo(
        pod=pod,
        key=(namespace, metadata["name"]),
        uid=metadata.get("uid", ""),
        node_name=spec.get("nodeName") or "",
        labels=labels,
        priority=spec.get("priority") or 0,
        created_at=meta.created_at_s(pod),
        owner_uid=str((meta.controller_of(pod) or {}).get("uid", "")),
        requests=requests,
        scored_cpu=scored_cpu,
        scored_memory=scored_memory,
        tolerations=tuple(_toleration(item) for item in spec.get("tolerations") or ()),
        node_selector=labels_required(spec.get("nodeSelector") or {}),
        node_affinity=None
        if required is None
        else tuple(node_selector_term(term) for term in required.get("nodeSelectorTerms") or ()),
        preferred_nodes=tuple(
            PreferredNodeTerm(node_selector_term(item.get("preference") or {}), item["weight"])
            for item in node_affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        ),
        affinity=_required_terms(pod_affinity, namespace, labels),
        anti_affinity=_required_terms(anti_affinity, namespace, labels),
        preferred_affinity=_preferred_terms(pod_affinity, namespace, labels, 1)
        + _preferred_terms(anti_affinity, namespace, labels, -1),
        spread=tuple(_spread(item, labels) for item in spec.get("topologySpreadConstraints") or ()),
        host_ports=tuple(pods.host_ports(spec)),
        images=tuple(pods.images(spec)),
    )


def taint(item: Object) -> Taint:
    return Taint(item["key"], item.get("value") or "", item["effect"])


def amount(resource: str, text: Any) -> int:
    """A quantity in the units that the scheduler counts in; unreadable ones are 0."""
    try:
        quantity = Quantity.parse(text)
    except QuantityError:
        return 0
    return _units(resource, quantity)


def _requests(spec: Object) -> dict[str, int]:
    """What the host must have free. Source: k8s.io/component-helpers/resource, PodRequests."""
    counted = {name: _units(name, quantity) for name, quantity in pods.pod_requests(spec).items()}
    counted[PODS] = 1
    return counted


def _scored(spec: Object, requests: Mapping[str, int]) -> tuple[int, int]:
    """(milli-cores, bytes) for scoring: a container that asks for nothing counts with the defaults."""
    cpu, memory = requests.get(CPU, 0), requests.get(MEMORY, 0)
    for container in spec.get("containers") or ():
        resources = container.get("resources") or {}
        asked = resources.get("requests") or resources.get("limits") or {}
        cpu += 0 if CPU in asked else DEFAULT_CPU_MILLI
        memory += 0 if MEMORY in asked else DEFAULT_MEMORY_BYTES
    return cpu, memory


def _units(resource: str, quantity: Quantity) -> int:
    return quantity.milli if resource == CPU else quantity.value


def _toleration(item: Object) -> Toleration:
    return Toleration(
        item.get("key") or "", item.get("operator") or "", item.get("value") or "", item.get("effect") or ""
    )


def _required_terms(affinity: Object, namespace: str, labels: Mapping[str, str]) -> tuple[AffinityTerm, ...]:
    return tuple(
        _term(term, namespace, labels, 0)
        for term in affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or ()
    )


def _preferred_terms(
    affinity: Object, namespace: str, labels: Mapping[str, str], sign: int
) -> tuple[AffinityTerm, ...]:
    return tuple(
        _term(item["podAffinityTerm"], namespace, labels, sign * item["weight"])
        for item in affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
    )


def _term(term: Object, namespace: str, labels: Mapping[str, str], weight: int) -> AffinityTerm:
    namespaces = term.get("namespaces") or ()
    namespace_selector = term.get("namespaceSelector")
    if not namespaces and namespace_selector is None:
        namespaces = (namespace,)
    selector = _narrowed(label_selector(term.get("labelSelector")), labels, term.get("matchLabelKeys"))
    selector = _narrowed(selector, labels, term.get("mismatchLabelKeys"), is_equal=False)
    return AffinityTerm(
        selector,
        frozenset(namespaces),
        None if namespace_selector is None else label_selector(namespace_selector),
        term["topologyKey"],
        weight,
    )


def _spread(item: Object, labels: Mapping[str, str]) -> SpreadConstraint:
    selector = _narrowed(label_selector(item.get("labelSelector")), labels, item.get("matchLabelKeys"))
    return SpreadConstraint(
        item["topologyKey"],
        item["maxSkew"],
        item.get("whenUnsatisfiable", "DoNotSchedule") == "DoNotSchedule",
        selector,
        item.get("minDomains") or 1,
        item.get("nodeAffinityPolicy", "Honor") == "Honor",
        item.get("nodeTaintsPolicy", "Ignore") == "Honor",
    )


def _narrowed(
    selector: Selector, labels: Mapping[str, str], keys: list[str] | None, *, is_equal: bool = True
) -> Selector:
    for key in keys or ():
        if key in labels:
            selector = with_label(selector, key, labels[key], is_equal=is_equal)
    return selector
