"""Which names a definition gets, and whether it is established.

Names are taken within a group, first come, first served: plural, singular and short names share one space,
kind and list kind another. What a definition asks for and another one has is refused in its conditions; a
definition that was established once stays so, under the names that it was accepted with.
Source: k8s.io/apiextensions-apiserver, pkg/controller/{status,establish,apiapproval}.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gitkube.objects import conditions, meta
from gitkube.objects.custom.definition import ESTABLISHED, NAMES_ACCEPTED
from gitkube.objects.types import Object

APPROVAL = "api-approved.kubernetes.io"
CONFORMANT = "KubernetesAPIApprovalPolicyConformant"


def status_with_names(definition: Object, others: Iterable[Object], now_s: float) -> dict[str, Any]:
    """The status that a definition should have, next to the other definitions."""
    status = dict(definition.get("status") or {})
    resources, kinds = _taken(definition, others)
    wanted = definition["spec"]["names"]
    accepted = dict(status.get("acceptedNames") or {})
    conflict: tuple[str, str] | None = None
    for field, reason, taken in (
        ("plural", "PluralConflict", resources),
        ("singular", "SingularConflict", resources),
        ("shortNames", "ShortNamesConflict", resources),
        ("kind", "KindConflict", kinds),
        ("listKind", "ListKindConflict", kinds),
    ):
        asked = wanted.get(field) or ([] if field == "shortNames" else "")
        words = asked if isinstance(asked, list) else [asked]
        present = accepted.get(field) or []
        had = present if isinstance(present, list) else [present]
        refused = [word for word in words if word and word not in had and word in taken]
        if refused:
            conflict = (reason, ", ".join(f'"{word}" is already in use' for word in refused))
        elif asked:
            accepted[field] = asked
        else:
            accepted.pop(field, None)
    accepted.pop("categories", None)
    if wanted.get("categories"):
        accepted["categories"] = wanted["categories"]
    accepted.setdefault("kind", "")
    accepted.setdefault("plural", "")
    status["acceptedNames"] = accepted
    status["conditions"] = _conditions(definition, conflict, now_s)
    status.setdefault("storedVersions", [])
    return status


def approval_of(definition: Object) -> tuple[str, str] | None:
    """Reason and message about the approval of a group that is reserved for Kubernetes; None for others."""
    group = str(definition["spec"].get("group") or "")
    if not is_protected(group):
        return None
    text = str(meta.annotations(definition).get(APPROVAL) or "")
    if text.startswith("unapproved"):
        return "UnapprovedAnnotation", f'not approved: "{text}"'
    return "ApprovedAnnotation", f"approved in {text}"


def is_protected(group: str) -> bool:
    """Groups of which Kubernetes says what is in them."""
    return group in ("k8s.io", "kubernetes.io") or group.endswith((".k8s.io", ".kubernetes.io"))


def _conditions(
    definition: Object, conflict: tuple[str, str] | None, now_s: float
) -> list[conditions.Condition]:
    found = conditions.conditions(definition)
    if conflict is not None:
        names = conditions.make(NAMES_ACCEPTED, False, *conflict)
    else:
        names = conditions.make(NAMES_ACCEPTED, True, "NoConflicts", "no conflicts found")
    found = conditions.with_condition(found, names, now_s)
    if not conditions.is_true(definition, ESTABLISHED):
        if conflict is not None:
            established = conditions.make(ESTABLISHED, False, "NotAccepted", "not all names are accepted")
        else:
            text = "the initial names have been accepted"
            established = conditions.make(ESTABLISHED, True, "InitialNamesAccepted", text)
        found = conditions.with_condition(found, established, now_s)
    if (approval := approval_of(definition)) is not None:
        reason, message = approval
        conformant = conditions.make(CONFORMANT, reason == "ApprovedAnnotation", reason, message)
        found = conditions.with_condition(found, conformant, now_s)
    return found


def _taken(definition: Object, others: Iterable[Object]) -> tuple[set[str], set[str]]:
    """Resource words and kinds that other definitions of the group have."""
    resources: set[str] = set()
    kinds: set[str] = set()
    for other in others:
        if meta.uid(other) == meta.uid(definition) or other["spec"]["group"] != definition["spec"]["group"]:
            continue
        names: Mapping[str, Any] = (other.get("status") or {}).get("acceptedNames") or {}
        resources.update(
            filter(None, (names.get("plural"), names.get("singular"), *(names.get("shortNames") or ())))
        )
        kinds.update(filter(None, (names.get("kind"), names.get("listKind"))))
    return resources, kinds
