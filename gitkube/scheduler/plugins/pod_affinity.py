"""Pods that want to be near others, or away from them.

Required terms filter. Three questions: do pods that are already there refuse this one's company (their
anti-affinity counts in both directions); are all those there that this pod needs; is none there that it
avoids? "There" is the topology domain that the term names: the host, the zone, any label of hosts.
Preferred terms score, in both directions too.

The first pod of a group that needs its own kind would wait for ever, so it may go anywhere when no pod
matches yet and it matches itself. Source: kube-scheduler's InterPodAffinity.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from gitkube.objects.labels import Selector
from gitkube.scheduler.counts import Counts
from gitkube.scheduler.framework import (
    MAX_SCORE,
    SUCCESS,
    Code,
    CycleState,
    Mask,
    Scores,
    Status,
)
from gitkube.scheduler.pod_info import AffinityTerm, PodInfo
from gitkube.scheduler.snapshot import NO_DOMAIN, NodeInfo, Snapshot

HARD_AFFINITY_WEIGHT = 1
"""How much a placed pod's *required* affinity for the incoming one counts as a preference."""

_REFUSED_BY_OTHERS = "node(s) didn't satisfy existing pods anti-affinity rules"
_AFFINITY = "node(s) didn't match pod affinity rules"
_ANTI_AFFINITY = "node(s) didn't match pod anti-affinity rules"


class InterPodAffinity:
    name = "InterPodAffinity"

    def filter(self, state: CycleState, pod: PodInfo, nodes: Snapshot) -> Mask | None:
        """See `framework.Filter`."""
        if not nodes.counts.repelling and not pod.affinity and not pod.anti_affinity:
            return None
        mask: Mask = np.ones(nodes.capacity, np.bool_)
        for term, counts in nodes.counts.repelling.items():
            if _is_meant(term, nodes, pod):
                mask &= ~_in_domain(nodes, term.topology_key, counts)
        mask &= _affinity_mask(pod, nodes)
        for term in pod.anti_affinity:
            mask &= ~_in_domain(nodes, term.topology_key, _matching(term, nodes))
        return mask

    def explain(self, state: CycleState, pod: PodInfo, nodes: Snapshot, node: NodeInfo) -> Status:
        """See `framework.Filter`."""
        for term, counts in nodes.counts.repelling.items():
            if _is_meant(term, nodes, pod) and _in_domain(nodes, term.topology_key, counts)[node.slot]:
                other = _find(nodes, node, term, partial(_carries, term))
                detail = f"anti-affinity of {other} {_where(term.topology_key)} keeps it away"
                return Status(Code.UNSCHEDULABLE, (_REFUSED_BY_OTHERS,), detail, self.name)
        if not _affinity_mask(pod, nodes)[node.slot]:
            wanted = " and ".join(str(term.selector) or "any pod" for term in pod.affinity)
            keys = sorted({term.topology_key for term in pod.affinity})
            detail = f"affinity needs a pod with {wanted} {' and '.join(_where(key) for key in keys)}"
            return Status(Code.UNRESOLVABLE, (_AFFINITY,), detail, self.name)
        for term in pod.anti_affinity:
            if _in_domain(nodes, term.topology_key, _matching(term, nodes))[node.slot]:
                other = _find(nodes, node, term, partial(_is_meant, term, nodes))
                detail = f"anti-affinity with {other} {_where(term.topology_key)}"
                return Status(Code.UNSCHEDULABLE, (_ANTI_AFFINITY,), detail, self.name)
        return SUCCESS

    def score(self, state: CycleState, pod: PodInfo, nodes: Snapshot, feasible: Mask) -> Scores | None:
        """See `framework.Score`."""
        scores: Scores = np.zeros(nodes.capacity, np.float64)
        has_opinion = False
        for term in pod.preferred_affinity:
            has_opinion = True
            scores += term.weight * _per_domain(nodes, term.topology_key, _matching(term, nodes))
        for term, counts in nodes.counts.attracting.items():
            if _is_meant(term, nodes, pod):
                has_opinion = True
                weight = term.weight or HARD_AFFINITY_WEIGHT
                scores += weight * _per_domain(nodes, term.topology_key, counts)
        return scores if has_opinion else None

    def normalize(self, state: CycleState, pod: PodInfo, scores: Scores, feasible: Mask) -> Scores:
        """Weights may be negative, so stretch from the worst feasible host to the best."""
        lowest, highest = float(scores[feasible].min()), float(scores[feasible].max())
        if highest == lowest:
            return np.zeros_like(scores)
        stretched: Scores = (scores - lowest) * (MAX_SCORE / (highest - lowest))
        return stretched


def _affinity_mask(pod: PodInfo, nodes: Snapshot) -> Mask:
    """Where each term's domain has a pod that matches *all* terms."""
    mask: Mask = np.ones(nodes.capacity, np.bool_)
    if not pod.affinity:
        return mask
    counts = _matching_all(pod.affinity, nodes)
    has_keys: Mask = np.ones(nodes.capacity, np.bool_)
    for term in pod.affinity:
        ids, _ = nodes.domains(term.topology_key)
        has_keys &= ids != NO_DOMAIN
        mask &= _in_domain(nodes, term.topology_key, counts)
    nobody_matches = not any(_in_domain(nodes, term.topology_key, counts).any() for term in pod.affinity)
    if nobody_matches and all(_is_meant(term, nodes, pod) for term in pod.affinity):
        return has_keys
    return mask & has_keys


def _matching(term: AffinityTerm, nodes: Snapshot) -> Counts:
    return nodes.counts.matching(nodes.namespaces_of(term.namespaces, term.namespace_selector), term.selector)


def _matching_all(terms: tuple[AffinityTerm, ...], nodes: Snapshot) -> Counts:
    if len(terms) == 1:
        return _matching(terms[0], nodes)
    namespaces = frozenset.intersection(
        *(nodes.namespaces_of(term.namespaces, term.namespace_selector) for term in terms)
    )
    selector = Selector(
        tuple(requirement for term in terms for requirement in term.selector.requirements),
        any(term.selector.is_nothing for term in terms),
    )
    return nodes.counts.matching(namespaces, selector)


def _is_meant(term: AffinityTerm, nodes: Snapshot, pod: PodInfo) -> bool:
    """Whether the term speaks of this pod."""
    labels = nodes.namespace_labels.get(pod.namespace, {})
    return term.covers(pod.namespace, labels) and term.selector.matches(pod.labels)


def _carries(term: AffinityTerm, pod: PodInfo) -> bool:
    return term in pod.anti_affinity


def _per_domain(nodes: Snapshot, topology_key: str, counts: Counts) -> Scores:
    """Per slot, how many of the counted pods are in its domain; 0 without the label."""
    ids, number = nodes.domains(topology_key)
    present = (ids != NO_DOMAIN) & nodes.valid
    if not number:
        return np.zeros(nodes.capacity, np.float64)
    totals = np.bincount(ids[present], weights=counts[present], minlength=number)
    per_slot: Scores = np.where(present, totals[ids], 0.0)
    return per_slot


def _in_domain(nodes: Snapshot, topology_key: str, counts: Counts) -> Mask:
    present: Mask = _per_domain(nodes, topology_key, counts) > 0
    return present


def _find(nodes: Snapshot, node: NodeInfo, term: AffinityTerm, is_meant: Callable[[PodInfo], bool]) -> str:
    """The name of a pod in the node's domain, for a person."""
    ids, _ = nodes.domains(term.topology_key)
    candidates = list(node.pods.values())
    if not any(is_meant(pod) for pod in candidates):
        candidates = [
            pod for pod, slot in nodes.counts.placed(nodes.counts.namespaces()) if ids[slot] == ids[node.slot]
        ]
    for pod in candidates:
        if is_meant(pod):
            return f"{pod.key[0]}/{pod.key[1]}"
    return "another pod"


def _where(topology_key: str) -> str:
    if topology_key == "kubernetes.io/hostname":
        return "on the same host"
    return f"in the same {topology_key.rpartition('/')[2]}"
