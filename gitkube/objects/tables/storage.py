"""Rows of volumes, claims, and what makes and attaches them."""

from __future__ import annotations

from collections.abc import Iterable

from gitkube.objects import meta
from gitkube.objects.tables.columns import AGE, NAME, UNSET, Cells, Column, Table
from gitkube.objects.tables.durations import age
from gitkube.objects.types import Object

_MODES = {
    "ReadWriteOnce": "RWO",
    "ReadOnlyMany": "ROX",
    "ReadWriteMany": "RWX",
    "ReadWriteOncePod": "RWOP",
}
"""Short words, in the order in which they are shown."""
_OLD_CLASS = "volume.beta.kubernetes.io/storage-class"
_DEFAULT_CLASS = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)


def _volume(volume: Object, now_s: float) -> Cells:
    spec, status = volume.get("spec") or {}, volume.get("status") or {}
    claim = spec.get("claimRef") or {}
    return [
        meta.name(volume),
        (spec.get("capacity") or {}).get("storage") or "0",
        _modes(spec.get("accessModes") or ()),
        spec.get("persistentVolumeReclaimPolicy") or "",
        _phase(volume),
        f"{claim.get('namespace')}/{claim.get('name')}" if claim else "",
        meta.annotations(volume).get(_OLD_CLASS) or spec.get("storageClassName") or "",
        spec.get("volumeAttributesClassName") or UNSET,
        status.get("reason") or "",
        _age(volume, now_s),
        spec.get("volumeMode") or UNSET,
    ]


def _claim(claim: Object, now_s: float) -> Cells:
    spec, status = claim.get("spec") or {}, claim.get("status") or {}
    is_named = bool(spec.get("volumeName"))
    capacity = ((status.get("capacity") or {}).get("storage") or "0") if is_named else ""
    return [
        meta.name(claim),
        _phase(claim),
        spec.get("volumeName") or "",
        capacity,
        _modes(status.get("accessModes") or ()) if is_named else "",
        meta.annotations(claim).get(_OLD_CLASS) or spec.get("storageClassName") or "",
        spec.get("volumeAttributesClassName") or UNSET,
        _age(claim, now_s),
        spec.get("volumeMode") or UNSET,
    ]


def _storage_class(storage_class: Object, now_s: float) -> Cells:
    annotations = meta.annotations(storage_class)
    is_default = any(annotations.get(key) == "true" for key in _DEFAULT_CLASS)
    return [
        meta.name(storage_class) + (" (default)" if is_default else ""),
        storage_class.get("provisioner") or "",
        storage_class.get("reclaimPolicy") or "Delete",
        storage_class.get("volumeBindingMode") or "Immediate",
        bool(storage_class.get("allowVolumeExpansion")),
        _age(storage_class, now_s),
    ]


def _attributes_class(attributes_class: Object, now_s: float) -> Cells:
    name, driver = meta.name(attributes_class), attributes_class.get("driverName") or ""
    return [name, driver, _age(attributes_class, now_s)]


def _attachment(attachment: Object, now_s: float) -> Cells:
    spec, status = attachment.get("spec") or {}, attachment.get("status") or {}
    return [
        meta.name(attachment),
        spec.get("attacher") or "",
        (spec.get("source") or {}).get("persistentVolumeName") or "",
        spec.get("nodeName") or "",
        bool(status.get("attached")),
        _age(attachment, now_s),
    ]


def _csi_driver(driver: Object, now_s: float) -> Cells:
    spec = driver.get("spec") or {}
    requests = ",".join(str(one.get("audience") or "") for one in spec.get("tokenRequests") or ()) or UNSET
    return [
        meta.name(driver),
        spec.get("attachRequired", True),
        spec.get("podInfoOnMount", False),
        spec.get("storageCapacity", False),
        requests,
        spec.get("requiresRepublish", False),
        ",".join(spec.get("volumeLifecycleModes") or ()) or "<none>",
        _age(driver, now_s),
    ]


def _csi_node(node: Object, now_s: float) -> Cells:
    return [meta.name(node), len((node.get("spec") or {}).get("drivers") or ()), _age(node, now_s)]


def _capacity(capacity: Object, now_s: float) -> Cells:
    name, of_class = meta.name(capacity), capacity.get("storageClassName") or ""
    return [name, of_class, capacity.get("capacity") or UNSET, _age(capacity, now_s)]


def _phase(obj: Object) -> str:
    return "Terminating" if meta.is_deleting(obj) else str((obj.get("status") or {}).get("phase") or "")


def _modes(modes: Iterable[str]) -> str:
    given = set(modes)
    return ",".join(short for mode, short in _MODES.items() if mode in given)


def _age(obj: Object, now_s: float) -> str:
    return age(meta.metadata(obj).get("creationTimestamp"), now_s)


_STORAGE_CLASS = Column("StorageClass", description="Class that it is of.")
_ATTRIBUTES_CLASS = Column("VolumeAttributesClass", description="Class of attributes that may change.")
_VOLUME_MODE = Column("VolumeMode", description="Filesystem or Block.", priority=1)
VOLUME_TABLE = Table(
    (
        NAME,
        Column("Capacity", description="How much it holds."),
        Column("Access Modes", description="How it may be mounted."),
        Column("Reclaim Policy", description="What becomes of it when its claim goes."),
        Column("Status", description="Available, Bound, Released or Failed."),
        Column("Claim", description="Claim that it is bound to."),
        _STORAGE_CLASS,
        _ATTRIBUTES_CLASS,
        Column("Reason", description="Why it is in this state."),
        AGE,
        _VOLUME_MODE,
    ),
    _volume,
)
CLAIM_TABLE = Table(
    (
        NAME,
        Column("Status", description="Pending, Bound or Lost."),
        Column("Volume", description="Volume that it is bound to."),
        Column("Capacity", description="How much the volume holds."),
        Column("Access Modes", description="How the volume may be mounted."),
        _STORAGE_CLASS,
        _ATTRIBUTES_CLASS,
        AGE,
        _VOLUME_MODE,
    ),
    _claim,
)
STORAGE_CLASS_TABLE = Table(
    (
        NAME,
        Column("Provisioner", description="What makes the volumes."),
        Column("ReclaimPolicy", description="What becomes of a volume when its claim goes."),
        Column("VolumeBindingMode", description="When a claim gets its volume."),
        Column("AllowVolumeExpansion", description="Whether claims may grow."),
        AGE,
    ),
    _storage_class,
)
ATTRIBUTES_CLASS_TABLE = Table(
    (NAME, Column("DriverName", description="CSI driver that it is for."), AGE), _attributes_class
)
ATTACHMENT_TABLE = Table(
    (
        NAME,
        Column("Attacher", description="Driver that attaches.", format="name"),
        Column("PV", description="Volume that is attached."),
        Column("Node", description="Where it is attached."),
        Column("Attached", "boolean", "Whether it is."),
        AGE,
    ),
    _attachment,
)
CSI_DRIVER_TABLE = Table(
    (
        NAME,
        Column("AttachRequired", "boolean", "Whether volumes are attached before they are mounted."),
        Column("PodInfoOnMount", "boolean", "Whether the driver is told of the pod."),
        Column("StorageCapacity", "boolean", "Whether the scheduler asks for free space."),
        Column("TokenRequests", description="Audiences of tokens that it gets."),
        Column("RequiresRepublish", "boolean", "Whether it is called again and again."),
        Column("Modes", description="Kinds of volumes that it makes."),
        AGE,
    ),
    _csi_driver,
)
CSI_NODE_TABLE = Table((NAME, Column("Drivers", "integer", "Number of CSI drivers."), AGE), _csi_node)
CAPACITY_TABLE = Table(
    (NAME, _STORAGE_CLASS, Column("Capacity", description="How much is free."), AGE), _capacity
)
