"""Ending a container, and what is written down when it has ended.

Stopping: the hook, the signal, the grace, then SIGKILL. An end is taken note of in one place whether it was
asked for or not (`take_end`): why, its last message, and what it held is let go, before the record says
EXITED; so a container that is to be started again finds its place free.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any

from gitkube.node import logs
from gitkube.node.context import PodContext
from gitkube.node.decide import is_deleted
from gitkube.node.hooks import Hooks
from gitkube.node.kube import Object, grace_period_s
from gitkube.node.probing import Prober
from gitkube.node.records import EXITED, STARTING, STOPPING, WAITING, ContainerRecord, Ended

log = logging.getLogger(__name__)

KILL_TIMEOUT_S = 30.0
MIN_KILL_DELAY_S = 0.2
GRACE_CHECK_S = 0.5
MESSAGE_LINES, MESSAGE_BYTES = 80, 2048
"""What FallbackToLogsOnError takes of the log, as kubelet does."""


class Stopper:
    """Stops the containers of one pod, and records every end."""

    def __init__(self, context: PodContext, hooks: Hooks) -> None:
        self.context = context
        self.prober = Prober(context, hooks, self.stop)
        self._hooks = hooks

    async def stop(self, entry: ContainerRecord, why: str, grace_s: float | None = None) -> None:
        """Hook, signal, wait, kill: the end of a container within its grace period."""
        async with self.context.launching.setdefault(entry.name, asyncio.Lock()):
            pass  # an attempt in the making is made, a tenth of a second as a rule, so that it can be stopped
        await self.context.cancel(f"start:{entry.name}")
        self.prober.end(entry.name)
        if entry.phase == STARTING or entry.attempt < 0:
            entry.phase = EXITED if entry.ended is not None else WAITING
            return
        if not entry.is_alive:
            return
        entry.phase, entry.stop_reason = STOPPING, why
        entry.is_ready = False
        self.context.poke()
        container = self.context.container_named(entry.name) or {"name": entry.name}
        message = why if why.startswith("Container ") else f"Stopping container {entry.name}"
        self.context.emit("Normal", "Killing", message, container)
        grace_s = grace_period_s(self.context.pod) if grace_s is None else float(grace_s)
        exited = self.context.exited.setdefault(entry.name, asyncio.Event())
        end_s = self.context.tools.now() + grace_s
        if not entry.pid:
            await self._abandon(entry)
            return
        pre_stop = (container.get("lifecycle") or {}).get("preStop")
        if pre_stop and grace_s > 0:
            target, pod_ip = self.context.target(entry), self.context.probe_address
            answer = await self._hooks.run(pre_stop, container, target, pod_ip, timeout_s=grace_s)
            if not answer.is_success:
                text = answer.message
                self.context.emit("Warning", "FailedPreStopHook", text, container)
        everyone = not self._has_own_pids() or bool(container.get("targetContainerName"))
        if grace_s > 0:
            signal_name = str(
                (container.get("lifecycle") or {}).get("stopSignal") or self._image_signal(container)
            )
            await self.context.tools.runtime.signal(entry.container_id, signal_name)
            if await self._wait_for_end(exited, end_s):
                return
        await self.context.tools.runtime.signal(entry.container_id, "KILL", everyone=everyone)
        if not await _within(exited.wait(), KILL_TIMEOUT_S):
            log.error("container survives SIGKILL: pod=%s container=%s", self.context.title, entry.name)

    async def _wait_for_end(self, exited: asyncio.Event, end_s: float) -> bool:
        """Wait for the exit until the grace is over; a later order to delete may shorten it."""
        end_s = max(end_s, self.context.tools.now() + MIN_KILL_DELAY_S)
        while True:
            now_s = self.context.tools.now()
            if is_deleted(self.context.pod):
                end_s = min(end_s, now_s + max(MIN_KILL_DELAY_S, grace_period_s(self.context.pod)))
            if now_s >= end_s:
                return False
            if await _within(exited.wait(), min(GRACE_CHECK_S, end_s - now_s)):
                return True

    async def _abandon(self, entry: ContainerRecord) -> None:
        """An attempt that was interrupted before it had a process."""
        await self.context.tools.runtime.delete(entry.container_id)
        await self.take_end(entry, 137, self.context.tools.now(), "ContainerStatusUnknown")

    def _has_own_pids(self) -> bool:
        spec = self.context.pod["spec"]
        return not spec.get("shareProcessNamespace") and not spec.get("hostPID")

    def _image_signal(self, container: Object) -> str:
        image = self.context.tools.images.find(str(container.get("image") or ""))
        wanted = str(image.config.get("StopSignal") or "") if image is not None else ""
        return wanted if wanted.replace("+", "").isalnum() else "TERM"

    async def take_end(self, entry: ContainerRecord, code: int, finished_s: float, reason: str) -> None:
        """Write down how a container ended, and let go of what it held."""
        tools, uid = self.context.tools, self.context.record.uid
        self.prober.end(entry.name)
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
        await self.context.save()
        exited = self.context.exited.get(entry.name)
        if exited is not None:
            exited.set()
        if (
            reason != "Completed"
            and not entry.stop_reason
            and self.context.is_desired
            and not is_deleted(self.context.pod)
        ):
            text = f"Back-off restarting failed container {entry.name} in pod {self.context.title}"
            if entry.crashes:
                self.context.emit("Warning", "BackOff", text, {"name": entry.name})

    def _last_message(self, entry: ContainerRecord, code: int) -> str:
        container = self.context.container_named(entry.name) or {}
        message = self.context.tools.runtime.termination_message(
            self.context.record.uid, entry.name, entry.attempt
        )
        if not message and code != 0 and container.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            path = self.context.tools.layout.pod(self.context.record.uid).log(entry.name, entry.attempt)
            message = logs.last_lines(path, MESSAGE_LINES, MESSAGE_BYTES)
        return message


async def _within(work: Awaitable[Any], timeout_s: float) -> bool:
    try:
        await asyncio.wait_for(work, timeout_s)
    except asyncio.TimeoutError:
        return False
    return True
