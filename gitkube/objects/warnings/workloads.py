"""Warnings about pods and the templates of workloads. Source: k8s.io/kubernetes/pkg/api/pod (warnings)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gitkube.objects import names
from gitkube.objects.types import Object
from gitkube.objects.warnings.others import is_whole, of_claim_spec

_LABELS = {
    old: f'deprecated since {since}; use "{new}" instead'
    for old, since, new in (
        ("beta.kubernetes.io/arch", "v1.14", "kubernetes.io/arch"),
        ("beta.kubernetes.io/os", "v1.14", "kubernetes.io/os"),
        ("failure-domain.beta.kubernetes.io/region", "v1.17", "topology.kubernetes.io/region"),
        ("failure-domain.beta.kubernetes.io/zone", "v1.17", "topology.kubernetes.io/zone"),
        ("beta.kubernetes.io/instance-type", "v1.17", "node.kubernetes.io/instance-type"),
    )
}
"""Labels of nodes that have another name by now."""
_SYSCTLS = 'non-functional in v1.11+; use the "sysctls" field instead'
_PRIORITY = 'non-functional in v1.16+; use the "priorityClassName" field instead'
_ANNOTATIONS = {
    "scheduler.alpha.kubernetes.io/critical-pod": _PRIORITY,
    "security.alpha.kubernetes.io/sysctls": _SYSCTLS,
    "security.alpha.kubernetes.io/unsafe-sysctls": _SYSCTLS,
}
_SECCOMP = 'non-functional in v1.27+; use the "seccompProfile" field instead'
_SECCOMP_POD = "seccomp.security.alpha.kubernetes.io/pod"
_SECCOMP_CONTAINER = "container.seccomp.security.alpha.kubernetes.io/"
_APPARMOR = 'deprecated since v1.30; use the "appArmorProfile" field instead'
_APPARMOR_CONTAINER = "container.apparmor.security.beta.kubernetes.io/"
_VOLUMES = {
    "photonPersistentDisk": "deprecated in v1.11, non-functional in v1.16+",
    "gitRepo": "deprecated in v1.11, and disabled by default in v1.33+",
    "scaleIO": "deprecated in v1.16, non-functional in v1.22+",
    "flocker": "deprecated in v1.22, non-functional in v1.25+",
    "storageos": "deprecated in v1.22, non-functional in v1.25+",
    "quobyte": "deprecated in v1.22, non-functional in v1.25+",
    "glusterfs": "deprecated in v1.25, non-functional in v1.26+",
    "cephfs": "deprecated in v1.28, non-functional in v1.31+",
    "rbd": "deprecated in v1.28, non-functional in v1.31+",
}
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
_NO_POD = "a null labelSelector results in matching no pod"


def of_pod(pod: Object, old: Object | None) -> list[str]:
    if old is not None and old.get("spec") == pod.get("spec"):
        return []
    name = str(pod["metadata"].get("name") or "")
    about_name: list[str] = []
    if old is None and (wrong := names.dns_label(name)):
        where = "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; "
        about_name = [f"{where}a DNS label is recommended: [{' '.join(wrong)}]"]
    return [*about_name, *_of_template(pod, "")]


def of_workload(workload: Object, old: Object | None) -> list[str]:
    template = (workload.get("spec") or {}).get("template")
    if old is not None and (old.get("spec") or {}).get("template") == template:
        return []
    return _of_template(template or {}, "spec.template.")


def of_named_workload(workload: Object, old: Object | None) -> list[str]:
    return [*_of_name(workload, old), *of_workload(workload, old)]


def of_stateful_set(workload: Object, old: Object | None) -> list[str]:
    found = of_named_workload(workload, old)
    spec = workload.get("spec") or {}
    if old is None:
        for index, claim in enumerate(spec.get("volumeClaimTemplates") or ()):
            found += of_claim_spec(claim.get("spec") or {}, f"spec.volumeClaimTemplates[{index}].spec")
    if (spec.get("revisionHistoryLimit") or 0) < 0:
        found.append(
            "spec.revisionHistoryLimit: a negative value retains all historical revisions; "
            "a value >= 0 is recommended"
        )
    return found


def of_cron_job(cron_job: Object, old: Object | None) -> list[str]:
    def template_of(obj: Object) -> Any:
        return (((obj.get("spec") or {}).get("jobTemplate") or {}).get("spec") or {}).get("template")

    template = template_of(cron_job)
    if old is not None and template_of(old) == template:
        return []
    return [*_of_name(cron_job, old), *_of_template(template or {}, "spec.jobTemplate.spec.template.")]


def of_pod_template(pod_template: Object, old: Object | None) -> list[str]:
    if old is not None and old.get("template") == pod_template.get("template"):
        return []
    return _of_template(pod_template.get("template") or {}, "template.")


def _of_name(workload: Object, old: Object | None) -> list[str]:
    wrong = names.dns_label(str(workload["metadata"].get("name") or "")) if old is None else []
    if not wrong:
        return []
    where = (
        "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; "
    )
    return [f"{where}a DNS label is recommended: [{' '.join(wrong)}]"]


def _of_template(template: Mapping[str, Any], path: str) -> list[str]:
    """About the metadata and the spec of a pod, whose fields begin with `path`."""
    spec = template.get("spec") or {}
    annotations = (template.get("metadata") or {}).get("annotations") or {}
    found = [
        f"{path}spec.nodeSelector[{key}]: {_LABELS[key]}"
        for key in spec.get("nodeSelector") or ()
        if key in _LABELS
    ]
    if spec.get("affinity"):
        found += _of_node_affinity(
            spec["affinity"].get("nodeAffinity") or {}, f"{path}spec.affinity.nodeAffinity"
        )
    for index, constraint in enumerate(spec.get("topologySpreadConstraints") or ()):
        where, key = f"{path}spec.topologySpreadConstraints[{index}]", constraint.get("topologyKey")
        if key in _LABELS:
            found.append(f"{where}.topologyKey: {key} is {_LABELS[key]}")
        if constraint.get("labelSelector") is None:
            found.append(f"{where}.labelSelector: {_NO_POD}")
    if annotations:
        found += _of_annotations(annotations, spec, path)
    for index, volume in enumerate(spec.get("volumes") or ()):
        found += [
            f"{path}spec.volumes[{index}].{field}: {why}"
            for field, why in _VOLUMES.items()
            if volume.get(field) is not None
        ]
    found += _repeated(spec.get("hostAliases") or (), "ip", f"{path}spec.hostAliases")
    secrets = spec.get("imagePullSecrets") or ()
    found += _repeated(secrets, "name", f"{path}spec.imagePullSecrets")
    for index, secret in enumerate(secrets):
        if not secret.get("name"):
            found.append(f'{path}spec.imagePullSecrets[{index}].name: invalid empty name ""')
    found += _fractions(spec.get("overhead") or {}, f"{path}spec.overhead")
    for where, container in _containers(spec, path):
        resources = container.get("resources") or {}
        for field in ("limits", "requests"):
            if field in resources:
                found += _fractions(resources[field], f"{where}.resources.{field}")
        if len(container.get("env") or ()) > 1:
            found += _hidden(container["env"], f"{where}.env")
    found += _of_ports(spec, path)
    if (spec.get("terminationGracePeriodSeconds") or 0) < 0:
        why = "must be >= 0; negative values are invalid and will be treated as 1"
        found.append(f"{path}spec.terminationGracePeriodSeconds: {why}")
    for field in ("podAffinity", "podAntiAffinity") if spec.get("affinity") else ():
        found += _of_pod_affinity(spec["affinity"].get(field) or {}, f"{path}spec.affinity.{field}")
    return found


def _containers(spec: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for field in ("initContainers", "containers", "ephemeralContainers"):
        for index, container in enumerate(spec.get(field) or ()):
            yield f"{path}spec.{field}[{index}]", container


def _of_annotations(annotations: Mapping[str, Any], spec: Mapping[str, Any], path: str) -> list[str]:
    where = f"{path}metadata.annotations"
    found = [f"{where}[{key}]: {why}" for key, why in _ANNOTATIONS.items() if key in annotations]
    security = spec.get("securityContext") or {}
    if _SECCOMP_POD in annotations and not security.get("seccompProfile"):
        found.append(f"{where}[{_SECCOMP_POD}]: {_SECCOMP}")
    for _, container in _containers(spec, path):
        own, name = container.get("securityContext") or {}, container.get("name")
        if f"{_SECCOMP_CONTAINER}{name}" in annotations and not own.get("seccompProfile"):
            found.append(f"{where}[{_SECCOMP_CONTAINER}{name}]: {_SECCOMP}")
        has_profile = security.get("appArmorProfile") or own.get("appArmorProfile")
        if f"{_APPARMOR_CONTAINER}{name}" in annotations and not has_profile:
            found.append(f"{where}[{_APPARMOR_CONTAINER}{name}]: {_APPARMOR}")
    return found


def _of_node_affinity(affinity: Mapping[str, Any], path: str) -> list[str]:
    terms = [
        (f"{path}.{_REQUIRED}.nodeSelectorTerms[{index}]", term)
        for index, term in enumerate((affinity.get(_REQUIRED) or {}).get("nodeSelectorTerms") or ())
    ]
    terms += [
        (f"{path}.{_PREFERRED}[{index}].preference", weighed.get("preference") or {})
        for index, weighed in enumerate(affinity.get(_PREFERRED) or ())
    ]
    return [
        f"{where}.matchExpressions[{index}].key: {expression.get('key')} is {_LABELS[expression['key']]}"
        for where, term in terms
        for index, expression in enumerate(term.get("matchExpressions") or ())
        if expression.get("key") in _LABELS
    ]


def _of_pod_affinity(affinity: Mapping[str, Any], path: str) -> list[str]:
    terms = [
        (f"{path}.{_REQUIRED}[{index}]", term) for index, term in enumerate(affinity.get(_REQUIRED) or ())
    ]
    terms += [
        (f"{path}.{_PREFERRED}[{index}].podAffinityTerm", weighed.get("podAffinityTerm") or {})
        for index, weighed in enumerate(affinity.get(_PREFERRED) or ())
    ]
    return [f"{where}.labelSelector: {_NO_POD}" for where, term in terms if term.get("labelSelector") is None]


def _repeated(items: Any, field: str, path: str) -> list[str]:
    found, seen = [], set()
    for index, item in enumerate(items):
        value = item.get(field) or ""
        if value in seen:
            found.append(f'{path}[{index}].{field}: duplicate {field} "{value}"')
        seen.add(value)
    return found


def _fractions(amounts: Mapping[str, Any], path: str) -> list[str]:
    """Amounts of bytes that end within one: `100m` where `100M` was meant."""
    found = []
    for name in ("memory", "ephemeral-storage"):
        if name in amounts and not is_whole(amounts[name]):
            why = f'fractional byte value "{amounts[name]}" is invalid, must be an integer'
            found.append(f"{path}[{name}]: {why}")
    return found


def _hidden(variables: Any, path: str) -> list[str]:
    """Variables that hide a former one of that name without making use of it."""
    found, seen = [], set()
    for index, variable in enumerate(variables):
        name, value = variable.get("name"), variable.get("value") or ""
        former = f"$({name})"
        if name in seen and (variable.get("valueFrom") or value == former or former not in value):
            found.append(
                f'{path}[{index}]: hides previous definition of "{name}", '
                "which may be dropped when using apply"
            )
        seen.add(name)
    return found


def _of_ports(spec: Mapping[str, Any], path: str) -> list[str]:
    """Ports that several containers, or one of them twice, say they have."""
    found: list[str] = []
    seen: dict[tuple[Any, Any], list[tuple[str, str, int]]] = {}
    for where, container in _containers(spec, path):
        for index, port in enumerate(container.get("ports") or ()):
            place = f"{where}.ports[{index}]"
            host_ip, host_port = port.get("hostIP") or "", port.get("hostPort") or 0
            others = seen.setdefault((port.get("containerPort"), port.get("protocol")), [])
            for other, other_ip, other_port in others:
                if (host_ip, host_port) == (other_ip, other_port):
                    found.append(f"{place}: duplicate port definition with {other}")
                elif not host_port or not other_port:
                    found.append(f"{place}: overlapping port definition with {other}")
                elif host_port == other_port and bool(host_ip) != bool(other_ip):
                    found.append(f"{place}: dangerously ambiguous port definition with {other}")
            others.append((place, host_ip, host_port))
    return found
