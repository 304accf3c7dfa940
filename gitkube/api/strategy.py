"""What the server itself decides of an object's content: identity, generation, and who may change which half.

Pure functions from the new object and the old one. Invariants: uid and creationTimestamp never change; the
main resource never changes `status` and the status subresource changes nothing but it; `generation` rises
exactly when what the user wants has changed.
"""

from __future__ import annotations

import base64
from typing import Any

from gitkube.objects.defaults import with_generated_selector
from gitkube.objects.kinds import (
    DEPLOYMENT,
    ENDPOINT_SLICE,
    JOB,
    NAMESPACE,
    NODE,
    POD,
    REPLICA_SET,
    SECRET,
    SERVICE,
    Kind,
)
from gitkube.objects.patch.copying import equal
from gitkube.objects.pods import qos_class
from gitkube.objects.types import Object

_SERVER_FIELDS = ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink")
_FIXED_FIELDS = (
    "uid",
    "creationTimestamp",
    "generation",
)
_WITHOUT_GENERATION = frozenset({NAMESPACE, NODE, SERVICE})
"""Kubernetes keeps no generation for these, though they have a spec."""
_GENERATION_OF_ANNOTATIONS = frozenset({DEPLOYMENT})
_LABELS_STAY_ON_STATUS = frozenset({DEPLOYMENT, REPLICA_SET, JOB})
NAMESPACE_LABEL = "kubernetes.io/metadata.name"


def has_generation(kind: Kind) -> bool:
    if kind in _WITHOUT_GENERATION:
        return False
    return "status" in kind.subresources or kind is ENDPOINT_SLICE


def has_status(kind: Kind) -> bool:
    return "status" in kind.subresources


def prepare_for_create(kind: Kind, obj: Object, *, uid: str, now: str) -> None:
    """Fill in what only the server may say of a new object, in place."""
    metadata = obj["metadata"]
    for field in (*_SERVER_FIELDS, "resourceVersion", "generation"):
        metadata.pop(field, None)
    metadata["uid"] = uid
    metadata["creationTimestamp"] = now
    if has_generation(kind):
        metadata["generation"] = 1
    if has_status(kind) and kind is not NODE:
        obj["status"] = _first_status(kind, obj)
    if kind is NAMESPACE:
        obj["spec"] = {**(obj.get("spec") or {})}
        finalizers = list(obj["spec"].get("finalizers") or [])
        obj["spec"]["finalizers"] = finalizers if "kubernetes" in finalizers else [*finalizers, "kubernetes"]
    if kind is JOB:
        obj.update(with_generated_selector(obj))
    normalise(kind, obj)


def prepare_for_update(kind: Kind, obj: Object, old: Object, subresource: str) -> None:
    """Put back what this request may not change, in place."""
    metadata, before = obj["metadata"], old["metadata"]
    for field in _FIXED_FIELDS:
        _restore(metadata, before, field)
    metadata.pop("selfLink", None)
    if "deletionTimestamp" in before:
        # Nobody takes a deletion back; one that nobody asked for is refused by validation.
        metadata["deletionTimestamp"] = before["deletionTimestamp"]
        if "deletionGracePeriodSeconds" in before:
            metadata.setdefault("deletionGracePeriodSeconds", before["deletionGracePeriodSeconds"])
    if subresource == "status":
        for field in {*obj, *old} - {"status", "metadata", "kind", "apiVersion"}:
            _restore(obj, old, field)
        _restore(metadata, before, "ownerReferences")
        if kind in _LABELS_STAY_ON_STATUS:
            _restore(metadata, before, "labels")
    elif subresource == "finalize":
        for field in {*obj, *old} - {"spec", "metadata", "kind", "apiVersion"}:
            _restore(obj, old, field)
    elif has_status(kind):
        _restore(obj, old, "status")
        if kind is NAMESPACE:
            _restore(obj, old, "spec")  # its finalizers go through the finalize subresource only
    normalise(kind, obj)
    if subresource != "status" and has_generation(kind) and _wish(kind, obj) != _wish(kind, old):
        metadata["generation"] = int(before.get("generation") or 0) + 1


def normalise(kind: Kind, obj: Object) -> None:
    """What is another spelling of the same, in place."""
    if kind is SECRET and obj.get("stringData") is not None:
        data = dict(obj.get("data") or {})
        for key, text in (obj.pop("stringData") or {}).items():
            data[key] = base64.b64encode(str(text).encode()).decode()
        if data:
            obj["data"] = data
    metadata = obj["metadata"]
    if kind is NAMESPACE and metadata.get("name"):
        metadata["labels"] = {**(metadata.get("labels") or {}), NAMESPACE_LABEL: metadata["name"]}
    for field in ("labels", "annotations", "finalizers", "ownerReferences"):
        if field in metadata and not metadata[field]:
            del metadata[field]


def _first_status(kind: Kind, obj: Object) -> dict[str, Any]:
    if kind is POD:
        return {"phase": "Pending", "qosClass": qos_class(obj.get("spec") or {})}
    if kind is NAMESPACE:
        return {"phase": "Active"}
    if kind is SERVICE:
        return {"loadBalancer": {}}
    return {}


def _wish(kind: Kind, obj: Object) -> list[Any]:
    """The part of an object that its generation counts."""
    if kind is ENDPOINT_SLICE:
        return [obj.get("endpoints"), obj.get("ports"), obj["metadata"].get("labels")]
    parts = [value for key, value in sorted(obj.items()) if key not in _NOT_WISHED]
    if kind in _GENERATION_OF_ANNOTATIONS:
        parts.append(obj["metadata"].get("annotations"))
    return parts


_NOT_WISHED = frozenset({"apiVersion", "kind", "metadata", "status"})


def _restore(target: dict[str, Any], source: dict[str, Any], field: str) -> None:
    if field in source:
        target[field] = source[field]
    else:
        target.pop(field, None)


def is_unchanged(obj: Object, old: Object) -> bool:
    """Whether writing `obj` over `old` would change nothing but versions and the times of managers."""
    return equal(_essence(obj), _essence(old))


def _essence(obj: Object) -> Object:
    metadata = {key: value for key, value in obj["metadata"].items() if key != "resourceVersion"}
    if "managedFields" in metadata:
        metadata["managedFields"] = [
            {key: value for key, value in entry.items() if key != "time"}
            for entry in metadata["managedFields"]
        ]
    return {**obj, "metadata": metadata}
