"""The place of a webhook that is named by a Service: one of its ready endpoints.

The control side is no part of the pods' network, so a pod is reached as `kubectl port-forward` reaches it: by
the link to its host. Endpoints that are no pods, and ExternalNames, are dialled from here.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import structlog

from gitkube.api.cache import WatchCache
from gitkube.api.errors import StatusError
from gitkube.api.streams import StreamSession
from gitkube.api.webhooks.connections import Place, Streams, dial_tcp
from gitkube.api.webhooks.exchange import MAX_HEAD_BYTES
from gitkube.objects.kinds import ENDPOINT_SLICE, POD, SERVICE
from gitkube.objects.types import Object
from gitkube.wire import WireError

log = structlog.get_logger()

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
_CHUNK_BYTES = 64 * 1024
_STDIN = 0

Forward = Callable[[Object, int], Awaitable[StreamSession]]
"""Opens a connection to a port of a pod, as `PodStreams.port_forward`."""


class NoEndpointError(Exception):
    """The Service is not there, or nothing ready is behind it."""


class Services:
    def __init__(self, cache: WatchCache, rng: random.Random) -> None:
        self._cache = cache
        self._rng = rng
        self._pumps: set[asyncio.Task[None]] = set()
        self.forward: Forward | None = None
        """Set once the hosts can be reached; before that pods are dialled directly."""

    def place(self, namespace: str, name: str, port: int) -> Place:
        """Where to connect for a port of a Service; another endpoint each time.

        Raises:
            NoEndpointError: see there.
        """
        service = self._cache.of(SERVICE).get(name, namespace)
        if service is None:
            raise NoEndpointError(f'service "{name}" not found')
        server_name = f"{name}.{namespace}.svc"
        host = f"{server_name}:{port}"
        spec = service.get("spec") or {}
        if spec.get("type") == "ExternalName":
            external = str(spec.get("externalName"))
            return _direct(f"{external}:{port}", external, port, server_name, host)
        wanted = next((each for each in spec.get("ports") or () if each.get("port") == port), None)
        if wanted is None:
            raise NoEndpointError(f'no service port {port} found for service "{name}"')
        ready = list(self._ready(namespace, name, str(wanted.get("name") or "")))
        if not ready:
            raise NoEndpointError(f'no endpoints available for service "{name}"')
        address, target_port, reference = self._rng.choice(ready)
        pod = None
        if reference.get("kind") == "Pod":
            pod = self._cache.of(POD).get(str(reference.get("name")), namespace)
        forward = self.forward
        if pod is None or forward is None:
            return _direct(f"{address}:{target_port}", address, target_port, server_name, host)
        target = pod

        async def dial(context: ssl.SSLContext, for_name: str) -> Streams:
            return await self._dial_pod(forward, target, target_port, context, for_name)

        return Place(f"pod {target['metadata']['uid']}:{target_port}", server_name, host, dial)

    def _ready(
        self, namespace: str, name: str, port_name: str
    ) -> Iterator[tuple[str, int, Mapping[str, Any]]]:
        for _, endpoint_slice in self._cache.of(ENDPOINT_SLICE).select(namespace):
            labels = endpoint_slice["metadata"].get("labels") or {}
            if labels.get(SERVICE_NAME_LABEL) != name:
                continue
            ports = [
                int(each["port"])
                for each in endpoint_slice.get("ports") or ()
                if (each.get("name") or "") == port_name and each.get("port")
            ]
            for endpoint in endpoint_slice.get("endpoints") or ():
                is_ready = (endpoint.get("conditions") or {}).get("ready")
                if is_ready is not False and ports and endpoint.get("addresses"):
                    yield str(endpoint["addresses"][0]), ports[0], endpoint.get("targetRef") or {}

    async def _dial_pod(
        self, forward: Forward, pod: Object, port: int, context: ssl.SSLContext, server_name: str
    ) -> Streams:
        try:
            session = await forward(pod, port)
        except StatusError as error:
            raise OSError(f"dial pod {pod['metadata']['name']}:{port}: {error.message}") from error
        ours, theirs = socket.socketpair()
        pump = asyncio.create_task(_pump(theirs, session), name="webhook-forward")
        self._pumps.add(pump)
        pump.add_done_callback(self._pumps.discard)
        try:
            return await asyncio.open_connection(
                sock=ours, ssl=context, server_hostname=server_name, limit=MAX_HEAD_BYTES
            )
        except BaseException:
            ours.close()
            pump.cancel()
            raise

    async def close(self) -> None:
        """End the connections that are still open."""
        for pump in list(self._pumps):
            pump.cancel()
        if self._pumps:
            await asyncio.wait(self._pumps)


def _direct(key: str, address: str, port: int, server_name: str, host: str) -> Place:
    async def dial(context: ssl.SSLContext, for_name: str) -> Streams:
        return await dial_tcp(address, port, context, for_name)

    return Place(key, server_name, host, dial)


async def _pump(end: socket.socket, session: StreamSession) -> None:
    """Carry bytes between a socket and a forwarded connection until either ends."""
    end.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=end)

    async def to_pod() -> None:
        while chunk := await reader.read(_CHUNK_BYTES):
            await session.write(_STDIN, chunk)
        await session.write(_STDIN, b"")

    inbound = asyncio.create_task(to_pod(), name="webhook-forward-in")
    try:
        while (item := await session.read()) is not None:
            writer.write(item[1])
            await writer.drain()
    except (OSError, WireError) as error:
        log.info("webhook_forward_ended", error=str(error))
    finally:
        inbound.cancel()
        await asyncio.wait([inbound])
        writer.close()
        with contextlib.suppress(OSError, WireError):
            await session.close({"exitCode": 0})
