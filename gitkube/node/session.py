"""One connection with the control side: hello, welcome, then sections one way and reports the other."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any, Callable, Protocol

from gitkube.wire import PING_INTERVAL_S, Connection, SocketStream, Stream, WireError

log = logging.getLogger(__name__)

DEAD_AFTER_S = 3 * PING_INTERVAL_S
WELCOME_TIMEOUT_S = 10.0


class Owner(Protocol):
    """What a session asks of the agent."""

    def hello(self) -> dict[str, Any]: ...

    async def welcome(self, session: Session, message: dict[str, Any]) -> None: ...

    async def take_desired(self, message: dict[str, Any]) -> str: ...

    async def serve_stream(self, stream: Stream) -> None: ...


class Session:
    """One connection: hello, welcome, then sections one way and reports the other."""

    def __init__(self, agent: Owner, stream: SocketStream) -> None:
        self._agent = agent
        self._stream = stream
        self._connection = Connection(
            _Heard(stream, self._hear), is_opener=False, on_message=self._take, on_open=agent.serve_stream
        )
        self._is_welcome = False
        self._heard_at = 0.0
        self._said_at = 0.0
        self._applying: dict[str, asyncio.Task[None]] = {}

    def _hear(self) -> None:
        """Any byte is a sign of life: who is busy with a stream sends no pings."""
        self._heard_at = asyncio.get_running_loop().time()

    async def run(self) -> None:
        """Serve the connection to its end.

        Raises:
            WireError: the peer broke the protocol, fell silent, or was deposed.
            OSError: the socket failed.
        """
        loop = asyncio.get_running_loop()
        self._heard_at = loop.time()
        await self.send(await asyncio.to_thread(self._agent.hello))
        serving = asyncio.ensure_future(self._connection.run())
        watching = asyncio.ensure_future(self._watch())
        try:
            done, _ = await asyncio.wait({serving, watching}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (serving, watching, *self._applying.values()):
                task.cancel()
            await asyncio.gather(serving, watching, *self._applying.values(), return_exceptions=True)

    async def _watch(self) -> None:
        """Say something when nothing else was said, and notice when the other side does not."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(PING_INTERVAL_S / 2)
            if loop.time() - self._heard_at > max(DEAD_AFTER_S, 0 if self._is_welcome else WELCOME_TIMEOUT_S):
                raise WireError(f"the control side was silent for {DEAD_AFTER_S:g} s")
            if loop.time() - self._said_at >= PING_INTERVAL_S:
                await self.send({"type": "ping"})

    async def send(self, message: Any) -> None:
        self._said_at = asyncio.get_running_loop().time()
        await self._connection.send(message)

    async def open(self, request: dict[str, Any]) -> Stream:
        """Open a stream to the control side.

        Raises:
            WireError: too many are open, or the connection has ended.
        """
        if not self._is_welcome:
            raise WireError("the control side has not said welcome yet")
        return await self._connection.open(request)

    async def close(self) -> None:
        await self._stream.close()

    async def _take(self, message: dict[str, Any]) -> None:
        kind = message.get("type")
        if kind == "welcome":
            await self._agent.welcome(self, message)
            self._is_welcome = True
        elif kind == "desired":
            if not self._is_welcome:
                raise WireError("desired state came before the welcome")
            self._apply(message)
        elif kind != "ping":
            log.info("message of unknown type: %s", kind)

    def _apply(self, message: dict[str, Any]) -> None:
        """Apply beside the reading, sections side by side, each section's messages in order."""
        section = str(message.get("section"))
        before = self._applying.get(section)

        async def work() -> None:
            if before is not None:
                await asyncio.wait({before})
            # Shielded: a section that is on its way into force is not torn apart by a lost connection.
            error = await asyncio.shield(self._agent.take_desired(message))
            with contextlib.suppress(WireError, OSError):
                await self.send(
                    {"type": "applied", "section": section, "digest": message.get("digest"), "error": error}
                )

        self._applying[section] = asyncio.ensure_future(work())


class _Heard:
    """A pipe that tells of each read."""

    def __init__(self, inner: SocketStream, hear: Callable[[], None]) -> None:
        self._inner = inner
        self._hear = hear

    async def read(self) -> bytes:
        data = await self._inner.read()
        self._hear()
        return data

    async def write(self, data: bytes) -> None:
        await self._inner.write(data)

    async def close(self) -> None:
        await self._inner.close()
