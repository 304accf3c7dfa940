"""Which probes a container is asked when, and what their answers change."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Callable, Optional

from gitkube.node import probes
from gitkube.node.context import PodContext
from gitkube.node.hooks import Hooks
from gitkube.node.kube import Object
from gitkube.node.records import RUNNING, ContainerRecord

Stop = Callable[[ContainerRecord, str, Optional[float]], Coroutine[Any, Any, None]]


class Prober:
    """Runs the probes of one pod's containers; an answer about an earlier attempt changes nothing."""

    def __init__(self, context: PodContext, hooks: Hooks, stop: Stop) -> None:
        self.context = context
        self._hooks = hooks
        self._stop = stop
        self._probes: dict[str, list[asyncio.Task[None]]] = {}

    def end_all(self) -> None:
        for name in list(self._probes):
            self.end(name)

    def begin(self, entry: ContainerRecord) -> None:
        """Ask what this stage of the container's life calls for: first whether it has started."""
        container = self.context.container_named(entry.name)
        if container is None:
            return
        self.end(entry.name)
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
        identifier, target = entry.container_id, self.context.target(entry)

        async def ask(probe: Object, timeout_s: float) -> probes.Answer:
            return await self._hooks.ask(probe, container, target, self.context.probe_address, timeout_s)

        def tell(kind: str, is_success: bool, message: str) -> None:
            if entry.container_id == identifier and entry.phase == RUNNING:
                self._hear(kind, is_success, message, container, entry)

        probe = container[f"{kind}Probe"]
        ago_s = max(0.0, self.context.tools.now() - entry.started_s)
        return asyncio.ensure_future(probes.run_probe(kind, probe, ask, tell, started_ago_s=ago_s))

    def _hear(
        self, kind: str, is_success: bool, message: str, container: Object, entry: ContainerRecord
    ) -> None:
        if not is_success:
            text = f"{kind.capitalize()} probe failed: {message}"
            self.context.emit("Warning", "Unhealthy", text, container)
        if kind == probes.READINESS:
            if entry.is_ready != is_success:
                entry.is_ready = is_success
                self.context.save_soon()
        elif kind == probes.STARTUP and is_success:
            entry.is_started = True
            asyncio.get_running_loop().call_soon(self.begin, entry)
        elif not is_success and f"stop:{entry.name}" not in self.context.tasks:
            why = f"Container {entry.name} failed {kind} probe, will be restarted"
            grace = container[f"{kind}Probe"].get("terminationGracePeriodSeconds")
            self.context.spawn(f"stop:{entry.name}", self._stop(entry, why, grace))
        self.context.poke()

    def end(self, name: str) -> None:
        """Ask a container no more."""
        for task in self._probes.pop(name, []):
            task.cancel()
