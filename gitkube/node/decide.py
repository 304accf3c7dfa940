"""What to do next for one pod. Pure: the pod as desired, what is remembered and seen of it, and the time.

The answer is a `Plan` for now, not a script: it names what should be started and stopped at this moment, and
when to ask again. Whoever carries it out asks again after every change, so a plan that was carried out in
part, or twice, does no harm. The rules are kubelet's: init containers one after the other, sidecars before
and around the others, the restart policy, and a back-off that doubles from 10 s to 5 min and is forgotten
after a container has run for 10 min.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gitkube.node.kube import (
    TERMINAL_PHASES,
    Object,
    containers_of,
    ephemeral_containers_of,
    init_containers_of,
    is_sidecar,
    milli,
)
from gitkube.node.records import EXITED, RUNNING, STARTING, STOPPING, WAITING, ContainerRecord, PodRecord

FIRST_BACKOFF_S = 10.0
MAX_BACKOFF_S = 300.0
STABLE_AFTER_S = 600.0


@dataclass
class Plan:
    """What is right at this moment."""

    phase: str = "Pending"
    wants_sandbox: bool = True
    start: list[str] = field(default_factory=list)
    stop: dict[str, str] = field(default_factory=dict)  # container -> why, for the event
    resize: list[str] = field(default_factory=list)  # running containers to give other resources
    resize_infeasible: str = ""  # why the host cannot give the pod what it asks for now
    backoff: dict[str, float] = field(default_factory=dict)  # container -> seconds of the back-off it is in
    is_initialized: bool = False
    is_finished: bool = False  # nothing runs and nothing will again
    wake_at_s: float | None = None
    failure_reason: str = ""
    failure_message: str = ""

    def wake(self, at_s: float) -> None:
        self.wake_at_s = at_s if self.wake_at_s is None else min(self.wake_at_s, at_s)


def backoff_s(crashes: int) -> float:
    """How long to wait before the next start after so many crashes in a row: 0, 10, 20, 40 … 300 s."""
    if crashes <= 0:
        return 0.0
    return min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(crashes - 1, 16))


def crashes_before_start(record: ContainerRecord) -> int:
    """How many crashes in a row stand against a container that is about to be started again."""
    if record.ended is None:
        return record.crashes
    if record.ended.finished_s - record.ended.started_s >= STABLE_AFTER_S:
        return 0
    return record.crashes


def restarts(policy: str, exit_code: int) -> bool:
    """Whether the restart policy wants a container again that ended so."""
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


def is_deleted(pod: Object) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp"))


def final_phase(pod: Object, record: PodRecord) -> str:
    """Succeeded or Failed once the pod has ended, by what is remembered here or what the API says; else "".

    The API's word counts where nothing is remembered: this host may have lost its disk, and a pod that has
    ended never runs again. It also counts for a pod that was given up while it runs here.
    """
    for phase in (record.phase, str((pod.get("status") or {}).get("phase") or "")):
        if phase in TERMINAL_PHASES:
            return phase
    return ""


def make_plan(
    pod: Object,
    record: PodRecord,
    now_s: float,
    *,
    is_desired: bool = True,
    allocatable: Object | None = None,
) -> Plan:
    """What to do for this pod now.

    Args:
        pod: as last told by the control side.
        record: what is remembered and seen of it.
        now_s: the time.
        is_desired: False when the control side no longer names the pod.
        allocatable: what the whole host has for pods; None when that is not known.
    """
    plan = Plan(is_initialized=record.is_initialized)
    plan.resize_infeasible = _why_infeasible(pod, record, allocatable or {})
    if plan.resize_infeasible:
        pod = _as_it_was(pod, record)
    if is_deleted(pod) or not is_desired:
        return _stop_all(pod, record, plan, "the pod is being deleted")
    if record.failure_reason:
        return _fail(pod, record, plan, record.failure_reason, record.failure_message)
    if final_phase(pod, record):
        return _stop_all(pod, record, plan, "the pod has ended")
    deadline = pod["spec"].get("activeDeadlineSeconds")
    if deadline is not None:
        if now_s >= record.start_s + float(deadline):
            message = "Pod was active on the node longer than the specified deadline"
            return _fail(pod, record, plan, "DeadlineExceeded", message)
        plan.wake(record.start_s + float(deadline))
    if not record.has_sandbox:
        return plan
    for container in ephemeral_containers_of(pod):
        _debug(container, record.container(container["name"]), plan, now_s)
    if not _initialize(pod, record, plan, now_s):
        return plan
    plan.is_initialized = True
    return _run(pod, record, plan, now_s)


def _stop_all(pod: Object, record: PodRecord, plan: Plan, why: str) -> Plan:
    """Main containers first, then the sidecars that serve them; then the sandbox may go."""
    sidecars = {entry["name"] for entry in init_containers_of(pod) if is_sidecar(entry)}
    alive = [entry for entry in record.containers.values() if entry.is_alive]
    first = [entry for entry in alive if entry.name not in sidecars] or alive
    plan.stop = {entry.name: why for entry in first}
    plan.is_finished = not alive
    plan.wants_sandbox = bool(alive)
    plan.phase = final_phase(pod, record) or _last_phase(pod, record)
    return plan


def _fail(pod: Object, record: PodRecord, plan: Plan, reason: str, message: str) -> Plan:
    _stop_all(pod, record, plan, message)
    plan.phase, plan.failure_reason, plan.failure_message = "Failed", reason, message
    return plan


def _last_phase(pod: Object, record: PodRecord) -> str:
    """The phase of a pod that was stopped from outside: how its containers ended decides."""
    mains = [record.container(entry["name"]) for entry in containers_of(pod)]
    if any(entry.is_alive for entry in record.containers.values()):
        return record.phase
    if all(entry.attempt < 0 and entry.phase == WAITING for entry in mains):
        return "Failed" if record.phase == "Pending" else record.phase
    return "Succeeded" if all(entry.ended and entry.ended.exit_code == 0 for entry in mains) else "Failed"


def _initialize(pod: Object, record: PodRecord, plan: Plan, now_s: float) -> bool:
    """Bring the init containers on; True when the others may start."""
    policy = str(pod["spec"].get("restartPolicy") or "Always")
    for container in init_containers_of(pod):
        entry = record.container(container["name"])
        if is_sidecar(container):
            _keep_running(container, entry, "Always", plan, now_s)
            if not record.is_initialized and not (entry.phase == RUNNING and entry.is_started):
                return False
            continue
        if record.is_initialized or _has_succeeded(entry):
            continue
        if entry.phase == EXITED and policy == "Never":
            _stop_all(pod, record, plan, f"init container {entry.name} failed")
            plan.phase = "Failed"
            return False
        _keep_running(container, entry, "OnFailure", plan, now_s)
        return False
    return True


def _has_succeeded(entry: ContainerRecord) -> bool:
    return entry.phase == EXITED and entry.ended is not None and entry.ended.exit_code == 0


def _run(pod: Object, record: PodRecord, plan: Plan, now_s: float) -> Plan:
    policy = str(pod["spec"].get("restartPolicy") or "Always")
    entries = [(container, record.container(container["name"])) for container in containers_of(pod)]
    if entries and all(
        entry.phase == EXITED
        and entry.ended is not None
        and not restarts(policy, entry.ended.exit_code)
        and not _is_outdated(container, entry)
        for container, entry in entries
    ):
        codes = [entry.ended.exit_code for _, entry in entries if entry.ended is not None]
        # Set before stopping the sidecars: the pod's outcome is its main containers'.
        record_phase = "Failed" if any(codes) else "Succeeded"
        plan.start.clear()
        _stop_all(pod, record, plan, "the pod has ended")
        plan.phase = record_phase
        return plan
    for container, entry in entries:
        _keep_running(container, entry, policy, plan, now_s)
    has_run = any(entry.attempt >= 0 and entry.phase != STARTING for _, entry in entries)
    plan.phase = "Running" if has_run or record.phase == "Running" else "Pending"
    if any(entry.attempt < 0 for _, entry in entries):
        plan.phase = "Pending"
    return plan


def _debug(container: Object, entry: ContainerRecord, plan: Plan, now_s: float) -> None:
    """A container for debugging is started once, whatever the others do, and never again."""
    if entry.phase != WAITING or entry.attempt >= 0:
        return
    if now_s < entry.retry_at_s:
        plan.wake(entry.retry_at_s)
        return
    plan.start.append(entry.name)


def _is_outdated(container: Object, entry: ContainerRecord) -> bool:
    """Of a running container the API lets people change the image, and resources that need a new start."""
    is_other_image = bool(entry.image) and entry.image != str(container.get("image", ""))
    return is_other_image or resize_of(container, entry) == RESTART


def _why_infeasible(pod: Object, record: PodRecord, allocatable: Object) -> str:
    """Why a changed pod is more than the whole host could give; "" when it is not."""
    if pod == _as_it_was(pod, record):
        return ""
    for name in ("cpu", "memory"):
        if name in allocatable:
            wanted = sum(_amount(one.get("resources") or {}, "requests", name) or 0 for one in _lasting(pod))
            if wanted > milli(allocatable[name]):
                shown = f"{wanted}m" if name == "cpu" else str(wanted // 1000)
                text = f"Node didn't have enough capacity: {name}, requested: {shown}"
                return f"{text}, capacity: {allocatable[name]}"
    return ""


def _lasting(pod: Object) -> list[Object]:
    return [*containers_of(pod), *(one for one in init_containers_of(pod) if is_sidecar(one))]


def _as_it_was(pod: Object, record: PodRecord) -> Object:
    """The pod with the resources that its containers have, where those are known."""

    def back(container: Object) -> Object:
        entry = record.containers.get(container["name"])
        if entry is None or entry.resources is None or not entry.is_alive:
            return container
        if not changed_resources(entry.resources, container.get("resources") or {}):
            return container
        return {**container, "resources": entry.resources}

    spec = {**pod["spec"], "containers": [back(one) for one in containers_of(pod)]}
    if init_containers_of(pod):
        spec["initContainers"] = [back(one) for one in init_containers_of(pod)]
    return {**pod, "spec": spec}


NOTHING, IN_PLACE, RESTART = "nothing", "in place", "restart"


def resize_of(container: Object, entry: ContainerRecord) -> str:
    """How a running container comes to the resources that its spec has now.

    Each resource has a policy: most change while the container runs, some need a new start.
    """
    if entry.resources is None:
        return NOTHING
    changed = changed_resources(entry.resources, container.get("resources") or {})
    policies = {
        str(one.get("resourceName")): str(one.get("restartPolicy"))
        for one in container.get("resizePolicy") or []
    }
    if any(policies.get(name) == "RestartContainer" for name in changed):
        return RESTART
    return IN_PLACE if changed else NOTHING


def changed_resources(before: Object, after: Object) -> set[str]:
    """Which of CPU and memory differ between two `resources`."""
    return {
        name
        for name in ("cpu", "memory")
        for part in ("limits", "requests")
        if _amount(before, part, name) != _amount(after, part, name)
    }


def _amount(resources: Object, part: str, name: str) -> int | None:
    value = (resources.get(part) or {}).get(name)
    return None if value is None else milli(value)


def _keep_running(container: Object, entry: ContainerRecord, policy: str, plan: Plan, now_s: float) -> None:
    """Start a container that should run and does not, no earlier than its back-off allows."""
    if entry.phase == RUNNING and _is_outdated(container, entry):
        plan.stop[entry.name] = f"Container {entry.name} definition changed"
        return
    if entry.phase == RUNNING and resize_of(container, entry) == IN_PLACE:
        plan.resize.append(entry.name)
    if entry.phase in (STARTING, RUNNING, STOPPING):
        return
    if entry.phase == EXITED and entry.ended is not None and not _is_outdated(container, entry):
        if not restarts(policy, entry.ended.exit_code):
            return
        delay_s = backoff_s(crashes_before_start(entry))
        ready_at_s = entry.ended.finished_s + delay_s
        if now_s < ready_at_s and delay_s > 0:
            plan.backoff[entry.name] = delay_s
            plan.wake(ready_at_s)
            return
    if now_s < entry.retry_at_s:
        plan.wake(entry.retry_at_s)
        return
    plan.start.append(entry.name)
