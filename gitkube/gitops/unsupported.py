"""What Kubernetes has and the hosts' agent has not yet: said at push, not found out at run time.

Ignoring a field that a manifest relies on would be the worst answer. Each thing here is refused with the
place and what to use instead; the list shrinks as the agent grows. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gitkube.gitops.problem import Problem
from gitkube.gitops.render.model import Manifest
from gitkube.objects import kinds
from gitkube.objects.kinds import Kind
from gitkube.objects.types import Object

Path = tuple[str | int, ...]

_TEMPLATE = ("spec", "template", "spec")
POD_SPECS: dict[Kind, tuple[str, ...]] = {
    kinds.POD: ("spec",),
    kinds.DEPLOYMENT: _TEMPLATE,
    kinds.REPLICA_SET: _TEMPLATE,
    kinds.REPLICATION_CONTROLLER: _TEMPLATE,
    kinds.JOB: _TEMPLATE,
    kinds.CRON_JOB: ("spec", "jobTemplate", *_TEMPLATE),
}
"""Where a kind has its pod spec."""
VOLUMES = frozenset({"name", "emptyDir", "configMap", "secret", "downwardAPI", "projected", "hostPath"})
SOURCES = frozenset({"configMap", "secret", "downwardAPI", "serviceAccountToken"})
PROBES = ("livenessProbe", "readinessProbe", "startupProbe")


def unsupported_problems(manifest: Manifest, kind: Kind, obj: Object) -> list[Problem]:
    """One for each thing that the agent would not do."""
    path = POD_SPECS.get(kind)
    if path is None:
        return []
    spec: Any = obj
    for step in path:
        spec = spec.get(step) if isinstance(spec, dict) else None
    if not isinstance(spec, dict):
        return []
    return [
        manifest.problem(f"{what} is not supported yet", (*path, *place), hint=hint)
        for place, what, hint in _of_pod(spec)
    ]


def _of_pod(spec: Object) -> Iterator[tuple[Path, str, str]]:
    context = spec.get("securityContext") or {}
    if context.get("sysctls"):
        yield ("securityContext", "sysctls"), "securityContext.sysctls", "set them on the host"
    yield from _of_seccomp(("securityContext",), context)
    if spec.get("ephemeralContainers"):
        yield ("ephemeralContainers",), "an ephemeral container", "use kubectl debug"
    for index, volume in enumerate(spec.get("volumes") or ()):
        for name in sorted(set(volume) - VOLUMES):
            hint = "the agent has emptyDir, configMap, secret, downwardAPI, projected and hostPath"
            yield ("volumes", index, name), f"a volume of type {name}", hint
        for number, source in enumerate((volume.get("projected") or {}).get("sources") or ()):
            for name in sorted(set(source) - SOURCES):
                part = ("volumes", index, "projected", "sources", number, name)
                hint = "use configMap, secret, downwardAPI or serviceAccountToken"
                yield part, f"a projection of {name}", hint
    for group in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(group) or ()):
            for place, what, hint in _of_container(container):
                yield (group, index, *place), what, hint


def _of_container(container: Object) -> Iterator[tuple[Path, str, str]]:
    for index, port in enumerate(container.get("ports") or ()):
        if port.get("hostPort"):
            yield ("ports", index, "hostPort"), "hostPort", "use a Service of type NodePort, or hostNetwork"
    for name in PROBES:
        if (container.get(name) or {}).get("grpc"):
            yield (name, "grpc"), "a grpc probe", "use httpGet, tcpSocket or exec"
    yield from _of_seccomp(("securityContext",), container.get("securityContext") or {})


def _of_seccomp(place: Path, context: Object) -> Iterator[tuple[Path, str, str]]:
    if (context.get("seccompProfile") or {}).get("type") == "Localhost":
        yield (*place, "seccompProfile", "type"), "a seccomp profile of type Localhost", "use RuntimeDefault"
