"""Checks of pods that wait behind scheduling gates.

Whoever holds a gate decides where the pod will run, and then opens it: so until the last gate is gone the
pod may still be narrowed down (more in its node selector, more in each term of its node affinity), never
widened, and no gate may be added. Nothing binds it meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gitkube.objects import names
from gitkube.objects.validation.causes import Causes

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_TERMS_PATH = f"spec.affinity.nodeAffinity.{_REQUIRED}.nodeSelectorTerms"


def check_gates(causes: Causes, spec: Mapping[str, Any], path: str) -> None:
    """The gates by themselves."""
    seen: set[str] = set()
    for index, gate in enumerate(spec.get("schedulingGates") or ()):
        name = gate.get("name") or ""
        causes.invalids(f"{path}.schedulingGates[{index}]", name, names.qualified_name(name))
        if name in seen:
            causes.duplicate(f"{path}.schedulingGates[{index}]", name)
        seen.add(name)


def check_gated_create(causes: Causes, spec: Mapping[str, Any]) -> None:
    """A pod that waits is on no host yet."""
    if spec.get("schedulingGates") and spec.get("nodeName"):
        causes.forbidden("spec.nodeName", "cannot be set until all schedulingGates have been cleared")


def check_gates_update(causes: Causes, spec: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    """Gates are only taken away, and where a gated pod may run is only narrowed down."""
    present = {gate.get("name") for gate in before.get("schedulingGates") or ()}
    for gate in spec.get("schedulingGates") or ():
        if gate.get("name") not in present:
            why = f"only deletion is allowed, but found new scheduling gate '{gate.get('name')}'"
            causes.forbidden("spec.schedulingGates", why)
    if not present:
        return
    selector, previous = spec.get("nodeSelector") or {}, before.get("nodeSelector") or {}
    if any(selector.get(key) != value for key, value in previous.items()):
        why = "only additions to spec.nodeSelector are allowed (no mutations or deletions)"
        causes.invalid("spec.nodeSelector", selector, why)
    terms, previous_terms = _terms(spec), _terms(before)
    if not previous_terms:
        return
    if len(terms) != len(previous_terms):
        why = "no additions/deletions to non-empty NodeSelectorTerms list are allowed"
        causes.invalid(_TERMS_PATH, terms, why)
        return
    for index, (term, was) in enumerate(zip(terms, previous_terms, strict=True)):
        if not _only_adds(term, was):
            why = "only additions are allowed (no mutations or deletions)"
            causes.invalid(f"{_TERMS_PATH}[{index}]", term, why)


def with_free_fields_restored(spec: dict[str, Any], before: Mapping[str, Any]) -> None:
    """Put back, in place, what `check_gates_update` has looked at, so that the rest can be compared."""
    for field in (
        ("schedulingGates", "nodeSelector") if before.get("schedulingGates") else ("schedulingGates",)
    ):
        if field in before:
            spec[field] = before[field]
        else:
            spec.pop(field, None)
    if not before.get("schedulingGates"):
        return
    affinity = {**(spec.get("affinity") or {})}
    affinity.pop("nodeAffinity", None)
    previous = before.get("affinity") or {}
    if "nodeAffinity" in previous:
        affinity["nodeAffinity"] = previous["nodeAffinity"]
    if affinity or "affinity" in before:
        spec["affinity"] = affinity
    else:
        spec.pop("affinity", None)


def _terms(spec: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    terms: Sequence[Mapping[str, Any]] = (affinity.get(_REQUIRED) or {}).get("nodeSelectorTerms") or ()
    return terms


def _only_adds(term: Mapping[str, Any], was: Mapping[str, Any]) -> bool:
    """Whether a term asks for all that it asked for; an empty one, which matches no host, stays empty."""
    if not was.get("matchExpressions") and not was.get("matchFields"):
        return not term.get("matchExpressions") and not term.get("matchFields")
    for field in ("matchExpressions", "matchFields"):
        previous = list(was.get(field) or ())
        if list(term.get(field) or ())[: len(previous)] != previous:
            return False
    return True
