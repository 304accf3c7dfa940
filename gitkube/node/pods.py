"""All pods of this host: one worker for each, and what the control side is told of them.

The desired pods come whole and are compared by uid with the workers that there are. A pod that nobody names
any more, be it in this section or only found on the disk, is stopped within its own grace period and
removed. Reports are whole at first and then the changed ones, gathered for a moment, since a pod's start is
a handful of changes.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Any, Callable

from gitkube.node import files
from gitkube.node.containers import owner_of
from gitkube.node.context import Tools
from gitkube.node.decide import is_deleted
from gitkube.node.env import References
from gitkube.node.kube import Object, name_of, namespace_of, uid_of
from gitkube.node.paths import UnsafeName, safe
from gitkube.node.records import PodRecord
from gitkube.node.worker import PodWorker, new_record

log = logging.getLogger(__name__)

MAX_PODS_ON_HOST = 1000
"""Far above what a host is given; a desired state beyond it is a mistake."""


class PodManager:
    """The set of workers. `run` holds them; `apply` changes what they work towards."""

    def __init__(self, tools: Tools, on_change: Callable[[], None]) -> None:
        self._tools = tools
        self._on_change = on_change
        self._workers: dict[str, PodWorker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._gone: dict[str, dict[str, Any]] = {}  # uid -> its last report, while it is still desired
        self._changed: set[str] = set()
        self._references = References()
        tools.report = self._note

    # ------------------------------------------------------------ desired state

    def load(self) -> None:
        """Find the pods on the disk. They go on as they were until `apply` says what is wanted."""
        for directory in sorted(self._tools.layout.pods.iterdir()):
            try:
                pod = files.read_json(directory / "pod.json")
                state = files.read_json(directory / "state.json")
            except ValueError as error:
                log.error("pod on disk unreadable: %s", error)
                continue
            if pod is not None:
                record = (
                    PodRecord.from_json(state) if state is not None else new_record(pod, self._tools.now())
                )
                self._add(pod, record)

    def apply(self, desired: dict[str, Any]) -> None:
        """Work towards this `PodsDesired` from now on.

        Raises:
            ValueError: it cannot be a desired state; nothing was changed.
        """
        pods = [pod for pod in desired.get("pods") or [] if isinstance(pod, dict)]
        if len(pods) > MAX_PODS_ON_HOST:
            raise ValueError(f"{len(pods)} pods are more than a host may hold ({MAX_PODS_ON_HOST})")
        by_uid = {}
        for pod in pods:
            uid, reason = _uid_and_flaw(pod)
            if not reason:
                by_uid[uid] = pod
            else:
                # One pod that cannot be must not keep the others from being brought on.
                log.error("pod refused: %s", reason)
                self._refuse(uid, pod, reason)
        references = self._references = replace(
            self._references,
            config_maps=desired.get("configMaps") or {},
            secrets=desired.get("secrets") or {},
            node=desired.get("node") or {},
        )
        named = {str(pod.get("metadata", {}).get("uid")) for pod in pods}
        self._gone = {uid: report for uid, report in self._gone.items() if uid in named}
        for uid, pod in by_uid.items():
            worker = self._workers.get(uid)
            if worker is not None:
                worker.update(pod, references)
            elif uid not in self._gone:
                self._begin(uid, pod)
        for uid, worker in self._workers.items():
            if uid not in by_uid:
                worker.update(None, references)

    def set_tokens(self, tokens: dict[str, dict[str, str]]) -> None:
        """These are the tokens of the pods from now on."""
        self._references = replace(self._references, tokens=tokens)
        self.poke_all()

    def set_api(self, api: tuple[str, int] | None) -> None:
        """There the API answers, for containers that are started from now on."""
        self._references = replace(self._references, api=api)

    def _refuse(self, uid: str, pod: Object, reason: str) -> None:
        if uid and uid not in self._workers:
            status = {"phase": "Failed", "reason": "UnexpectedAdmissionError", "message": reason}
            self._gone[uid] = {**_gone_report(pod), "status": status, "gone": is_deleted(pod)}
            self._note(uid)

    def _begin(self, uid: str, pod: Object) -> None:
        if is_deleted(pod):
            # Deleted before this host ever heard of it: there is nothing to stop.
            self._gone[uid] = _gone_report(pod)
            self._note(uid)
            return
        self._add(pod, new_record(pod, self._tools.now()))

    def _add(self, pod: Object, record: PodRecord) -> None:
        self._workers[record.uid] = PodWorker(pod, record, self._references, self._tools)
        self._tasks[record.uid] = asyncio.ensure_future(self._work(record.uid))

    async def _work(self, uid: str) -> None:
        worker = self._workers[uid]
        while True:
            try:
                await worker.run()
                break
            except Exception:
                log.exception("pod worker failed: pod=%s/%s", worker.record.namespace, worker.record.name)
                await asyncio.sleep(1.0)
        self._workers.pop(uid, None)
        self._tasks.pop(uid, None)
        if worker.is_desired:
            self._gone[uid] = _gone_report(worker.pod)
        self._note(uid)

    async def stop(self) -> None:
        """Let go of all pods, which go on running."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ------------------------------------------------------------ from the host

    def container_exited(self, identifier: str) -> None:
        """An exit file appeared."""
        owner = owner_of(identifier)
        worker = self._workers.get(owner[0]) if owner else None
        if worker is not None:
            worker.poke()

    def poke_all(self) -> None:
        """Something that many pods wait for has come, such as the network."""
        for worker in self._workers.values():
            worker.update(worker.pod if worker.is_desired else None, self._references)

    def find(self, uid: str) -> PodWorker | None:
        return self._workers.get(uid)

    def workers(self) -> list[PodWorker]:
        return list(self._workers.values())

    # ------------------------------------------------------------ reports

    def _note(self, uid: str) -> None:
        self._changed.add(uid)
        self._on_change()

    def full_report(self) -> list[dict[str, Any]]:
        """Every pod of the host; what changed before is thereby told."""
        self._changed.clear()
        reports = [_report(worker) for worker in self._workers.values() if worker.status]
        return reports + list(self._gone.values())

    def take_changes(self) -> list[dict[str, Any]]:
        """The pods that changed since the last call."""
        changed, self._changed = self._changed, set()
        reports = []
        for uid in sorted(changed):
            worker = self._workers.get(uid)
            if worker is not None and worker.status:
                reports.append(_report(worker))
            elif uid in self._gone:
                reports.append(self._gone[uid])
        return reports


def _report(worker: PodWorker) -> dict[str, Any]:
    record = worker.record
    return {
        "uid": record.uid,
        "namespace": record.namespace,
        "name": record.name,
        "status": worker.status,
        "gone": False,
    }


def _gone_report(pod: Object) -> dict[str, Any]:
    return {"uid": uid_of(pod), "namespace": namespace_of(pod), "name": name_of(pod), "gone": True}


def _uid_and_flaw(pod: Object) -> tuple[str, str]:
    """The pod's uid, and why it cannot be run, "" for no reason.

    Names become paths and ids. The API has validated them, and a host does not rely on it.
    """
    uid = ""
    try:
        uid = safe(uid_of(pod))
        spec = pod["spec"]
        names = [name_of(pod), namespace_of(pod)]
        for kind in ("containers", "initContainers", "ephemeralContainers", "volumes"):
            names += [str(thing.get("name", "")) for thing in spec.get(kind) or []]
        for name in names:
            if "_" in safe(name):
                raise UnsafeName(f"{name!r} has '_', which no such name may")
    except (KeyError, TypeError, AttributeError, UnsafeName) as error:
        return uid, f"the pod cannot be run: {error}"
    return uid, ""
