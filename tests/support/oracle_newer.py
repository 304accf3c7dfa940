"""How what release 1.20 was asked and answered reads in release 1.37.

Versions that are gone have a successor that is alike field by field; fields that later releases fill in by
themselves are no difference. What differs beyond that stands in the lists of differences, case by case.
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any

from gitkube.objects import schema as schemas

SUCCESSORS = {
    "policy/v1beta1": "policy/v1",
    "discovery.k8s.io/v1beta1": "discovery.k8s.io/v1",
    "batch/v1beta1": "batch/v1",
    "autoscaling/v2beta2": "autoscaling/v2",
    "rbac.authorization.k8s.io/v1beta1": "rbac.authorization.k8s.io/v1",
    "storage.k8s.io/v1beta1": "storage.k8s.io/v1",
    "scheduling.k8s.io/v1beta1": "scheduling.k8s.io/v1",
    "node.k8s.io/v1beta1": "node.k8s.io/v1",
    "events.k8s.io/v1beta1": "events.k8s.io/v1",
    "flowcontrol.apiserver.k8s.io/v1beta1": "flowcontrol.apiserver.k8s.io/v1",
}

_NEWER_DEFAULTS: dict[str, dict[str, tuple[Any, ...]]] = {
    "Service": {
        "internalTrafficPolicy": ("Cluster",),
        "ipFamilies": (["IPv4"], ["IPv4", "IPv6"]),
        "ipFamilyPolicy": ("SingleStack", "RequireDualStack"),
        "ipMode": ("VIP",),
        "allocateLoadBalancerNodePorts": (True,),
    },
    "Job": {
        "completionMode": ("NonIndexed",),
        "suspend": (False,),
        "podReplacementPolicy": ("TerminatingOrFailed",),
        "manualSelector": (False,),
        "generation": (1, 2, 3, 4, 5),
    },
    "CronJob": {"generation": (1, 2, 3, 4, 5)},
    "Pod": {"generation": (1, 2, 3, 4, 5), "observedGeneration": (1, 2, 3)},
    "PartialObjectMetadata": {"generation": (1, 2, 3, 4, 5)},
    "StatefulSet": {
        "persistentVolumeClaimRetentionPolicy": ({"whenDeleted": "Retain", "whenScaled": "Retain"},),
        "availableReplicas": (0,),
    },
    "DaemonSet": {"maxSurge": (0,)},
    "CSIDriver": {
        "requiresRepublish": (False,),
        "seLinuxMount": (False,),
        "storageCapacity": (False,),
        "podInfoOnMount": (False,),
    },
    "IngressClass": {"scope": ("Cluster",)},
    "CSINode": {"status": ({},)},
}
"""By kind: fields that later releases fill in, and the values that they fill in."""
_NEWER_LABELS = {
    "kubernetes.io/metadata.name",
    "batch.kubernetes.io/controller-uid",
    "batch.kubernetes.io/job-name",
}
_IN_CRON_JOBS = _NEWER_DEFAULTS["Job"].keys() - {"generation"}


_NEWER_COLUMNS = (
    "Status",  # of Jobs
    "Timezone",
    "VolumeAttributesClass",
    "RequestedDuration",
    "StorageCapacity",
    "TokenRequests",
    "RequiresRepublish",
    "PreemptionPolicy",
)
"""Columns that tables have gained."""
_NEWER_REASONS = (
    ("in body must be of type", "FieldValueTypeInvalid"),
    ("in body should be at most", "FieldValueTooLong"),
    ("in body should have at most", "FieldValueTooMany"),
)
_ITEM = re.compile(r"(/items/[0-9]+)$")


def in_newer_versions(text: str) -> str:
    """The text of a case with each version that is gone replaced by its successor."""
    for gone, successor in SUCCESSORS.items():
        text = text.replace(gone, successor)
    return text


def newer_reason(cause: dict[str, Any]) -> str:
    """The reason of a cause as later releases give it: they tell apart what was all a wrong value."""
    reason, message = str(cause.get("reason", "")), str(cause.get("message", ""))
    if reason == "FieldValueInvalid":
        for words, newer in _NEWER_REASONS:
            if words in message:
                return newer
    return reason


def is_newer(kind: str, at: str, key: str, value: Any, *, is_gone: bool = False) -> bool:
    """Whether a field is one that release 1.20 had not, or (`is_gone`) that later ones have no more.

    Args:
        kind: of the object that the field is in.
        at: JSON pointer of the map that it is in.
    """
    if is_gone:
        return _is_gone(kind, at, key, value)
    if key in ("apiVersion", "kind") and _ITEM.search(at):
        return True  # chosen otherwise: the items of a list say what they are, as in events and alone
    if key in _NEWER_LABELS or key.removeprefix("f:") in _NEWER_LABELS:
        return True
    if key in ("labels", "f:labels") and isinstance(value, dict):
        return all(is_newer(kind, at, name, None) for name in value if name != ".")
    if key == "f:metadata" and isinstance(value, dict):
        return all(is_newer(kind, at, name, below) for name, below in value.items() if name != ".")
    if kind == "PersistentVolume" and key == "lastPhaseTransitionTime":
        return True
    known = _NEWER_DEFAULTS.get(kind, {})
    if key.startswith("f:"):
        return key.removeprefix("f:") in known
    if kind == "CronJob" and "jobTemplate" in at and key in _IN_CRON_JOBS:
        return value in _NEWER_DEFAULTS["Job"][key]
    return any(
        value == one and isinstance(value, bool) == isinstance(one, bool) for one in known.get(key, ())
    )


def is_atomic_now(at: str, recorded: dict[str, Any], given: dict[str, Any]) -> bool:
    """Whether owned fields are one leaf where 1.20 knew the parts, as the schemas of 1.37 have it."""
    step = at.rpartition("/fieldsV1/")[2].rpartition("/")[2]
    if given or not recorded:
        return False
    if step.startswith("k:"):  # an element that is atomic, such as a reference in a list
        return set(recorded) <= {".", *(f"f:{key}" for key in json.loads(step.removeprefix("k:")))}
    return step.removeprefix("f:") in _ATOMIC


def _atomic_fields() -> set[str]:
    found: set[str] = set()
    definitions = schemas.definitions()
    for definition in definitions.values():
        for name, field in (definition.get("properties") or {}).items():
            target = definitions.get(str(field.get("$ref", "")).rpartition("/")[2], {})
            is_map = "atomic" in (field.get("x-kubernetes-map-type"), target.get("x-kubernetes-map-type"))
            if is_map or field.get("x-kubernetes-list-type") == "atomic":
                found.add(name)
    return found


_ATOMIC = _atomic_fields()


def table_of_old(table: dict[str, Any], recorded: dict[str, Any]) -> dict[str, Any]:
    """A table without the columns that 1.20 had not, and without descriptions: those are a server's own."""
    columns = table.get("columnDefinitions")
    if not isinstance(columns, list):
        return table
    names = {column["name"] for column in recorded.get("columnDefinitions") or ()}
    kept = [
        position
        for position, column in enumerate(columns)
        if column["name"] in names or column["name"] not in _NEWER_COLUMNS
    ]
    result = dict(table)
    result["columnDefinitions"] = [
        {key: value for key, value in columns[position].items() if key != "description"} for position in kept
    ]
    restarts = next((at for at in kept if columns[at]["name"] == "Restarts"), None)
    if restarts is not None:  # it became a text when it learnt to say how long ago
        result["columnDefinitions"][restarts]["type"] = "string"
    rows = []
    for row in table.get("rows") or ():
        cells = [str(row["cells"][at]) if at == restarts else row["cells"][at] for at in kept]
        cells = [_selector_of_job(cell) for cell in cells]
        rows.append({**row, "cells": cells})
    result["rows"] = rows
    return result


def discovery_of_old(document: dict[str, Any], recorded: dict[str, Any]) -> dict[str, Any]:
    """A discovery document without the versions that are gone, and without resources that are newer."""
    result = dict(document)
    if document.get("kind") == "APIGroup":
        # What was only beta then has its first stable version now, and a later one may be preferred.
        stable = {one["version"] for one in recorded["versions"] if _is_stable(one["version"])} or {"v1"}
        result["versions"] = sorted(stable & {_successor(one["version"]) for one in document["versions"]})
        result.pop("preferredVersion")
    elif document.get("kind") == "APIGroupList":
        names = {group["name"] for group in recorded["groups"]}
        groups = [group for group in document["groups"] if group["name"] in names]
        of_name = {group["name"]: group for group in recorded["groups"]}
        result["groups"] = [
            discovery_of_old({**one, "kind": "APIGroup"}, of_name[one["name"]]) for one in groups
        ]
    elif document.get("kind") == "APIResourceList":
        names = {resource["name"] for resource in recorded["resources"]}
        dropped = ("singularName", "storageVersionHash")
        resources = [
            {key: value for key, value in resource.items() if key not in dropped}
            for resource in document["resources"]
            if resource["name"] in names
        ]
        for resource in resources:
            if resource["name"] in ("services", "pods/eviction"):
                resource.pop("version", None)
                resource["verbs"] = [verb for verb in resource["verbs"] if verb != "deletecollection"]
        result["resources"] = resources
    return result


def _successor(version: str) -> str:
    return version if _is_stable(version) else "v1"


def _is_stable(version: str) -> bool:
    return "alpha" not in version and "beta" not in version


def _selector_of_job(cell: Any) -> Any:
    return cell.removeprefix("batch.kubernetes.io/") if isinstance(cell, str) else cell


def _is_gone(kind: str, at: str, key: str, value: Any) -> bool:
    if key == "controller-uid" and at.endswith("/selector/matchLabels"):
        return True  # a Job selects by the label with a prefix now
    if key == "f:creationTimestamp":
        return True  # templates have none any more
    # Left out when it is zero.
    return key == "currentReplicas" and kind == "HorizontalPodAutoscaler" and value == 0


def without_subresources(entries: list[Any]) -> list[Any]:
    """Owners of fields as 1.20 noted them: one entry for a manager, by whatever door it came."""
    merged: dict[tuple[str, ...], dict[str, Any]] = {}
    for entry in entries:
        key = tuple(str(entry.get(part, "")) for part in ("manager", "operation", "apiVersion"))
        plain = {name: value for name, value in entry.items() if name != "subresource"}
        if key in merged:
            plain["fieldsV1"] = _union(merged[key].get("fieldsV1") or {}, entry.get("fieldsV1") or {})
        merged[key] = plain
    return list(merged.values())


def _union(left: dict[str, Any], right: dict[str, Any]) -> dict[str, Any]:
    result = dict(left)
    for key, value in right.items():
        result[key] = _union(result[key], value) if key in result else value
    return result


def token_of_old(token: str) -> dict[str, Any]:
    """Header and claims of a token. Each has an id by now; and ours are signed with ES256."""
    header, claims = (
        json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in token.split(".")[:2]
    )
    claims.pop("jti")
    return {"header": {**header, "alg": {"ES256": "RS256"}[header["alg"]]}, "claims": claims}


def token_document_of_old(given: dict[str, Any], recorded: dict[str, Any]) -> dict[str, Any]:
    """A TokenRequest without the name of the account, which is filled in by now; a TokenReview without the
    id of the token."""
    if given["kind"] == "TokenRequest":
        before = recorded.get("metadata") or {}
        metadata = {key: value for key, value in given["metadata"].items() if key in before}
        return {**given, "metadata": metadata}
    user = dict((given.get("status") or {}).get("user") or {})
    extra = {key: value for key, value in user.pop("extra", {}).items() if not key.endswith("/credential-id")}
    if extra:
        user["extra"] = extra
    return {**given, "status": {**(given.get("status") or {}), "user": user}}
