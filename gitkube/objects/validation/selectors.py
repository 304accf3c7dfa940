"""Checks of label selectors, and that a workload's selector selects its own pods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gitkube.objects import names
from gitkube.objects.labels import SelectorError, selector_of
from gitkube.objects.validation.causes import Causes
from gitkube.objects.validation.metadata import check_labels

_SET_OPERATORS = ("In", "NotIn")
_EXISTENCE_OPERATORS = ("Exists", "DoesNotExist")


def check_label_selector(causes: Causes, selector: Mapping[str, Any] | None, path: str) -> None:
    if selector is None:
        return
    check_labels(causes, selector.get("matchLabels"), f"{path}.matchLabels")
    for index, expression in enumerate(selector.get("matchExpressions") or ()):
        where = f"{path}.matchExpressions[{index}]"
        operator, values = expression.get("operator"), expression.get("values") or []
        if operator in _SET_OPERATORS:
            if not values:
                causes.required(f"{where}.values", "must be specified when `operator` is 'In' or 'NotIn'")
        elif operator in _EXISTENCE_OPERATORS:
            if values:
                causes.forbidden(
                    f"{where}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                )
        else:
            causes.invalid(f"{where}.operator", operator or "", "not a valid selector operator")
        key = expression.get("key") or ""
        causes.invalids(f"{where}.key", key, names.qualified_name(key))
        for position, value in enumerate(values):
            causes.invalids(f"{where}.values[{position}]", value, names.label_value(value or ""))


def check_workload_selector(causes: Causes, spec: Mapping[str, Any], path: str, *, noun: str) -> None:
    """A workload's selector is there, is not empty, and matches the labels of its template."""
    selector = spec.get("selector")
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    if selector is None:
        causes.required(f"{path}.selector")
    else:
        check_label_selector(causes, selector, f"{path}.selector")
        if not selector.get("matchLabels") and not selector.get("matchExpressions"):
            causes.invalid(f"{path}.selector", selector, f"empty selector is invalid for {noun}")
            return
    try:
        is_selected = selector_of(selector).matches(labels)
    except SelectorError:
        # What is wrong with it was said above, with its field.
        causes.invalid(f"{path}.selector", selector, "invalid label selector")
        return
    if not is_selected:
        causes.invalid(
            f"{path}.template.metadata.labels", labels, "`selector` does not match template `labels`"
        )
