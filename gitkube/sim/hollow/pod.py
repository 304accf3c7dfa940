"""One pretended pod: where it is in its life, when that changes next, and the status that follows.

`advance` moves it to the present, `due_s` says when to call that again, `status` is what a kubelet would
report. Containers start together, end on their own, and are started again as the restart policy says; the
phase follows from them by kubelet's rules (getPhase in pkg/kubelet/kubelet_pods.go). Other resources are in
force as soon as the host is told of them, and ephemeral containers run from then on.
Times that decide are monotonic, times that are shown are the wall's; both come from the caller.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gitkube.clock import rfc3339
from gitkube.objects import pods
from gitkube.sim.hollow.fate import ContainerFate, PodFate, container_fate, pod_fate
from gitkube.sim.hollow.settings import HollowSettings

WAITING, RUNNING, ENDED, BACK_OFF = "waiting", "running", "ended", "back-off"
KILLED_CODE = 137
"""Of a container that was ended by SIGKILL: 128 + 9."""


@dataclass(slots=True)
class _Container:
    spec: Mapping[str, Any]
    fate: ContainerFate
    state: str = WAITING
    started_at: float = 0.0
    due_s: float | None = None
    restarts: int = 0
    ended: dict[str, Any] | None = None
    """`terminated` of its last end."""
    is_outdated: bool = False
    """It runs with an image or resources that its spec no longer names, and starts anew for the new ones."""


@dataclass(slots=True)
class HollowPod:
    """See the module's text.

    Args:
        spec: the pod as the host was told.
        pull_s: what pulling its images takes here; 0 when they are there.
        now_s, now: the time at which it arrived, monotonic and on the wall.
    """

    pod: Mapping[str, Any]
    settings: HollowSettings
    pull_s: float
    now_s: float
    now: float
    address: str = ""
    """Its IP, once it has started; given by the host."""
    ended_status: dict[str, Any] | None = None
    """It had ended before the process that plays this host began: what was reported then."""
    is_gone: bool = False
    """It was deleted, and nothing is left of it."""
    has_started: bool = False
    _fate: PodFate = field(init=False)
    _containers: list[_Container] = field(init=False)
    _start_due_s: float = field(init=False)
    _gone_due_s: float | None = None
    _deadline_s: float | None = None
    _failure: tuple[str, str] | None = None
    _changed_at: dict[str, tuple[str, float]] = field(default_factory=dict)
    """Condition -> its status and since when."""
    _ephemeral_since: dict[str, float] = field(default_factory=dict)
    """Ephemeral container -> when it started."""

    def __post_init__(self) -> None:
        self._fate = pod_fate(self.pod, self.settings)
        self._containers = [
            _Container(spec, container_fate(self.pod, spec, self.settings))
            for spec in self.pod["spec"]["containers"]
        ]
        self._start_due_s = self.now_s + self.pull_s + self._fate.start_s
        self._set_deadline(self._fate.deadline_s)

    @property
    def uid(self) -> str:
        return str(self.pod["metadata"]["uid"])

    # ------------------------------------------------------------ what happens

    def update(self, pod: Mapping[str, Any], now_s: float) -> bool:
        """The host was told of the pod again; when it is being deleted now, it begins to stop.

        Returns:
            Whether its status may be another now.
        """
        is_other = pod != self.pod
        deadline_s = pod["spec"].get("activeDeadlineSeconds")
        if deadline_s != self.pod["spec"].get("activeDeadlineSeconds") and self._failure is None:
            self._set_deadline(deadline_s)
        self.pod = pod
        specs = {spec["name"]: spec for spec in pod["spec"]["containers"]}
        for one in self._containers:
            spec = specs.get(one.spec["name"], one.spec)
            one.is_outdated |= one.state == RUNNING and _needs_restart(one.spec, spec)
            one.spec = spec
        if pod["metadata"].get("deletionTimestamp") and self._gone_due_s is None:
            is_running = any(one.state == RUNNING for one in self._containers)
            self._gone_due_s = now_s + (pod_fate(pod, self.settings).stop_s if is_running else 0.0)
        elif self._gone_due_s is not None:  # a shorter grace period was asked for meanwhile
            self._gone_due_s = min(self._gone_due_s, now_s + pod_fate(pod, self.settings).stop_s)
        return is_other

    def _set_deadline(self, deadline_s: float | None) -> None:
        """It counts from the pod's arrival, whenever it is given."""
        self._deadline_s = None if deadline_s is None else self.now_s + deadline_s

    @property
    def due_s(self) -> float | None:
        """When `advance` has something to do again; None: not before it is told of."""
        if self.is_gone:
            return None
        times = [self._gone_due_s]
        if self.phase not in pods.TERMINAL_PHASES:
            times.append(self._deadline_s)
            if not self.has_started and self._fate.can_pull:
                times.append(self._start_due_s)
            times += [one.due_s for one in self._containers]
        return min((time for time in times if time is not None), default=None)

    def advance(self, now_s: float, now: float) -> bool:
        """Let everything happen that is due.

        Returns:
            Whether there is something to report.
        """
        if self.is_gone:
            return False
        if self._gone_due_s is not None:
            self.is_gone = self._gone_due_s <= now_s
            return True
        if self.ended_status is not None:
            return False
        if self._told_end:
            # The control side says that it has ended: it was given up, or this host has forgotten it.
            is_new = any(one.state != ENDED for one in self._containers)
            for one in self._containers:
                self._kill(one, now)
            return is_new
        changed = False
        if not self.has_started and self._fate.can_pull and self._start_due_s <= now_s:
            self.has_started = changed = True
            for one in self._containers:
                self._run(one, now_s, now)
        for one in self._containers:
            if one.is_outdated and one.state == RUNNING:
                changed = True
                one.ended = _terminated(0, one.started_at, now)
                one.restarts += 1
                self._run(one, now_s, now)
            elif one.due_s is not None and one.due_s <= now_s:
                changed = True
                if one.state == RUNNING:
                    self._end(one, one.fate.exit_code, now_s, now)
                else:
                    one.restarts += 1
                    self._run(one, now_s, now)
        if self._deadline_s is not None and self._deadline_s <= now_s and self._failure is None:
            if self.phase not in pods.TERMINAL_PHASES:
                self._failure = (
                    "DeadlineExceeded", "Pod was active on the node longer than the specified deadline"
                )  # fmt: skip
                for one in self._containers:
                    self._kill(one, now)
                changed = True
            self._deadline_s = None
        return changed

    def _run(self, one: _Container, now_s: float, now: float) -> None:
        one.state, one.started_at, one.is_outdated = RUNNING, now, False
        one.due_s = None if one.fate.run_s is None else now_s + one.fate.run_s

    def _end(self, one: _Container, code: int, now_s: float, now: float) -> None:
        one.ended = _terminated(code, one.started_at, now)
        policy = self.pod["spec"].get("restartPolicy", "Always")
        if policy == "Always" or (policy == "OnFailure" and code != 0):
            settings = self.settings
            pause_s = settings.restart_backoff_s * 2 ** min(one.restarts, 30)
            one.state, one.due_s = BACK_OFF, now_s + min(pause_s, settings.restart_backoff_cap_s)
        else:
            one.state, one.due_s = ENDED, None

    def _kill(self, one: _Container, now: float) -> None:
        if one.state == RUNNING:
            one.ended = _terminated(KILLED_CODE, one.started_at, now)
        one.state, one.due_s = ENDED, None

    # ------------------------------------------------------------ what is seen

    @property
    def phase(self) -> str:
        if self.ended_status is not None:
            return str(self.ended_status["phase"])
        if self._failure is not None:
            return "Failed"
        if self._told_end:
            return self._told_end
        if not self.has_started:
            return "Pending"
        if any(one.state != ENDED for one in self._containers):
            return "Running"
        has_failed = any(one.ended is not None and one.ended["exitCode"] for one in self._containers)
        return "Failed" if has_failed else "Succeeded"

    @property
    def _told_end(self) -> str:
        """The phase it has ended in by what the control side says; "" while it lives."""
        phase = str((self.pod.get("status") or {}).get("phase") or "")
        return phase if phase in pods.TERMINAL_PHASES else ""

    def status(self, host_address: str, now: float) -> dict[str, Any]:
        """PodStatus."""
        if self.ended_status is not None:
            return self.ended_status
        phase = self.phase
        container_statuses = [self._container_status(one) for one in self._containers]
        status: dict[str, Any] = {
            "phase": phase,
            "startTime": rfc3339(self.now),
            "hostIP": host_address,
            "hostIPs": [{"ip": host_address}],
            "containerStatuses": container_statuses,
            "conditions": self._conditions(phase, container_statuses, now),
        }
        inits = self.pod["spec"].get("initContainers") or []
        if inits:
            status["initContainerStatuses"] = [self._init_status(one) for one in inits]
        ephemeral = self.pod["spec"].get("ephemeralContainers") or []
        if ephemeral:
            status["ephemeralContainerStatuses"] = [self._ephemeral_status(one, now) for one in ephemeral]
        if self._failure is not None:
            status["reason"], status["message"] = self._failure
        address = host_address if self.pod["spec"].get("hostNetwork") else self.address
        if address and self.has_started:
            status["podIP"], status["podIPs"] = address, [{"ip": address}]
        return status

    def _conditions(self, phase: str, containers: list[dict[str, Any]], now: float) -> list[dict[str, Any]]:
        unready = [one["name"] for one in containers if not one["ready"]]
        is_deleted = self._gone_due_s is not None
        reason = {"Succeeded": "PodCompleted", "Failed": "PodFailed"}.get(phase, "ContainersNotReady")
        message = "" if phase in pods.TERMINAL_PHASES else (
            f"containers with unready status: [{' '.join(unready)}]"
        )  # fmt: skip
        why = ("", "") if not unready else (reason, message)
        closed = self._closed_gates()
        if unready:
            why_not = why
        elif closed:
            message = f"corresponding condition of pod readiness gate {closed[0]!r} is not True"
            why_not = ("ReadinessGatesNotReady", message)
        else:
            why_not = ("PodDeleted", "the pod is being deleted")
        is_ready = not unready and not closed and not is_deleted
        return [
            self._condition("PodReadyToStartContainers", self.has_started, ("", ""), now),
            self._condition("Initialized", True, ("", ""), now),
            self._condition("ContainersReady", not unready, why, now),
            self._condition("Ready", is_ready, why_not, now),
        ]

    def _closed_gates(self) -> list[str]:
        told = (self.pod.get("status") or {}).get("conditions") or []
        is_open = {one["type"] for one in told if one["status"] == "True"}
        gates = [str(gate["conditionType"]) for gate in self.pod["spec"].get("readinessGates") or []]
        return [gate for gate in gates if gate not in is_open]

    def _condition(self, kind: str, is_true: bool, why: tuple[str, str], now: float) -> dict[str, Any]:
        value = "True" if is_true else "False"
        if self._changed_at.get(kind, ("", 0.0))[0] != value:
            self._changed_at[kind] = (value, now)
        condition = {
            "type": kind, "status": value, "lastProbeTime": None,
            "lastTransitionTime": rfc3339(self._changed_at[kind][1]),
        }  # fmt: skip
        reason, message = ("", "") if is_true else why
        return {
            **condition,
            **({"reason": reason} if reason else {}),
            **({"message": message} if message else {}),
        }

    def _container_status(self, one: _Container) -> dict[str, Any]:
        is_running = one.state == RUNNING
        status = self._names(one.spec)
        status |= {
            "restartCount": one.restarts,
            "ready": is_running and self._fate.becomes_ready,
            "started": is_running,
            "lastState": {},
        }
        if is_running:
            resources = one.spec.get("resources") or {}
            in_force = {part: dict(resources[part]) for part in ("limits", "requests") if resources.get(part)}
            if in_force:
                status["resources"] = in_force
            if resources.get("requests"):
                status["allocatedResources"] = dict(resources["requests"])
            status["state"] = {"running": {"startedAt": rfc3339(one.started_at)}}
            status["lastState"] = {"terminated": one.ended} if one.ended else {}
        elif one.state == ENDED and one.ended is not None:
            status["state"] = {"terminated": one.ended}
        elif one.state == BACK_OFF:
            status["state"] = {"waiting": {"reason": "CrashLoopBackOff"}}
            status["lastState"] = {"terminated": one.ended}
        else:
            reason = "ContainerCreating" if self._fate.can_pull else "ImagePullBackOff"
            status["state"] = {"waiting": {"reason": reason}}
        return status

    def _init_status(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Init containers end, and sidecars run, at the moment at which the pod starts."""
        is_sidecar = spec.get("restartPolicy") == "Always"
        status = self._names(spec)
        status |= {"restartCount": 0, "ready": self.has_started, "started": self.has_started and is_sidecar}
        began = min((one.started_at for one in self._containers), default=0.0)
        if not self.has_started:
            state: dict[str, Any] = {"waiting": {"reason": "PodInitializing"}}
        elif is_sidecar:
            state = {"running": {"startedAt": rfc3339(began)}}
        else:
            state = {"terminated": _terminated(0, began, began)}
        return {**status, "state": state, "lastState": {}}

    def _ephemeral_status(self, spec: Mapping[str, Any], now: float) -> dict[str, Any]:
        """Ephemeral containers run from when the host is told of them for as long as the pod does."""
        status = self._names(spec)
        status |= {"restartCount": 0, "ready": False, "started": False, "lastState": {}}
        if not self.has_started:
            return {**status, "state": {"waiting": {"reason": "ContainerCreating"}}}
        since = self._ephemeral_since.setdefault(spec["name"], now)
        if self.phase in pods.TERMINAL_PHASES:
            ends = [one.ended["finishedAt"] for one in self._containers if one.ended is not None]
            terminated = _terminated(KILLED_CODE, since, since)
            if ends:
                terminated["finishedAt"] = max(*ends, terminated["finishedAt"])
            return {**status, "state": {"terminated": terminated}}
        return {**status, "started": True, "state": {"running": {"startedAt": rfc3339(since)}}}

    def _names(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        image = str(spec.get("image") or "")
        names = {"name": spec["name"], "image": image, "imageID": f"hollow://{image}" if image else ""}
        if self.has_started:
            names["containerID"] = f"hollow://{self.uid}/{spec['name']}"
        return names


def _needs_restart(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether a running container must start anew to be what its spec says now."""
    was, is_now = before.get("resources") or {}, after.get("resources") or {}
    policies = {one["resourceName"]: one["restartPolicy"] for one in after.get("resizePolicy") or []}
    return before.get("image") != after.get("image") or any(
        (was.get(part) or {}).get(name) != (is_now.get(part) or {}).get(name)
        for part in ("limits", "requests")
        for name, policy in policies.items()
        if policy == "RestartContainer"
    )


def _terminated(code: int, started_at: float, finished_at: float) -> dict[str, Any]:
    return {
        "exitCode": code,
        "reason": "Completed" if code == 0 else "Error",
        "startedAt": rfc3339(started_at),
        "finishedAt": rfc3339(finished_at),
    }
