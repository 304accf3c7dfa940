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
import time
from collections.abc import Awaitable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Callable

from gitkube.node import files, logs, probes
from gitkube.node.containers import Job, Runtime, RuntimeFailure
from gitkube.node.decide import Plan, backoff_s, crashes_before_start, is_deleted, make_plan
from gitkube.node.env import ConfigError, PodFacts, References, environment
from gitkube.node.exits import read_exit
from gitkube.node.hooks import Hooks
from gitkube.node.images import Image, ImageError, ImageStore
from gitkube.node.kube import (
    Object,
    containers_of,
    grace_period_s,
    init_containers_of,
    is_sidecar,
    name_of,
    namespace_of,
    uid_of,
)
from gitkube.node.paths import Layout
from gitkube.node.procs import is_alive
from gitkube.node.pull_secrets import auth_of
from gitkube.node.records import (
    EXITED,
    RUNNING,
    STARTING,
    STOPPING,
    WAITING,
    ContainerRecord,
    Ended,
    PodRecord,
)
from gitkube.node.sandbox import Sandbox, Sandboxes
from gitkube.node.status import pod_status
from gitkube.node.volumes import Volumes

log = logging.getLogger(__name__)

LOOK_AGAIN_S = 5.0
"""How long an exit can go unseen when every faster way failed."""
LOST_AFTER_S = 3.0
"""How long conmon may take to write down the exit of a process that is gone."""
CONFIG_RETRY_S = 10.0
FIRST_SANDBOX_RETRY_S, MAX_SANDBOX_RETRY_S = 0.5, 30.0
KILL_TIMEOUT_S = 30.0
MIN_KILL_DELAY_S = 0.2

EmitEvent = Callable[[Object, str, str, str, str], None]


@dataclass
class Tools:
    """What all workers share."""

    layout: Layout
    images: ImageStore
    runtime: Runtime
    sandboxes: Sandboxes
    volumes: Volumes
    emit: EmitEvent
    report: Callable[[str], None]  # a pod's status may have changed
    now: Callable[[], float] = time.time
    start_slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(8))


class PodWorker:
    """Owns one pod on this host, from the first word of it until nothing is left."""

    def __init__(self, pod: Object, record: PodRecord, references: References, tools: Tools) -> None:
        self.pod = pod
        self.record = record
        self.is_desired = True
        self.is_gone = False
        self.plan = Plan()
        self.sandbox: Sandbox | None = None
        self.status: dict[str, Any] = {}
        self._references = references
        self._tools = tools
        self._wake = asyncio.Event()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._probes: dict[str, list[asyncio.Task[None]]] = {}
        self._exited: dict[str, asyncio.Event] = {}
        self._launching: set[str] = set()
        self._lost_since: dict[str, float] = {}
        self._save_lock = asyncio.Lock()
        self._volume_print = ""
        self._sandbox_retry_at_s = 0.0
        self._sandbox_failures = 0
        self._hooks = Hooks(tools.runtime.crun)

    # ------------------------------------------------------------ from outside

    def update(self, pod: Object | None, references: References) -> None:
        """Take the newest desired state; None when the control side no longer names the pod."""
        if pod is None:
            self.is_desired = False
        else:
            self.pod = pod
            self.is_desired = True
        self._references = references
        for entry in self.record.containers.values():
            if entry.waiting_reason == "CreateContainerConfigError":
                entry.retry_at_s = 0.0
        self._sandbox_retry_at_s = 0.0
        self.poke()

    def poke(self) -> None:
        """Something may have changed: look again."""
        self._wake.set()

    def container_named(self, name: str) -> Object | None:
        for container in [*containers_of(self.pod), *init_containers_of(self.pod)]:
            if container["name"] == name:
                return container
        return None

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
                now_s = self._tools.now()
                wake_at_s = min(self.plan.wake_at_s or now_s + LOOK_AGAIN_S, now_s + LOOK_AGAIN_S)
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), max(0.01, wake_at_s - now_s))
        finally:
            await self._cancel_all()

    async def _adopt(self) -> None:
        """After a restart of the agent: take over what runs, and learn what ended meanwhile."""
        record = self.record
        await self._save_pod()
        if record.has_sandbox:
            if await asyncio.to_thread(self._tools.sandboxes.exists, self.pod):
                self.sandbox = await self._tools.sandboxes.ensure(self.pod)
            else:
                self._lose_sandbox()
        for entry in record.containers.values():
            if entry.phase == STARTING:
                await self._settle_start(entry)
            if entry.phase == STOPPING:
                entry.phase = RUNNING
            if entry.phase == RUNNING:
                self._exited[entry.name] = asyncio.Event()
                if is_alive(entry.process):
                    self._begin_probes(entry)

    def _lose_sandbox(self) -> None:
        """The machine was rebooted: no container of this sandbox is left, and init runs again."""
        self.record.has_sandbox = False
        self.record.is_initialized = False
        for container in init_containers_of(self.pod):
            entry = self.record.container(container["name"])
            if not entry.is_alive and entry.ended is not None and self.record.phase in ("Pending", "Running"):
                entry.last, entry.ended, entry.phase = entry.ended, None, WAITING

    async def _settle_start(self, entry: ContainerRecord) -> None:
        """The last agent was killed while it started a container: it runs, or that attempt counts as none."""
        process = self._tools.runtime.recorded_process(self.record.uid, entry.name, entry.attempt)
        if process is not None and entry.started_s > 0:
            with contextlib.suppress(RuntimeFailure):  # it was started already
                await self._tools.runtime.start(entry.container_id)
            entry.pid, entry.pid_start, entry.boot_id = process.pid, process.start_ticks, process.boot_id
            entry.phase = RUNNING
            entry.is_started = entry.is_ready = False
            return
        await self._tools.runtime.delete(entry.container_id)
        await asyncio.to_thread(self._tools.runtime.clean_up, self.record.uid, entry.name, entry.attempt)
        entry.attempt -= 1
        entry.phase = EXITED if entry.ended is not None else WAITING

    def _look(self) -> None:
        """Notice what ended."""
        for entry in self.record.containers.values():
            if entry.phase not in (RUNNING, STOPPING) or f"ended:{entry.name}" in self._tasks:
                continue
            found = read_exit(self._tools.layout.exits, entry.container_id)
            if found is not None:
                self._spawn(f"ended:{entry.name}", self._take_end(entry, found[0], found[1], ""))
            elif not is_alive(entry.process):
                now_s = self._tools.now()
                since_s = self._lost_since.setdefault(entry.container_id, now_s)
                if now_s - since_s >= LOST_AFTER_S:
                    reason = "ContainerStatusUnknown"
                    self._spawn(f"ended:{entry.name}", self._take_end(entry, 137, now_s, reason))
                else:
                    asyncio.get_running_loop().call_later(LOST_AFTER_S, self.poke)

    def _step(self) -> None:
        record = self.record
        self.plan = plan = make_plan(self.pod, record, self._tools.now(), is_desired=self.is_desired)
        if plan.is_initialized and not record.is_initialized:
            record.is_initialized = True
            self._save_soon()
        if plan.phase != record.phase or plan.failure_reason != record.failure_reason:
            record.phase = plan.phase
            record.failure_reason, record.failure_message = plan.failure_reason, plan.failure_message
            self._save_soon()
        if plan.wants_sandbox and not record.has_sandbox:
            self._begin_sandbox(plan)
        for name, why in plan.stop.items():
            if f"stop:{name}" not in self._tasks:
                self._spawn(f"stop:{name}", self._stop(record.container(name), why))
        for name in plan.start:
            if not self._is_busy(name):
                self._begin_start(name)
        if record.has_sandbox and plan.wants_sandbox and not is_deleted(self.pod):
            self._refresh_volumes()
        if plan.is_finished:
            self._finish()

    def _finish(self) -> None:
        """Nothing runs any more: give the sandbox back, and when the pod is being deleted, everything."""
        is_leaving = is_deleted(self.pod) or not self.is_desired
        if self.record.has_sandbox or "sandbox" in self._tasks or is_leaving:
            if "teardown" not in self._tasks and self._tools.now() >= self._sandbox_retry_at_s:
                self._spawn("teardown", self._tear_down(is_leaving))

    def _is_busy(self, name: str) -> bool:
        return any(f"{step}:{name}" in self._tasks for step in ("start", "stop", "ended"))

    def _spawn(self, key: str, work: Coroutine[Any, Any, None]) -> None:
        """Run a step beside the loop; whatever goes wrong in it is said, and the loop plans again."""

        async def guarded() -> None:
            try:
                await work
            except asyncio.CancelledError:
                raise
            except Exception:
                log.exception("step failed: pod=%s step=%s", self._title, key)
                await asyncio.sleep(1.0)
            finally:
                self._tasks.pop(key, None)
                self.poke()

        self._tasks[key] = asyncio.ensure_future(guarded())

    async def _cancel(self, key: str) -> None:
        task = self._tasks.get(key)
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _cancel_all(self) -> None:
        for name in list(self._probes):
            self._end_probes(name)
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def _title(self) -> str:
        return f"{self.record.namespace}/{self.record.name}"

    # ------------------------------------------------------------ the sandbox

    def _begin_sandbox(self, plan: Plan) -> None:
        if "sandbox" in self._tasks:
            return
        if self._tools.now() < self._sandbox_retry_at_s:
            plan.wake(self._sandbox_retry_at_s)
            return
        self._spawn("sandbox", self._make_sandbox())

    async def _make_sandbox(self) -> None:
        record, tools = self.record, self._tools
        await self._save_pod()
        reason = "FailedCreatePodSandBox"
        try:
            self.sandbox = await tools.sandboxes.ensure(self.pod)
            record.pod_ip = self.sandbox.address
            reason = "FailedMount"
            self._volume_print = tools.volumes.fingerprint(self.pod, self._references, self.facts)
            await asyncio.to_thread(tools.volumes.set_up, self.pod, self._references, self.facts)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            # The network's errors are its own classes; each is a reason to try again, and to say why.
            self._sandbox_failures += 1
            delay_s = min(
                MAX_SANDBOX_RETRY_S, FIRST_SANDBOX_RETRY_S * 2.0 ** min(self._sandbox_failures - 1, 10)
            )
            self._sandbox_retry_at_s = tools.now() + delay_s
            if not isinstance(error, (ConfigError, OSError, RuntimeError)):
                log.warning("sandbox failed: pod=%s", self._title, exc_info=True)
            self._say_waiting(str(error))
            tools.emit(self.pod, "Warning", reason, str(error), "")
            return
        self._sandbox_failures = 0
        self._say_waiting("")
        record.has_sandbox = True
        await self._save()

    def _say_waiting(self, message: str) -> None:
        """Why no container can start yet, on each of them."""
        for container in containers_of(self.pod):
            entry = self.record.container(container["name"])
            if entry.phase == WAITING and not entry.waiting_reason:
                entry.waiting_message = message

    def _refresh_volumes(self) -> None:
        """Write the volumes again whose ConfigMap, Secret or labels have changed."""
        if "volumes" in self._tasks:
            return
        try:
            fingerprint = self._tools.volumes.fingerprint(self.pod, self._references, self.facts)
        except ConfigError:
            return  # what was mounted stays; a deleted ConfigMap takes nothing away from a running pod
        if fingerprint != self._volume_print:
            self._volume_print = fingerprint
            self._spawn("volumes", self._write_volumes())

    async def _write_volumes(self) -> None:
        try:
            await asyncio.to_thread(self._tools.volumes.set_up, self.pod, self._references, self.facts)
        except (ConfigError, OSError) as error:
            self._volume_print = ""
            self._tools.emit(self.pod, "Warning", "FailedMount", str(error), "")

    async def _tear_down(self, is_leaving: bool) -> None:
        record, tools = self.record, self._tools
        await self._cancel("sandbox")
        await self._cancel("volumes")
        for entry in record.containers.values():
            if entry.attempt >= 0:
                await tools.runtime.delete(entry.container_id)
        await asyncio.to_thread(tools.volumes.tear_down, record.uid)
        await tools.sandboxes.remove(record.uid)
        self.sandbox = None
        if record.has_sandbox:
            record.has_sandbox = False
            await self._save()
        if is_leaving:
            async with self._save_lock:
                await asyncio.to_thread(tools.runtime.remove_pod, record.uid)
            self.is_gone = True

    @property
    def facts(self) -> PodFacts:
        host_ip = self.host_ip
        return PodFacts(host_ip if self.pod["spec"].get("hostNetwork") else self.record.pod_ip, host_ip)

    @property
    def host_ip(self) -> str:
        for address in (self._references.node.get("status") or {}).get("addresses") or []:
            if address.get("type") == "InternalIP":
                return str(address["address"])
        return ""

    # ------------------------------------------------------------ starting

    def _begin_start(self, name: str) -> None:
        container = self.container_named(name)
        if container is None or self.sandbox is None:
            return
        self._spawn(f"start:{name}", self._start(container, self.record.container(name), self.sandbox))

    async def _start(self, container: Object, entry: ContainerRecord, sandbox: Sandbox) -> None:
        before = entry.phase
        entry.phase = STARTING
        try:
            job = await self._prepare(container, entry, sandbox)
            if job is not None:
                async with self._tools.start_slots:
                    await self._launch(container, entry, job)
        finally:
            if entry.phase == STARTING:
                entry.phase = before if entry.ended is not None or before != EXITED else WAITING

    async def _prepare(self, container: Object, entry: ContainerRecord, sandbox: Sandbox) -> Job | None:
        """Everything that may fail without using up an attempt."""
        tools = self._tools
        try:
            image = await self._have_image(container, entry)
            env = environment(self.pod, container, self._references, self.facts)
            volume_mounts = await asyncio.to_thread(tools.volumes.mounts_of, self.pod, container, env)
            job = Job(self.pod, container, entry.attempt + 1, image, env, sandbox, volume_mounts)
            await asyncio.to_thread(tools.runtime.write_bundle, job)
        except ImageError as error:
            self._image_failed(container, entry, error)
            return None
        except (ConfigError, OSError, ValueError) as error:
            is_config = isinstance(error, ConfigError)
            reason = "CreateContainerConfigError" if is_config else "CreateContainerError"
            self._wait(entry, reason, str(error), CONFIG_RETRY_S)
            tools.emit(self.pod, "Warning", "Failed", f"Error: {error}", _field_path(container))
            return None
        entry.image_failures = 0
        return job

    async def _have_image(self, container: Object, entry: ContainerRecord) -> Image:
        images, reference = self._tools.images, str(container.get("image") or "")
        policy = str(container.get("imagePullPolicy") or "IfNotPresent")
        found = images.find(reference)
        path = _field_path(container)
        if policy == "Never" and found is None:
            message = f'Container image "{reference}" is not present with pull policy of Never'
            raise ImageError(message, "ErrImageNeverPull")
        if found is not None and policy != "Always":
            message = f'Container image "{reference}" already present on machine'
            self._tools.emit(self.pod, "Normal", "Pulled", message, path)
            return found
        self._tools.emit(self.pod, "Normal", "Pulling", f'Pulling image "{reference}"', path)
        begun_s = self._tools.now()
        image = await images.pull(reference, auth_of(self.pod, self._references, reference))
        took_s = self._tools.now() - begun_s
        message = f'Successfully pulled image "{reference}" in {took_s:.3f}s'
        self._tools.emit(self.pod, "Normal", "Pulled", message, path)
        return image

    def _image_failed(self, container: Object, entry: ContainerRecord, error: ImageError) -> None:
        entry.image_failures += 1
        delay_s = backoff_s(entry.image_failures)
        reference = str(container.get("image") or "")
        message = f'Failed to pull image "{reference}": {error}'
        if error.reason == "ErrImagePull" and entry.image_failures > 1:
            message = f'Back-off pulling image "{reference}": ErrImagePull: {error}'
            self._wait(entry, "ImagePullBackOff", message, delay_s)
        else:
            self._wait(entry, error.reason, message, delay_s)
        self._tools.emit(self.pod, "Warning", "Failed", message, _field_path(container))

    def _wait(self, entry: ContainerRecord, reason: str, message: str, delay_s: float) -> None:
        entry.waiting_reason, entry.waiting_message = reason, message
        entry.retry_at_s = self._tools.now() + delay_s

    async def _launch(self, container: Object, entry: ContainerRecord, job: Job) -> None:
        """From here on it is an attempt: written down first, then made, then started."""
        tools = self._tools
        if entry.ended is not None:
            entry.crashes = crashes_before_start(entry) + 1
            entry.last, entry.ended = entry.ended, None
        entry.attempt, entry.container_id = job.attempt, job.container_id
        entry.image, entry.image_id = str(container.get("image") or ""), job.image.image_id
        entry.layers = list(job.image.layers)
        entry.waiting_reason = entry.waiting_message = entry.stop_reason = ""
        entry.started_s, entry.pid = 0.0, 0
        entry.is_started = entry.is_ready = False
        self._exited[entry.name] = asyncio.Event()
        path = _field_path(container)
        await self._save()
        self._launching.add(entry.name)
        try:
            process = await tools.runtime.create(job)
            entry.pid, entry.pid_start, entry.boot_id = process.pid, process.start_ticks, process.boot_id
            entry.started_s = tools.now()
            await self._save()
            await tools.runtime.start(job.container_id)
        except (RuntimeFailure, OSError) as error:
            await self._start_failed(entry, path, str(error))
            return
        except asyncio.CancelledError:
            # Stopped while starting: what exists of the attempt is stopped like any other container.
            entry.phase = STOPPING
            raise
        finally:
            self._launching.discard(entry.name)
        tools.emit(self.pod, "Normal", "Created", f"Created container: {entry.name}", path)
        tools.emit(self.pod, "Normal", "Started", f"Started container {entry.name}", path)
        entry.phase = RUNNING
        post_start = (container.get("lifecycle") or {}).get("postStart")
        if post_start:
            entry.waiting_reason = "ContainerCreating"
            answer = await self._hooks.run(post_start, container, entry.container_id, self.facts.pod_ip)
            entry.waiting_reason = ""
            if not answer.is_success:
                tools.emit(self.pod, "Warning", "FailedPostStartHook", answer.message, path)
                self._spawn(f"stop:{entry.name}", self._stop(entry, "FailedPostStartHook"))
                return
        self._begin_probes(entry)
        self._save_soon()

    async def _start_failed(self, entry: ContainerRecord, path: str, cause: str) -> None:
        now_s = self._tools.now()
        self._tools.emit(self.pod, "Warning", "Failed", f"Error: {cause}", path)
        await self._tools.runtime.delete(entry.container_id)
        await asyncio.to_thread(self._tools.runtime.clean_up, self.record.uid, entry.name, entry.attempt)
        entry.ended = Ended(128, "StartError", now_s, now_s, entry.container_id, cause)
        entry.phase = EXITED
        await self._save()

    # ------------------------------------------------------------ probes

    def _begin_probes(self, entry: ContainerRecord) -> None:
        container = self.container_named(entry.name)
        if container is None:
            return
        self._end_probes(entry.name)
        if container.get("startupProbe") and not entry.is_started:
            self._probes[entry.name] = [self._probe(probes.STARTUP, container, entry)]
            return
        entry.is_started = True
        if not container.get("readinessProbe"):
            entry.is_ready = True
        self._probes[entry.name] = [
            self._probe(kind, container, entry)
            for kind in (probes.READINESS, probes.LIVENESS)
            if container.get(f"{kind}Probe")
        ]

    def _probe(self, kind: str, container: Object, entry: ContainerRecord) -> asyncio.Task[None]:
        identifier = entry.container_id

        async def ask(probe: Object, timeout_s: float) -> probes.Answer:
            return await self._hooks.ask(probe, container, identifier, self.facts.pod_ip, timeout_s)

        def tell(kind: str, is_success: bool, message: str) -> None:
            if entry.container_id == identifier and entry.phase == RUNNING:
                self._hear_probe(kind, is_success, message, container, entry)

        probe = container[f"{kind}Probe"]
        ago_s = max(0.0, self._tools.now() - entry.started_s)
        return asyncio.ensure_future(probes.run_probe(kind, probe, ask, tell, started_ago_s=ago_s))

    def _hear_probe(
        self, kind: str, is_success: bool, message: str, container: Object, entry: ContainerRecord
    ) -> None:
        if not is_success:
            text = f"{kind.capitalize()} probe failed: {message}"
            self._tools.emit(self.pod, "Warning", "Unhealthy", text, _field_path(container))
        if kind == probes.READINESS:
            if entry.is_ready != is_success:
                entry.is_ready = is_success
                self._save_soon()
        elif kind == probes.STARTUP and is_success:
            entry.is_started = True
            asyncio.get_running_loop().call_soon(self._begin_probes, entry)
        elif not is_success and f"stop:{entry.name}" not in self._tasks:
            why = f"Container {entry.name} failed {kind} probe, will be restarted"
            grace = container[f"{kind}Probe"].get("terminationGracePeriodSeconds")
            self._spawn(f"stop:{entry.name}", self._stop(entry, why, grace_s=grace))
        self.poke()

    def _end_probes(self, name: str) -> None:
        for task in self._probes.pop(name, []):
            task.cancel()

    # ------------------------------------------------------------ stopping

    async def _stop(self, entry: ContainerRecord, why: str, *, grace_s: float | None = None) -> None:
        """Hook, signal, wait, kill: the end of a container within its grace period."""
        while entry.name in self._launching:
            # A tenth of a second at most as a rule, after which there is a container that can be stopped.
            await asyncio.sleep(0.01)
        await self._cancel(f"start:{entry.name}")
        self._end_probes(entry.name)
        if entry.phase == STARTING or entry.attempt < 0:
            entry.phase = EXITED if entry.ended is not None else WAITING
            return
        if not entry.is_alive:
            return
        entry.phase, entry.stop_reason = STOPPING, why
        entry.is_ready = False
        self.poke()
        container = self.container_named(entry.name) or {"name": entry.name}
        message = why if why.startswith("Container ") else f"Stopping container {entry.name}"
        self._tools.emit(self.pod, "Normal", "Killing", message, _field_path(container))
        grace_s = grace_period_s(self.pod) if grace_s is None else float(grace_s)
        exited = self._exited.setdefault(entry.name, asyncio.Event())
        end_s = self._tools.now() + grace_s
        if not entry.pid:
            await self._abandon(entry)
            return
        pre_stop = (container.get("lifecycle") or {}).get("preStop")
        if pre_stop and grace_s > 0:
            hook = self._hooks.run(
                pre_stop, container, entry.container_id, self.facts.pod_ip, timeout_s=grace_s
            )
            answer = await hook
            if not answer.is_success:
                text = answer.message
                self._tools.emit(self.pod, "Warning", "FailedPreStopHook", text, _field_path(container))
        everyone = not self._has_own_pids()
        if grace_s > 0:
            signal_name = str(
                (container.get("lifecycle") or {}).get("stopSignal") or self._image_signal(container)
            )
            await self._tools.runtime.signal(entry.container_id, signal_name)
            if await _within(exited.wait(), max(MIN_KILL_DELAY_S, end_s - self._tools.now())):
                return
        await self._tools.runtime.signal(entry.container_id, "KILL", everyone=everyone)
        if not await _within(exited.wait(), KILL_TIMEOUT_S):
            log.error("container survives SIGKILL: pod=%s container=%s", self._title, entry.name)

    async def _abandon(self, entry: ContainerRecord) -> None:
        """An attempt that was interrupted before it had a process."""
        await self._tools.runtime.delete(entry.container_id)
        await self._take_end(entry, 137, self._tools.now(), "ContainerStatusUnknown")

    def _has_own_pids(self) -> bool:
        spec = self.pod["spec"]
        return not spec.get("shareProcessNamespace") and not spec.get("hostPID")

    def _image_signal(self, container: Object) -> str:
        image = self._tools.images.find(str(container.get("image") or ""))
        wanted = str(image.config.get("StopSignal") or "") if image is not None else ""
        return wanted if wanted.replace("+", "").isalnum() else "TERM"

    async def _take_end(self, entry: ContainerRecord, code: int, finished_s: float, reason: str) -> None:
        """Write down how a container ended, and let go of what it held."""
        tools, uid = self._tools, self.record.uid
        self._end_probes(entry.name)
        self._lost_since.pop(entry.container_id, None)
        is_out_of_memory = code != 0 and tools.runtime.was_out_of_memory(uid, entry.name)
        if not reason:
            reason = "OOMKilled" if is_out_of_memory else "Completed" if code == 0 else "Error"
        message = await asyncio.to_thread(self._last_message, entry, code)
        await tools.runtime.delete(entry.container_id)
        await asyncio.to_thread(tools.runtime.clean_up, uid, entry.name, entry.attempt)
        if entry.attempt >= 2:
            await asyncio.to_thread(tools.runtime.forget, uid, entry.name, entry.attempt - 2)
        entry.ended = Ended(
            code, reason, entry.started_s or finished_s, finished_s, entry.container_id, message
        )
        entry.phase = EXITED
        entry.is_ready = entry.is_started = False
        await self._save()
        exited = self._exited.get(entry.name)
        if exited is not None:
            exited.set()
        if reason != "Completed" and not entry.stop_reason and self.is_desired and not is_deleted(self.pod):
            text = f"Back-off restarting failed container {entry.name} in pod {self._title}"
            if entry.crashes:
                self._tools.emit(self.pod, "Warning", "BackOff", text, f"spec.containers{{{entry.name}}}")

    def _last_message(self, entry: ContainerRecord, code: int) -> str:
        container = self.container_named(entry.name) or {}
        message = self._tools.runtime.termination_message(self.record.uid, entry.name, entry.attempt)
        if not message and code != 0 and container.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            path = self._tools.layout.pod(self.record.uid).log(entry.name, entry.attempt)
            message = logs.last_lines(path, 80, 2048)
        return message

    # ------------------------------------------------------------ memory

    async def _save(self) -> None:
        """Put the record on the disk, in the order of the calls."""
        async with self._save_lock:
            if not self.is_gone:
                value = self.record.to_json()
                path = self._tools.layout.pod(self.record.uid).state
                await asyncio.to_thread(files.write_json, path, value)

    def _save_soon(self) -> None:
        if "save" not in self._tasks:
            self._spawn("save", self._save())

    async def _save_pod(self) -> None:
        """Keep the pod's own text beside its record, for the day when nobody names it any more."""
        base = self._tools.layout.pod(self.record.uid).base

        def write() -> None:
            base.mkdir(parents=True, exist_ok=True, mode=0o700)
            files.write_json(base / "pod.json", self.pod, durable=False)

        await asyncio.to_thread(write)

    def _report(self) -> None:
        status = pod_status(self.pod, self.record, self.plan, host_ip=self.host_ip, now_s=self._tools.now())
        if status != self.status or self.is_gone:
            self.status = status
            self._tools.report(self.record.uid)


async def _within(work: Awaitable[Any], timeout_s: float) -> bool:
    try:
        await asyncio.wait_for(work, timeout_s)
    except asyncio.TimeoutError:
        return False
    return True


def _field_path(container: Object) -> str:
    return f"spec.containers{{{container.get('name', '')}}}"


def new_record(pod: Object, now_s: float) -> PodRecord:
    """The record of a pod that has never been on this host.

    A pod that the API says has ended already, and of which nothing is left here, is not run again.
    """
    phase = str((pod.get("status") or {}).get("phase") or "Pending")
    record = PodRecord(uid_of(pod), namespace_of(pod), name_of(pod), now_s)
    if phase in ("Succeeded", "Failed"):
        record.phase = phase
    return record


__all__ = ["PodWorker", "Tools", "is_sidecar", "new_record"]
