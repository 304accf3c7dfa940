"""How an object is doing, from what the API has of it: a word, and the reason a person needs.

`waiting` something must happen first, `rolling` it is being replaced and gets on, `healthy`, `degraded` it
serves but not as wished, `failed` it will not get well by itself, `unknown` nobody can say. Pure functions
over live objects; what is terminal is said at once, so that nobody waits for a timeout to learn it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gitkube.gitops.problem import printable
from gitkube.objects import conditions, kinds, meta, pods
from gitkube.objects.kinds import Kind
from gitkube.objects.types import Object

WAITING, ROLLING, HEALTHY, DEGRADED, FAILED, UNKNOWN = (
    "waiting",
    "rolling",
    "healthy",
    "degraded",
    "failed",
    "unknown",
)
WORST_FIRST = (FAILED, DEGRADED, UNKNOWN, WAITING, ROLLING, HEALTHY)

CRASHES_UNTIL_FAILED = 2
"""A container that was restarted so often and crashed again does not wait for anything else to come up."""
MAX_REASON_CHARS = 400
REVISION = "deployment.kubernetes.io/revision"
_IMAGE_REASONS = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
_CONFIG_REASONS = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")


@dataclass(frozen=True, slots=True)
class Health:
    state: str
    reason: str = ""
    ready: int = 0
    wanted: int = 0
    is_stuck: bool = False
    """There is a reason why it does not get on, though it may: an image that may still appear."""

    def __str__(self) -> str:
        return f"{self.state}: {self.reason}" if self.reason else self.state


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a pod is not ready."""

    text: str
    is_terminal: bool


def health_of(kind: Kind, obj: Object | None, related: Related) -> Health:
    """The health of any object that came from git.

    Args:
        obj: as it is live; None when it is not there.
        related: where the ReplicaSets and pods that belong to it are looked up.
    """
    if obj is None:
        return Health(WAITING, "not created yet")
    if meta.is_deleting(obj):
        return Health(WAITING, "being deleted")
    if kind == kinds.DEPLOYMENT:
        return deployment_health(obj, related.replica_sets(obj), related.pods)
    if kind in (kinds.REPLICA_SET, kinds.REPLICATION_CONTROLLER):
        return replica_set_health(obj, related.pods(obj))
    if kind == kinds.JOB:
        return job_health(obj, related.pods(obj))
    if kind == kinds.POD:
        return pod_health(obj)
    return Health(HEALTHY)


class Related:
    """What belongs to what, by owner reference."""

    def __init__(self, replica_sets: Sequence[Object], all_pods: Sequence[Object]) -> None:
        self._replica_sets = _by_owner(replica_sets)
        self._pods = _by_owner(all_pods)

    def replica_sets(self, owner: Object) -> Sequence[Object]:
        return self._replica_sets.get(meta.uid(owner), ())

    def pods(self, owner: Object) -> Sequence[Object]:
        return self._pods.get(meta.uid(owner), ())

    def all_pods(self, owner: Object) -> list[Object]:
        """The pods of a workload, of every revision."""
        below = [pod for replica_set in self.replica_sets(owner) for pod in self.pods(replica_set)]
        return [*self.pods(owner), *below]

    def newest_pods(self, owner: Object) -> Sequence[Object]:
        """The pods of a Job or ReplicaSet, or of a Deployment's newest ReplicaSet."""
        newest = newest_replica_set(self.replica_sets(owner))
        return self.pods(newest) if newest is not None else self.pods(owner)


def _by_owner(objects: Sequence[Object]) -> dict[str, list[Object]]:
    found: dict[str, list[Object]] = {}
    for obj in objects:
        controller = meta.controller_of(obj)
        if controller is not None:
            found.setdefault(str(controller.get("uid")), []).append(obj)
    return found


def newest_replica_set(replica_sets: Sequence[Object]) -> Object | None:
    """The ReplicaSet that a Deployment rolls to: the one with the highest revision."""
    if not replica_sets:
        return None

    def age(one: Object) -> tuple[int, float]:
        revision = meta.annotations(one).get(REVISION, "0")
        return (int(revision) if revision.isdigit() else 0, meta.created_at_s(one))

    return max(replica_sets, key=age)


def deployment_health(obj: Object, replica_sets: Sequence[Object], pods_of: Any) -> Health:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    wanted = int(spec.get("replicas", 1))
    if meta.observed_generation(obj) < meta.generation(obj):
        return Health(ROLLING, "not seen by its controller yet", 0, wanted)
    newest = newest_replica_set(replica_sets)
    newest_pods = [pod for pod in (pods_of(newest) if newest else ()) if not meta.is_deleting(pod)]
    updated, available = int(status.get("updatedReplicas", 0)), int(status.get("availableReplicas", 0))
    ready = min(sum(1 for pod in newest_pods if pods.is_ready(pod)), wanted)
    total = int(status.get("replicas", 0))
    if spec.get("paused") and (updated < wanted or total > updated):
        return Health(WAITING, "the rollout is paused (spec.paused)", ready, wanted, is_stuck=True)
    if updated >= wanted and total <= wanted and available >= wanted and ready >= wanted:
        return Health(HEALTHY, "", ready, wanted)
    trouble = worst_trouble(newest_pods)
    old_ready = sum(
        1
        for replica_set in replica_sets
        if replica_set is not newest
        for pod in pods_of(replica_set)
        if pods.is_ready(pod)
    )
    if trouble is not None:
        serving = f" · {old_ready} old {'pod still serves' if old_ready == 1 else 'pods still serve'}"
        reason = trouble.text + (serving if old_ready else "")
        if trouble.is_terminal:
            return Health(
                DEGRADED if ready and not old_ready else FAILED, reason, ready, wanted, is_stuck=True
            )
        return Health(DEGRADED if ready else WAITING, reason, ready, wanted, is_stuck=True)
    failure = conditions.get_condition(obj, "ReplicaFailure")
    if failure is not None and failure.get("status") == "True":
        return Health(FAILED, _clean(failure.get("message")), ready, wanted, is_stuck=True)
    progressing = conditions.get_condition(obj, "Progressing") or {}
    if progressing.get("reason") == "ProgressDeadlineExceeded":
        return Health(FAILED, _clean(progressing.get("message")), ready, wanted, is_stuck=True)
    return Health(ROLLING, f"{ready} of {wanted} ready", ready, wanted)


def replica_set_health(obj: Object, its_pods: Sequence[Object]) -> Health:
    wanted = int((obj.get("spec") or {}).get("replicas", 1))
    ready = sum(1 for pod in its_pods if pods.is_ready(pod) and not meta.is_deleting(pod))
    if ready >= wanted:
        return Health(HEALTHY, "", ready, wanted)
    trouble = worst_trouble([pod for pod in its_pods if not meta.is_deleting(pod)])
    if trouble is not None:
        state = DEGRADED if ready else FAILED if trouble.is_terminal else WAITING
        return Health(state, trouble.text, ready, wanted, is_stuck=True)
    return Health(ROLLING, f"{ready} of {wanted} ready", ready, wanted)


def job_health(obj: Object, its_pods: Sequence[Object]) -> Health:
    wanted = int((obj.get("spec") or {}).get("completions", 1) or 1)
    done = int((obj.get("status") or {}).get("succeeded", 0))
    if conditions.is_true(obj, "Complete"):
        return Health(HEALTHY, "completed", wanted, wanted)
    failed = conditions.get_condition(obj, "Failed")
    if failed is not None and failed.get("status") == "True":
        trouble = worst_trouble(its_pods)
        text = trouble.text if trouble is not None else _clean(failed.get("message"))
        return Health(FAILED, text or "the job failed", done, wanted, is_stuck=True)
    if (obj.get("spec") or {}).get("suspend"):
        return Health(WAITING, "suspended (spec.suspend)", done, wanted, is_stuck=True)
    trouble = worst_trouble([pod for pod in its_pods if pods.is_active(pod)])
    if trouble is not None:
        return Health(FAILED if trouble.is_terminal else WAITING, trouble.text, done, wanted, is_stuck=True)
    return Health(ROLLING, "running" if its_pods else "starting", done, wanted)


def pod_health(pod: Object) -> Health:
    if pods.phase(pod) == "Succeeded":
        return Health(HEALTHY, "completed", 1, 1)
    if pods.is_ready(pod):
        return Health(HEALTHY, "", 1, 1)
    trouble = pod_trouble(pod)
    if trouble is not None:
        return Health(FAILED if trouble.is_terminal else WAITING, trouble.text, 0, 1, is_stuck=True)
    return Health(ROLLING, "starting", 0, 1)


def worst_trouble(its_pods: Sequence[Object]) -> Trouble | None:
    """The trouble of the pod that is worst off, terminal ones first."""
    troubles = [found for pod in its_pods if (found := pod_trouble(pod)) is not None]
    return min(troubles, key=lambda one: not one.is_terminal, default=None)


def pod_trouble(pod: Object) -> Trouble | None:
    """Why a pod does not get ready, or None when nothing is wrong with it (yet)."""
    if pods.phase(pod) == "Succeeded" or pods.is_ready(pod):
        return None
    host = pods.node_name(pod)
    at = f"{host}: " if host else ""
    status = pods.status(pod)
    for container in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
        found = _container_trouble(container, at)
        if found is not None:
            return found
    if pods.phase(pod) == "Failed":
        text = _clean(status.get("message")) or _clean(status.get("reason")) or "the pod failed"
        return Trouble(at + text, True)
    scheduled = conditions.get_condition(pod, "PodScheduled") or {}
    if scheduled.get("status") == "False":
        text = _clean(scheduled.get("message")) or _clean(scheduled.get("reason"))
        return Trouble(f"no host fits: {text}", False)
    if pods.phase(pod) == "Unknown":
        return Trouble(f"{at}the host cannot be reached", False)
    return None


def _container_trouble(container: Mapping[str, Any], at: str) -> Trouble | None:
    name = container.get("name", "")
    restarts = int(container.get("restartCount") or 0)
    state = container.get("state") or {}
    waiting = state.get("waiting") or {}
    reason, message = str(waiting.get("reason") or ""), _clean(waiting.get("message"))
    if reason in _IMAGE_REASONS:
        missing = any(word in message.lower() for word in ("not found", "unknown", "manifest"))
        detail = message or f"image {container.get('image')} cannot be pulled"
        return Trouble(
            f"{at}{reason}: {detail}", missing or reason in ("InvalidImageName", "ErrImageNeverPull")
        )
    if reason in _CONFIG_REASONS:
        return Trouble(f'{at}container "{name}": {message or reason}', reason == "RunContainerError")
    ended = state.get("terminated") or (container.get("lastState") or {}).get("terminated") or {}
    crashed = bool(ended) and int(ended.get("exitCode") or 0) != 0
    if reason == "CrashLoopBackOff" or (crashed and (restarts or state.get("terminated"))):
        times = f" {restarts + 1} times" if restarts else ""
        code = ended.get("exitCode", "?")
        why = f" ({ended['reason']})" if ended.get("reason") not in (None, "Error", "Completed") else ""
        last = _last_line(ended.get("message"))
        text = f'{at}container "{name}" exited {code}{why}{times}' + (f" · last line: {last}" if last else "")
        return Trouble(text, restarts >= CRASHES_UNTIL_FAILED)
    return None


def _last_line(text: Any) -> str:
    lines = [line for line in str(text or "").splitlines() if line.strip()]
    return printable(lines[-1].strip())[:MAX_REASON_CHARS] if lines else ""


def _clean(text: Any) -> str:
    return printable(" ".join(str(text or "").split()))[:MAX_REASON_CHARS]
