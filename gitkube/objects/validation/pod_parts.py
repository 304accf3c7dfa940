"""The parts of a living pod that change through a door of their own, and what may change there.

`ephemeralcontainers` adds containers for debugging and takes none away. `resize` changes how much CPU and
memory running containers get. The pod's main door changes neither. Whatever else such a request says has been
put back before (`api/strategy.py`).
Source: Kubernetes' ValidatePodEphemeralContainersUpdate, validateEphemeralContainers and ValidatePodResize.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gitkube.objects.pods import all_containers, qos_class
from gitkube.objects.types import Object
from gitkube.objects.validation.causes import Causes
from gitkube.objects.validation.containers import check_container

EPHEMERAL = "ephemeralcontainers"
RESIZE = "resize"
_NOT_IN_EPHEMERAL = (
    "lifecycle", "livenessProbe", "ports", "readinessProbe", "resizePolicy", "resources", "restartPolicy",
    "startupProbe",
)  # fmt: skip
_RESIZABLE = ("cpu", "memory")
_POD_UPDATE = "pod updates may not change fields other than `spec.containers[*].image` and a few others; "


def check_pod_part(causes: Causes, pod: Object, old: Object, subresource: str) -> None:
    """What this door may change of a pod, and whether it makes sense."""
    spec, before = pod.get("spec") or {}, old.get("spec") or {}
    if subresource == EPHEMERAL:
        _check_ephemeral(causes, spec, before)
    elif subresource == RESIZE:
        _check_resize(causes, spec, before)
    elif not subresource:
        if (spec.get("ephemeralContainers") or []) != (before.get("ephemeralContainers") or []):
            causes.forbidden("spec.ephemeralContainers", f"{_POD_UPDATE}use the subresource {EPHEMERAL}")
        if _resources(spec) != _resources(before):
            causes.forbidden("spec", f"{_POD_UPDATE}resources are changed through the subresource {RESIZE}")


def _resources(spec: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(one["name"], one.get("resources") or {}) for one in _resizable(spec)]


def _resizable(spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]


# ---------------------------------------------------------------------- ephemeral containers


def _check_ephemeral(causes: Causes, spec: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    wanted: Sequence[Mapping[str, Any]] = spec.get("ephemeralContainers") or ()
    regular = {str(one["name"]) for one in _resizable(spec)}
    volumes = {volume.get("name") for volume in spec.get("volumes") or ()}
    seen = {str(one["name"]) for one in all_containers({**spec, "ephemeralContainers": ()})}
    for index, container in enumerate(wanted):
        path = f"spec.ephemeralContainers[{index}]"
        check_container(causes, container, path, spec, volumes)
        name, target = str(container.get("name") or ""), container.get("targetContainerName")
        if name in seen:
            causes.duplicate(f"{path}.name", name)
        seen.add(name)
        if target and target not in regular:
            causes.not_found(f"{path}.targetContainerName", target)
        for field in _NOT_IN_EPHEMERAL:
            if container.get(field):
                causes.forbidden(f"{path}.{field}", "cannot be set for an Ephemeral Container")
        for position, mount in enumerate(container.get("volumeMounts") or ()):
            for field in ("subPath", "subPathExpr"):
                if mount.get(field):
                    where = f"{path}.volumeMounts[{position}].{field}"
                    causes.forbidden(where, "cannot be set for an Ephemeral Container")
    by_name = {str(one.get("name")): one for one in wanted}
    for existing in before.get("ephemeralContainers") or ():
        name = str(existing["name"])
        if name not in by_name:
            causes.forbidden(
                "spec.ephemeralContainers", f'existing ephemeral containers "{name}" may not be removed'
            )
        elif by_name[name] != existing:
            causes.forbidden(
                "spec.ephemeralContainers", f'existing ephemeral containers "{name}" may not be changed'
            )


# ---------------------------------------------------------------------- resize


def _check_resize(causes: Causes, spec: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    if qos_class(spec) != qos_class(before):
        causes.invalid("spec", qos_class(spec), "Pod QOS Class may not change as a result of resizing")
    for field in ("initContainers", "containers"):
        pairs = zip(spec.get(field) or (), before.get(field) or (), strict=True)
        for index, (container, previous) in enumerate(pairs):
            if container.get("resources") == previous.get("resources"):
                continue
            path = f"spec.{field}[{index}].resources"
            if field == "initContainers" and container.get("restartPolicy") != "Always":
                causes.forbidden(path, "resources for non-sidecar init containers are immutable")
            _check_amounts(causes, container.get("resources") or {}, previous.get("resources") or {}, path)


def _check_amounts(
    causes: Causes, resources: Mapping[str, Any], before: Mapping[str, Any], path: str
) -> None:
    for part in ("limits", "requests"):
        now, then = resources.get(part) or {}, before.get(part) or {}
        for name in sorted({*now, *then}):
            if name not in _RESIZABLE:
                if now.get(name) != then.get(name):
                    causes.forbidden(path, "only cpu and memory resources are mutable")
            elif name in then and name not in now:
                causes.forbidden(f"{path}.{part}", f"resource {part} cannot be removed")
    if (resources.get("claims") or []) != (before.get("claims") or []):
        causes.forbidden(path, "only cpu and memory resources are mutable")
