"""LimitRanges: what containers get that say nothing of resources, and the bounds of pods and claims.

Asked when a pod is made, and when a claim is made or grows.
Source: k8s.io/kubernetes/plugin/pkg/admission/limitranger.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from gitkube.api import errors
from gitkube.api.admission.request import AdmissionRequest, Verb
from gitkube.objects import meta, pods
from gitkube.objects.kinds import LIMIT_RANGE, PERSISTENT_VOLUME_CLAIM, POD
from gitkube.objects.quantity import Quantity
from gitkube.objects.types import Object
from gitkube.objects.validation.pod_parts import RESIZE

_ANNOTATION = "kubernetes.io/limit-ranger"
_Amounts = Mapping[str, Quantity]


def limit_ranges(request: AdmissionRequest) -> None:
    is_new = request.kind is POD and request.verb is Verb.CREATE and not request.subresource
    is_pod = is_new or (request.kind is POD and request.subresource == RESIZE)
    is_claim = request.kind is PERSISTENT_VOLUME_CLAIM and request.verb is not Verb.DELETE
    if not is_pod and (request.subresource or not is_claim):
        return
    ranges = [
        list((obj.get("spec") or {}).get("limits") or ())
        for _, obj in request.cache.of(LIMIT_RANGE).select(request.namespace)
    ]
    spec = request.obj["spec"]
    if is_new:
        for limits in ranges:
            _set_defaults(request.obj, limits)
    for limits in ranges:
        wrong = list(_pod_problems(spec, limits) if is_pod else _claim_problems(spec, limits))
        if wrong:
            why = wrong[0] if len(wrong) == 1 else f"[{', '.join(dict.fromkeys(wrong))}]"
            raise errors.forbidden("", request.kind.plural, request.name, why)


def _set_defaults(pod: Object, limits: Iterable[Mapping[str, Any]]) -> None:
    by_default: dict[str, dict[str, Any]] = {"requests": {}, "limits": {}}
    for limit in limits:
        if limit.get("type") == "Container":
            by_default["requests"].update(limit.get("defaultRequest") or {})
            by_default["limits"].update(limit.get("default") or {})
    done = []
    for field, what in (("containers", "container"), ("initContainers", "init container")):
        for container in pod["spec"].get(field) or ():
            for part, defaults in by_default.items():
                given = (container.get("resources") or {}).get(part) or {}
                missing = {name: defaults[name] for name in sorted(defaults) if name not in given}
                if missing:
                    container.setdefault("resources", {})[part] = {**given, **missing}
                    done.append(f"{', '.join(missing)} {part[:-1]} for {what} {container.get('name')}")
    if done:
        annotations = {**meta.annotations(pod), _ANNOTATION: f"LimitRanger plugin set: {'; '.join(done)}"}
        pod["metadata"]["annotations"] = annotations


def _pod_problems(spec: Mapping[str, Any], limits: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for limit in limits:
        if limit.get("type") == "Container":
            for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
                resources = container.get("resources") or {}
                yield from _problems(
                    limit, _amounts(resources.get("requests")), _amounts(resources.get("limits"))
                )
        elif limit.get("type") == "Pod":
            yield from _problems(limit, pods.pod_requests(spec), pods.pod_limits(spec))


def _problems(limit: Mapping[str, Any], requests: _Amounts, limits: _Amounts) -> Iterator[str]:
    what = f"per {limit['type']} is"
    for name, bound in sorted(_amounts(limit.get("min")).items()):
        rule = f"minimum {name} usage {what} {bound}"
        if name not in requests:
            yield f"{rule}.  No request is specified"
        elif requests[name] < bound:
            yield f"{rule}, but request is {requests[name]}"
        elif name in limits and limits[name] < bound:
            yield f"{rule}, but limit is {limits[name]}"
    for name, bound in sorted(_amounts(limit.get("max")).items()):
        rule = f"maximum {name} usage {what} {bound}"
        if name not in limits:
            yield f"{rule}.  No limit is specified"
        elif limits[name] > bound:
            yield f"{rule}, but limit is {limits[name]}"
        elif name in requests and requests[name] > bound:
            yield f"{rule}, but request is {requests[name]}"
    for name, bound in sorted(_amounts(limit.get("maxLimitRequestRatio")).items()):
        rule = f"{name} max limit to request ratio {what} {bound}, but"
        if not requests.get(name):
            yield f"{rule} no request is specified or request is 0"
        elif not limits.get(name):
            yield f"{rule} no limit is specified or limit is 0"
        elif limits[name].nanos * Quantity.of(1).nanos > requests[name].nanos * bound.nanos:
            yield f"{rule} provided ratio is {limits[name].nanos / requests[name].nanos:.6f}"


def _claim_problems(spec: Mapping[str, Any], limits: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    requests = _amounts((spec.get("resources") or {}).get("requests"))
    for limit in limits:
        if limit.get("type") != "PersistentVolumeClaim":
            continue
        for bounds, word in (("min", "minimum"), ("max", "maximum")):
            for name, bound in sorted(_amounts(limit.get(bounds)).items()):
                rule = f"{word} {name} usage per PersistentVolumeClaim is {bound}"
                if name not in requests:
                    yield f"{rule}.  No request is specified"
                elif requests[name] < bound if bounds == "min" else requests[name] > bound:
                    yield f"{rule}, but request is {requests[name]}"


def _amounts(resources: Mapping[str, Any] | None) -> dict[str, Quantity]:
    return {name: Quantity.parse(amount) for name, amount in (resources or {}).items()}
