"""One pod's loop: look, decide, act, report; woken by every change and by time.

Each turn makes a plan (`decide`) and starts a task for each step in it that is not under way already:
making the sandbox, starting a container (pull, root, create, start, hook), stopping one, taking it all
down. A task ends by changing the record and waking the loop, which plans again. A record is on the disk
before the step it describes begins; so wherever the agent is killed, the next one finds either the record
or nothing to find.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

from gitkube.node import oci
from gitkube.node.containers import RuntimeFailure
from gitkube.node.context import PodContext, Tools
from gitkube.node.decide import Plan, make_plan
from gitkube.node.env import ConfigError, References
from gitkube.node.exits import read_exit
from gitkube.node.hooks import Hooks
from gitkube.node.kube import Object, containers_of, init_containers_of, name_of, namespace_of, uid_of
from gitkube.node.procs import is_alive
from gitkube.node.records import RUNNING, STARTING, STOPPING, WAITING, PodRecord
from gitkube.node.starting import Starter
from gitkube.node.status import pod_status
from gitkube.node.stopping import Stopper

log = logging.getLogger(__name__)

LOOK_AGAIN_S = 5.0
"""How long an exit can go unseen when every faster way failed."""
LOST_AFTER_S = 3.0
"""How long conmon may take to write down the exit of a process that is gone."""
RESIZE_RETRY_S = 5.0
"""After the kernel refused a limit: what the container uses may shrink."""
FIRST_SANDBOX_RETRY_S, MAX_SANDBOX_RETRY_S = 0.5, 30.0


class PodWorker(PodContext):
    """Owns one pod on this host, from the first word of it until nothing is left."""

    def __init__(self, pod: Object, record: PodRecord, references: References, tools: Tools) -> None:
        super().__init__(pod, record, references, tools)
        self.plan = Plan()
        self.status: dict[str, Any] = {}
        hooks = Hooks()
        self._stopper = Stopper(self, hooks)
        self._prober = self._stopper.prober
        self._starter = Starter(self, self._prober, hooks, self._stopper.stop)
        self._lost_since: dict[str, float] = {}
        self._volume_print = ""
        self._sandbox_retry_at_s = 0.0
        self._sandbox_failures = 0

    # ------------------------------------------------------------ from outside

    def update(self, pod: Object | None, references: References) -> None:
        """Take the newest desired state; None when the control side no longer names the pod."""
        if pod is None:
            self.is_desired = False
        else:
            self.pod = pod
            self.is_desired = True
        self.references = references
        for entry in self.record.containers.values():
            if entry.waiting_reason == "CreateContainerConfigError":
                entry.retry_at_s = 0.0
        self._sandbox_retry_at_s = 0.0
        self.poke()

    # ------------------------------------------------------------ the loop

    async def run(self) -> None:
        """Work until nothing of the pod is left on the host, or until cancelled."""
        try:
            await self._adopt()
            while not self.is_gone:
                self._wake.clear()
                self._look()
                self._step()
                self._report()
                now_s = self.tools.now()
                wake_at_s = min(self.plan.wake_at_s or now_s + LOOK_AGAIN_S, now_s + LOOK_AGAIN_S)
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), max(0.01, wake_at_s - now_s))
        finally:
            await self._cancel_all()

    async def _adopt(self) -> None:
        """After a restart of the agent: take over what runs, and learn what ended meanwhile."""
        record = self.record
        await self.save_pod()
        if record.has_sandbox:
            if await asyncio.to_thread(self.tools.sandboxes.exists, self.pod):
                await self._join_sandbox()
            else:
                await self._lose_sandbox()
        for entry in record.containers.values():
            if entry.phase == STARTING:
                await self._starter.settle(entry)
            if entry.phase == STOPPING:
                entry.phase = RUNNING
            if entry.phase == RUNNING:
                self.exited[entry.name] = asyncio.Event()
                if is_alive(entry.process):
                    self._prober.begin(entry)

    async def _join_sandbox(self) -> None:
        """Learn where the sandbox is; if that fails now, containers go on and `_step` tries again."""
        try:
            self.sandbox = await self.tools.sandboxes.ensure(self.pod)
        except Exception as error:
            log.warning("sandbox not joined yet: pod=%s error=%s", self.title, error)

    async def _lose_sandbox(self) -> None:
        """The machine was rebooted: no container of this sandbox may be left, and init runs again."""
        self.record.has_sandbox = False
        self.record.is_initialized = False
        for entry in self.record.containers.values():
            if entry.is_alive:
                await self.tools.runtime.delete(entry.container_id)
                self._lost_since[entry.container_id] = 0.0
        for container in init_containers_of(self.pod):
            entry = self.record.container(container["name"])
            if not entry.is_alive and entry.ended is not None and self.record.phase in ("Pending", "Running"):
                entry.last, entry.ended, entry.phase = entry.ended, None, WAITING

    def _look(self) -> None:
        """Notice what ended."""
        for entry in self.record.containers.values():
            if entry.phase not in (RUNNING, STOPPING) or f"ended:{entry.name}" in self.tasks:
                continue
            found = read_exit(self.tools.layout.exits, entry.container_id)
            if found is not None:
                self.spawn(f"ended:{entry.name}", self._stopper.take_end(entry, found[0], found[1], ""))
            elif not is_alive(entry.process):
                now_s = self.tools.now()
                since_s = self._lost_since.setdefault(entry.container_id, now_s)
                if now_s - since_s >= LOST_AFTER_S:
                    reason = "ContainerStatusUnknown"
                    self.spawn(f"ended:{entry.name}", self._stopper.take_end(entry, 137, now_s, reason))
                else:
                    asyncio.get_running_loop().call_later(LOST_AFTER_S, self.poke)

    def _step(self) -> None:
        record = self.record
        self.plan = plan = make_plan(
            self.pod,
            record,
            self.tools.now(),
            is_desired=self.is_desired,
            allocatable=(self.references.node.get("status") or {}).get("allocatable"),
        )
        if plan.is_initialized and not record.is_initialized:
            record.is_initialized = True
            self.save_soon()
        if plan.phase != record.phase or plan.failure_reason != record.failure_reason:
            record.phase = plan.phase
            record.failure_reason, record.failure_message = plan.failure_reason, plan.failure_message
            self.save_soon()
        if plan.wants_sandbox and (not record.has_sandbox or self.sandbox is None):
            self._begin_sandbox(plan)
        for name, why in plan.stop.items():
            if f"stop:{name}" not in self.tasks:
                self.spawn(f"stop:{name}", self._stopper.stop(record.container(name), why))
        for name in plan.start:
            if not self.is_busy(name):
                self._starter.begin(name)
        for name in plan.resize:
            if not self.is_busy(name) and f"resize:{name}" not in self.tasks:
                self.spawn(f"resize:{name}", self._resize(name))
        if record.has_sandbox and plan.wants_sandbox and not self.is_leaving:
            self._refresh_volumes()
        if plan.is_finished:
            self._finish()

    async def _resize(self, name: str) -> None:
        """Give a running container the CPU and memory that its spec names now."""
        container, entry = self.container_named(name), self.record.container(name)
        if container is None:
            return
        wanted = dict(container.get("resources") or {})
        limits = oci.resources(container, privileged=False)
        del limits["devices"]
        try:
            await self.tools.runtime.update(entry.container_id, limits)
        except (RuntimeFailure, OSError) as error:
            if entry.resize_error != str(error):
                entry.resize_error = str(error)
                self.emit("Warning", "ResizeError", f"Error: {error}", container)
                self.poke()
            await asyncio.sleep(RESIZE_RETRY_S)
            return
        entry.resources, entry.resize_error = wanted, ""
        self.emit("Normal", "ResizeCompleted", f"Pod resize completed: container {name}", container)
        await self.save()

    def _finish(self) -> None:
        """Nothing runs any more: give the sandbox back, and when the pod is being deleted, everything."""
        is_leaving = self.is_leaving
        holds_something = self.record.has_sandbox or "sandbox" in self.tasks or is_leaving
        if holds_something and "teardown" not in self.tasks:
            self.spawn("teardown", self._tear_down(is_leaving))

    async def _cancel_all(self) -> None:
        self._prober.end_all()
        tasks = list(self.tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ------------------------------------------------------------ the sandbox

    def _begin_sandbox(self, plan: Plan) -> None:
        if "sandbox" in self.tasks:
            return
        if self.tools.now() < self._sandbox_retry_at_s:
            plan.wake(self._sandbox_retry_at_s)
            return
        self.spawn("sandbox", self._make_sandbox())

    async def _make_sandbox(self) -> None:
        record, tools = self.record, self.tools
        await self.save_pod()
        reason = "FailedCreatePodSandBox"
        try:
            self.sandbox = await tools.sandboxes.ensure(self.pod)
            record.pod_ip = self.sandbox.address
            reason = "FailedMount"
            self._volume_print = tools.volumes.fingerprint(self.pod, self.references, self.facts)
            await asyncio.to_thread(tools.volumes.set_up, self.pod, self.references, self.facts)
        except Exception as error:
            # The network's errors are its own classes; each is a reason to try again, and to say why.
            self._sandbox_failures += 1
            delay_s = min(
                MAX_SANDBOX_RETRY_S, FIRST_SANDBOX_RETRY_S * 2.0 ** min(self._sandbox_failures - 1, 10)
            )
            self._sandbox_retry_at_s = tools.now() + delay_s
            if not isinstance(error, (ConfigError, OSError, RuntimeError)):
                log.warning("sandbox failed: pod=%s", self.title, exc_info=True)
            self._say_waiting(str(error))
            self.emit("Warning", reason, str(error))
            return
        self._sandbox_failures = 0
        self._say_waiting("")
        record.has_sandbox = True
        await self.save()

    def _say_waiting(self, message: str) -> None:
        """Why no container can start yet, on each of them."""
        for container in containers_of(self.pod):
            entry = self.record.container(container["name"])
            if entry.phase == WAITING and not entry.waiting_reason:
                entry.waiting_message = message

    def _refresh_volumes(self) -> None:
        """Write the volumes again whose ConfigMap, Secret or labels have changed."""
        if "volumes" in self.tasks:
            return
        try:
            fingerprint = self.tools.volumes.fingerprint(self.pod, self.references, self.facts)
        except ConfigError:
            return  # what was mounted stays; a deleted ConfigMap takes nothing away from a running pod
        if fingerprint != self._volume_print:
            self._volume_print = fingerprint
            self.spawn("volumes", self._write_volumes())

    async def _write_volumes(self) -> None:
        try:
            await asyncio.to_thread(self.tools.volumes.set_up, self.pod, self.references, self.facts)
        except (ConfigError, OSError) as error:
            self._volume_print = ""
            self.emit("Warning", "FailedMount", str(error))

    async def _tear_down(self, is_leaving: bool) -> None:
        record, tools = self.record, self.tools
        await self.cancel("sandbox")
        await self.cancel("volumes")
        for entry in record.containers.values():
            if entry.attempt >= 0:
                await tools.runtime.delete(entry.container_id)
        await asyncio.to_thread(tools.volumes.tear_down, record.uid)
        await tools.sandboxes.remove(record.uid)
        self.sandbox = None
        if record.has_sandbox:
            record.has_sandbox = False
            await self.save()
        if is_leaving:
            async with self.save_lock:
                await asyncio.to_thread(tools.runtime.remove_pod, record.uid)
            self.is_gone = True

    def _report(self) -> None:
        status = pod_status(self.pod, self.record, self.plan, host_ip=self.host_ip, now_s=self.tools.now())
        if status != self.status or self.is_gone:
            self.status = status
            self.tools.report(self.record.uid)


def new_record(pod: Object, now_s: float) -> PodRecord:
    """The record of a pod of which nothing is on this host."""
    return PodRecord(uid_of(pod), namespace_of(pod), name_of(pod), now_s)
