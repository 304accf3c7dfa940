"""A two-way pipe in memory: what stands for the SSH channel between the control side and a hollow host."""

from __future__ import annotations

import asyncio

MAX_WAITING = 4096
"""Writes that the other end has not read; a peer that lets more wait has stopped reading."""


class MemoryPipe:
    """One end; a `wire.ByteStream` and a `fleet.link.Session`."""

    def __init__(self, inbox: asyncio.Queue[bytes], outbox: asyncio.Queue[bytes], peer_address: str) -> None:
        self._inbox, self._outbox = inbox, outbox
        self._is_closed = False
        self.peer_address = peer_address

    async def read(self) -> bytes:
        data = await self._inbox.get()
        if not data:
            self._inbox.put_nowait(b"")  # the end stays the end
        return data

    async def write(self, data: bytes) -> None:
        if self._is_closed:
            raise OSError("the pipe is closed")
        if self._outbox.qsize() >= MAX_WAITING:
            raise OSError(f"the other end does not read: {MAX_WAITING} writes wait for it")
        self._outbox.put_nowait(data)

    async def close(self) -> None:
        self._is_closed = True
        self._outbox.put_nowait(b"")
        self._inbox.put_nowait(b"")

    def last_words(self) -> str:
        return ""


def memory_pipe(peer_address: str = "192.0.2.1") -> tuple[MemoryPipe, MemoryPipe]:
    """Both ends.

    Args:
        peer_address: what the one who dialled is told to have reached.
    """
    one: asyncio.Queue[bytes] = asyncio.Queue()
    other: asyncio.Queue[bytes] = asyncio.Queue()
    return MemoryPipe(one, other, peer_address), MemoryPipe(other, one, peer_address)
