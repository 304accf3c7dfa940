"""One hollow host: the agent's side of the wire, with pretended pods behind it.

It keeps what it is told as an agent does on its disk: the sections' digests, the highest term, the pods. A
connection that ends changes nothing for the pods; the next one begins with hello, so only what changed in
between comes down, and goes up as one full report. `HollowHosts` calls `advance` when something is due.

Invariant: an order of an older term than the highest seen is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from gitkube import wire
from gitkube.clock import Clock, rfc3339
from gitkube.objects import pods
from gitkube.sim.hollow.addresses import AddressPool
from gitkube.sim.hollow.ended import EndedPods
from gitkube.sim.hollow.faults import OFF, ON
from gitkube.sim.hollow.pod import HollowPod
from gitkube.sim.hollow.settings import HollowSettings

MAX_REPORTS = 1_000
"""Pods in one message; the control side takes some thousand."""
_PRESSURES = {
    "MemoryPressure": ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    "DiskPressure": ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    "PIDPressure": ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
}


class HollowHost:
    """See the module's text.

    Args:
        wake: called with the monotonic time at which `advance` wants to be called.
        ended: the part of its disk that outlives this process.
    """

    def __init__(
        self,
        name: str,
        address: str,
        *,
        settings: HollowSettings,
        clock: Clock,
        wake: Callable[[HollowHost, float], None],
        ended: EndedPods,
    ) -> None:
        self.name, self.address = name, address
        self.pods: dict[str, HollowPod] = {}
        """By uid."""
        self.state = ON
        """See `faults.py`. One that is cut goes on alone: it hears nothing and says nothing."""
        self._settings, self._clock, self._wake, self._ended = settings, clock, wake, ended
        self._born = clock.now()
        self._term = 0
        self._digests: dict[str, str] = {}
        self._addresses: AddressPool | None = None
        self._images: set[str] = set()
        self._link: wire.Connection | None = None
        self._pipe: wire.ByteStream | None = None

    # ------------------------------------------------------------ the wire

    async def serve(self, pipe: wire.ByteStream) -> None:
        """Speak with the control side until the pipe ends."""
        connection = wire.Connection(
            pipe, is_opener=False, on_message=self._on_message, on_open=self._on_stream
        )
        self._link, self._pipe = connection, pipe
        try:
            # Whoever dials reads at once, so neither waits for the other.
            async with asyncio.TaskGroup() as group:
                group.create_task(connection.run())
                group.create_task(connection.send(self._hello()))
        except* (wire.WireError, OSError):
            pass  # the other side went away; it dials again
        finally:
            if self._link is connection:
                self._link = self._pipe = None

    async def set_state(self, state: str) -> None:
        """Pull the cable, cut the power, or mend either. A power cut ends containers; what had ended before
        stays so, because that is on the disk."""
        self.state = state
        if state == OFF:
            for uid in [uid for uid, pod in self.pods.items() if pod.phase not in pods.TERMINAL_PHASES]:
                self._free(self.pods.pop(uid))
            self._digests.clear()  # so that it is told again of what it should run
            if self._pipe is not None:
                await self._pipe.close()

    def _hello(self) -> wire.Hello:
        return wire.Hello(
            type="hello",
            protocol=wire.PROTOCOL_VERSION,
            agent="",
            node=self.name,
            term=self._term,
            digests=dict(self._digests),
            nodeInfo=_NODE_INFO,
            capacity=dict(self._settings.capacity),
            # Without a key it is nobody's peer: there is no overlay that could be entered.
            publicKey="",
        )

    async def _on_message(self, message: dict[str, Any]) -> None:
        if self.state != ON:
            return
        kind = message.get("type")
        if kind == "ping":
            # Pings come only from a side that was silent, so this answers at most every other second.
            await self._say(wire.Ping(type="ping"))
        elif kind == "welcome":
            self._term = max(self._term, int(message["term"]))
            await self._report(list(self.pods.values()), full=True)
            await self._say(self._node_report())
        elif kind == "desired":
            error = self._refusal(message) or await self._take(message["section"], message["data"])
            if not error:
                self._digests[message["section"]] = message["digest"]
            await self._say(
                wire.Applied(
                    type="applied", section=message["section"], digest=message["digest"], error=error
                )
            )

    def _refusal(self, message: Mapping[str, Any]) -> str:
        term = int(message["term"])
        if term < self._term:
            return f"term {term} is older than {self._term}, which this host has seen"
        self._term = term
        return ""

    async def _take(self, section: str, data: Mapping[str, Any]) -> str:
        if section == "network":
            if self._addresses is None or self._addresses.pod_cidr != data["podCIDR"]:
                self._addresses = AddressPool(data["podCIDR"])
                await self._advance(self.pods.values())
        elif section == "pods":
            await self._take_pods(data["pods"])
        return ""

    async def _take_pods(self, wanted: list[dict[str, Any]]) -> None:
        now_s, now = self._clock.monotonic(), self._clock.now()
        uids = {pod["metadata"]["uid"] for pod in wanted}
        for uid in [uid for uid in self.pods if uid not in uids]:
            self._free(self.pods.pop(uid))
            self._ended.forget(uid)
        touched = []
        for pod in wanted:
            known = self.pods.get(pod["metadata"]["uid"])
            if known is None:
                known = HollowPod(
                    pod, self._settings, self._pull_s(pod), now_s, now,
                    ended_status=self._ended.get(pod["metadata"]["uid"]),
                )  # fmt: skip
                known.update(pod, now_s)
                self.pods[known.uid] = known
                touched.append(known)
            else:
                has_changed = known.update(pod, now_s)
                if has_changed or pod["metadata"].get("deletionTimestamp"):
                    touched.append(known)
        await self._advance(touched, report_all=True)

    def _pull_s(self, pod: Mapping[str, Any]) -> float:
        images = {str(one.get("image")) for one in pod["spec"]["containers"]}
        is_new = not images <= self._images
        self._images |= images
        return self._settings.pull_s if is_new else 0.0

    def _free(self, pod: HollowPod) -> None:
        if self._addresses is not None:
            self._addresses.give_back(pod.address)

    async def _on_stream(self, stream: wire.Stream) -> None:
        request = stream.request
        pod = self.pods.get(str(request.get("pod")))
        if pod is None:
            await stream.close({"error": "the pod is not on this host", "reason": "NotFound"})
        elif request.get("kind") == "logs":
            line = f"{self.name} is a hollow host: {request.get('container') or 'the container'} says nothing"
            stamp = f"{rfc3339(pod.now)} " if request.get("timestamps") else ""
            await stream.write(wire.STDOUT, f"{stamp}{line}\n".encode())
            await stream.close({"exitCode": 0})
        else:
            sentence = f"{self.name} is a hollow host: it runs no containers, so there is nothing to enter"
            await stream.close({"error": sentence, "reason": "BadRequest"})

    # ------------------------------------------------------------ what happens here

    async def advance(self) -> None:
        """Let everything happen that is due, and report it."""
        await self._advance(self.pods.values())

    async def _advance(self, pods: Any, *, report_all: bool = False) -> None:
        now_s, now = self._clock.monotonic(), self._clock.now()
        changed = []
        for pod in pods:
            has_changed = pod.advance(now_s, now)
            if pod.has_started and not pod.address and self._addresses is not None:
                pod.address = self._addresses.take()
                has_changed = True
            if has_changed or report_all:
                changed.append(pod)
        due = min((due for one in self.pods.values() if (due := one.due_s) is not None), default=None)
        if due is not None:
            self._wake(self, due)
        if changed:
            await self._report(changed, full=False)

    async def _report(self, pods: list[HollowPod], *, full: bool) -> None:
        reports = [self._report_of(pod) for pod in pods]
        for start in range(0, max(1, len(reports)), MAX_REPORTS):
            await self._say(
                wire.PodReports(type="pods", full=full, pods=reports[start : start + MAX_REPORTS])
            )

    def _report_of(self, pod: HollowPod) -> wire.PodReport:
        metadata = pod.pod["metadata"]
        report = wire.PodReport(uid=pod.uid, namespace=metadata["namespace"], name=metadata["name"])
        if pod.is_gone:
            report["gone"] = True
        else:
            report["status"] = status = pod.status(self.address, self._clock.now())
            if status["phase"] in pods.TERMINAL_PHASES:
                self._ended.keep(pod.uid, status)
        return report

    def _node_report(self) -> wire.NodeReport:
        since = rfc3339(self._born)
        conditions = [
            {"type": kind, "status": "False", "reason": reason, "message": message,
             "lastTransitionTime": since}
            for kind, (reason, message) in _PRESSURES.items()
        ]  # fmt: skip
        return wire.NodeReport(type="node", conditions=conditions, images=[])

    async def _say(self, message: Any) -> None:
        """Tell the control side, if there is one: after a hello it hears everything again."""
        if self._link is not None and self.state == ON:
            with contextlib.suppress(wire.WireError, OSError):
                await self._link.send(message)


_NODE_INFO = {
    "machineID": "", "systemUUID": "", "bootID": "", "kernelVersion": "hollow", "osImage": "hollow",
    "containerRuntimeVersion": "hollow://1", "kubeletVersion": "v1.37.0+gitkube",
    "kubeProxyVersion": "v1.37.0+gitkube", "operatingSystem": "linux", "architecture": "amd64",
}  # fmt: skip
