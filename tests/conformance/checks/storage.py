"""sig-storage: volumes, claims, classes and what drivers write, as objects."""

from __future__ import annotations

from tests.conformance.api import MERGE_PATCH, Object, at
from tests.conformance.checks.common import condition, lifecycle
from tests.conformance.harness import Trial, check, require

STORAGE = "storage.k8s.io/v1"
VOLUMES = "v1/persistentvolumes"
CLAIMS = "v1/persistentvolumeclaims"


def _volume(t: Trial, capacity: str = "1Gi") -> Object:
    return {
        "metadata": {"name": t.unique("volume")},
        "spec": {
            "capacity": {"storage": capacity},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": t.unique("class"),
            "csi": {"driver": "e2e.example.com", "volumeHandle": "e2e"},
        },
    }


def _claim(name: str, storage_class: str) -> Object:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return {"metadata": {"name": name}, "spec": {**spec, "storageClassName": storage_class}}


@check("PersistentVolumes CSI Conformance should run through the lifecycle of a PV and a PVC")
async def volumes_and_claims_are_kept(t: Trial) -> None:
    volume = _volume(t)
    await lifecycle(t, VOLUMES, volume, namespaced=False)
    await lifecycle(t, CLAIMS, _claim("kept", volume["spec"]["storageClassName"]))


@check("PersistentVolumes CSI Conformance should apply changes to a pv/pvc status")
async def the_status_of_both_is_changed(t: Trial) -> None:
    volume = _volume(t)
    path = t.leaves(at(VOLUMES, "", volume["metadata"]["name"]))
    await t.api.create(at(VOLUMES), volume)
    await t.api.create(at(CLAIMS, t.namespace), _claim("status", "nobody-makes-it"))
    patch = {"status": {"message": "StatusPatched", "reason": "E2E patchStatus"}}
    patched = await t.api.patch(f"{path}/status", patch, MERGE_PATCH)
    require(patched["status"]["reason"] == "E2E patchStatus", "the volume's status was lost")
    read = await t.api.get(f"{path}/status")
    read["status"]["reason"] = "E2E updateStatus"
    require(
        (await t.api.put(f"{path}/status", read))["status"]["reason"] == "E2E updateStatus",
        "an update was lost",
    )
    one = {"type": "StatusPatched", "status": "True", "reason": "E2E", "message": "by a check"}
    door = at(CLAIMS, t.namespace, "status", "status")
    patched = await t.api.patch(door, {"status": {"conditions": [one]}}, MERGE_PATCH)
    require(condition(patched, "StatusPatched"), "the claim's status was lost")
    read = await t.api.get(door)
    read["status"]["conditions"].append({**one, "type": "StatusUpdated"})
    require(
        condition(await t.api.put(door, read), "StatusUpdated"), "an update of the claim's status was lost"
    )


@check("StorageClasses CSI Conformance should run through the lifecycle of a StorageClass", quick=True)
async def classes_are_kept(t: Trial) -> None:
    obj = {
        "metadata": {"name": t.unique("class")},
        "provisioner": "e2e.example.com",
        "parameters": {"a": "b"},
    }
    await lifecycle(t, f"{STORAGE}/storageclasses", obj, namespaced=False)


@check("should run through the lifecycle of a VolumeAttributesClass", quick=True)
async def attribute_classes_are_kept(t: Trial) -> None:
    obj = {"metadata": {"name": t.unique("class")}, "driverName": "e2e.example.com", "parameters": {"a": "b"}}
    await lifecycle(t, f"{STORAGE}/volumeattributesclasses", obj, namespaced=False)


@check("CSIInlineVolumes should run through the lifecycle of a CSIDriver", quick=True)
async def drivers_are_kept(t: Trial) -> None:
    obj = {"metadata": {"name": t.unique("driver")}, "spec": {"attachRequired": False}}
    await lifecycle(t, f"{STORAGE}/csidrivers", obj, namespaced=False)


@check("CSINodes CSI Conformance should run through the lifecycle of a csinode", quick=True)
async def nodes_of_drivers_are_kept(t: Trial) -> None:
    obj = {"metadata": {"name": t.unique("node")}, "spec": {"drivers": []}}
    await lifecycle(t, f"{STORAGE}/csinodes", obj, namespaced=False)


@check("CSIStorageCapacity should support CSIStorageCapacities API operations", quick=True)
async def capacities_are_kept(t: Trial) -> None:
    obj = {"metadata": {"name": "kept"}, "storageClassName": "fast", "capacity": "100Mi"}
    await lifecycle(t, f"{STORAGE}/csistoragecapacities", obj, spec_patch={"capacity": "200Mi"})


def _attachment(t: Trial) -> Object:
    source = {"persistentVolumeName": "e2e"}
    return {
        "metadata": {"name": t.unique("attachment")},
        "spec": {"attacher": "e2e.example.com", "nodeName": "e2e", "source": source},
    }


@check("VolumeAttachment Conformance should run through the lifecycle of a VolumeAttachment", quick=True)
async def attachments_are_kept(t: Trial) -> None:
    await lifecycle(t, f"{STORAGE}/volumeattachments", _attachment(t), namespaced=False)


@check("VolumeAttachment Conformance should apply changes to a volumeattachment status", quick=True)
async def an_attachments_status_is_changed(t: Trial) -> None:
    obj = _attachment(t)
    path = t.leaves(at(f"{STORAGE}/volumeattachments", "", obj["metadata"]["name"]))
    created = await t.api.create(at(f"{STORAGE}/volumeattachments"), obj)
    require(created["status"]["attached"] is False, "it begins attached")
    patched = await t.api.patch(f"{path}/status", {"status": {"attached": True}}, MERGE_PATCH)
    require(patched["status"]["attached"] is True, "a patch was lost")
    patched["status"]["attached"] = False
    require((await t.api.put(f"{path}/status", patched))["status"]["attached"] is False, "an update was lost")
