"""Checks of a pod's volumes: one source each, complete, and no path that leads out of the volume."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gitkube.objects import names
from gitkube.objects.quantity import Quantity
from gitkube.objects.validation.causes import Causes
from gitkube.objects.validation.containers import (
    check_field_ref,
    check_local_path,
    check_no_way_up,
    check_resource_ref,
)
from gitkube.objects.validation.storage import check_claim_spec

_MAX_MODE = 0o777
_MODE_MESSAGE = "must be a number between 0 and 0777 (octal), both inclusive"
_MIN_TOKEN_LIFETIME_S = 600
_DOWNWARD_FIELDS = (
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
)
_HOST_PATH_TYPES = (
    "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket",
)  # fmt: skip
_PROJECTIONS = (
    "secret",
    "configMap",
    "downwardAPI",
    "serviceAccountToken",
    "clusterTrustBundle",
    "podCertificate",
)


_SOURCES_IN_ORDER = (
    "emptyDir", "hostPath", "gitRepo", "gcePersistentDisk", "awsElasticBlockStore", "secret", "nfs", "iscsi",
    "glusterfs", "flocker", "persistentVolumeClaim", "rbd", "cinder", "cephfs", "quobyte", "downwardAPI",
    "fc", "flexVolume", "configMap", "azureFile", "vsphereVolume", "photonPersistentDisk", "portworxVolume",
    "azureDisk", "storageos", "projected", "scaleIO", "csi", "ephemeral", "image",
)  # fmt: skip
"""As Kubernetes looks at them: of two, the later is one too many."""


def _rank(source: str) -> int:
    return _SOURCES_IN_ORDER.index(source) if source in _SOURCES_IN_ORDER else len(_SOURCES_IN_ORDER)


def check_item_name(causes: Causes, item: Mapping[str, Any], where: str, seen: set[str]) -> None:
    """The name of one in a list: a DNS label that stands there once. It is added to those that were seen."""
    name = item.get("name") or ""
    if not name:
        causes.required(f"{where}.name")
    elif name in seen:
        causes.duplicate(f"{where}.name", name)
    else:
        causes.invalids(f"{where}.name", name, names.dns_label(name))
        seen.add(name)


def check_volumes(causes: Causes, volumes: Any, path: str) -> None:
    seen: set[str] = set()
    for index, volume in enumerate(volumes):
        where = f"{path}[{index}]"
        check_item_name(causes, volume, where, seen)
        given = (field for field, value in volume.items() if field != "name" and value is not None)
        sources = sorted(given, key=_rank)
        if not sources:
            causes.required(where, "must specify a volume type")
        for field in sources[1:]:
            causes.forbidden(f"{where}.{field}", "may not specify more than 1 volume type")
        for field in sources[:1]:
            if isinstance(volume[field], Mapping):
                _check_source(causes, field, volume[field], f"{where}.{field}")


def _check_source(causes: Causes, kind: str, source: Mapping[str, Any], path: str) -> None:
    match kind:
        case "secret":
            if not source.get("secretName"):
                causes.required(f"{path}.secretName")
            _check_mode(causes, source.get("defaultMode"), f"{path}.defaultMode")
            _check_items(causes, source.get("items") or (), f"{path}.items")
        case "configMap":
            if not source.get("name"):
                causes.required(f"{path}.name")
            _check_mode(causes, source.get("defaultMode"), f"{path}.defaultMode")
            _check_items(causes, source.get("items") or (), f"{path}.items")
        case "emptyDir":
            limit = source.get("sizeLimit")
            if limit is not None and Quantity.parse(limit).nanos < 0:
                causes.forbidden(f"{path}.sizeLimit", "SizeLimit field must be a valid resource quantity")
        case "hostPath":
            if not source.get("path"):
                causes.required(f"{path}.path")
            else:
                check_no_way_up(causes, source["path"], f"{path}.path")
            if source.get("type"):
                causes.one_of(f"{path}.type", source["type"], _HOST_PATH_TYPES)
        case "persistentVolumeClaim":
            if not source.get("claimName"):
                causes.required(f"{path}.claimName")
        case "downwardAPI":
            _check_mode(causes, source.get("defaultMode"), f"{path}.defaultMode")
            _check_downward_items(causes, source.get("items") or (), path)
        case "image":
            policies = ("Always", "IfNotPresent", "Never")
            causes.one_of(f"{path}.pullPolicy", source.get("pullPolicy"), policies, is_required=False)
        case "ephemeral":
            if source.get("volumeClaimTemplate") is None:
                causes.required(f"{path}.volumeClaimTemplate")
            else:
                claim = source["volumeClaimTemplate"].get("spec") or {}
                check_claim_spec(causes, claim, f"{path}.volumeClaimTemplate.spec")
        case "projected":
            _check_mode(causes, source.get("defaultMode"), f"{path}.defaultMode")
            _check_projections(causes, source.get("sources") or (), path)


def _check_mode(causes: Causes, mode: Any, path: str) -> None:
    if mode is not None and not 0 <= mode <= _MAX_MODE:
        causes.invalid(path, mode, _MODE_MESSAGE)


def _check_items(causes: Causes, items: Any, path: str) -> None:
    for index, item in enumerate(items):
        where = f"{path}[{index}]"
        if not item.get("key"):
            causes.required(f"{where}.key")
        if not item.get("path"):
            causes.required(f"{where}.path")
        else:
            check_local_path(causes, item["path"], f"{where}.path")
        _check_mode(causes, item.get("mode"), f"{where}.mode")


def _check_downward_items(causes: Causes, items: Any, path: str) -> None:
    for item in items:
        if not item.get("path"):
            causes.required(f"{path}.path")
        else:
            check_local_path(causes, item["path"], f"{path}.path")
        field_ref, resource_ref = item.get("fieldRef"), item.get("resourceFieldRef")
        if field_ref is not None:
            check_field_ref(causes, field_ref, f"{path}.fieldRef", _DOWNWARD_FIELDS)
            if resource_ref is not None:
                causes.invalid(
                    path, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously"
                )
        elif resource_ref is not None:
            if not resource_ref.get("containerName"):
                causes.required(f"{path}.resourceFieldRef.containerName")
            check_resource_ref(causes, resource_ref, f"{path}.resourceFieldRef")
        else:
            causes.required(path, "one of fieldRef and resourceFieldRef is required")
        _check_mode(causes, item.get("mode"), f"{path}.mode")


def _check_projections(causes: Causes, sources: Any, path: str) -> None:
    paths: set[str] = set()
    for index, source in enumerate(sources):
        where = f"{path}.sources[{index}]"
        given = [field for field in _PROJECTIONS if source.get(field) is not None]
        if not given:
            causes.required(where, "must specify a projection")
        for field in given[1:]:
            causes.forbidden(f"{where}.{field}", "may not specify more than 1 volume type per source")
        for field in given[:1]:
            projection = source[field]
            if field in ("secret", "configMap"):
                if not projection.get("name"):
                    causes.required(f"{where}.{field}.name")
                _check_items(causes, projection.get("items") or (), f"{where}.{field}.items")
            elif field == "downwardAPI":
                _check_downward_items(causes, projection.get("items") or (), f"{where}.downwardAPI")
            elif field == "serviceAccountToken":
                _check_token(causes, projection, f"{where}.serviceAccountToken")
            for text in _paths_of(field, projection):
                if text in paths:
                    causes.invalid(path, text, "conflicting duplicate paths")
                paths.add(text)


def _check_token(causes: Causes, token: Mapping[str, Any], path: str) -> None:
    seconds = token.get("expirationSeconds")
    if seconds is not None and seconds < _MIN_TOKEN_LIFETIME_S:
        causes.invalid(
            f"{path}.expirationSeconds", seconds, "may not specify a duration less than 10 minutes"
        )
    if seconds is not None and seconds > 2**32:
        causes.invalid(
            f"{path}.expirationSeconds", seconds, "may not specify a duration larger than 2^32 seconds"
        )
    if not token.get("path"):
        causes.required(f"{path}.path")
    else:
        check_local_path(causes, token["path"], f"{path}.path")


def _paths_of(kind: str, projection: Mapping[str, Any]) -> list[str]:
    if kind in ("serviceAccountToken", "clusterTrustBundle"):
        return [projection["path"]] if projection.get("path") else []
    return [item["path"] for item in projection.get("items") or () if item.get("path")]
