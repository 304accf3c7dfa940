"""The row of a pod, with STATUS as kubectl shows it.

STATUS is not the phase. It is the most telling word: why the first init container that is not through waits
or failed; else why the first of the containers waits or ended; `Terminating` while it is being deleted.
Source: k8s.io/kubernetes/pkg/printers/internalversion, printPod.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gitkube.objects import conditions, meta, pods
from gitkube.objects.tables.columns import AGE, NAME, NONE, Cells, Column, Table
from gitkube.objects.tables.durations import age
from gitkube.objects.types import Object

_NODE_LOST = "NodeLost"


class _Tally:
    """What the walk over the container statuses adds up."""

    def __init__(self) -> None:
        self.restarts = 0
        self.last_restart = ""

    def add(self, container: Mapping[str, Any]) -> None:
        self.restarts += int(container.get("restartCount") or 0)
        ended = ((container.get("lastState") or {}).get("terminated") or {}).get("finishedAt") or ""
        # RFC 3339 times in UTC sort as texts.
        self.last_restart = max(self.last_restart, ended)


def status_word(pod: Object) -> str:
    """What stands in the STATUS column."""
    return _summary(pod)[0]


def _summary(pod: Object) -> tuple[str, int, _Tally]:
    """STATUS, the number of ready containers, and the restarts."""
    status = pods.status(pod)
    reason = str(status.get("reason") or status.get("phase") or "")
    scheduled = conditions.get_condition(pod, "PodScheduled")
    if scheduled is not None and scheduled.get("reason") == "SchedulingGated":
        reason = "SchedulingGated"
    init_reason, ready, tally, of_sidecars = _init_summary(pod)
    if init_reason:
        reason = init_reason
    if not init_reason or conditions.is_true(pod, "Initialized"):
        tally = of_sidecars
        reason, ready_containers = _container_summary(pod, reason, tally)
        ready += ready_containers
    if meta.is_deleting(pod):
        if status.get("reason") == _NODE_LOST:
            reason = "Unknown"
        elif not pods.is_terminal(pod):
            reason = "Terminating"
    return reason, ready, tally


def _init_summary(pod: Object) -> tuple[str, int, _Tally, _Tally]:
    """Why initialising is not over ("" when it is), ready sidecars, restarts of all and of sidecars."""
    init_containers = pods.spec(pod).get("initContainers") or ()
    sidecars = {container.get("name") for container in init_containers if pods.is_sidecar(container)}
    tally, of_sidecars = _Tally(), _Tally()
    ready = 0
    for index, container in enumerate(pods.status(pod).get("initContainerStatuses") or ()):
        tally.add(container)
        is_sidecar = container.get("name") in sidecars
        if is_sidecar:
            of_sidecars.add(container)
        state = container.get("state") or {}
        terminated, waiting = state.get("terminated"), state.get("waiting")
        if terminated is not None and not terminated.get("exitCode"):
            continue
        if is_sidecar and container.get("started"):
            ready += 1 if container.get("ready") else 0
            continue
        if terminated is not None:
            reason = f"Init:{_end_of(terminated)}"
        elif waiting and waiting.get("reason") and waiting["reason"] != "PodInitializing":
            reason = f"Init:{waiting['reason']}"
        else:
            reason = f"Init:{index}/{len(init_containers)}"
        return reason, ready, tally, of_sidecars
    return "", ready, tally, of_sidecars


def _container_summary(pod: Object, reason: str, tally: _Tally) -> tuple[str, int]:
    ready = 0
    # From the last to the first, so that the first container has the last word.
    for container in reversed(pods.status(pod).get("containerStatuses") or ()):
        tally.add(container)
        state = container.get("state") or {}
        waiting, terminated = state.get("waiting"), state.get("terminated")
        if waiting and waiting.get("reason"):
            reason = str(waiting["reason"])
        elif terminated is not None:
            reason = _end_of(terminated)
        elif container.get("ready") and state.get("running") is not None:
            ready += 1
    if reason == "Completed" and ready:
        reason = "Running" if pods.is_ready(pod) else "NotReady"
    return reason, ready


def _end_of(terminated: Mapping[str, Any]) -> str:
    if terminated.get("reason"):
        return str(terminated["reason"])
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode') or 0}"


def _cells(pod: Object, now_s: float) -> Cells:
    spec, status = pods.spec(pod), pods.status(pod)
    reason, ready, tally = _summary(pod)
    sidecars = sum(1 for container in spec.get("initContainers") or () if pods.is_sidecar(container))
    total = len(spec.get("containers") or ()) + sidecars
    restarts = str(tally.restarts)
    if tally.restarts and tally.last_restart:
        restarts = f"{tally.restarts} ({age(tally.last_restart, now_s)} ago)"
    addresses = status.get("podIPs") or ()
    address = addresses[0].get("ip") if addresses else status.get("podIP")
    return [
        meta.name(pod),
        f"{ready}/{total}",
        reason,
        restarts,
        age(meta.metadata(pod).get("creationTimestamp"), now_s),
        address or NONE,
        spec.get("nodeName") or NONE,
        status.get("nominatedNodeName") or NONE,
        _gates(pod),
    ]


def _gates(pod: Object) -> str:
    gates = pods.spec(pod).get("readinessGates") or ()
    passed = sum(1 for gate in gates if conditions.is_true(pod, str(gate.get("conditionType"))))
    return f"{passed}/{len(gates)}" if gates else NONE


POD_TABLE = Table(
    (
        NAME,
        Column("Ready", description="How many of the containers are ready to serve."),
        Column("Status", description="What the pod does, or why it does not."),
        Column("Restarts", description="How often containers were restarted, and when the last time."),
        AGE,
        Column("IP", description="Address of the pod.", priority=1),
        Column("Node", description="Host that it is bound to.", priority=1),
        Column("Nominated Node", description="Host that is being cleared for it.", priority=1),
        Column("Readiness Gates", description="How many of its readiness gates are passed.", priority=1),
    ),
    _cells,
)
