"""Checks of what every object has: name, labels, annotations, owners, finalizers; and what never changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gitkube.objects import names
from gitkube.objects.kinds import (
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
    CLUSTER_TRUST_BUNDLE,
    CUSTOM_RESOURCE_DEFINITION,
    EVENT,
    IP_ADDRESS,
    NAMESPACE,
    ROLE,
    ROLE_BINDING,
    SERVICE,
    STATEFUL_SET,
    Kind,
)
from gitkube.objects.types import Object
from gitkube.objects.validation.causes import Causes

MAX_ANNOTATIONS_BYTES = 256 * 1024
"""As Kubernetes': annotations are for tools, not a data store."""
STANDARD_FINALIZERS = ("foregroundDeletion", "orphan", "kubernetes")
_FIXED = ("name", "namespace", "uid", "creationTimestamp")

_NAME_RULES: Mapping[Kind, Callable[[str], list[str]]] = {
    NAMESPACE: names.dns_label,
    SERVICE: names.dns_label,
    STATEFUL_SET: names.dns_label,
    ROLE: names.path_segment,
    ROLE_BINDING: names.path_segment,
    CLUSTER_ROLE: names.path_segment,
    CLUSTER_ROLE_BINDING: names.path_segment,
    CLUSTER_TRUST_BUNDLE: names.path_segment,
    IP_ADDRESS: names.path_segment,
}
"""Kinds whose names are shorter, or freer. (Those of Services may start with a digit since 1.37.)"""


def check_metadata(causes: Causes, kind: Kind, obj: Object) -> None:
    metadata = obj.get("metadata") or {}
    rule = _NAME_RULES.get(kind, names.dns_subdomain)
    prefix = metadata.get("generateName") or ""
    if prefix:
        causes.invalids(
            "metadata.generateName", prefix, rule(prefix.removesuffix("-") if len(prefix) > 1 else prefix)
        )
    name = metadata.get("name") or ""
    if not name and not prefix:
        causes.required("metadata.name", "name or generateName is required")
    elif name:
        causes.invalids("metadata.name", name, rule(name))
    namespace = metadata.get("namespace") or ""
    if kind.namespaced and namespace:  # a missing one is filled in from the request's path
        causes.invalids("metadata.namespace", namespace, names.dns_label(namespace))
    elif namespace:
        causes.forbidden("metadata.namespace", "not allowed on this type")
    check_labels(causes, metadata.get("labels"), "metadata.labels")
    check_annotations(causes, metadata.get("annotations"), "metadata.annotations")
    _check_finalizers(causes, kind, metadata.get("finalizers") or ())
    _check_owners(causes, metadata.get("ownerReferences") or ())
    _check_managers(causes, metadata.get("managedFields") or ())
    if (metadata.get("generation") or 0) < 0:
        causes.not_negative("metadata.generation", metadata["generation"])


def check_metadata_update(causes: Causes, obj: Object, old: Object) -> None:
    """What may not change in the life of an object."""
    metadata, before = obj.get("metadata") or {}, old.get("metadata") or {}
    for field in _FIXED:
        causes.immutable(f"metadata.{field}", metadata.get(field), before.get(field))
    if before.get("deletionTimestamp"):
        if metadata.get("deletionTimestamp") != before["deletionTimestamp"]:
            causes.immutable(
                "metadata.deletionTimestamp", metadata.get("deletionTimestamp"), before["deletionTimestamp"]
            )
        present = before.get("finalizers") or ()
        added = [item for item in metadata.get("finalizers") or () if item not in present]
        if added:
            listed = ", ".join(f'"{name}"' for name in sorted(set(added)))
            causes.forbidden(
                "metadata.finalizers",
                "no new finalizers can be added if the object is being deleted, "
                f"found new finalizers []string{{{listed}}}",
            )


def check_labels(causes: Causes, labels: Mapping[str, str] | None, path: str) -> None:
    for key, value in (labels or {}).items():
        causes.invalids(path, key, names.qualified_name(key))
        causes.invalids(path, value or "", names.label_value(value or ""))


def check_annotations(causes: Causes, annotations: Mapping[str, str] | None, path: str) -> None:
    size_bytes = 0
    for key, value in (annotations or {}).items():
        causes.invalids(path, key, names.qualified_name(key.lower()))
        size_bytes += len(key.encode()) + len((value or "").encode())
    if size_bytes > MAX_ANNOTATIONS_BYTES:
        causes.too_long(path, f"may not be more than {MAX_ANNOTATIONS_BYTES} bytes")


def _check_finalizers(causes: Causes, kind: Kind, finalizers: Any) -> None:
    # What apiextensions-apiserver serves may have finalizers that say no domain.
    is_core = kind.custom is None and kind is not CUSTOM_RESOURCE_DEFINITION
    if {"foregroundDeletion", "orphan"} <= set(finalizers):
        message = "finalizer orphan and foregroundDeletion cannot be both set"
        causes.invalid("metadata.finalizers", list(finalizers), message)
    for index, finalizer in enumerate(finalizers):
        wrong = names.qualified_name(finalizer or "")
        causes.invalids("metadata.finalizers", finalizer, wrong)
        if is_core and "/" not in finalizer and finalizer not in STANDARD_FINALIZERS:
            causes.invalid(
                f"metadata.finalizers[{index}]",
                finalizer,
                "name is neither a standard finalizer name nor is it fully qualified",
            )


def _check_managers(causes: Causes, entries: Any) -> None:
    path = "metadata.managedFields"
    for entry in entries:
        if entry.get("operation") not in ("Apply", "Update"):
            causes.invalid(f"{path}.operation", entry.get("operation") or "", "must be `Apply` or `Update`")
        if entry.get("fieldsType") not in (None, "", "FieldsV1"):
            causes.invalid(f"{path}.fieldsType", entry["fieldsType"], "must be `FieldsV1`")


def _check_owners(causes: Causes, owners: Any) -> None:
    path = "metadata.ownerReferences"
    controllers: list[str] = []
    for owner in owners:
        api_version = owner.get("apiVersion") or ""
        if not api_version.rpartition("/")[2] or api_version.count("/") > 1:
            causes.invalid(f"{path}.apiVersion", api_version, "version must not be empty")
        for field in ("kind", "name", "uid"):
            if not owner.get(field):
                causes.invalid(f"{path}.{field}", "", f"{field} must not be empty")
        if owner.get("kind") == EVENT.kind and api_version in ("v1", "events.k8s.io/v1"):
            causes.invalid(path, owner, f"{api_version}, Kind=Event is disallowed from being an owner")
        if owner.get("controller"):
            controllers.append(str(owner.get("name")))
    if len(controllers) > 1:
        causes.invalid(
            path,
            list(owners),
            "Only one reference can have Controller set to true. "
            f'Found "true" in references for {" and ".join(controllers[:2])}',
        )
