"""Objects that name a class, or get the default one: pods their priority and runtime, claims and ingresses.

What a class says is copied into the object when it is made, so that a class that changes later, or goes,
changes nothing that is there.
"""

from __future__ import annotations

from typing import Any

from gitkube.api import errors
from gitkube.api.admission.request import AdmissionRequest, Verb
from gitkube.objects import meta
from gitkube.objects.kinds import (
    INGRESS,
    INGRESS_CLASS,
    PERSISTENT_VOLUME_CLAIM,
    POD,
    PRIORITY_CLASS,
    RUNTIME_CLASS,
    STORAGE_CLASS,
    Kind,
)
from gitkube.objects.types import Object
from gitkube.objects.validation.policy import SYSTEM_PRIORITIES

_PREEMPT = "PreemptLowerPriority"
_DEFAULT_STORAGE = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)
_DEFAULT_INGRESS = ("ingressclass.kubernetes.io/is-default-class",)
_OLD_STORAGE_CLASS = "volume.beta.kubernetes.io/storage-class"
_OLD_INGRESS_CLASS = "kubernetes.io/ingress.class"


def priority(request: AdmissionRequest) -> None:
    """A number for the class. The two classes of the system are there without being made."""
    if request.kind is PRIORITY_CLASS:
        if request.verb is not Verb.DELETE:
            _check_only_default(request)
        elif request.name in SYSTEM_PRIORITIES:
            why = "this is a system priority class and cannot be deleted"
            raise errors.forbidden(PRIORITY_CLASS.group, PRIORITY_CLASS.plural, request.name, why)
        return
    if request.kind is not POD or request.verb is not Verb.CREATE or request.subresource:
        return
    spec = request.obj["spec"]
    name = spec.get("priorityClassName") or ""
    value, policy = 0, _PREEMPT
    found = request.cache.of(PRIORITY_CLASS).get(name) if name else _global_default(request)
    if found is not None:
        value, policy = int(found.get("value") or 0), found.get("preemptionPolicy") or _PREEMPT
        spec["priorityClassName"] = meta.name(found)
    elif name in SYSTEM_PRIORITIES:
        value = SYSTEM_PRIORITIES[name]  # before the first start is through
    elif name:
        raise errors.forbidden("", "pods", request.name, f"no PriorityClass with name {name} was found")
    for field, given, computed, what in (
        ("priority", spec.get("priority"), value, "integer value of priority"),
        ("preemptionPolicy", spec.get("preemptionPolicy"), policy, "string value of PreemptionPolicy"),
    ):
        if given is not None and given != computed:
            why = f"the {what} ({given}) must not be provided in pod spec; priority admission controller "
            why += f"computed {computed} from the given PriorityClass name"
            raise errors.forbidden("", "pods", request.name, why)
        spec[field] = computed


def _global_default(request: AdmissionRequest) -> Object | None:
    """Of several, the one with the smallest value, so that nobody gains by making another."""
    defaults = [one for one in _all(request, PRIORITY_CLASS) if one.get("globalDefault")]
    return min(defaults, key=lambda one: int(one.get("value") or 0), default=None)


def _check_only_default(request: AdmissionRequest) -> None:
    if not request.obj.get("globalDefault"):
        return
    present = _global_default(request)
    if present is not None and meta.name(present) != request.name:
        why = f"PriorityClass {meta.name(present)} is already marked as default. Only one default can exist"
        raise errors.forbidden(PRIORITY_CLASS.group, PRIORITY_CLASS.plural, request.name, why)


def runtime_class(request: AdmissionRequest) -> None:
    """What the runtime itself needs is added to what the pod asks for, and where it runs to where it may."""
    if request.kind is not POD or request.verb is not Verb.CREATE or request.subresource:
        return
    spec = request.obj["spec"]
    name = spec.get("runtimeClassName") or ""
    if not name:
        if spec.get("overhead"):
            why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
            raise errors.forbidden("", "pods", request.name, why)
        return
    found = request.cache.of(RUNTIME_CLASS).get(name)
    if found is None:
        raise errors.forbidden("", "pods", request.name, f'pod rejected: RuntimeClass "{name}" not found')
    overhead = (found.get("overhead") or {}).get("podFixed")
    if overhead:
        if spec.get("overhead") and spec["overhead"] != overhead:
            why = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"
            raise errors.forbidden("", "pods", request.name, why)
        spec["overhead"] = dict(overhead)
    scheduling = found.get("scheduling") or {}
    selector = scheduling.get("nodeSelector") or {}
    given = spec.get("nodeSelector") or {}
    if any(key in given and given[key] != value for key, value in selector.items()):
        why = f"conflict: runtimeClass.scheduling.nodeSelector of {name} and pod.spec.nodeSelector differ"
        raise errors.forbidden("", "pods", request.name, why)
    if selector:
        spec["nodeSelector"] = {**given, **selector}
    tolerations: list[dict[str, Any]] = list(spec.get("tolerations") or [])
    tolerations += [one for one in scheduling.get("tolerations") or () if one not in tolerations]
    if tolerations:
        spec["tolerations"] = tolerations


def default_storage_class(request: AdmissionRequest) -> None:
    """A claim that says nothing of a class gets the default one; one that says "" wants none."""
    if request.kind is not PERSISTENT_VOLUME_CLAIM or request.verb is not Verb.CREATE or request.subresource:
        return
    spec = request.obj["spec"]
    if spec.get("storageClassName") is not None or _OLD_STORAGE_CLASS in meta.annotations(request.obj):
        return
    found = _newest_default(request, STORAGE_CLASS, _DEFAULT_STORAGE)
    if found is not None:
        spec["storageClassName"] = meta.name(found)


def default_ingress_class(request: AdmissionRequest) -> None:
    if request.kind is not INGRESS or request.verb is not Verb.CREATE or request.subresource:
        return
    spec = request.obj["spec"]
    if spec.get("ingressClassName") is not None or _OLD_INGRESS_CLASS in meta.annotations(request.obj):
        return
    found = _newest_default(request, INGRESS_CLASS, _DEFAULT_INGRESS)
    if found is not None:
        spec["ingressClassName"] = meta.name(found)


def _newest_default(request: AdmissionRequest, kind: Kind, annotations: tuple[str, ...]) -> Object | None:
    """Of several defaults the newest: whoever made it meant to replace the others."""
    defaults = [
        one
        for one in _all(request, kind)
        if any(meta.annotations(one).get(annotation) == "true" for annotation in annotations)
    ]
    defaults.sort(key=meta.name)
    return max(defaults, key=lambda one: str(meta.metadata(one).get("creationTimestamp")), default=None)


def _all(request: AdmissionRequest, kind: Kind) -> list[Object]:
    return [obj for _, obj in request.cache.of(kind).select("")]
