"""The API for the pods of a host: their connections come up the host's link and end at our own API server.

A host opens a stream of kind `api` for each connection that a pod makes to the Service `kubernetes`; here it
is joined with a new TCP connection to the API. What passes is TLS between the pod and the API, so neither the
host nor this file can read it, and who the pod is its token says. A host gets no more of the API by this than
anybody who can reach its port.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from gitkube.wire import STDIN, STDOUT, Stream, join

MAX_STREAMS = 512
"""Of one host at once, out of the wire's 1,024: logs and exec must find room beside a flood from pods."""
CONNECT_TIMEOUT_S = 5.0

log = structlog.get_logger(__name__)

ApiAddress = Callable[[], tuple[str, int]]
"""Where our own API listens."""


class ApiBridge:
    """Serves the streams that one host opens."""

    def __init__(self, host: str, address: ApiAddress) -> None:
        self._host = host
        self._address = address
        self._open = 0

    async def serve(self, stream: Stream) -> None:
        """Carry one connection to its end."""
        if stream.request.get("kind") != "api":
            await stream.close({"error": "only the API can be reached from here", "reason": "BadRequest"})
            return
        if self._open >= MAX_STREAMS:
            log.warning("api_streams_refused", host=self._host, limit=MAX_STREAMS)
            await stream.close({"error": f"{MAX_STREAMS} connections are open already", "reason": "Busy"})
            return
        self._open += 1
        try:
            await self._carry(stream)
        finally:
            self._open -= 1

    async def _carry(self, stream: Stream) -> None:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                reader, writer = await asyncio.open_connection(*self._address())
        except (OSError, TimeoutError) as error:
            await stream.close({"error": f"the API does not answer: {error}", "reason": "ConnectError"})
            return
        try:
            await join(stream, reader, writer, outgoing=STDOUT, incoming=STDIN)
        finally:
            writer.close()
        await stream.close({"exitCode": 0})
