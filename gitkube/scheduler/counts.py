"""How many pods of which sort run on which host, kept up to date instead of counted.

Affinity and spreading ask "how many pods that match this selector are in each zone?" for every pod they
place. Counting anew would read all pods each time. Here a question, once asked, is kept as one array (a
number per slot of the snapshot) and each pod that comes or goes changes the arrays whose question it answers.
The least recently asked questions are forgotten.

Terms of pods that are already placed, which push others away (or pull them), are kept the same way: one array
per distinct term, however many pods carry it.

Invariant: each array equals what counting over `_placed` would give; a test compares them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gitkube.objects.labels import Selector
from gitkube.scheduler.pod_info import AffinityTerm, Key, PodInfo

Counts = NDArray[np.int32]

MAX_QUESTIONS = 512
"""Selectors and owners remembered at once; each costs four bytes per slot."""


@dataclass(frozen=True, slots=True)
class Question:
    """Which pods to count."""

    namespaces: frozenset[str]
    selector: Selector
    owner_uid: str = ""
    """With it, the selector does not matter: pods of this controller are meant."""
    counts_deleting: bool = True

    def includes(self, pod: PodInfo) -> bool:
        if pod.namespace not in self.namespaces:
            return False
        if not self.counts_deleting and pod.is_deleted:
            return False
        if self.owner_uid:
            return pod.owner_uid == self.owner_uid
        return self.selector.matches(pod.labels)


class PodCounts:
    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._placed: dict[str, dict[Key, tuple[PodInfo, int]]] = {}
        self._answers: OrderedDict[Question, Counts] = OrderedDict()
        self._questions_of: dict[str, dict[Question, Counts]] = {}
        self.repelling: dict[AffinityTerm, Counts] = {}
        """Required anti-affinity of placed pods: per slot, how many of its pods carry the term."""
        self.attracting: dict[AffinityTerm, Counts] = {}
        """Their preferred terms (weight, negative for anti-affinity) and required affinity (weight 0)."""

    def grow(self, capacity: int) -> None:
        extra = capacity - self._capacity
        self._capacity = capacity
        more = np.zeros(extra, np.int32)
        for question, counts in self._answers.items():
            self._answers[question] = np.concatenate([counts, more])
        for terms in (self.repelling, self.attracting):
            for term, counts in terms.items():
                terms[term] = np.concatenate([counts, more])
        self._questions_of.clear()
        for question, counts in self._answers.items():
            self._register(question, counts)

    def add(self, pod: PodInfo, slot: int) -> None:
        self._placed.setdefault(pod.namespace, {})[pod.key] = (pod, slot)
        self._change(pod, slot, 1)

    def remove(self, pod: PodInfo, slot: int) -> None:
        namespace = self._placed[pod.namespace]
        del namespace[pod.key]
        if not namespace:
            del self._placed[pod.namespace]
        self._change(pod, slot, -1)

    def matching(
        self, namespaces: frozenset[str], selector: Selector, *, counts_deleting: bool = True
    ) -> Counts:
        """Pods per slot that a selector matches. The array belongs to this object."""
        return self._answer(Question(namespaces, selector, counts_deleting=counts_deleting))

    def of_owner(self, pod: PodInfo) -> Counts:
        """Pods per slot that have the same controller as this one, without those being deleted."""
        nothing = Selector(is_nothing=True)
        return self._answer(Question(frozenset((pod.namespace,)), nothing, pod.owner_uid, False))

    def namespaces(self) -> list[str]:
        """Those that have placed pods."""
        return list(self._placed)

    def placed(self, namespaces: Iterable[str]) -> Iterable[tuple[PodInfo, int]]:
        """All placed pods of some namespaces with their slots; slow, for explanations only."""
        for namespace in namespaces:
            yield from self._placed.get(namespace, {}).values()

    def _answer(self, question: Question) -> Counts:
        counts = self._answers.get(question)
        if counts is not None:
            self._answers.move_to_end(question)
            return counts
        counts = np.zeros(self._capacity, np.int32)
        for pod, slot in self.placed(question.namespaces):
            if question.includes(pod):
                counts[slot] += 1
        self._answers[question] = counts
        self._register(question, counts)
        if len(self._answers) > MAX_QUESTIONS:
            forgotten, _ = self._answers.popitem(last=False)
            for namespace in forgotten.namespaces:
                del self._questions_of[namespace][forgotten]
        return counts

    def _register(self, question: Question, counts: Counts) -> None:
        for namespace in question.namespaces:
            self._questions_of.setdefault(namespace, {})[question] = counts

    def _change(self, pod: PodInfo, slot: int, by: int) -> None:
        for question, counts in self._questions_of.get(pod.namespace, {}).items():
            if question.includes(pod):
                counts[slot] += by
        for term in pod.anti_affinity:
            self._change_term(self.repelling, term, slot, by)
        for term in pod.preferred_affinity:
            self._change_term(self.attracting, term, slot, by)
        for term in pod.affinity:
            self._change_term(self.attracting, replace(term, weight=0), slot, by)

    def _change_term(self, terms: dict[AffinityTerm, Counts], term: AffinityTerm, slot: int, by: int) -> None:
        counts = terms.get(term)
        if counts is None:
            counts = terms[term] = np.zeros(self._capacity, np.int32)
        counts[slot] += by
        if by < 0 and not counts.any():
            del terms[term]
