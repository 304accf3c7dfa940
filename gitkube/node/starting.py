"""Starting a container: its image, its variables and volumes, its root, crun, the hook, the probes.

Everything that can fail without a trace is done first (`_prepare`): a missing ConfigMap or image uses up no
attempt. Then the attempt is written down, and only then made; so an agent killed in between finds it in the
record and settles it (`settle`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, Callable, Optional

from gitkube.node.containers import Job, RuntimeFailure
from gitkube.node.context import PodContext
from gitkube.node.decide import backoff_s, crashes_before_start
from gitkube.node.env import ConfigError, environment
from gitkube.node.hooks import Hooks
from gitkube.node.images import Image, ImageError
from gitkube.node.kube import Object
from gitkube.node.probing import Prober
from gitkube.node.procs import is_alive
from gitkube.node.pull_secrets import auth_of
from gitkube.node.records import EXITED, RUNNING, STARTING, STOPPING, WAITING, ContainerRecord, Ended
from gitkube.node.sandbox import Sandbox

CONFIG_RETRY_S = 10.0
"""For what the pod refers to; a change of it is looked at at once."""

Stop = Callable[[ContainerRecord, str, Optional[float]], Coroutine[Any, Any, None]]


class Starter:
    """Starts the containers of one pod."""

    def __init__(self, context: PodContext, prober: Prober, hooks: Hooks, stop: Stop) -> None:
        self.context = context
        self._prober = prober
        self._hooks = hooks
        self._stop = stop

    async def settle(self, entry: ContainerRecord) -> None:
        """The last agent was killed while it started a container: it runs, or that attempt counts as none."""
        runtime, uid = self.context.tools.runtime, self.context.record.uid
        process = runtime.recorded_process(uid, entry.name, entry.attempt)
        if process is not None and entry.started_s > 0:
            with contextlib.suppress(RuntimeFailure):  # it was started already
                await runtime.start(entry.container_id)
            entry.pid, entry.pid_start, entry.boot_id = process.pid, process.start_ticks, process.boot_id
            entry.phase = RUNNING
            entry.is_started = entry.is_ready = False
            return
        await runtime.delete(entry.container_id)
        await asyncio.to_thread(runtime.clean_up, uid, entry.name, entry.attempt)
        entry.attempt -= 1
        entry.phase = EXITED if entry.ended is not None else WAITING

    def begin(self, name: str) -> None:
        """Start a container beside the loop."""
        container, sandbox = self.context.container_named(name), self.context.sandbox
        if container is not None and sandbox is not None:
            entry = self.context.record.container(name)
            self.context.spawn(f"start:{name}", self._start(container, entry, sandbox))

    async def _start(self, container: Object, entry: ContainerRecord, sandbox: Sandbox) -> None:
        before = entry.phase
        entry.phase = STARTING
        try:
            job = await self._prepare(container, entry, sandbox)
            if job is not None:
                lock = self.context.launching.setdefault(entry.name, asyncio.Lock())
                async with self.context.tools.start_slots, lock:
                    has_started = await self._launch(container, entry, job)
                if has_started:
                    await self._greet(container, entry)
        finally:
            if entry.phase == STARTING:
                entry.phase = before if entry.ended is not None or before != EXITED else WAITING

    async def _prepare(self, container: Object, entry: ContainerRecord, sandbox: Sandbox) -> Job | None:
        """Everything that may fail without using up an attempt."""
        tools = self.context.tools
        try:
            image = await self._have_image(container, entry)
            env = environment(self.context.pod, container, self.context.references, self.context.facts)
            volume_mounts = await asyncio.to_thread(tools.volumes.mounts_of, self.context.pod, container, env)
            pids = self._pid_namespace_of_target(container)
            pod, attempt = self.context.pod, entry.attempt + 1
            job = Job(pod, container, attempt, image, env, sandbox, volume_mounts, pids)
            await asyncio.to_thread(tools.runtime.write_bundle, job)
        except ImageError as error:
            self._image_failed(container, entry, error)
            return None
        except (ConfigError, OSError, ValueError) as error:
            is_config = isinstance(error, ConfigError)
            reason = "CreateContainerConfigError" if is_config else "CreateContainerError"
            self._wait(entry, reason, str(error), CONFIG_RETRY_S)
            self.context.emit("Warning", "Failed", f"Error: {error}", container)
            return None
        entry.image_failures = 0
        return job

    def _pid_namespace_of_target(self, container: Object) -> str:
        """Of the container that this one is to look into; "" when it is to look into none.

        Raises:
            ConfigError: that one does not run.
        """
        name = str(container.get("targetContainerName") or "")
        spec = self.context.pod["spec"]
        if not name or spec.get("shareProcessNamespace") or spec.get("hostPID"):
            return ""
        target = self.context.record.containers.get(name)
        if target is None or target.phase != RUNNING or not is_alive(target.process):
            raise ConfigError(f'the target container "{name}" is not running')
        return f"/proc/{target.pid}/ns/pid"

    async def _have_image(self, container: Object, entry: ContainerRecord) -> Image:
        images, reference = self.context.tools.images, str(container.get("image") or "")
        policy = str(container.get("imagePullPolicy") or "IfNotPresent")
        found = images.find(reference)
        if policy == "Never" and found is None:
            message = f'Container image "{reference}" is not present with pull policy of Never'
            raise ImageError(message, "ErrImageNeverPull")
        if found is not None and policy != "Always":
            message = f'Container image "{reference}" already present on machine'
            self.context.emit("Normal", "Pulled", message, container)
            return found
        self.context.emit("Normal", "Pulling", f'Pulling image "{reference}"', container)
        begun_s = self.context.tools.now()
        image = await images.pull(reference, auth_of(self.context.pod, self.context.references, reference))
        took_s = self.context.tools.now() - begun_s
        message = f'Successfully pulled image "{reference}" in {took_s:.3f}s'
        self.context.emit("Normal", "Pulled", message, container)
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
        self.context.emit("Warning", "Failed", message, container)

    def _wait(self, entry: ContainerRecord, reason: str, message: str, delay_s: float) -> None:
        entry.waiting_reason, entry.waiting_message = reason, message
        entry.retry_at_s = self.context.tools.now() + delay_s

    async def _launch(self, container: Object, entry: ContainerRecord, job: Job) -> bool:
        """From here on it is an attempt: written down first, then made, then started."""
        tools = self.context.tools
        if entry.ended is not None:
            entry.crashes = crashes_before_start(entry) + 1
            entry.last, entry.ended = entry.ended, None
        entry.attempt, entry.container_id = job.attempt, job.container_id
        entry.image, entry.image_id = str(container.get("image") or ""), job.image.image_id
        entry.layers = list(job.image.layers)
        entry.resources, entry.resize_error = dict(container.get("resources") or {}), ""
        entry.waiting_reason = entry.waiting_message = entry.stop_reason = ""
        entry.started_s, entry.pid = 0.0, 0
        entry.is_started = entry.is_ready = False
        self.context.exited[entry.name] = asyncio.Event()
        await self.context.save()
        try:
            process = await tools.runtime.create(job)
            entry.pid, entry.pid_start, entry.boot_id = process.pid, process.start_ticks, process.boot_id
            entry.started_s = tools.now()
            await self.context.save()
            await tools.runtime.start(job.container_id)
        except (RuntimeFailure, OSError) as error:
            await self._start_failed(container, entry, str(error))
            return False
        except asyncio.CancelledError:
            # Stopped while starting: what exists of the attempt is stopped like any other container.
            entry.phase = STOPPING
            raise
        self.context.emit("Normal", "Created", f"Created container: {entry.name}", container)
        self.context.emit("Normal", "Started", f"Started container {entry.name}", container)
        entry.phase = RUNNING
        return True

    async def _greet(self, container: Object, entry: ContainerRecord) -> None:
        """The hook after the start, then the probes."""
        post_start = (container.get("lifecycle") or {}).get("postStart")
        if post_start:
            entry.waiting_reason = "ContainerCreating"
            answer = await self._hooks.run(
                post_start, container, self.context.target(entry), self.context.probe_address
            )
            entry.waiting_reason = ""
            if not answer.is_success:
                self.context.emit("Warning", "FailedPostStartHook", answer.message, container)
                self.context.spawn(f"stop:{entry.name}", self._stop(entry, "FailedPostStartHook", None))
                return
        self._prober.begin(entry)
        self.context.save_soon()

    async def _start_failed(self, container: Object, entry: ContainerRecord, cause: str) -> None:
        now_s = self.context.tools.now()
        self.context.emit("Warning", "Failed", f"Error: {cause}", container)
        await self.context.tools.runtime.delete(entry.container_id)
        await asyncio.to_thread(
            self.context.tools.runtime.clean_up, self.context.record.uid, entry.name, entry.attempt
        )
        entry.ended = Ended(128, "StartError", now_s, now_s, entry.container_id, cause)
        entry.phase = EXITED
        await self.context.save()
