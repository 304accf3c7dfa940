"""The streams that the control side opens: each request brought to the pod and container that it names."""

from __future__ import annotations

import logging
import time
from typing import Any

from gitkube.node import exec as container_exec
from gitkube.node import logs
from gitkube.node.kube import Object, containers_of, init_containers_of, parse_time
from gitkube.node.paths import Layout
from gitkube.node.pods import PodManager
from gitkube.node.records import EXITED, RUNNING, STOPPING, ContainerRecord
from gitkube.node.worker import PodWorker
from gitkube.wire import STDOUT, Stream, WireError

log = logging.getLogger(__name__)


class Refused(Exception):
    """The request cannot be served; `reason` is a word for programs."""

    def __init__(self, message: str, reason: str = "BadRequest") -> None:
        super().__init__(message)
        self.reason = reason


class StreamServer:
    """Serves logs, exec, attach and port-forward for the pods of this host."""

    def __init__(self, layout: Layout, manager: PodManager) -> None:
        self._layout = layout
        self._manager = manager

    async def serve(self, stream: Stream) -> None:
        """Serve one stream to its end. What goes wrong is said in its result."""
        kind = str(stream.request.get("kind"))
        try:
            worker = self._manager.find(str(stream.request.get("pod")))
            if worker is None:
                raise Refused("the pod is not on this host", "NotFound")
            if kind == "logs":
                await self._logs(stream, worker)
            elif kind == "exec":
                entry, _ = self._running(stream, worker)
                await container_exec.serve_exec(stream, worker.target(entry))
            elif kind == "attach":
                await self._attach(stream, worker)
            elif kind == "port-forward":
                await self._port_forward(stream, worker)
            else:
                raise Refused(f"this host does not know streams of kind {kind!r}")
        except Refused as error:
            await stream.close({"error": str(error), "reason": error.reason})
        except (WireError, ConnectionError):
            raise
        except (ValueError, OSError) as error:
            await stream.close({"error": f"{kind}: {error}", "reason": "InternalError"})
        except Exception:
            log.exception("stream failed: kind=%s", kind)
            await stream.close(
                {"error": f"{kind} failed on the host; its log says why", "reason": "InternalError"}
            )

    def _container(self, stream: Stream, worker: PodWorker) -> tuple[ContainerRecord, Object]:
        containers = containers_of(worker.pod)
        name = str(stream.request.get("container") or "")
        if not name and len(containers) == 1:
            name = str(containers[0]["name"])
        container = worker.container_named(name)
        if container is None:
            names = ", ".join(str(entry["name"]) for entry in [*containers, *init_containers_of(worker.pod)])
            raise Refused(f"container {name!r} is not in the pod; it has: {names}")
        return worker.record.container(name), container

    def _running(self, stream: Stream, worker: PodWorker) -> tuple[ContainerRecord, Object]:
        entry, container = self._container(stream, worker)
        if entry.phase not in (RUNNING, STOPPING):
            raise Refused(f'container "{entry.name}" is not running; it is {entry.phase}', "NotRunning")
        return entry, container

    async def _logs(self, stream: Stream, worker: PodWorker) -> None:
        entry, _ = self._container(stream, worker)
        attempt = wanted_attempt(
            entry,
            worker.record.name,
            is_backing_off=entry.name in worker.plan.backoff,
            previous=bool(stream.request.get("previous")),
        )
        path = self._layout.pod(worker.record.uid).log(entry.name, attempt)

        def is_running() -> bool:
            return entry.attempt == attempt and entry.is_alive

        options = log_options(stream.request, time.time())
        async for text in logs.read_log(path, options, is_running):
            await stream.write(STDOUT, text)
        await stream.close({"exitCode": 0})

    async def _attach(self, stream: Stream, worker: PodWorker) -> None:
        entry, _ = self._running(stream, worker)
        bundle = self._layout.pod(worker.record.uid).bundle(entry.name, entry.attempt)
        await container_exec.serve_attach(stream, bundle / "attach", bundle / "ctl")

    async def _port_forward(self, stream: Stream, worker: PodWorker) -> None:
        if worker.sandbox is None:
            raise Refused("the pod has no network yet", "NotRunning")
        await container_exec.serve_port_forward(stream, worker.sandbox.netns)


def wanted_attempt(entry: ContainerRecord, pod: str, *, is_backing_off: bool, previous: bool) -> int:
    """The attempt of a container whose log is meant.

    A container that waits for its next start has its last attempt behind it: then that is the previous one,
    and also the best answer to who asks for none in particular.

    Raises:
        Refused: there was none, in Kubernetes' words.
    """
    is_waiting = is_backing_off or (entry.phase == EXITED and bool(entry.waiting_reason))
    attempt = entry.attempt - 1 if previous and not is_waiting else entry.attempt
    if attempt >= 0:
        return attempt
    if previous:
        raise Refused(f'previous terminated container "{entry.name}" in pod "{pod}" not found')
    reason = entry.waiting_reason or "ContainerCreating"
    raise Refused(f'container "{entry.name}" in pod "{pod}" is waiting to start: {reason}')


def log_options(request: dict[str, Any], now_s: float) -> logs.Options:
    """A logs request as options.

    Raises:
        ValueError: a number or a time in it is none.
    """
    since_s = None
    if request.get("sinceTime"):
        since_s = parse_time(str(request["sinceTime"]))
    elif request.get("sinceSeconds") is not None:
        since_s = now_s - int(request["sinceSeconds"])
    tail = request.get("tailLines")
    limit = request.get("limitBytes")
    return logs.Options(
        follow=bool(request.get("follow")),
        timestamps=bool(request.get("timestamps")),
        tail_lines=None if tail is None else max(0, int(tail)),
        since_s=since_s,
        limit_bytes=None if limit is None else max(0, int(limit)),
    )
