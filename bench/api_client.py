"""The client that all API servers are measured with: HTTP/1.1 over TLS, connections kept, requests as bytes.

It does as little as it can, because it shares the machine with what it measures: a request is made once as
bytes, an answer is read to its end and, unless asked for, not looked into.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass

Sent = tuple[int, bytes]


def request(
    method: str, path: str, body: bytes = b"", *, accept: str = "application/json", type: str = ""
) -> bytes:
    """A request as it goes over the wire; without gzip, as on a near network."""
    lines = [f"{method} {path} HTTP/1.1", "Host: api.bench", f"Accept: {accept}", "User-Agent: bench/1.0"]
    if body:
        lines += [f"Content-Type: {type or 'application/json'}", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass(frozen=True, slots=True)
class Server:
    """Where an API server listens, and the client's side of TLS for it."""

    host: str
    port: int
    context: ssl.SSLContext


class Connection:
    """One kept connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, server: Server) -> Connection:
        reader, writer = await asyncio.open_connection(
            server.host, server.port, ssl=server.context, server_hostname="127.0.0.1", limit=2**22
        )
        return cls(reader, writer)

    async def send(self, data: bytes) -> Sent:
        """Status and body of the answer."""
        self._writer.write(data)
        status, length = await self._head()
        if length is not None:
            return status, await self._reader.readexactly(length)
        pieces = []
        while size := int(await self._reader.readline(), 16):
            pieces.append(await self._reader.readexactly(size))
            await self._reader.readexactly(2)
        await self._reader.readline()
        return status, b"".join(pieces)

    async def watch(self, data: bytes, on_line: Callable[[], None], on_ready: Callable[[], None]) -> None:
        """Call `on_line` for every event, until cancelled.

        Raises:
            RuntimeError: it was refused, or ended by the server.
        """
        self._writer.write(data)
        status, _ = await self._head()
        if status != 200:
            raise RuntimeError(f"the watch was answered with {status}")
        on_ready()
        while size := int(await self._reader.readline(), 16):
            lines = await self._reader.readexactly(size)
            if b'"type":"ERROR"' in lines:
                raise RuntimeError(f"the watch was ended: {lines[:500]!r}")
            for _ in range(lines.count(b"\n")):
                on_line()
            await self._reader.readexactly(2)
        raise RuntimeError("the server ended the watch")

    def close(self) -> None:
        self._writer.transport.abort()

    async def _head(self) -> tuple[int, int | None]:
        head = await self._reader.readuntil(b"\r\n\r\n")
        lower = head.lower()
        place = lower.find(b"\r\ncontent-length:")
        length = int(lower[place + 17 : lower.index(b"\r\n", place + 2)]) if place >= 0 else None
        return int(head[9:12]), length
