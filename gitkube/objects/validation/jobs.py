"""Checks of a Job's policies: what a pod's failure means, when enough has succeeded, who manages it.

Source: Kubernetes' pkg/apis/batch/validation, of which the sentences are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from gitkube.objects import names
from gitkube.objects.validation.causes import Causes

_MAX_RULES = 20
_MAX_EXIT_CODES = 255
_MAX_PATTERNS = 20
_MAX_MANAGER = 63
_INDEXES = re.compile(r"[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*")
_ACTIONS = ("Count", "FailIndex", "FailJob", "Ignore")


def check_job_policies(causes: Causes, spec: Mapping[str, Any], path: str) -> None:
    """The policies in a Job's spec."""
    if spec.get("podFailurePolicy") is not None:
        _check_failure_policy(causes, spec, path)
    if spec.get("successPolicy") is not None:
        _check_success_policy(causes, spec, f"{path}.successPolicy")
    if spec.get("managedBy") is not None:
        _check_manager(causes, str(spec["managedBy"]), f"{path}.managedBy")
    if spec.get("maxFailedIndexes") is not None and spec.get("backoffLimitPerIndex") is None:
        causes.required(f"{path}.backoffLimitPerIndex", "when maxFailedIndexes is specified")


def _check_failure_policy(causes: Causes, spec: Mapping[str, Any], path: str) -> None:
    pod_spec = (spec.get("template") or {}).get("spec") or {}
    restart = pod_spec.get("restartPolicy")
    if restart != "Never":
        why = 'only "Never" is supported when podFailurePolicy is specified'
        causes.invalid(f"{path}.template.spec.restartPolicy", restart, why)
    replacement = spec.get("podReplacementPolicy")
    if replacement not in (None, "Failed"):
        causes.not_supported(f"{path}.podReplacementPolicy", replacement, ("Failed",))
    rules = spec["podFailurePolicy"].get("rules") or ()
    _limit(causes, rules, _MAX_RULES, f"{path}.podFailurePolicy.rules")
    containers = {
        str(one.get("name"))
        for field in ("containers", "initContainers")
        for one in pod_spec.get(field) or ()
    }
    for number, rule in enumerate(rules):
        where = f"{path}.podFailurePolicy.rules[{number}]"
        action = rule.get("action")
        causes.one_of(f"{where}.action", action, _ACTIONS)
        if action == "FailIndex" and spec.get("backoffLimitPerIndex") is None:
            causes.invalid(f"{where}.action", action, "requires the backoffLimitPerIndex to be set")
        codes, patterns = rule.get("onExitCodes"), rule.get("onPodConditions") or ()
        if codes is not None:
            _check_exit_codes(causes, codes, containers, f"{where}.onExitCodes")
        _limit(causes, patterns, _MAX_PATTERNS, f"{where}.onPodConditions")
        for index, pattern in enumerate(patterns):
            at = f"{where}.onPodConditions[{index}]"
            type_ = str(pattern.get("type") or "")
            causes.invalids(f"{at}.type", type_, names.qualified_name(type_))
            causes.one_of(f"{at}.status", pattern.get("status"), ("False", "True", "Unknown"))
        if codes is not None and patterns:
            why = "specifying both OnExitCodes and OnPodConditions is not supported"
            causes.invalid(where, dict(rule), why)
        elif codes is None and not patterns:
            causes.invalid(where, dict(rule), "specifying one of OnExitCodes and OnPodConditions is required")


def _check_exit_codes(causes: Causes, codes: Mapping[str, Any], containers: set[str], path: str) -> None:
    operator = codes.get("operator")
    causes.one_of(f"{path}.operator", operator, ("In", "NotIn"))
    name = codes.get("containerName")
    if name is not None and name not in containers:
        why = "must be one of the container or initContainer names in the pod template"
        causes.invalid(f"{path}.containerName", name, why)
    values = codes.get("values") or ()
    if not values:
        causes.invalid(f"{path}.values", list(values), "at least one value is required")
    _limit(causes, values, _MAX_EXIT_CODES, f"{path}.values")
    seen: set[int] = set()
    for index, value in enumerate(values):
        if operator == "In" and value == 0:
            causes.invalid(f"{path}.values[{index}]", value, "must not be 0 for the In operator")
        if value in seen:
            causes.duplicate(f"{path}.values[{index}]", value)
        seen.add(value)
    if list(values) != sorted(values):
        causes.invalid(f"{path}.values", list(values), "must be ordered")


def _check_success_policy(causes: Causes, spec: Mapping[str, Any], path: str) -> None:
    if spec.get("completionMode") != "Indexed":
        causes.invalid(path, dict(spec["successPolicy"]), "requires indexed completion mode")
        return
    rules = spec["successPolicy"].get("rules") or ()
    if not rules:
        causes.required(f"{path}.rules", "at least one rules must be specified for the successPolicy")
    _limit(causes, rules, _MAX_RULES, f"{path}.rules")
    completions = spec.get("completions") or 0
    for number, rule in enumerate(rules):
        where = f"{path}.rules[{number}]"
        indexes, count = rule.get("succeededIndexes"), rule.get("succeededCount")
        if indexes is None and count is None:
            causes.required(where, "at least one of succeededCount or succeededIndexes must be specified")
        total = completions
        if indexes is not None:
            total = _check_indexes(causes, str(indexes), completions, f"{where}.succeededIndexes")
        if count is not None:
            causes.not_negative(f"{where}.succeededCount", count)
            if count > total:
                what = "the total number of succeededIndexes" if indexes is not None else "completions"
                why = f"must be less than or equal to {total} ({what})"
                causes.invalid(f"{where}.succeededCount", count, why)


def _check_indexes(causes: Causes, text: str, completions: int, path: str) -> int:
    """How many indexes a text such as `0-3,7` names."""
    if not _INDEXES.fullmatch(text):
        causes.invalid(path, text, "error parsing succeededIndexes: must be intervals such as 0-3,7")
        return 0
    total, before = 0, -1
    for part in text.split(","):
        first, _, last = part.partition("-")
        low, high = int(first), int(last or first)
        if low <= before or high < low:
            causes.invalid(path, text, "error parsing succeededIndexes: non-increasing order")
            return 0
        if high >= completions:
            causes.invalid(path, text, "error parsing succeededIndexes: too large index for completions")
            return 0
        total, before = total + high - low + 1, high
    return total


def _check_manager(causes: Causes, manager: str, path: str) -> None:
    domain, slash, rest = manager.partition("/")
    if not slash or not domain or not rest:
        causes.invalid(path, manager, 'must be a domain-prefixed path (such as "acme.io/foo")')
    else:
        causes.invalids(path, manager, names.dns_subdomain(domain))
    if len(manager) > _MAX_MANAGER:
        causes.too_long(path, f"may not be more than {_MAX_MANAGER} bytes")


def _limit(causes: Causes, items: Any, most: int, path: str) -> None:
    if len(items) > most:
        causes.add("FieldValueTooMany", path, f"Too many: {len(items)}: must have at most {most} items")
