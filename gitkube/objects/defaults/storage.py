"""Defaults of volumes, claims and what makes them. Source: k8s.io/kubernetes/pkg/apis/{core,storage}/v1."""

from __future__ import annotations

from typing import Any

from gitkube.objects.defaults.reading import fill, fill_zero, made_part, part
from gitkube.objects.types import Object


def default_volume_sources(volume: dict[str, Any]) -> None:
    """Of the sources that pods and PersistentVolumes have in common."""
    if "hostPath" in volume:
        fill(part(volume, "hostPath"), type="")
    if iscsi := part(volume, "iscsi"):
        fill_zero(iscsi, iscsiInterface="default")
    if rbd := part(volume, "rbd"):
        fill_zero(rbd, pool="rbd", user="admin", keyring="/etc/ceph/keyring")
    if azure := part(volume, "azureDisk"):
        fill(azure, cachingMode="ReadWrite", fsType="ext4", readOnly=False, kind="Shared")
    if scale_io := part(volume, "scaleIO"):
        fill_zero(scale_io, storageMode="ThinProvisioned", fsType="xfs")


def default_volume(volume: Object) -> None:
    spec = made_part(volume, "spec")
    fill_zero(spec, persistentVolumeReclaimPolicy="Retain")
    fill(spec, volumeMode="Filesystem")
    default_volume_sources(spec)
    fill_zero(made_part(volume, "status"), phase="Pending")


def default_claim(claim: Object) -> None:
    spec = made_part(claim, "spec")
    default_claim_spec(spec)
    fill_zero(made_part(claim, "status"), phase="Pending")


def default_claim_spec(spec: dict[str, Any]) -> None:
    fill(spec, volumeMode="Filesystem")


def default_storage_class(storage_class: Object) -> None:
    fill(storage_class, reclaimPolicy="Delete", volumeBindingMode="Immediate")


def default_csi_driver(driver: Object) -> None:
    spec = made_part(driver, "spec")
    fill(
        spec,
        attachRequired=True,
        podInfoOnMount=False,
        storageCapacity=False,
        fsGroupPolicy="ReadWriteOnceWithFSType",
        requiresRepublish=False,
        seLinuxMount=False,
    )
    if not spec.get("volumeLifecycleModes"):
        spec["volumeLifecycleModes"] = ["Persistent"]
