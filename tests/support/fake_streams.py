"""Pods that are not there: logs and commands answered from memory, as a host would answer them.

A port of a pod answers in capitals, unless a real server of the test stands behind it (`behind`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from gitkube.api.errors import not_found
from gitkube.api.streams import ExecOptions, LogOptions
from gitkube.objects.types import Object
from gitkube.wire import STDERR, STDIN, STDOUT, WireError


class FakeSession:
    """A `StreamSession` whose other end is a coroutine of the test."""

    def __init__(self) -> None:
        self.result: dict[str, Any] | None = None
        self.inbound: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue()
        self._outbound: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue()

    async def read(self) -> tuple[int, bytes] | None:
        if self.result is not None and self._outbound.empty():
            return None
        return await self._outbound.get()

    async def write(self, channel: int, data: bytes) -> None:
        if self.result is not None:
            raise WireError("the stream is closed")
        await self.inbound.put((channel, data))

    async def close(self, result: dict[str, Any]) -> None:
        self.end(result)

    def say(self, channel: int, data: bytes) -> None:
        self._outbound.put_nowait((channel, data))

    def end(self, result: dict[str, Any]) -> None:
        if self.result is None:
            self.result = result
            self._outbound.put_nowait(None)


class FakeStreams:
    """Knows the commands `echo WORDS`, `cat`, `fail CODE`, `both`, `size`; a port answers in capitals."""

    def __init__(self) -> None:
        self.log = [b"one\n", b"two\n", b"three\n"]
        self.following = asyncio.Queue[bytes | None]()
        self.log_requests: list[LogOptions] = []
        self.exec_requests: list[ExecOptions] = []
        self.sizes: list[bytes] = []
        self.behind: dict[int, int] = {}
        """Port of a pod -> port on this machine that plays it."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def logs(self, pod: Object, options: LogOptions) -> AsyncIterator[bytes]:
        self.log_requests.append(options)
        if not (pod.get("spec") or {}).get("nodeName"):
            raise not_found("", "pods", pod["metadata"]["name"])
        lines = self.log if options.tail_lines is None else self.log[-options.tail_lines :]
        for line in lines:
            yield line
        while options.follow:
            chunk = await self.following.get()
            if chunk is None:
                return
            yield chunk

    async def exec(self, pod: Object, options: ExecOptions) -> FakeSession:
        self.exec_requests.append(options)
        session = FakeSession()
        self._run(self._command(session, options))
        return session

    async def attach(self, pod: Object, options: ExecOptions) -> FakeSession:
        session = FakeSession()
        self._run(self._command(session, ExecOptions(options.container, ["cat"], options.stdin, options.tty)))
        return session

    async def port_forward(self, pod: Object, port: int) -> FakeSession:
        session = FakeSession()
        at = self.behind.get(port)
        self._run(self._shout(session) if at is None else self._connect(session, at))
        return session

    def _run(self, coroutine: Any) -> None:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _command(self, session: FakeSession, options: ExecOptions) -> None:
        command = list(options.command)
        if command[0] == "echo":
            session.say(STDOUT, " ".join(command[1:]).encode() + b"\n")
        elif command[0] == "cat":
            while True:
                channel, data = await session.inbound.get()
                if channel != STDIN:
                    self.sizes.append(data)
                    continue
                if not data:
                    break
                session.say(STDOUT, data)
        elif command[0] == "both":
            session.say(STDOUT, b"out\n")
            session.say(STDERR, b"err\n")
        elif command[0] == "fail":
            session.end({"exitCode": int(command[1])})
        else:
            session.end({"error": f"{command[0]}: no such file", "reason": "ExecFailed"})
        session.end({"exitCode": 0})

    async def _shout(self, session: FakeSession) -> None:
        while True:
            _, data = await session.inbound.get()
            if not data:
                break
            session.say(STDOUT, data.upper())
        session.end({"exitCode": 0})

    async def _connect(self, session: FakeSession, port: int) -> None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            session.end({"error": f"connection to port {port} refused", "reason": "Refused"})
            return
        inbound = asyncio.ensure_future(_write_all(session, writer))
        try:
            while data := await reader.read(65536):
                session.say(STDOUT, data)
            session.end({"exitCode": 0})
        finally:
            inbound.cancel()
            writer.close()


async def _write_all(session: FakeSession, writer: asyncio.StreamWriter) -> None:
    while data := (await session.inbound.get())[1]:
        writer.write(data)
        await writer.drain()
    writer.write_eof()
