"""Selectors in a form that can be compared and hashed.

The scheduler counts pods and remembers verdicts *by selector*: thousands of pods of one Deployment ask the
same question, which is then answered once. `objects.labels.Selector` is such a value; here are the terms of
node affinity, which look at a node's labels and its name, and the readers that never raise: a selector that
the API should have refused selects nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gitkube.objects.labels import (
    EVERYTHING,
    NOTHING,
    Operator,
    Requirement,
    Selector,
    SelectorError,
    selector_of,
    selector_of_node_term,
)
from gitkube.objects.types import Object

_NAME_OPERATORS = {"In": Operator.IN, "NotIn": Operator.NOT_IN}


@dataclass(frozen=True, slots=True)
class NodeSelectorTerm:
    """Expressions about labels and about fields (only `metadata.name` exists). Empty matches nothing."""

    expressions: Selector
    fields: Selector

    def matches(self, name: str, labels: Mapping[str, str]) -> bool:
        if self.expressions.is_everything and self.fields.is_everything:
            return False
        return self.expressions.matches(labels) and self.fields.matches({"metadata.name": name})


def label_selector(selector: Mapping[str, Any] | None) -> Selector:
    """The value of a `metav1.LabelSelector`; None, or one that cannot be read, matches nothing."""
    try:
        return selector_of(selector)
    except SelectorError:
        return NOTHING


def node_selector_term(term: Object) -> NodeSelectorTerm:
    """The value of a `v1.NodeSelectorTerm`; one that cannot be read matches nothing."""
    try:
        expressions = selector_of_node_term(term.get("matchExpressions") or ())
    except SelectorError:
        expressions = NOTHING
    fields = [
        # By hand, for a node's name may be longer than a label's value, which the reader would refuse.
        Requirement(field["key"], _NAME_OPERATORS[field["operator"]], frozenset(field.get("values") or ()))
        for field in term.get("matchFields") or ()
        if field["operator"] in _NAME_OPERATORS
    ]
    return NodeSelectorTerm(expressions, Selector(tuple(fields)))


def with_label(selector: Selector, key: str, value: str, *, is_equal: bool) -> Selector:
    """The selector, narrowed to pods that have (or have not) this label's value."""
    if selector.is_nothing:
        return selector
    operator = Operator.EQUALS if is_equal else Operator.NOT_EQUALS
    return Selector((*selector.requirements, Requirement(key, operator, frozenset((value,)))))


def labels_required(labels: Mapping[str, str]) -> Selector:
    """All these labels must be there with these values; none asks for nothing."""
    if not labels:
        return EVERYTHING
    return Selector(
        tuple(Requirement(key, Operator.EQUALS, frozenset((value,))) for key, value in sorted(labels.items()))
    )
