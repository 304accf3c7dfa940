"""The way of this host's pods to the API: what they send to the Service `kubernetes` goes over the link.

The rules of the network lead the Service's address to a port on the pods' gateway, which is served here. Each
connection becomes a stream to the control side, which joins it with its API server. TLS goes from the pod to
the API, so nothing can be read or changed on the way, and the host shows no identity of its own. While the
control side is away a connection is closed at once: whoever asks gets an error that he can retry, not a
silence.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from typing import Any, Callable, Protocol

from gitkube.node.network.services import API_DOOR_PORT
from gitkube.wire import STDIN, STDOUT, Stream, WireError, join

RETRY_S = 2.0
MAX_CONNECTIONS = 512
"""At once, from all pods of this host; the control side takes no more of one host."""
log = logging.getLogger(__name__)


class Opener(Protocol):
    """The link, as far as it is needed here."""

    async def open(self, request: dict[str, Any]) -> Stream: ...


class ApiDoor:
    """Serves the port; `run` must be running."""

    def __init__(self, link: Callable[[], Opener | None], *, port: int = API_DOOR_PORT) -> None:
        """
        Args:
            link: to the control side; None while it is away.
        """
        self._link = link
        self._address = ""
        self._network = ipaddress.IPv4Network("0.0.0.0/32")
        self._moved = asyncio.Event()
        self.port = port
        """Where it listens."""
        self._open = 0

    def move(self, address: str, network: str) -> None:
        """Listen on this address from now on, for whoever calls from this network (CIDR): this host's pods
        and the host itself. A machine beside it that routes packets here gets nothing."""
        self._network = ipaddress.IPv4Network(network)
        if address != self._address:
            self._address = address
            self._moved.set()

    async def run(self) -> None:
        """Listen for ever, once there is an address."""
        while True:
            await self._moved.wait()
            self._moved.clear()
            try:
                server = await asyncio.start_server(self._serve, self._address, self.port)
            except OSError as error:
                # The gateway's link may be just in the making.
                log.warning("the API is not served to pods: address=%s error=%s", self._address, error)
                await asyncio.sleep(RETRY_S)
                self._moved.set()
                continue
            self.port = server.sockets[0].getsockname()[1]
            try:
                await self._moved.wait()
            finally:
                server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = self._link()
        try:
            if link is not None and self._open < MAX_CONNECTIONS and self._is_ours(writer):
                self._open += 1
                try:
                    await self._carry(link, reader, writer)
                finally:
                    self._open -= 1
        except (WireError, OSError) as error:
            log.info("connection to the API ended: %s", error)
        finally:
            writer.close()

    def _is_ours(self, writer: asyncio.StreamWriter) -> bool:
        peer = writer.get_extra_info("peername")
        return bool(peer) and ipaddress.IPv4Address(peer[0]) in self._network

    async def _carry(self, link: Opener, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stream = await link.open({"kind": "api"})
        try:
            await join(stream, reader, writer, outgoing=STDIN, incoming=STDOUT)
        finally:
            await stream.close({"exitCode": 0})
