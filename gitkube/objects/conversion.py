"""One object in two spellings: how a version that is only served reads and writes what is stored.

Two kinds have one: the Events of `events.k8s.io/v1`, stored as core Events, and the autoscalers of
`autoscaling/v1`, stored as those of v2. What the served version cannot say stays as it is when an object is
written through it: it is taken from the stored one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from gitkube.objects.custom.pruning import pruned
from gitkube.objects.fields import FieldSelectorError
from gitkube.objects.kinds import EVENT_V1, HORIZONTAL_POD_AUTOSCALER_V1, Kind, stored_kind
from gitkube.objects.types import Object

if TYPE_CHECKING:
    from gitkube.objects.custom.definition import CustomKind

_EVENT_FIELDS = {
    "regarding": "involvedObject",
    "note": "message",
    "reportingController": "reportingComponent",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedCount": "count",
}
"""Field of `events.k8s.io/v1` -> field of a core Event."""
_CORE_FIELDS = {core: newer for newer, core in _EVENT_FIELDS.items()}
_CPU = "cpu"


def to_stored(kind: Kind, obj: Object, old: Object | None = None) -> Object:
    """An object of a served version as it is to be stored.

    Args:
        old: what is stored under that name now, in the stored version.
    """
    if kind.custom is not None:
        return {**obj, "apiVersion": (old or obj).get("apiVersion", kind.api_version)}
    convert = _TO_STORED.get(kind)
    return _with_identity(stored_kind(kind), convert(obj, old)) if convert is not None else obj


def from_stored(kind: Kind, obj: Object) -> Object:
    """A stored object in the spelling of a served version."""
    if kind.custom is not None:
        is_other = obj.get("kind") == kind.kind and obj.get("apiVersion") != kind.api_version
        return _seen_as(kind, kind.custom, obj) if is_other else obj
    convert = _FROM_STORED.get(kind)
    return _with_identity(kind, convert(obj)) if convert is not None else obj


def to_stored_selector(kind: Kind, field_selector: str) -> str:
    """A field selector of a served version in the words of the stored one.

    Raises:
        FieldSelectorError: it uses a word that the served version does not know.
    """
    if kind is not EVENT_V1:
        return field_selector
    if "involvedObject" in field_selector:
        raise FieldSelectorError("field label not supported: involvedObject; it is called regarding here")
    return field_selector.replace("regarding.", "involvedObject.").replace(
        "reportingController", "reportingComponent"
    )


def _seen_as(kind: Kind, custom: CustomKind, obj: Object) -> Object:
    seen: Object = pruned(custom.schema, obj)
    return {**seen, "apiVersion": kind.api_version, "metadata": obj["metadata"]}


def _with_identity(kind: Kind, obj: Object) -> Object:
    return {**obj, "apiVersion": kind.api_version, "kind": kind.kind}


def _renamed(obj: Object, names: Mapping[str, str]) -> Object:
    return {names.get(field, field): value for field, value in obj.items()}


def _event_to_core(event: Object, old: Object | None) -> Object:
    return _renamed(event, _EVENT_FIELDS)


def _event_from_core(event: Object) -> Object:
    return _renamed(event, _CORE_FIELDS)


def _autoscaler_to_v2(autoscaler: Object, old: Object | None) -> Object:
    spec, status = dict(autoscaler.get("spec") or {}), dict(autoscaler.get("status") or {})
    before = (old or {}).get("spec") or {}
    wanted_percent = spec.pop("targetCPUUtilizationPercentage", None)
    metrics = [metric for metric in before.get("metrics") or () if not _is_cpu_share(metric)]
    if wanted_percent is not None:
        target = {"type": "Utilization", "averageUtilization": wanted_percent}
        metrics.insert(0, {"type": "Resource", "resource": {"name": _CPU, "target": target}})
    if metrics:
        spec["metrics"] = metrics
    if "behavior" in before:
        spec["behavior"] = before["behavior"]
    seen_percent = status.pop("currentCPUUtilizationPercentage", None)
    if seen_percent is not None:
        current = {"averageUtilization": seen_percent}
        status["currentMetrics"] = [{"type": "Resource", "resource": {"name": _CPU, "current": current}}]
    result = {**autoscaler, "spec": spec}
    return {**result, "status": status} if "status" in autoscaler else result


def _autoscaler_from_v2(autoscaler: Object) -> Object:
    spec, status = dict(autoscaler.get("spec") or {}), dict(autoscaler.get("status") or {})
    spec.pop("behavior", None)
    for metric in spec.pop("metrics", None) or ():
        if _is_cpu_share(metric):
            spec["targetCPUUtilizationPercentage"] = metric["resource"]["target"]["averageUtilization"]
    for metric in status.pop("currentMetrics", None) or ():
        resource = metric.get("resource") or {}
        share = (resource.get("current") or {}).get("averageUtilization")
        if resource.get("name") == _CPU and share is not None:
            status["currentCPUUtilizationPercentage"] = share
    status.pop("conditions", None)
    status = {"currentReplicas": 0, "desiredReplicas": 0, **status}
    return {**autoscaler, "spec": spec, "status": status}


def _is_cpu_share(metric: Mapping[str, Any]) -> bool:
    resource = metric.get("resource") or {}
    has_share = (resource.get("target") or {}).get("averageUtilization") is not None
    return metric.get("type") == "Resource" and resource.get("name") == _CPU and has_share


_TO_STORED: Mapping[Kind, Callable[[Object, Object | None], Object]] = {
    EVENT_V1: _event_to_core,
    HORIZONTAL_POD_AUTOSCALER_V1: _autoscaler_to_v2,
}
_FROM_STORED: Mapping[Kind, Callable[[Object], Object]] = {
    EVENT_V1: _event_from_core,
    HORIZONTAL_POD_AUTOSCALER_V1: _autoscaler_from_v2,
}
