"""What the agent remembers of a pod, so that a new agent goes on where the last one was killed.

One JSON file per pod, replaced atomically *before* each step that it describes: an attempt is written down
before conmon is asked for it, so no container is ever started twice. `waiting_*`, `ready` and the like are
what was seen or decided last; they are rebuilt by looking again and need not survive.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from gitkube.node.procs import ProcessId

WAITING, STARTING, RUNNING, STOPPING, EXITED = "waiting", "starting", "running", "stopping", "exited"


@dataclass
class Ended:
    """How an attempt ended, as in `state.terminated`."""

    exit_code: int
    reason: str
    started_s: float
    finished_s: float
    container_id: str
    message: str = ""


@dataclass
class ContainerRecord:
    """One container of a pod: its newest attempt, and how the one before ended.

    Invariants: `attempt` is -1 until the first start and only grows; `ended` is set exactly in phase
    EXITED; `pid` is meaningful in RUNNING and STOPPING.
    """

    name: str
    phase: str = WAITING
    attempt: int = -1
    container_id: str = ""
    image: str = ""  # as the spec had it when this attempt was made
    image_id: str = ""
    layers: list[str] = field(default_factory=list)
    pid: int = 0
    pid_start: int = 0
    boot_id: str = ""
    started_s: float = 0.0
    ended: Ended | None = None
    last: Ended | None = None
    crashes: int = 0  # restarts in a row that did not last; decides the back-off
    stop_reason: str = ""
    resources: dict[str, Any] | None = None  # as they were given to it last; None when nobody wrote it down
    # Not needed after a restart of the agent:
    waiting_reason: str = ""
    waiting_message: str = ""
    retry_at_s: float = 0.0
    image_failures: int = 0
    is_started: bool = False
    is_ready: bool = False
    resize_error: str = ""  # why the last try to change its resources failed

    @property
    def process(self) -> ProcessId | None:
        return ProcessId(self.pid, self.pid_start, self.boot_id) if self.pid else None

    @property
    def restart_count(self) -> int:
        return max(0, self.attempt)

    @property
    def is_alive(self) -> bool:
        return self.phase in (STARTING, RUNNING, STOPPING)


@dataclass
class PodRecord:
    """One pod. `containers` has init containers too; their names differ by the API's validation."""

    uid: str
    namespace: str
    name: str
    start_s: float
    containers: dict[str, ContainerRecord] = field(default_factory=dict)
    is_initialized: bool = False  # the init containers are done, for this sandbox
    has_sandbox: bool = False
    pod_ip: str = ""
    failure_reason: str = ""  # the pod as a whole failed: DeadlineExceeded, …
    failure_message: str = ""
    phase: str = "Pending"
    condition_times: dict[str, list[Any]] = field(default_factory=dict)  # type -> [status, since]

    def container(self, name: str) -> ContainerRecord:
        return self.containers.setdefault(name, ContainerRecord(name))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> PodRecord:
        """Read what `to_json` wrote; fields of another version are left out."""
        record = cls(**_known(cls, value))
        record.containers = {}
        for name, entry in (value.get("containers") or {}).items():
            container = ContainerRecord(**_known(ContainerRecord, entry))
            for key in ("ended", "last"):
                ended = entry.get(key)
                setattr(container, key, Ended(**_known(Ended, ended)) if ended else None)
            record.containers[name] = container
        return record


def _known(cls: type, value: dict[str, Any]) -> dict[str, Any]:
    names = {entry.name for entry in fields(cls)}
    return {key: item for key, item in value.items() if key in names}
