"""Checks of what a pod says in several places at once, which must fit together.

The system it is for and the security contexts; the namespaces of the host it shares; the claims of devices
and the containers that use them; how long a hook may sleep; which mounts are read-only through and through.
Source: k8s.io/kubernetes/pkg/apis/core/validation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gitkube.objects import names
from gitkube.objects.validation.causes import Causes
from gitkube.objects.validation.volumes import check_item_name

_SYSTEMS = ("linux", "windows")
_NOT_ON_WINDOWS = ("hostPID", "hostIPC", "shareProcessNamespace")
_POD_CONTEXT_NOT_ON_WINDOWS = (
    "appArmorProfile", "seLinuxOptions", "seccompProfile", "fsGroup", "fsGroupChangePolicy", "sysctls",
    "runAsUser", "runAsGroup", "supplementalGroups", "supplementalGroupsPolicy",
)  # fmt: skip
_CONTEXT_NOT_ON_WINDOWS = (
    "appArmorProfile", "seLinuxOptions", "seccompProfile", "capabilities", "readOnlyRootFilesystem",
    "privileged", "allowPrivilegeEscalation", "procMount", "runAsUser", "runAsGroup",
)  # fmt: skip
_MAX_HOSTNAME = 64


def check_pod_rules(causes: Causes, spec: Mapping[str, Any], path: str) -> None:
    _check_system(causes, spec, path)
    if spec.get("hostUsers") is False:
        for field in ("hostNetwork", "hostPID", "hostIPC"):
            if spec.get(field):
                causes.forbidden(f"{path}.{field}", "when `hostUsers` is false")
    hostname = spec.get("hostnameOverride")
    if hostname:
        causes.invalids(f"{path}.hostnameOverride", hostname, names.dns_subdomain(hostname))
        if len(hostname) > _MAX_HOSTNAME:
            causes.invalid(
                f"{path}.hostnameOverride", hostname, f"must be no more than {_MAX_HOSTNAME} bytes"
            )
    claims = _check_claims(causes, spec.get("resourceClaims") or (), f"{path}.resourceClaims")
    for where, container in _containers(spec, path):
        _check_used_claims(causes, container, where, claims)
        _check_resize_policy(causes, container, where, spec.get("restartPolicy"))
        _check_sleep(causes, container, where, spec.get("terminationGracePeriodSeconds"))
        for index, mount in enumerate(container.get("volumeMounts") or ()):
            if mount.get("recursiveReadOnly") is not None:
                _check_read_only(causes, mount, f"{where}.volumeMounts[{index}].recursiveReadOnly")


def _containers(spec: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for field in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(field) or ()):
            yield f"{path}.{field}[{index}]", container


def _check_system(causes: Causes, spec: Mapping[str, Any], path: str) -> None:
    if spec.get("os") is None:
        return
    name = spec["os"].get("name")
    causes.one_of(f"{path}.os.name", name, _SYSTEMS)
    if name == "linux":
        for where, context in _contexts(spec, path):
            if context.get("windowsOptions") is not None:
                why = "windows options cannot be set for a linux pod"
                causes.forbidden(f"{where}.windowsOptions", why)
    if name != "windows":
        return
    for field in _NOT_ON_WINDOWS:
        if spec.get(field):
            causes.forbidden(f"{path}.{field}", "cannot be set for a windows pod")
    for where, context in _contexts(spec, path):
        of_pod = where == f"{path}.securityContext"
        for field in _POD_CONTEXT_NOT_ON_WINDOWS if of_pod else _CONTEXT_NOT_ON_WINDOWS:
            if context.get(field) is not None:
                causes.forbidden(f"{where}.{field}", "cannot be set for a windows pod")


def _contexts(spec: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield f"{path}.securityContext", spec.get("securityContext") or {}
    for where, container in _containers(spec, path):
        yield f"{where}.securityContext", container.get("securityContext") or {}


def _check_claims(causes: Causes, claims: Any, path: str) -> set[str]:
    """Claims of devices by themselves; the names that containers may use."""
    seen: set[str] = set()
    for index, claim in enumerate(claims):
        where = f"{path}[{index}]"
        check_item_name(causes, claim, where, seen)
        sources = [
            claim.get(field) is not None for field in ("resourceClaimName", "resourceClaimTemplateName")
        ]
        if all(sources):
            why = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            causes.invalid(where, claim, why)
        elif not any(sources):
            why = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"
            causes.invalid(where, claim, why)
    return seen


def _check_used_claims(causes: Causes, container: Mapping[str, Any], path: str, claims: set[str]) -> None:
    for index, used in enumerate((container.get("resources") or {}).get("claims") or ()):
        where, name = f"{path}.resources.claims[{index}]", used.get("name") or ""
        if not name:
            causes.required(where)
        elif name not in claims:
            listed = f": {', '.join(sorted(claims))}" if claims else " which is empty"
            why = f"must be one of the names in pod.spec.resourceClaims{listed}"
            causes.add("FieldValueNotFound", where, f'Not found: "{name}": {why}')


def _check_resize_policy(causes: Causes, container: Mapping[str, Any], path: str, restarts: Any) -> None:
    where, seen = f"{path}.resizePolicy", set()
    for index, policy in enumerate(container.get("resizePolicy") or ()):
        resource, action = policy.get("resourceName"), policy.get("restartPolicy")
        if resource in seen:
            causes.duplicate(f"{where}[{index}]", resource)
        seen.add(resource)
        causes.one_of(where, resource, ("cpu", "memory"))
        is_known = causes.one_of(where, action, ("NotRequired", "RestartContainer"))
        if is_known and action != "NotRequired" and restarts == "Never":
            causes.invalid(where, action, "must be 'NotRequired' when `restartPolicy` is 'Never'")


def _check_sleep(causes: Causes, container: Mapping[str, Any], path: str, grace_s: Any) -> None:
    """A hook that sleeps longer than the pod has left would never end."""
    for hook in ("postStart", "preStop"):
        sleep = ((container.get("lifecycle") or {}).get(hook) or {}).get("sleep") or {}
        seconds = sleep.get("seconds") or 0
        if seconds and grace_s is not None and not 0 <= seconds <= grace_s:
            why = f"must be non-negative and less than terminationGracePeriodSeconds ({grace_s})"
            causes.invalid(f"{path}.lifecycle.{hook}.sleep", seconds, why)


def _check_read_only(causes: Causes, mount: Mapping[str, Any], path: str) -> None:
    mode = mount["recursiveReadOnly"]
    if not causes.one_of(path, mode, ("Disabled", "Enabled", "IfPossible")) or mode == "Disabled":
        return
    if not mount.get("readOnly"):
        causes.forbidden(path, "may only be specified when readOnly is true")
    if mount.get("mountPropagation") not in (None, "None"):
        causes.forbidden(path, "may only be specified when mountPropagation is None or not specified")
