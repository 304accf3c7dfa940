"""What the steps of one pod share: the pod, its record, the tools, and the tasks under way.

The steps live in files of their own (`starting`, `probing`, `stopping`) and meet here: they change the
record, save it, and wake the loop. Invariant: one task per key at a time, and none outlives the worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Callable

from gitkube.node import files
from gitkube.node.containers import Runtime
from gitkube.node.decide import is_deleted
from gitkube.node.env import PodFacts, References
from gitkube.node.images import ImageStore
from gitkube.node.kube import Object, containers_of, ephemeral_containers_of, init_containers_of
from gitkube.node.paths import Layout
from gitkube.node.records import ContainerRecord, PodRecord
from gitkube.node.sandbox import Sandbox, Sandboxes
from gitkube.node.target import Target
from gitkube.node.volumes import Volumes

log = logging.getLogger(__name__)

MAX_STARTS_AT_ONCE = 8
"""Containers in the making on the whole host; more would only be slower for each."""
STEP_RETRY_S = 1.0
"""After a step failed in a way nobody foresaw."""


@dataclass
class Tools:
    """What all workers share."""

    layout: Layout
    images: ImageStore
    runtime: Runtime
    sandboxes: Sandboxes
    volumes: Volumes
    emit: Callable[[Object, str, str, str, str], None]  # pod, type, reason, message, field path
    report: Callable[[str], None]  # a pod's status may have changed
    now: Callable[[], float] = time.time
    start_slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_STARTS_AT_ONCE))


class PodContext:
    """One pod on this host."""

    def __init__(self, pod: Object, record: PodRecord, references: References, tools: Tools) -> None:
        self.pod = pod
        self.record = record
        self.references = references
        self.tools = tools
        self.sandbox: Sandbox | None = None
        self.is_desired = True
        self.is_gone = False
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.exited: dict[str, asyncio.Event] = {}
        self.launching: dict[str, asyncio.Lock] = {}
        self.save_lock = asyncio.Lock()
        self._wake = asyncio.Event()

    @property
    def title(self) -> str:
        return f"{self.record.namespace}/{self.record.name}"

    @property
    def is_leaving(self) -> bool:
        """Whether the pod is to be removed from this host."""
        return is_deleted(self.pod) or not self.is_desired

    @property
    def host_ip(self) -> str:
        for address in (self.references.node.get("status") or {}).get("addresses") or []:
            if address.get("type") == "InternalIP":
                return str(address["address"])
        return ""

    @property
    def facts(self) -> PodFacts:
        on_host = self.pod["spec"].get("hostNetwork")
        return PodFacts(self.host_ip if on_host else self.record.pod_ip, self.host_ip)

    @property
    def probe_address(self) -> str:
        """Where the pod answers; a pod on the host's network, on the host's loopback if nothing better."""
        return self.facts.pod_ip or "127.0.0.1"

    def container_named(self, name: str) -> Object | None:
        ephemeral = ephemeral_containers_of(self.pod)
        for container in [*containers_of(self.pod), *init_containers_of(self.pod), *ephemeral]:
            if container["name"] == name:
                return container
        return None

    def target(self, entry: ContainerRecord) -> Target:
        """A running container of this pod, for exec."""
        layout = self.tools.layout
        bundle = layout.pod(self.record.uid).bundle(entry.name, entry.attempt)
        return Target(self.tools.runtime.crun, entry.container_id, bundle, layout.run)

    def emit(self, event_type: str, reason: str, message: str, container: Object | None = None) -> None:
        """Tell of an event of the pod, or of one of its containers."""
        path = "" if container is None else f"spec.containers{{{container.get('name', '')}}}"
        self.tools.emit(self.pod, event_type, reason, message, path)

    # ------------------------------------------------------------ tasks

    def poke(self) -> None:
        """Something may have changed: look again."""
        self._wake.set()

    def spawn(self, key: str, work: Coroutine[Any, Any, None]) -> None:
        """Run a step beside the loop; whatever goes wrong in it is said, and the loop plans again."""

        async def guarded() -> None:
            try:
                await work
            except Exception:
                log.exception("step failed: pod=%s step=%s", self.title, key)
                await asyncio.sleep(STEP_RETRY_S)
            finally:
                if self.tasks.get(key) is asyncio.current_task():
                    del self.tasks[key]
                work.close()  # when it was cancelled before its first step
                self.poke()

        self.tasks[key] = asyncio.ensure_future(guarded())

    async def cancel(self, key: str) -> None:
        """End a step that is under way, and wait for its end."""
        task = self.tasks.get(key)
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def is_busy(self, name: str) -> bool:
        """Whether a step of this container is under way."""
        return any(f"{step}:{name}" in self.tasks for step in ("start", "stop", "ended"))

    # ------------------------------------------------------------ memory

    async def save(self) -> None:
        """Put the record on the disk, in the order of the calls."""
        async with self.save_lock:
            if not self.is_gone:
                value = self.record.to_json()
                path = self.tools.layout.pod(self.record.uid).state
                await asyncio.to_thread(files.write_json, path, value)

    def save_soon(self) -> None:
        """Save beside what is going on; for what may be lost."""
        if "save" not in self.tasks:
            self.spawn("save", self.save())

    async def save_pod(self) -> None:
        """Keep the pod's own text beside its record, for the day when nobody names it any more."""
        base = self.tools.layout.pod(self.record.uid).base

        def write() -> None:
            base.mkdir(parents=True, exist_ok=True, mode=0o700)
            files.write_json(base / "pod.json", self.pod, durable=False)

        await asyncio.to_thread(write)
