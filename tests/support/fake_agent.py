"""A host in memory: the agent's side of the wire, and a dialer that reaches it without SSH."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gitkube import wire
from gitkube.fleet.errors import FleetError
from gitkube.fleet.hosts import Host

AGENT_DIGEST = "a" * 64


class MemoryPipe:
    """One end of a two-way pipe; a `wire.ByteStream`."""

    def __init__(self, inbox: asyncio.Queue[bytes], outbox: asyncio.Queue[bytes]) -> None:
        self._inbox, self._outbox = inbox, outbox
        self._closed = False
        self.peer_address = "192.0.2.1"

    async def read(self) -> bytes:
        data = await self._inbox.get()
        if not data:
            self._inbox.put_nowait(b"")
        return data

    async def write(self, data: bytes) -> None:
        if self._closed:
            raise OSError("the pipe is closed")
        self._outbox.put_nowait(data)

    async def close(self) -> None:
        self._closed = True
        self._outbox.put_nowait(b"")
        self._inbox.put_nowait(b"")

    def last_words(self) -> str:
        return ""


def memory_pipe() -> tuple[MemoryPipe, MemoryPipe]:
    one: asyncio.Queue[bytes] = asyncio.Queue()
    other: asyncio.Queue[bytes] = asyncio.Queue()
    return MemoryPipe(one, other), MemoryPipe(other, one)


@dataclass
class FakeAgent:
    """Keeps what it is told, as a real agent does on its disk, and says what it is asked to."""

    name: str
    term: int = 0
    agent: str = AGENT_DIGEST
    sections: dict[str, wire.Desired] = field(default_factory=dict)
    received: list[dict[str, Any]] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)
    """Section -> what to answer instead of putting it into force."""
    connections: int = 0
    on_stream: Callable[[wire.Stream], Any] | None = None
    silent: bool = False
    """Says hello and then nothing more, like a host behind a cut cable."""
    link: wire.Connection | None = None
    pipe: MemoryPipe | None = None

    async def serve(self, pipe: MemoryPipe) -> None:
        self.connections += 1
        self.pipe = pipe
        connection = wire.Connection(
            pipe, is_opener=False, on_message=self._on_message, on_open=self._on_open
        )
        self.link = connection
        running = asyncio.ensure_future(connection.run())
        with contextlib.suppress(OSError, wire.WireError):
            await connection.send(self.hello())
            await running

    def hello(self) -> wire.Hello:
        return wire.Hello(
            type="hello",
            protocol=wire.PROTOCOL_VERSION,
            agent=self.agent,
            node=self.name,
            term=self.term,
            digests={name: section["digest"] for name, section in self.sections.items()},
            nodeInfo=NODE_INFO,
            capacity={"cpu": "2", "memory": "4096Mi", "pods": "110"},
            publicKey=public_key_of(self.name),
        )

    async def say(self, message: Any) -> None:
        assert self.link is not None
        await self.link.send(message)

    async def _on_message(self, message: dict[str, Any]) -> None:
        self.received.append(message)
        if message["type"] == "welcome":
            self.term = max(self.term, message["term"])
        if message["type"] != "desired" or self.silent:
            return
        error = self.errors.get(message["section"], "")
        if message["term"] < self.term:
            error = f"refused: term {message['term']} is older than {self.term}"
        if not error:
            self.sections[message["section"]] = message  # type: ignore[assignment]
        await self.say(
            wire.Applied(type="applied", section=message["section"], digest=message["digest"], error=error)
        )

    async def _on_open(self, stream: wire.Stream) -> None:
        if self.on_stream is not None:
            await self.on_stream(stream)


def public_key_of(name: str) -> str:
    """A WireGuard key as such a host would have."""
    return base64.b64encode(hashlib.sha256(name.encode()).digest()).decode()


NODE_INFO = {
    "machineID": "m", "systemUUID": "s", "bootID": "b", "kernelVersion": "6.1", "osImage": "Debian 12",
    "containerRuntimeVersion": "crun://1.8.1", "kubeletVersion": "gitkube", "kubeProxyVersion": "gitkube",
    "operatingSystem": "linux", "architecture": "amd64",
}  # fmt: skip


class FakeDialer:
    """Reaches the fake agents that it was given; a host without one does not answer."""

    agent_digest = AGENT_DIGEST

    def __init__(self, *agents: FakeAgent) -> None:
        self.agents = {agent.name: agent for agent in agents}
        self.dialled: list[tuple[str, bool]] = []
        self.errors: dict[str, FleetError] = {}
        self.hangs: set[str] = set()
        self._serving: set[asyncio.Task[None]] = set()

    async def dial(self, host: Host, *, restart: bool, on_progress: Callable[[str], None]) -> MemoryPipe:
        self.dialled.append((host.name, restart))
        if host.name in self.hangs:
            await asyncio.Event().wait()
        if host.name in self.errors:
            raise self.errors[host.name]
        if restart:
            self.agents[host.name].agent = self.agent_digest
        ours, theirs = memory_pipe()
        task = asyncio.ensure_future(self.agents[host.name].serve(theirs))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        return ours
