"""Hosts in memory: bound pods become Running and Ready after a while, deleted ones go after another."""

from __future__ import annotations

import asyncio
import itertools

from gitkube.api.client import Client
from gitkube.api.errors import StatusError, is_not_found
from gitkube.api.informer import Informer
from gitkube.clock import Clock, rfc3339
from gitkube.objects import meta
from gitkube.objects.kinds import POD
from gitkube.objects.types import Object


class FakeKubelet:
    """Plays all hosts at once. `broken` images never become ready, `ending` ones succeed after a second."""

    def __init__(self, client: Client, clock: Clock, *, start_s: float = 1.0, stop_s: float = 1.0) -> None:
        self._client = client
        self._clock = clock
        self._start_s = start_s
        self.stop_s = stop_s
        self._addresses = itertools.count(2)
        self._busy: set[tuple[str, str]] = set()
        self._wake = asyncio.Event()
        self.dead_hosts: set[str] = set()
        self.broken: set[str] = set()
        self.ending: dict[str, str] = {}
        """Image -> the phase its pods end in."""
        self.ending_s: dict[str, float] = {}
        """Image -> how long its pods run, where that is not a second."""
        self._pods = Informer(client, POD, clock=clock)
        self._pods.add_handler(lambda before, after: self._wake.set())

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pods.run())
            while True:
                await self._wake.wait()
                self._wake.clear()
                for pod in self._pods.list():
                    self._act(group, pod)

    def _act(self, group: asyncio.TaskGroup, pod: Object) -> None:
        host = pod["spec"].get("nodeName")
        if not host or host in self.dead_hosts:
            return
        phase = (pod.get("status") or {}).get("phase")
        if meta.is_deleting(pod):
            self._once(group, ("stop", meta.uid(pod)), self._stop(pod))
        elif phase == "Pending":
            self._once(group, ("start", meta.uid(pod)), self._start(pod))
        elif phase == "Running" and (names := _waiting_ephemeral(pod)):
            self._once(group, ("debug " + " ".join(names), meta.uid(pod)), self._start_ephemeral(pod))

    def _once(self, group: asyncio.TaskGroup, key: tuple[str, str], work: object) -> None:
        assert asyncio.iscoroutine(work)
        if key in self._busy:
            work.close()
            return
        self._busy.add(key)
        group.create_task(work)

    async def _start(self, pod: Object) -> None:
        await self._clock.sleep(self._start_s)
        image = pod["spec"]["containers"][0]["image"]
        is_ready = image not in self.broken
        await self._status(pod, "Running", is_ready)
        if image in self.ending:
            await self._clock.sleep(self.ending_s.get(image, 1.0))
            await self._status(pod, self.ending[image], False)

    async def _start_ephemeral(self, pod: Object) -> None:
        state = {"running": {"startedAt": rfc3339(self._clock.now())}}
        statuses = [
            {
                "name": one["name"], "image": one["image"], "imageID": "", "ready": False,
                "restartCount": 0, "state": state,
            }
            for one in pod["spec"]["ephemeralContainers"]
        ]  # fmt: skip
        patch = {"status": {"ephemeralContainerStatuses": statuses}}
        await self._client.patch(POD, meta.name(pod), meta.namespace(pod), patch, subresource="status")

    async def _status(self, pod: Object, phase: str, is_ready: bool) -> None:
        now = rfc3339(self._clock.now())
        status: Object = {
            "phase": phase,
            "podIP": f"10.42.0.{next(self._addresses)}",
            "startTime": now,
            "conditions": [
                {"type": "PodScheduled", "status": "True", "lastTransitionTime": now},
                {"type": "Initialized", "status": "True", "lastTransitionTime": now},
                {"type": "ContainersReady", "status": str(is_ready), "lastTransitionTime": now},
                {"type": "Ready", "status": str(is_ready), "lastTransitionTime": now},
            ],
        }
        is_over = phase in ("Succeeded", "Failed")
        code, reason = (0, "Completed") if phase == "Succeeded" else (1, "Error")
        ended = {"exitCode": code, "reason": reason, "startedAt": now, "finishedAt": now}
        status["containerStatuses"] = [
            {
                "name": one["name"], "image": one["image"], "imageID": "", "ready": is_ready,
                "restartCount": 0, "started": not is_over,
                "state": {"terminated": ended} if is_over else {"running": {"startedAt": now}},
            }
            for one in pod["spec"]["containers"]
        ]  # fmt: skip
        patch = {"metadata": {"uid": meta.uid(pod)}, "status": status}
        try:
            await self._client.patch(POD, meta.name(pod), meta.namespace(pod), patch, subresource="status")
        except StatusError as error:
            if not is_not_found(error):
                raise

    async def _stop(self, pod: Object) -> None:
        await self._clock.sleep(self.stop_s)
        try:
            await self._client.delete(
                POD, meta.name(pod), meta.namespace(pod), grace_period_s=0, uid=meta.uid(pod)
            )
        except StatusError as error:
            if not is_not_found(error):
                raise


def _waiting_ephemeral(pod: Object) -> list[str]:
    """Ephemeral containers that nothing is known of."""
    known = {one["name"] for one in (pod.get("status") or {}).get("ephemeralContainerStatuses") or []}
    wanted = [str(one["name"]) for one in pod["spec"].get("ephemeralContainers") or []]
    return [name for name in wanted if name not in known]
