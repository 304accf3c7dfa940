"""Checks of Nodes and of our own Sources."""

from __future__ import annotations

import ipaddress
from typing import Any

from gitkube.objects import names
from gitkube.objects.quantity import Quantity
from gitkube.objects.types import Object
from gitkube.objects.validation.causes import Causes
from gitkube.objects.validation.metadata import STANDARD_FINALIZERS

_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_MAX_BRANCH = 255


def check_node(causes: Causes, node: Object) -> None:
    spec = node.get("spec") or {}
    seen: set[tuple[str, str]] = set()
    for index, taint in enumerate(spec.get("taints") or ()):
        path = f"spec.taints[{index}]"
        key, effect = taint.get("key") or "", taint.get("effect") or ""
        if not key:
            causes.required(f"{path}.key")
        else:
            causes.invalids(f"{path}.key", key, names.qualified_name(key))
        causes.invalids(
            f"{path}.value", taint.get("value") or "", names.label_value(taint.get("value") or "")
        )
        causes.one_of(f"{path}.effect", effect, _EFFECTS)
        if (key, effect) in seen:
            causes.duplicate(path, taint, "taints must be unique by key and effect pair")
        seen.add((key, effect))
    networks = spec.get("podCIDRs") or ()
    for index, text in enumerate(networks):
        if not _is_network(text):
            causes.invalid(
                f"spec.podCIDRs[{index}]",
                text,
                "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            )
    if len(networks) > 2 or len({":" in text for text in networks}) < len(networks):
        causes.invalid("spec.podCIDRs", networks, "may specify no more than one CIDR for each IP family")
    status = node.get("status") or {}
    for field in ("capacity", "allocatable"):
        for name, text in (status.get(field) or {}).items():
            path = f"status.{field}[{name}]"
            causes.invalids(path, name, names.qualified_name(name))
            if Quantity.parse(text).nanos < 0:
                causes.invalid(path, str(text), "must be greater than or equal to 0")


def check_namespace(causes: Causes, namespace: Object) -> None:
    for index, finalizer in enumerate((namespace.get("spec") or {}).get("finalizers") or ()):
        path = f"spec.finalizers[{index}]"
        wrong = names.qualified_name(finalizer)
        causes.invalids(path, finalizer, wrong)
        if not wrong and "/" not in finalizer and finalizer not in STANDARD_FINALIZERS:
            message = "name is neither a standard finalizer name nor is it fully qualified"
            causes.invalid(path, finalizer, message)


def check_namespace_update(causes: Causes, namespace: Object, old: Object) -> None:
    phase = (namespace.get("status") or {}).get("phase") or ""
    if not (namespace.get("metadata") or {}).get("deletionTimestamp"):
        if phase != "Active":
            causes.invalid("status.Phase", phase, "may only be 'Active' if `deletionTimestamp` is empty")
    elif phase != "Terminating":
        message = "may only be 'Terminating' if `deletionTimestamp` is not empty"
        causes.invalid("status.Phase", phase, message)


def check_node_update(causes: Causes, node: Object, old: Object) -> None:
    spec, before = node.get("spec") or {}, old.get("spec") or {}
    for field in ("podCIDR", "podCIDRs"):
        if before.get(field) and spec.get(field) != before[field]:
            causes.forbidden(f"spec.{field}", f'node updates may not change {field} except from "" to valid')
    if before.get("providerID") and spec.get("providerID") != before["providerID"]:
        causes.forbidden("spec.providerID", 'node updates may not change providerID except from "" to valid')


def check_source(causes: Causes, source: Object) -> None:
    spec = source.get("spec") or {}
    repository = spec.get("repository") or ""
    if not repository:
        causes.required("spec.repository")
    elif repository.startswith("-"):
        # It becomes an argument of git's, which must not read it as an option.
        causes.invalid("spec.repository", repository, "must not start with '-'")
    branch = spec.get("branch") or ""
    if branch and not _is_branch(branch):
        causes.invalid(
            "spec.branch", branch, "must be a branch's name as git allows it (git help check-ref-format)"
        )
    path = spec.get("path") or ""
    if path.startswith("/") or ".." in path.split("/"):
        causes.invalid(
            "spec.path", path, "must be a directory inside the repository, without a leading / or '..'"
        )


def _is_branch(name: str) -> bool:
    """git's own rules for the name of a ref (git-check-ref-format)."""
    if len(name) > _MAX_BRANCH or name.startswith("-") or name.endswith(("/", ".")) or name == "@":
        return False
    if any(ord(character) <= 32 or character in "~^:?*[\\\x7f" for character in name):
        return False
    if ".." in name or "//" in name or "@{" in name:
        return False
    return all(part and not part.startswith(".") and not part.endswith(".lock") for part in name.split("/"))


def _is_network(text: Any) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return "/" in str(text)
