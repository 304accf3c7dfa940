"""Checks of a container: image, ports, environment, mounts, resources, probes, hooks.

Source: k8s.io/kubernetes/pkg/apis/core/validation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gitkube.objects import names
from gitkube.objects.pods import is_sidecar
from gitkube.objects.validation.causes import Causes
from gitkube.objects.validation.probes import check_handler, check_probe
from gitkube.objects.validation.resources import check_resources
from gitkube.objects.validation.security import check_security_context

PROTOCOLS = ("SCTP", "TCP", "UDP")
_RESTART_POLICIES = ("Always", "Never", "OnFailure")
_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_ENV_FIELDS = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
_RESOURCE_FIELDS = (
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
)
_ENV_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")
_PROPAGATIONS = ("Bidirectional", "HostToContainer", "None")
_NOT_IN_INIT = ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe")


def check_containers(causes: Causes, spec: Mapping[str, Any], path: str) -> None:
    containers = spec.get("containers") or []
    if not containers:
        causes.required(f"{path}.containers")
    volumes = {volume.get("name") for volume in spec.get("volumes") or ()}
    seen: set[str] = set()
    for field in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(field) or ()):
            where = f"{path}.{field}[{index}]"
            check_container(causes, container, where, spec, volumes)
            name = container.get("name") or ""
            if name in seen:
                causes.duplicate(f"{where}.name", name)
            elif name:
                seen.add(name)
            if field == "initContainers":
                _check_init(causes, container, where)
            elif container.get("restartPolicy") and "restartPolicyRules" not in container:
                causes.one_of(f"{where}.restartPolicy", container["restartPolicy"], _RESTART_POLICIES)
    _check_host_ports(causes, spec, path)


def _check_init(causes: Causes, container: Mapping[str, Any], path: str) -> None:
    if is_sidecar(container):
        return
    for field in _NOT_IN_INIT:
        if container.get(field) is not None:
            causes.forbidden(
                f"{path}.{field}", "may not be set for init containers without restartPolicy=Always"
            )
    if container.get("restartPolicy"):
        causes.one_of(f"{path}.restartPolicy", container["restartPolicy"], _RESTART_POLICIES)


def check_container(
    causes: Causes, container: Mapping[str, Any], path: str, spec: Mapping[str, Any], volumes: set[Any]
) -> None:
    """
    Args:
        spec: of the pod.
        volumes: the names of those that the pod has.
    """
    name = container.get("name") or ""
    if name:
        causes.invalids(f"{path}.name", name, names.dns_label(name))
    else:
        causes.required(f"{path}.name")
    image = container.get("image") or ""
    if not image:
        causes.required(f"{path}.image")
    elif image != image.strip():
        causes.invalid(f"{path}.image", image, "must not have leading or trailing whitespace")
    causes.one_of(
        f"{path}.imagePullPolicy", container.get("imagePullPolicy"), _PULL_POLICIES, is_required=False
    )
    policy = container.get("terminationMessagePolicy")
    if policy and policy not in ("File", "FallbackToLogsOnError"):
        causes.invalid(
            f"{path}.terminationMessagePolicy", policy, "must be 'File' or 'FallbackToLogsOnError'"
        )
    _check_ports(causes, container.get("ports") or (), f"{path}.ports", spec)
    for index, variable in enumerate(container.get("env") or ()):
        _check_variable(causes, variable, f"{path}.env[{index}]")
    for index, source in enumerate(container.get("envFrom") or ()):
        _check_env_from(causes, source, f"{path}.envFrom[{index}]")
    _check_mounts(causes, container.get("volumeMounts") or (), f"{path}.volumeMounts", volumes)
    check_resources(causes, container.get("resources") or {}, f"{path}.resources")
    for field in ("livenessProbe", "readinessProbe", "startupProbe"):
        if container.get(field) is not None:
            check_probe(causes, container[field], f"{path}.{field}", may_recover=field == "readinessProbe")
    lifecycle = container.get("lifecycle") or {}
    for hook in ("postStart", "preStop"):
        if lifecycle.get(hook) is not None:
            check_handler(causes, lifecycle[hook], f"{path}.lifecycle.{hook}", is_probe=False)
    check_security_context(causes, container.get("securityContext") or {}, f"{path}.securityContext")


def _check_ports(causes: Causes, ports: Any, path: str, spec: Mapping[str, Any]) -> None:
    seen: set[str] = set()
    for index, port in enumerate(ports):
        where = f"{path}[{index}]"
        name = port.get("name") or ""
        if name:
            causes.invalids(f"{where}.name", name, names.port_name(name))
            if name in seen:
                causes.duplicate(f"{where}.name", name)
            seen.add(name)
        number = port.get("containerPort")
        if not number:
            causes.required(f"{where}.containerPort")
        else:
            causes.invalids(f"{where}.containerPort", number, names.port_number(number))
        host_port = port.get("hostPort") or 0
        if host_port:
            causes.invalids(f"{where}.hostPort", host_port, names.port_number(host_port))
            if spec.get("hostNetwork") and number and host_port != number:
                causes.invalid(
                    f"{where}.containerPort", number, "must match `hostPort` when `hostNetwork` is true"
                )
        causes.one_of(f"{where}.protocol", port.get("protocol") or "TCP", PROTOCOLS)


def _check_host_ports(causes: Causes, spec: Mapping[str, Any], path: str) -> None:
    taken: set[tuple[str, str, int]] = set()
    for index, container in enumerate(spec.get("containers") or ()):
        for position, port in enumerate(container.get("ports") or ()):
            if not port.get("hostPort"):
                continue
            key = (port.get("protocol") or "TCP", port.get("hostIP") or "", port["hostPort"])
            if key in taken:
                where = f"{path}.containers[{index}].ports[{position}].hostPort"
                causes.duplicate(where, f"{key[0]}/{key[1]}/{key[2]}")
            taken.add(key)


def _check_variable(causes: Causes, variable: Mapping[str, Any], path: str) -> None:
    name = variable.get("name") or ""
    if not name:
        causes.required(f"{path}.name")
    else:
        causes.invalids(f"{path}.name", name, names.env_name(name))
    source = variable.get("valueFrom")
    if source is None:
        return
    where = f"{path}.valueFrom"
    given = [field for field in _ENV_SOURCES if source.get(field) is not None]
    if not given:
        causes.invalid(
            where,
            "",
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`",
        )
    elif variable.get("value"):
        causes.invalid(where, "", "may not be specified when `value` is not empty")
    elif len(given) > 1:
        causes.invalid(where, "", "may not have more than one field specified at a time")
    if field_ref := source.get("fieldRef"):
        check_field_ref(causes, field_ref, f"{where}.fieldRef", _ENV_FIELDS)
    if resource_ref := source.get("resourceFieldRef"):
        check_resource_ref(causes, resource_ref, f"{where}.resourceFieldRef")
    for field in ("configMapKeyRef", "secretKeyRef"):
        if (reference := source.get(field)) is None:
            continue
        if not reference.get("key"):
            causes.required(f"{where}.{field}.key")
        else:
            causes.invalids(f"{where}.{field}.key", reference["key"], names.config_key(reference["key"]))


def check_field_ref(
    causes: Causes, reference: Mapping[str, Any], path: str, supported: tuple[str, ...]
) -> None:
    """A field of the pod, read by the environment or by a downward API file."""
    field_path = reference.get("fieldPath") or ""
    if not field_path:
        causes.required(f"{path}.fieldPath")
        return
    base, bracket, subscript = field_path.partition("['")
    if bracket and subscript.endswith("']") and base in ("metadata.annotations", "metadata.labels"):
        key = subscript.removesuffix("']")
        causes.invalids(path, key, names.qualified_name(key.lower()))
    elif field_path not in supported:
        causes.not_supported(f"{path}.fieldPath", field_path, supported)


def check_resource_ref(causes: Causes, reference: Mapping[str, Any], path: str) -> None:
    resource = reference.get("resource") or ""
    if not resource:
        causes.required(f"{path}.resource")
    elif resource not in _RESOURCE_FIELDS and not resource.startswith(
        ("limits.hugepages-", "requests.hugepages-")
    ):
        causes.not_supported(f"{path}.resource", resource, _RESOURCE_FIELDS)


def _check_env_from(causes: Causes, source: Mapping[str, Any], path: str) -> None:
    if prefix := source.get("prefix"):
        causes.invalids(f"{path}.prefix", prefix, names.env_name(prefix))
    given = [field for field in ("configMapRef", "secretRef") if source.get(field) is not None]
    if not given:
        causes.invalid(path, "", "must specify one of: `configMapRef` or `secretRef`")
    elif len(given) > 1:
        causes.invalid(path, "", "may not have more than one field specified at a time")
    for field in given:
        if not source[field].get("name"):
            causes.required(f"{path}.{field}.name")


def _check_mounts(causes: Causes, mounts: Any, path: str, volumes: set[Any]) -> None:
    seen: set[str] = set()
    for index, mount in enumerate(mounts):
        where = f"{path}[{index}]"
        name = mount.get("name") or ""
        if not name:
            causes.required(f"{where}.name")
        elif name not in volumes:
            causes.not_found(f"{where}.name", name)
        mount_path = mount.get("mountPath") or ""
        if not mount_path:
            causes.required(f"{where}.mountPath")
        elif mount_path in seen:
            causes.invalid(f"{where}.mountPath", mount_path, "must be unique")
        seen.add(mount_path)
        for field in ("subPath", "subPathExpr"):
            if sub_path := mount.get(field):
                check_local_path(causes, sub_path, f"{where}.{field}")
        if mount.get("subPath") and mount.get("subPathExpr"):
            causes.invalid(
                f"{where}.subPathExpr", mount["subPathExpr"], "subPathExpr and subPath are mutually exclusive"
            )
        causes.one_of(
            f"{where}.mountPropagation", mount.get("mountPropagation"), _PROPAGATIONS, is_required=False
        )


def check_local_path(causes: Causes, path_text: str, field: str) -> None:
    """A path below some directory: relative, and without a way out."""
    if path_text.startswith("/"):
        causes.invalid(field, path_text, "must be a relative path")
    check_no_way_up(causes, path_text, field)


def check_no_way_up(causes: Causes, path_text: str, field: str) -> None:
    if ".." in path_text.split("/"):
        causes.invalid(field, path_text, "must not contain '..'")
