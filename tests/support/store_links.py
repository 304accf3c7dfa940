"""The network between store members, in the hands of a test: every byte passes through here.

Each member's recorded address is a listener of ours; behind it we dial the member itself. Who dialled is
found out from the kernel (which process owns the other end of the connection, proc(5)), so one address per
member is enough to treat every *directed* pair alone. A link (source, target) governs the bytes that flow
from source to target, whichever of the two opened the connection:

- open: bytes pass, after `delay_s`;
- held: they stay where they are until the link opens again. It is what TCP makes of a network that loses all
  packets: nobody is told, and what was sent arrives late or the connection is given up;
- cut: connections are reset, and new ones are too.

No root is needed, and nothing outside of the members is touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import os
import socket
import struct
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_CHUNK_BYTES = 256 * 1024


class LinkState(enum.Enum):
    OPEN = "open"
    HELD = "held"
    CUT = "cut"


@dataclass(slots=True)
class _Link:
    state: LinkState = LinkState.OPEN
    delay_s: float = 0.0
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.opened.set()


@dataclass(eq=False, slots=True)
class _Connection:
    dialler: int
    target: int
    near: asyncio.StreamWriter
    far: asyncio.StreamWriter

    def reset(self) -> None:
        for writer in (self.near, self.far):
            _reset(writer)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close so that the other end is told of a reset, not of an orderly end (socket(7), SO_LINGER of 0 s)."""
    if not writer.transport.is_closing():
        writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
    writer.transport.abort()


class Links:
    """See the module's text.

    Args:
        pids: of the members' processes that live now, with the member's number.
    """

    def __init__(self, pids: Callable[[], Mapping[int, int]]) -> None:
        self._pids = pids
        self._links: defaultdict[tuple[int, int], _Link] = defaultdict(_Link)
        self._targets: dict[int, tuple[str, int]] = {}
        self._servers: dict[int, asyncio.Server] = {}
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def add(self, member: int, host: str, port: int) -> str:
        """A new address, HOST:PORT, that leads to a member which listens on this one."""
        self._targets[member] = (host, port)
        server = await asyncio.start_server(
            lambda reader, writer: self._accept(member, reader, writer), host, 0
        )
        self._servers[member] = server
        return f"{host}:{server.sockets[0].getsockname()[1]}"

    def set(self, source: int, target: int, state: LinkState, *, delay_s: float = 0.0) -> None:
        """What becomes of the bytes from one member to another, from now on."""
        link = self._links[source, target]
        link.state, link.delay_s = state, delay_s
        if state is LinkState.HELD:
            link.opened.clear()
        else:
            link.opened.set()
        if state is LinkState.CUT:
            for connection in list(self._connections):
                if {connection.dialler, connection.target} == {source, target}:
                    connection.reset()

    def heal(self) -> None:
        """All links are open and fast. Bytes that were held arrive now."""
        for source, target in list(self._links):
            self.set(source, target, LinkState.OPEN)

    def faults(self) -> list[str]:
        """Which links are not as they should be, in words."""
        return [
            f"{source}->{target} {link.state.value}" + (f" +{link.delay_s}s" if link.delay_s else "")
            for (source, target), link in sorted(self._links.items())
            if link.state is not LinkState.OPEN or link.delay_s
        ]

    async def close(self) -> None:
        for server in self._servers.values():
            server.close()
        for connection in list(self._connections):
            connection.reset()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ------------------------------------------------------------------ one connection

    def _accept(self, target: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._carry(target, reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, target: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            # A connection that breaks is what happens to connections: both ends see it in `_reset`.
            with contextlib.suppress(OSError):
                await self._serve(target, reader, writer)
        finally:
            _reset(writer)

    async def _serve(self, target: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        dialler = self._dialler(writer)
        if dialler is None or LinkState.CUT in (
            self._links[dialler, target].state,
            self._links[target, dialler].state,
        ):
            return
        far_reader, far_writer = await asyncio.open_connection(*self._targets[target])
        connection = _Connection(dialler, target, writer, far_writer)
        self._connections.add(connection)
        pumps = [
            asyncio.create_task(self._pump(reader, far_writer, self._links[dialler, target])),
            asyncio.create_task(self._pump(far_reader, writer, self._links[target, dialler])),
        ]
        try:
            done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in done:
                pump.result()
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._connections.discard(connection)
            connection.reset()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: _Link) -> None:
        while data := await reader.read(_CHUNK_BYTES):
            await link.opened.wait()
            if link.delay_s:
                await asyncio.sleep(link.delay_s)
            if writer.transport.is_closing():
                return  # the other end went away while these bytes were held
            writer.write(data)
            await writer.drain()

    def _dialler(self, writer: asyncio.StreamWriter) -> int | None:
        peer = writer.get_extra_info("peername")
        if peer is None:
            return None
        members = self._pids()
        pid = owner_of_connection(peer[1], writer.get_extra_info("sockname")[1], members)
        return None if pid is None else members[pid]


def owner_of_connection(port: int, remote_port: int, candidates: Iterable[int]) -> int | None:
    """Which of these processes has the TCP connection between these two ports of 127.0.0.1.

    The kernel lists both ends of it, and former connections of the same port (proc(5), net/tcp).
    """
    wanted = [f"0100007F:{port:04X}", f"0100007F:{remote_port:04X}"]
    inode = ""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1:3] == wanted:
            inode = fields[9]
            break
    if not inode:
        return None
    for pid in candidates:
        with contextlib.suppress(OSError):  # it has ended meanwhile
            for descriptor in os.scandir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    if os.readlink(descriptor.path) == f"socket:[{inode}]":
                        return pid
    return None
