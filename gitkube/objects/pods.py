"""What others need to know of a pod: is it ready, is it over, what does it ask for, what does it refer to.

Pure readings of a pod, or of the pod template inside a workload. The requests are those the scheduler counts:
containers and sidecars run side by side, so they add up; ordinary init containers run one after another
before them, so the largest of these counts; overhead comes on top. Source: KEP-753 and
k8s.io/component-helpers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gitkube.objects import conditions
from gitkube.objects.meta import time_s
from gitkube.objects.quantity import ZERO, Quantity
from gitkube.objects.types import Object

Resources = dict[str, Quantity]

TERMINAL_PHASES = ("Succeeded", "Failed")


def spec(pod: Object) -> Mapping[str, Any]:
    return pod.get("spec") or {}


def status(pod: Object) -> Mapping[str, Any]:
    return pod.get("status") or {}


def phase(pod: Object) -> str:
    """Pending, Running, Succeeded, Failed or Unknown; a pod without status is Pending."""
    return str(status(pod).get("phase") or "Pending")


def node_name(pod: Object) -> str:
    """The host it is bound to; "" while it waits."""
    return str(spec(pod).get("nodeName") or "")


def is_ready(pod: Object) -> bool:
    return conditions.is_true(pod, "Ready")


def ready_since_s(pod: Object) -> float:
    """When its Ready last changed, in seconds since the epoch; 0 when it has none."""
    return time_s((conditions.get_condition(pod, "Ready") or {}).get("lastTransitionTime"))


def is_terminal(pod: Object) -> bool:
    """It has come to its end and will never run again."""
    return phase(pod) in TERMINAL_PHASES


def is_active(pod: Object) -> bool:
    """Neither over nor being deleted: it counts as a replica."""
    return not is_terminal(pod) and not (pod.get("metadata") or {}).get("deletionTimestamp")


def is_available(pod: Object, min_ready_s: int, now_s: float) -> bool:
    """Ready, and that for so many seconds."""
    if not is_ready(pod):
        return False
    since_s = ready_since_s(pod)
    return min_ready_s == 0 or (since_s > 0 and since_s + min_ready_s <= now_s)


def is_sidecar(container: Mapping[str, Any]) -> bool:
    """An init container that goes on running beside the others."""
    return container.get("restartPolicy") == "Always"


def all_containers(pod_spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Init containers, then containers, then ephemeral ones."""
    return [
        *(pod_spec.get("initContainers") or ()),
        *(pod_spec.get("containers") or ()),
        *(pod_spec.get("ephemeralContainers") or ()),
    ]


def images(pod_spec: Mapping[str, Any]) -> list[str]:
    """Every image the pod needs, each once, in order."""
    return list(dict.fromkeys(str(one["image"]) for one in all_containers(pod_spec) if one.get("image")))


@dataclass(frozen=True, slots=True, order=True)
class HostPort:
    """A port of the host that a pod takes for itself."""

    protocol: str
    address: str
    port: int


def host_ports(pod_spec: Mapping[str, Any]) -> list[HostPort]:
    """Ports of the host that the containers and sidecars ask for."""
    sidecars = [one for one in pod_spec.get("initContainers") or () if is_sidecar(one)]
    return [
        HostPort(port.get("protocol") or "TCP", port.get("hostIP") or "0.0.0.0", int(port["hostPort"]))
        for container in [*sidecars, *(pod_spec.get("containers") or ())]
        for port in container.get("ports") or ()
        if port.get("hostPort")
    ]


def requests(pod: Object) -> Resources:
    """What the scheduler counts for a pod, by resource; a missing resource is 0."""
    return pod_requests(spec(pod))


def pod_requests(pod_spec: Mapping[str, Any]) -> Resources:
    """As `requests`, from a pod's spec or a template's."""
    return _effective_requests(pod_spec)


def pod_limits(pod_spec: Mapping[str, Any]) -> Resources:
    """The most that a pod may use, of the resources that have a limit."""
    return {**_peak(pod_spec, _limits), **_limits(pod_spec)}


def cpu_milli(resources: Resources) -> int:
    return resources.get("cpu", ZERO).milli


def memory_bytes(resources: Resources) -> int:
    return resources.get("memory", ZERO).value


def qos_class(pod_spec: Mapping[str, Any]) -> str:
    """Guaranteed, Burstable or BestEffort: in which order the kernel kills when memory ends."""
    containers = [*(pod_spec.get("initContainers") or ()), *(pod_spec.get("containers") or ())]
    if pod_level := pod_spec.get("resources"):
        containers = [{"resources": pod_level}]
    is_any_set = False
    is_guaranteed = bool(containers)
    for container in containers:
        declared = container.get("resources") or {}
        needs = _compute_only(declared.get("requests"))
        limits = _compute_only(declared.get("limits"))
        is_any_set = is_any_set or bool(needs) or bool(limits)
        complete = set(limits) == {"cpu", "memory"}
        if not complete or any(needs.get(name, limit) != limit for name, limit in limits.items()):
            is_guaranteed = False
    if not is_any_set:
        return "BestEffort"
    return "Guaranteed" if is_guaranteed else "Burstable"


@dataclass(slots=True)
class References:
    """ConfigMaps and Secrets that a pod needs, by name; the value says whether it can do without."""

    config_maps: dict[str, bool] = field(default_factory=dict)
    secrets: dict[str, bool] = field(default_factory=dict)


def references(pod_spec: Mapping[str, Any]) -> References:
    """Every ConfigMap and Secret that the pod reads: by environment, volume or image pull."""
    found = References()
    for container in all_containers(pod_spec):
        for source in container.get("envFrom") or ():
            _note(found.config_maps, source.get("configMapRef"))
            _note(found.secrets, source.get("secretRef"))
        for variable in container.get("env") or ():
            value_from = variable.get("valueFrom") or {}
            _note(found.config_maps, value_from.get("configMapKeyRef"))
            _note(found.secrets, value_from.get("secretKeyRef"))
    for volume in pod_spec.get("volumes") or ():
        _note(found.config_maps, volume.get("configMap"))
        _note(found.secrets, volume.get("secret"), name_field="secretName")
        for source in (volume.get("projected") or {}).get("sources") or ():
            _note(found.config_maps, source.get("configMap"))
            _note(found.secrets, source.get("secret"))
    for reference in pod_spec.get("imagePullSecrets") or ():
        # A missing pull secret is no error: the image may be public.
        _note(found.secrets, {**reference, "optional": True})
    return found


def referenced_config_maps(pod_spec: Mapping[str, Any]) -> list[str]:
    return sorted(references(pod_spec).config_maps)


def referenced_secrets(pod_spec: Mapping[str, Any]) -> list[str]:
    return sorted(references(pod_spec).secrets)


def restarts(pod: Object) -> int:
    """How often its containers were started again."""
    seen = status(pod)
    statuses = [*(seen.get("containerStatuses") or ()), *(seen.get("initContainerStatuses") or ())]
    return sum(int(one.get("restartCount") or 0) for one in statuses)


def template_spec(workload: Object) -> Mapping[str, Any]:
    """The pod spec inside a Deployment, ReplicaSet or Job; a Pod's own; empty for other kinds."""
    if workload.get("kind") == "Pod":
        return spec(workload)
    return ((workload.get("spec") or {}).get("template") or {}).get("spec") or {}


def _note(found: dict[str, bool], reference: Mapping[str, Any] | None, *, name_field: str = "name") -> None:
    if reference and reference.get(name_field):
        name = str(reference[name_field])
        found[name] = found.get(name, True) and bool(reference.get("optional"))


def _effective_requests(pod_spec: Mapping[str, Any]) -> Resources:
    total = _peak(pod_spec, _declared)
    # Resources of the pod as a whole replace the sum over its containers (KEP-2837).
    for name, amount in ((pod_spec.get("resources") or {}).get("requests") or {}).items():
        total[name] = Quantity.parse(amount)
    _add(total, {name: Quantity.parse(amount) for name, amount in (pod_spec.get("overhead") or {}).items()})
    return total


def _peak(
    pod_spec: Mapping[str, Any], declared_by: Callable[[Mapping[str, Any]], Mapping[str, Quantity]]
) -> Resources:
    """The most at one time: all containers together, or an init container beside the sidecars before it."""
    total: Resources = {}
    for container in pod_spec.get("containers") or ():
        _add(total, declared_by(container))
    sidecars: Resources = {}
    peak: Resources = {}
    for container in pod_spec.get("initContainers") or ():
        declared = declared_by(container)
        if is_sidecar(container):
            _add(total, declared)
            _add(sidecars, declared)
            _raise_to(peak, sidecars)
        else:
            while_it_runs = dict(sidecars)
            _add(while_it_runs, declared)
            _raise_to(peak, while_it_runs)
    _raise_to(total, peak)
    return total


def _limits(container: Mapping[str, Any]) -> Resources:
    limits = (container.get("resources") or {}).get("limits") or {}
    return {name: Quantity.parse(amount) for name, amount in limits.items()}


def _declared(container: Mapping[str, Any]) -> Resources:
    resources = container.get("resources") or {}
    declared = resources.get("requests") or {}
    if resources.get("limits"):
        # The API defaults requests from limits; templates that were never stored have it not done yet.
        declared = {**resources["limits"], **declared}
    return {name: Quantity.parse(amount) for name, amount in declared.items()}


def _compute_only(resources: Mapping[str, Any] | None) -> Resources:
    found = {
        name: Quantity.parse((resources or {})[name])
        for name in ("cpu", "memory")
        if name in (resources or {})
    }
    return {name: amount for name, amount in found.items() if amount}


def _add(total: Resources, more: Mapping[str, Quantity]) -> None:
    for name, amount in more.items():
        total[name] = total[name] + amount if name in total else amount


def _raise_to(total: Resources, other: Mapping[str, Quantity]) -> None:
    for name, amount in other.items():
        if name not in total or total[name] < amount:
            total[name] = amount
