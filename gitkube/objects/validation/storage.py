"""Checks of volumes, claims, classes and what attaches them.

Source: k8s.io/kubernetes/pkg/apis/{core,storage}/validation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gitkube.objects import names
from gitkube.objects.quantity import Quantity
from gitkube.objects.types import Object
from gitkube.objects.validation.causes import Causes
from gitkube.objects.validation.containers import check_no_way_up
from gitkube.objects.validation.scheduling import check_node_term
from gitkube.objects.validation.selectors import check_label_selector

_ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
_VOLUME_MODES = ("Block", "Filesystem")
_RECLAIM_POLICIES = ("Delete", "Recycle", "Retain")
_BINDING_MODES = ("Immediate", "WaitForFirstConsumer")
_NO_SOURCES = frozenset(
    {
        "capacity", "accessModes", "claimRef", "persistentVolumeReclaimPolicy", "storageClassName",
        "mountOptions", "volumeMode", "nodeAffinity", "volumeAttributesClassName",
    }
)  # fmt: skip
"""Fields of a PersistentVolume's spec that say something else than where the data is."""
_CLAIM_MESSAGE = (
    "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound "
    "claims"
)


def check_volume(causes: Causes, volume: Object) -> None:
    spec = volume.get("spec") or {}
    _check_access_modes(causes, spec.get("accessModes") or ())
    capacity = spec.get("capacity") or {}
    if not capacity:
        causes.required("spec.capacity")
    if set(capacity) != {"storage"}:
        causes.not_supported("spec.capacity", capacity, ("storage",))
    for name, text in capacity.items():
        _check_positive(causes, text, f"spec.capacity[{name}]")
    policy = spec.get("persistentVolumeReclaimPolicy")
    causes.one_of("spec.persistentVolumeReclaimPolicy", policy, _RECLAIM_POLICIES, is_required=False)
    _check_volume_source(causes, spec)
    if policy == "Recycle" and (spec.get("hostPath") or {}).get("path") == "/":
        message = "may not be 'recycle' for a hostPath mount of '/'"
        causes.forbidden("spec.persistentVolumeReclaimPolicy", message)
    _check_class_name(causes, spec.get("storageClassName"), "spec.storageClassName")
    causes.one_of("spec.volumeMode", spec.get("volumeMode"), _VOLUME_MODES, is_required=False)
    required = (spec.get("nodeAffinity") or {}).get("required")
    if spec.get("nodeAffinity") is not None and required is None:
        causes.required("spec.nodeAffinity.required", "must specify required node constraints")
    for index, term in enumerate((required or {}).get("nodeSelectorTerms") or ()):
        check_node_term(causes, term, f"spec.nodeAffinity.required.nodeSelectorTerms[{index}]")


def _check_volume_source(causes: Causes, spec: Mapping[str, Any]) -> None:
    sources = [field for field, value in spec.items() if field not in _NO_SOURCES and value is not None]
    if not sources:
        causes.required("spec", "must specify a volume type")
    for field in sources[1:]:
        causes.forbidden(f"spec.{field}", "may not specify more than 1 volume type")
    for field in sources[:1]:
        source = spec[field]
        for part in {"hostPath": ("path",), "local": ("path",), "nfs": ("server", "path")}.get(field, ()):
            if not source.get(part):
                causes.required(f"spec.{field}.{part}")
        if field in ("hostPath", "local") and source.get("path"):
            check_no_way_up(causes, source["path"], f"spec.{field}.path")
        if field == "local" and not (spec.get("nodeAffinity") or {}).get("required"):
            causes.required("spec.nodeAffinity", "Local volume requires node affinity")
        if field == "csi":
            for part in ("driver", "volumeHandle"):
                if not source.get(part):
                    causes.required(f"spec.csi.{part}")


def check_volume_update(causes: Causes, volume: Object, old: Object) -> None:
    spec, before = volume.get("spec") or {}, old.get("spec") or {}
    sources = {field for field in spec.keys() | before.keys() if field not in _NO_SOURCES}
    if any(spec.get(field) != before.get(field) for field in sources):
        causes.forbidden(
            "spec.persistentvolumesource", "spec.persistentvolumesource is immutable after creation"
        )
    causes.immutable("spec.volumeMode", spec.get("volumeMode"), before.get("volumeMode"))
    if before.get("nodeAffinity") and spec.get("nodeAffinity") != before["nodeAffinity"]:
        causes.invalid("spec.nodeAffinity", spec.get("nodeAffinity"), "field is immutable")


def check_claim(causes: Causes, claim: Object) -> None:
    check_claim_spec(causes, claim.get("spec") or {}, "spec")


def check_claim_spec(causes: Causes, spec: Mapping[str, Any], path: str) -> None:
    _check_access_modes(
        causes, spec.get("accessModes") or (), f"{path}.accessModes", "at least 1 access mode is required"
    )
    check_label_selector(causes, spec.get("selector"), f"{path}.selector")
    storage = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    if storage is None:
        causes.required(f"{path}.resources[storage]")
    else:
        _check_positive(causes, storage, f"{path}.resources[storage]")
    _check_class_name(causes, spec.get("storageClassName"), f"{path}.storageClassName")
    if attributes := spec.get("volumeAttributesClassName"):
        _check_class_name(causes, attributes, f"{path}.volumeAttributesClassName")
    causes.one_of(f"{path}.volumeMode", spec.get("volumeMode"), _VOLUME_MODES, is_required=False)
    for field in ("dataSource", "dataSourceRef"):
        source = spec.get(field)
        for part in ("name", "kind"):
            if source is not None and not source.get(part):
                causes.required(f"{path}.{field}.{part}")
    source, reference = spec.get("dataSource"), spec.get("dataSourceRef") or {}
    if source is not None and reference and not reference.get("namespace"):
        parts = ("apiGroup", "kind", "name")
        if [source.get(part) or "" for part in parts] != [reference.get(part) or "" for part in parts]:
            causes.invalid(path, dict(source), "must match dataSourceRef")


def check_claim_update(causes: Causes, claim: Object, old: Object) -> None:
    spec, before = claim.get("spec") or {}, old.get("spec") or {}
    may_change = {"resources", "volumeAttributesClassName"}
    if not before.get("volumeName"):
        may_change.add("volumeName")  # binding a claim to its volume
    fields = (spec.keys() | before.keys()) - may_change
    is_bound = (old.get("status") or {}).get("phase") == "Bound"
    requests, asked = _requests(spec), _requests(before)
    has_grown = requests == asked or is_bound
    if any(spec.get(field) != before.get(field) for field in fields) or not has_grown:
        causes.forbidden("spec", _CLAIM_MESSAGE)
    storage, previous = requests.get("storage"), asked.get("storage")
    if storage is not None and previous is not None and Quantity.parse(storage) < Quantity.parse(previous):
        held = ((old.get("status") or {}).get("capacity") or {}).get("storage")
        message = "field can not be less than "
        message += "status.capacity" if held is not None and is_bound else "previous value"
        if held is None or Quantity.parse(storage) <= Quantity.parse(held):
            causes.forbidden("spec.resources.requests.storage", message)


def _requests(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    return (spec.get("resources") or {}).get("requests") or {}


def check_storage_class(causes: Causes, storage_class: Object) -> None:
    provisioner = storage_class.get("provisioner") or ""
    if not provisioner:
        causes.required("provisioner")
    else:
        causes.invalids("provisioner", provisioner.lower(), names.qualified_name(provisioner.lower()))
    for key in storage_class.get("parameters") or {}:
        if not key:
            causes.invalid("parameters", key, "field can not be empty.")
    policy = storage_class.get("reclaimPolicy")
    causes.one_of("reclaimPolicy", policy, ("Delete", "Retain"), is_required=False)
    causes.one_of("volumeBindingMode", storage_class.get("volumeBindingMode"), _BINDING_MODES)


def check_storage_class_update(causes: Causes, storage_class: Object, old: Object) -> None:
    for field in ("parameters", "provisioner", "reclaimPolicy"):
        if (storage_class.get(field) or {}) != (old.get(field) or {}):
            causes.forbidden(field, f"updates to {field} are forbidden.")
    mode = storage_class.get("volumeBindingMode")
    causes.immutable("volumeBindingMode", mode, old.get("volumeBindingMode"))


def check_csi_driver(causes: Causes, driver: Object) -> None:
    spec = driver.get("spec") or {}
    for index, mode in enumerate(spec.get("volumeLifecycleModes") or ()):
        causes.one_of(f"spec.volumeLifecycleModes[{index}]", mode, ("Persistent", "Ephemeral"))
    policies = ("ReadWriteOnceWithFSType", "File", "None")
    causes.one_of("spec.fsGroupPolicy", spec.get("fsGroupPolicy"), policies, is_required=False)


def check_csi_driver_update(causes: Causes, driver: Object, old: Object) -> None:
    spec, before = driver.get("spec") or {}, old.get("spec") or {}
    for field in ("attachRequired", "volumeLifecycleModes"):
        causes.immutable(f"spec.{field}", spec.get(field), before.get(field))


def check_csi_node(causes: Causes, node: Object) -> None:
    seen: set[str] = set()
    for index, driver in enumerate((node.get("spec") or {}).get("drivers") or ()):
        path, name = f"spec.drivers[{index}]", driver.get("name") or ""
        for field in ("name", "nodeID"):
            if not driver.get(field):
                causes.required(f"{path}.{field}")
        if name in seen:
            causes.duplicate(f"{path}.name", name)
        seen.add(name)


def check_csi_node_update(causes: Causes, node: Object, old: Object) -> None:
    """A driver that is there stays as it is; it may only go, and come again."""
    before = {one.get("name"): one for one in (old.get("spec") or {}).get("drivers") or ()}
    for driver in (node.get("spec") or {}).get("drivers") or ():
        previous = before.get(driver.get("name"))
        if previous is not None and any(
            driver.get(field) != previous.get(field) for field in ("nodeID", "topologyKeys")
        ):
            causes.invalid("CSINodeDriver", driver, "field is immutable")


def check_attachment(causes: Causes, attachment: Object) -> None:
    spec = attachment.get("spec") or {}
    for field in ("attacher", "nodeName"):
        if not spec.get(field):
            causes.required(f"spec.{field}")
    source = spec.get("source") or {}
    given = [field for field in ("inlineVolumeSpec", "persistentVolumeName") if source.get(field)]
    if not given:
        causes.required(
            "spec.source", "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
        )
    elif len(given) > 1:
        message = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
        causes.forbidden("spec.source", message)


def check_attachment_update(causes: Causes, attachment: Object, old: Object) -> None:
    spec, before = attachment.get("spec"), old.get("spec")
    if spec != before:
        causes.invalid("spec", spec, "field is immutable")


def check_attributes_class(causes: Causes, attributes_class: Object) -> None:
    if not attributes_class.get("driverName"):
        causes.required("driverName")


def check_attributes_class_update(causes: Causes, attributes_class: Object, old: Object) -> None:
    for field in ("driverName", "parameters"):
        causes.immutable(field, attributes_class.get(field), old.get(field))


def check_capacity(causes: Causes, capacity: Object) -> None:
    if not capacity.get("storageClassName"):
        causes.required("storageClassName")
    for field in ("capacity", "maximumVolumeSize"):
        text = capacity.get(field)
        if text is not None and Quantity.parse(text).nanos < 0:
            causes.invalid(field, str(text), "must be greater than or equal to 0")


def check_capacity_update(causes: Causes, capacity: Object, old: Object) -> None:
    for field in ("nodeTopology", "storageClassName"):
        causes.immutable(field, capacity.get(field), old.get(field))


def _check_access_modes(causes: Causes, modes: Any, path: str = "spec.accessModes", why: str = "") -> None:
    if not modes:
        causes.required(path, why)
    for mode in modes:
        if mode not in _ACCESS_MODES:
            causes.not_supported(path, mode, _ACCESS_MODES)
    if "ReadWriteOncePod" in modes and len(modes) > 1:
        message = "may not use ReadWriteOncePod with other access modes"
        causes.forbidden(path, message)


def _check_positive(causes: Causes, text: Any, path: str) -> None:
    if Quantity.parse(text).nanos <= 0:
        causes.invalid(path, str(text), "must be greater than zero")


def _check_class_name(causes: Causes, name: Any, path: str) -> None:
    if name:
        causes.invalids(path, name, names.dns_subdomain(name))
