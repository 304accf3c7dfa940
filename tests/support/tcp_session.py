"""A forwarded connection to a pod that is a port of this machine."""

from __future__ import annotations

import asyncio
from typing import Any


class TcpSession:
    """A `StreamSession`, as a host's link would carry it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.result: dict[str, Any] | None = None

    async def read(self) -> tuple[int, bytes] | None:
        data = await self._reader.read(65536)
        return (1, data) if data else None

    async def write(self, channel: int, data: bytes) -> None:
        if data:
            self._writer.write(data)
            await self._writer.drain()

    async def close(self, result: dict[str, Any]) -> None:
        self.result = result
        self._writer.close()
