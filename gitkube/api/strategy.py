"""What the server itself decides of an object's content: identity, generation, and who may change which half.

Pure functions from the new object and the old one. Invariants: uid and creationTimestamp never change; the
main resource never changes `status` and the status subresource changes nothing but it; `generation` rises
exactly when what the user wants has changed.
"""

from __future__ import annotations

import base64
from typing import Any

from gitkube.objects import kinds
from gitkube.objects.custom.defaulting import fill_in
from gitkube.objects.custom.definition import definition_as_new
from gitkube.objects.defaults import with_generated_selector
from gitkube.objects.kinds import (
    CERTIFICATE_SIGNING_REQUEST,
    CUSTOM_RESOURCE_DEFINITION,
    DAEMON_SET,
    DEPLOYMENT,
    ENDPOINT_SLICE,
    JOB,
    NAMESPACE,
    NODE,
    PERSISTENT_VOLUME,
    PERSISTENT_VOLUME_CLAIM,
    POD,
    REPLICA_SET,
    SECRET,
    Kind,
)
from gitkube.objects.normalise import normalise as normal_form
from gitkube.objects.patch.copying import equal
from gitkube.objects.pods import qos_class
from gitkube.objects.types import Object
from gitkube.objects.validation.pod_parts import EPHEMERAL, RESIZE

_SERVER_FIELDS = ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink")
_FIXED_FIELDS = (
    "uid",
    "creationTimestamp",
    "generation",
)
_WITH_GENERATION = frozenset(
    {
        POD, DEPLOYMENT, REPLICA_SET, DAEMON_SET, JOB, ENDPOINT_SLICE, CUSTOM_RESOURCE_DEFINITION,
        kinds.STATEFUL_SET, kinds.REPLICATION_CONTROLLER, kinds.CRON_JOB, kinds.INGRESS, kinds.INGRESS_CLASS,
        kinds.NETWORK_POLICY, kinds.POD_DISRUPTION_BUDGET, kinds.PRIORITY_CLASS, kinds.FLOW_SCHEMA,
        kinds.PRIORITY_LEVEL_CONFIGURATION, kinds.VALIDATING_WEBHOOK_CONFIGURATION,
        kinds.MUTATING_WEBHOOK_CONFIGURATION, kinds.VALIDATING_ADMISSION_POLICY,
        kinds.MUTATING_ADMISSION_POLICY, kinds.VALIDATING_ADMISSION_POLICY_BINDING,
        kinds.MUTATING_ADMISSION_POLICY_BINDING, kinds.SERVICE_CIDR, kinds.DEVICE_CLASS,
        kinds.DEVICE_TAINT_RULE, kinds.RESOURCE_SLICE, kinds.SOURCE,
    }
)  # fmt: skip
"""Kinds of which Kubernetes counts the changes of what is wanted."""
_GENERATION_OF_ANNOTATIONS = frozenset({DEPLOYMENT})
_LABELS_STAY_ON_STATUS = frozenset({DEPLOYMENT, kinds.VOLUME_ATTACHMENT})
_APPROVALS = ("Approved", "Denied")
"""Conditions of a CertificateSigningRequest that only the approval subresource sets."""
_OLDER_SOURCES = frozenset({("", "PersistentVolumeClaim"), ("snapshot.storage.k8s.io", "VolumeSnapshot")})
"""What the older of the two fields for a claim's source may name."""
_GATED = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "SchedulingGated",
    "message": "Scheduling is blocked due to non-empty scheduling gates",
    "lastProbeTime": None,
    "lastTransitionTime": None,
}
TEMPLATE_GENERATION = "deprecated.daemonset.template.generation"
NAMESPACE_LABEL = "kubernetes.io/metadata.name"


def has_generation(kind: Kind) -> bool:
    return kind in _WITH_GENERATION or kind.custom is not None


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
    if kind.custom is not None:
        if has_status(kind):
            obj.pop("status", None)
        fill_in(kind.custom.schema, obj)
    elif has_status(kind) and kind is not NODE:
        obj["status"] = _first_status(kind, obj, now)
    if kind is NAMESPACE:
        obj["spec"] = {**(obj.get("spec") or {})}
        finalizers = list(obj["spec"].get("finalizers") or [])
        obj["spec"]["finalizers"] = finalizers if "kubernetes" in finalizers else [*finalizers, "kubernetes"]
    if kind is PERSISTENT_VOLUME_CLAIM:
        _say_source_twice(obj)
    if kind is JOB:
        obj.update(with_generated_selector(obj))
    normalise(kind, obj)


def count_templates(kind: Kind, obj: Object) -> None:
    """A new DaemonSet has had one template. Whoever makes it owns the note of it, too. In place."""
    if kind is DAEMON_SET:
        metadata = obj["metadata"]
        metadata["annotations"] = {**(metadata.get("annotations") or {}), TEMPLATE_GENERATION: "1"}


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
    if kind.custom is not None:
        _prepare_custom(kind, obj, old, subresource)
    elif subresource == "status":
        for field in {*obj, *old} - {"status", "metadata", "kind", "apiVersion"}:
            _restore(obj, old, field)
        _restore(metadata, before, "ownerReferences")
        if kind in _LABELS_STAY_ON_STATUS:
            _restore(metadata, before, "labels")
        if kind is CERTIFICATE_SIGNING_REQUEST:
            _keep_approvals(obj, old)
    elif subresource == "approval":
        given = (obj.get("status") or {}).get("conditions")
        for field in {*obj, *old} - {"metadata", "kind", "apiVersion"}:
            _restore(obj, old, field)
        obj["status"] = {
            key: value for key, value in (old.get("status") or {}).items() if key != "conditions"
        }
        if given:
            obj["status"]["conditions"] = given
    elif kind is POD and subresource in (EPHEMERAL, RESIZE):
        _keep_all_but(obj, old, subresource)
    elif subresource == "finalize":
        for field in {*obj, *old} - {"spec", "metadata", "kind", "apiVersion"}:
            _restore(obj, old, field)
    elif has_status(kind):
        _restore(obj, old, "status")
        if kind is NAMESPACE:
            _restore(obj, old, "spec")  # its finalizers go through the finalize subresource only
    normalise(kind, obj)
    if kind is PERSISTENT_VOLUME_CLAIM and "dataSourceRef" in old["spec"]:
        _say_source_twice(obj)
    if kind is CUSTOM_RESOURCE_DEFINITION:
        _note_stored_version(obj, is_of_status=subresource == "status")
    if kind is DAEMON_SET:
        _count_template(obj, old)


def count_generation(kind: Kind, obj: Object, old: Object, subresource: str) -> None:
    """Count, in place, that the wish is another one; after admission, which may put back what was changed."""
    if subresource != "status" and has_generation(kind) and _wish(kind, obj) != _wish(kind, old):
        obj["metadata"]["generation"] = int(old["metadata"].get("generation") or 0) + 1


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


def _say_source_twice(claim: Object) -> None:
    """What a claim is filled from stands in two fields, one for those who know only the older one. In place.

    Source: k8s.io/kubernetes/pkg/api/persistentvolumeclaim.
    """
    spec = claim.get("spec") or {}
    source, reference = spec.get("dataSource"), spec.get("dataSourceRef")
    if source is not None and reference is None:
        spec["dataSourceRef"] = dict(source)
    elif reference is not None and source is None and not reference.get("namespace"):
        group, word = reference.get("apiGroup") or "", reference.get("kind")
        if (group, word) in _OLDER_SOURCES:
            spec["dataSource"] = {key: value for key, value in reference.items() if key != "namespace"}


def _prepare_custom(kind: Kind, obj: Object, old: Object, subresource: str) -> None:
    """Of a custom resource, the status subresource changes the status and nothing else."""
    if subresource == "status":
        managers = obj["metadata"].get("managedFields")
        for field in {*obj, *old} - {"status", "metadata", "kind", "apiVersion"}:
            _restore(obj, old, field)
        obj["metadata"] = {**old["metadata"], **({"managedFields": managers} if managers is not None else {})}
    elif has_status(kind) and subresource != "scale":
        _restore(obj, old, "status")
    if kind.custom is not None:
        fill_in(kind.custom.schema, obj)


def _first_status(kind: Kind, obj: Object, now: str) -> dict[str, Any]:
    status: dict[str, Any] = normal_form(kind, {}).get("status") or {}
    if kind is POD:
        spec = obj.get("spec") or {}
        gated = {"conditions": [dict(_GATED)]} if spec.get("schedulingGates") else {}
        return {"phase": "Pending", **gated, "qosClass": qos_class(spec)}
    if kind is NAMESPACE:
        return {"phase": "Active"}
    if kind is PERSISTENT_VOLUME_CLAIM:
        return {"phase": "Pending"}
    if kind is PERSISTENT_VOLUME:
        return {"phase": "Pending", "lastPhaseTransitionTime": now}
    if kind is CUSTOM_RESOURCE_DEFINITION:
        first: dict[str, Any] = definition_as_new(obj)["status"]
        return first
    return status


def _note_stored_version(definition: Object, *, is_of_status: bool) -> None:
    """A version that becomes the stored one is among those that objects may be stored with.

    Who has moved all objects to it writes the list himself, through the status.
    """
    status = definition.get("status") or {}
    listed = list(status.get("storedVersions") or ())
    if is_of_status and listed:
        return
    for version in (definition.get("spec") or {}).get("versions") or ():
        if version.get("storage") and version.get("name") not in listed:
            definition["status"] = {**status, "storedVersions": [*listed, version["name"]]}


def _keep_approvals(obj: Object, old: Object) -> None:
    """Put back the conditions of a CertificateSigningRequest that only its other door changes."""
    present = (old.get("status") or {}).get("conditions") or []
    given = (obj.get("status") or {}).get("conditions") or []
    conditions = [one for one in present if one.get("type") in _APPROVALS]
    conditions += [one for one in given if one.get("type") not in _APPROVALS]
    obj["status"] = {key: value for key, value in (obj.get("status") or {}).items() if key != "conditions"}
    if conditions:
        obj["status"]["conditions"] = conditions


def _keep_all_but(pod: Object, old: Object, subresource: str) -> None:
    """Put back all of a pod but the part that this door changes."""
    given = pod.get("spec") or {}
    spec = dict(old["spec"])
    if subresource == EPHEMERAL:
        _restore(spec, given, "ephemeralContainers")
    else:
        for field in ("initContainers", "containers"):
            if field in spec:
                wanted = {one.get("name"): one for one in given.get(field) or ()}
                spec[field] = [_resized(one, wanted.get(one["name"], one)) for one in spec[field]]
    pod["spec"] = spec
    metadata, before = pod["metadata"], old["metadata"]
    for field in {*metadata, *before} - {"resourceVersion", "managedFields"}:
        _restore(metadata, before, field)
    _restore(pod, old, "status")


def _resized(container: Object, wanted: Object) -> Object:
    resized = dict(container)
    for field in ("resources", "resizePolicy"):
        _restore(resized, wanted, field)
    return resized


def _count_template(obj: Object, old: Object) -> None:
    """The number of templates that a DaemonSet has had, which clients of old still read."""
    before = (old["metadata"].get("annotations") or {}).get(TEMPLATE_GENERATION, "0")
    is_same = (obj.get("spec") or {}).get("template") == (old.get("spec") or {}).get("template")
    count = int(before) if before.isdigit() else 0
    annotations = obj["metadata"].get("annotations") or {}
    obj["metadata"]["annotations"] = {
        **annotations,
        TEMPLATE_GENERATION: str(count if is_same else count + 1),
    }


def _wish(kind: Kind, obj: Object) -> list[Any]:
    """The part of an object that its generation counts."""
    if kind is ENDPOINT_SLICE:
        return [obj.get("endpoints"), obj.get("ports"), obj["metadata"].get("labels")]
    ignored = _NOT_WISHED if kind.custom is None or has_status(kind) else _NOT_WISHED - {"status"}
    parts = [value for key, value in sorted(obj.items()) if key not in ignored]
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
