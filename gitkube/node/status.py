"""A pod's status as kubelet would report it, out of what is remembered and seen. Pure but for the times
at which conditions last changed, which are kept in the record.
"""

from __future__ import annotations

from typing import Any

from gitkube.node.decide import Plan, is_deleted
from gitkube.node.kube import (
    TERMINAL_PHASES,
    Object,
    containers_of,
    ephemeral_containers_of,
    init_containers_of,
    is_sidecar,
    name_of,
    namespace_of,
    rfc3339,
)
from gitkube.node.oci import quality_of_service
from gitkube.node.records import EXITED, RUNNING, STOPPING, ContainerRecord, Ended, PodRecord

ID_PREFIX = "gitkube://"
RESIZE_CONDITIONS = ("PodResizePending", "PodResizeInProgress")


def pod_status(pod: Object, record: PodRecord, plan: Plan, *, host_ip: str, now_s: float) -> dict[str, Any]:
    """`status` of the pod.

    Args:
        pod: as last told; its own status says which readiness gates are open.
        record: what is remembered and seen; the times of its conditions are brought up to date.
        plan: what was decided from the same record.
        host_ip: the node's InternalIP, or "".
        now_s: the time.
    """
    phase = "Failed" if plan.failure_reason else plan.phase
    waiting_reason = "ContainerCreating" if plan.is_initialized else "PodInitializing"
    inits = [
        container_status(entry, record.container(entry["name"]), plan, pod, "PodInitializing")
        for entry in init_containers_of(pod)
    ]
    if not inits:
        waiting_reason = "ContainerCreating"
    mains = [
        container_status(entry, record.container(entry["name"]), plan, pod, waiting_reason)
        for entry in containers_of(pod)
    ]
    status: dict[str, Any] = {
        "phase": phase,
        "startTime": rfc3339(record.start_s),
        "qosClass": quality_of_service(pod),
        "containerStatuses": mains,
        "conditions": _conditions(pod, record, plan, phase, mains, now_s),
    }
    if inits:
        status["initContainerStatuses"] = inits
    ephemeral = [
        container_status(entry, record.container(entry["name"]), plan, pod, "ContainerCreating")
        for entry in ephemeral_containers_of(pod)
    ]
    for entry in ephemeral:
        entry["ready"] = False  # nobody waits for it, and nothing is sent to it
    if ephemeral:
        status["ephemeralContainerStatuses"] = ephemeral
    if host_ip:
        status["hostIP"] = host_ip
        status["hostIPs"] = [{"ip": host_ip}]
    pod_ip = host_ip if pod["spec"].get("hostNetwork") else record.pod_ip
    if pod_ip and (record.has_sandbox or phase in TERMINAL_PHASES):
        status["podIP"] = pod_ip
        status["podIPs"] = [{"ip": pod_ip}]
    reason = plan.failure_reason or record.failure_reason
    if reason:
        status["reason"] = reason
        status["message"] = plan.failure_message or record.failure_message
    return status


def container_status(
    container: Object, entry: ContainerRecord, plan: Plan, pod: Object, waiting_reason: str
) -> dict[str, Any]:
    """One entry of `containerStatuses`."""
    status: dict[str, Any] = {
        "name": entry.name,
        "image": entry.image or str(container.get("image", "")),
        "imageID": entry.image_id,
        "restartCount": entry.restart_count,
        "ready": entry.is_ready and entry.phase == RUNNING,
        "started": entry.is_started and entry.phase == RUNNING,
        "state": {},
        "lastState": {},
    }
    if entry.resources is not None and entry.is_alive:
        status["resources"] = {
            part: dict(entry.resources[part]) for part in ("limits", "requests") if entry.resources.get(part)
        }
        if requests := entry.resources.get("requests"):
            status["allocatedResources"] = dict(requests)
    if entry.container_id:
        status["containerID"] = ID_PREFIX + entry.container_id
    is_init = any(other["name"] == entry.name for other in init_containers_of(pod))
    if is_init and not is_sidecar(container):
        status["ready"] = entry.ended is not None and entry.ended.exit_code == 0
    if entry.phase in (RUNNING, STOPPING) and not entry.waiting_reason:
        status["state"] = {"running": {"startedAt": rfc3339(entry.started_s)}}
        if entry.last is not None:
            status["lastState"] = {"terminated": _terminated(entry.last)}
    elif entry.name in plan.backoff:
        message = (
            f"back-off {_duration(plan.backoff[entry.name])} restarting failed container={entry.name} "
            f"pod={name_of(pod)}_{namespace_of(pod)}({pod['metadata']['uid']})"
        )
        status["state"] = {"waiting": {"reason": "CrashLoopBackOff", "message": message}}
        if entry.ended is not None:
            status["lastState"] = {"terminated": _terminated(entry.ended)}
    elif entry.phase == EXITED and entry.ended is not None and not entry.waiting_reason:
        status["state"] = {"terminated": _terminated(entry.ended)}
        if entry.last is not None:
            status["lastState"] = {"terminated": _terminated(entry.last)}
    else:
        waiting = {"reason": entry.waiting_reason or waiting_reason}
        if entry.waiting_message:
            waiting["message"] = entry.waiting_message
        status["state"] = {"waiting": waiting}
        previous = entry.ended or entry.last
        if previous is not None:
            status["lastState"] = {"terminated": _terminated(previous)}
    return status


def _terminated(ended: Ended) -> dict[str, Any]:
    state: dict[str, Any] = {
        "exitCode": ended.exit_code,
        "reason": ended.reason,
        "startedAt": rfc3339(ended.started_s),
        "finishedAt": rfc3339(ended.finished_s),
        "containerID": ID_PREFIX + ended.container_id,
    }
    if ended.message:
        state["message"] = ended.message
    return state


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def _conditions(
    pod: Object, record: PodRecord, plan: Plan, phase: str, mains: list[dict[str, Any]], now_s: float
) -> list[dict[str, Any]]:
    unready = [entry["name"] for entry in mains if not entry["ready"]]
    sidecars_unready = [
        entry["name"]
        for entry in init_containers_of(pod)
        if is_sidecar(entry) and not record.container(entry["name"]).is_ready
    ]
    not_initialized = [
        entry["name"]
        for entry in init_containers_of(pod)
        if not is_sidecar(entry)
        and not ((ended := record.container(entry["name"]).ended) is not None and ended.exit_code == 0)
    ]
    done = "PodCompleted" if phase == "Succeeded" else "PodFailed" if phase == "Failed" else ""
    result = []
    is_initialized = plan.is_initialized or phase == "Succeeded"
    result.append(
        _condition(
            record,
            now_s,
            "Initialized",
            is_initialized,
            ("PodCompleted" if phase == "Succeeded" else "")
            if is_initialized
            else "ContainersNotInitialized",
            "" if is_initialized else f"containers with incomplete status: [{' '.join(not_initialized)}]",
        )
    )
    result.append(
        _condition(
            record, now_s, "PodReadyToStartContainers", record.has_sandbox and plan.wants_sandbox, "", ""
        )
    )
    waiting = sidecars_unready + unready
    is_ready = not waiting and phase == "Running"
    reason = "" if is_ready else done or "ContainersNotReady"
    message = "" if is_ready or done else f"containers with unready status: [{' '.join(waiting)}]"
    result.append(_condition(record, now_s, "ContainersReady", is_ready, reason, message))
    told = (pod.get("status") or {}).get("conditions") or []
    is_open = {entry["type"] for entry in told if entry.get("status") == "True"}
    gates = [str(gate["conditionType"]) for gate in pod["spec"].get("readinessGates") or []]
    closed = [gate for gate in gates if gate not in is_open]
    if is_ready and closed:
        is_ready, reason = False, "ReadinessGatesNotReady"
        message = f"corresponding condition of pod readiness gate {closed[0]!r} is not True"
    if is_deleted(pod) and is_ready:
        # A pod that is stopping takes no new work, although its containers still answer.
        is_ready, reason, message = False, "PodDeleted", "the pod is being deleted"
    result.append(_condition(record, now_s, "Ready", is_ready, reason, message))
    # Conditions of others are not repeated: what was told of them may be outdated when the report comes in.
    return result + _resize_conditions(record, plan, now_s)


def _resize_conditions(record: PodRecord, plan: Plan, now_s: float) -> list[dict[str, Any]]:
    """Only while other resources are asked for than the containers have."""
    pending, in_progress = RESIZE_CONDITIONS
    result = []
    if plan.resize_infeasible:
        result.append(_condition(record, now_s, pending, True, "Infeasible", plan.resize_infeasible))
    else:
        record.condition_times.pop(pending, None)
    if plan.resize:
        error = next((record.container(name).resize_error for name in plan.resize), "")
        result.append(_condition(record, now_s, in_progress, True, "Error" if error else "", error))
    else:
        record.condition_times.pop(in_progress, None)
    return result


def _condition(
    record: PodRecord, now_s: float, kind: str, is_true: bool, reason: str, message: str
) -> dict[str, Any]:
    value = "True" if is_true else "False"
    before = record.condition_times.get(kind)
    if before is None or before[0] != value:
        record.condition_times[kind] = [value, now_s]
    condition = {
        "type": kind,
        "status": value,
        "lastProbeTime": None,
        "lastTransitionTime": rfc3339(record.condition_times[kind][1]),
    }
    if reason:
        condition["reason"] = reason
    if message:
        condition["message"] = message
    return condition
