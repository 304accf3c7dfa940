"""One call of gRPC's: messages out of the bytes of a request, and an answer's messages on their way.

Each message has five bytes before it: whether it is compressed, which we refuse, and its length
(grpc/doc/PROTOCOL-HTTP2.md). A call reads what was fed to it, in order, and says how much it took, which
opens the client's window again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE = 8, 12, 13, 14
"""Status codes of gRPC that this layer gives by itself."""
_PREFIX_BYTES = 5


class RefusedError(Exception):
    """Raised by a handler to end its call with a status."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Carrier(Protocol):
    """What a call needs of its connection."""

    def consumed(self, stream: int, size: int) -> None:
        """So much of a request was taken."""

    def write(self, stream: int, message: bytes) -> bool:
        """Send a message; whether the client takes what was sent so far."""
        ...

    async def drained(self, stream: int) -> None:
        """Return when the client has taken what was sent on a stream."""


class Call:
    """One call of a method, while it is under way."""

    __slots__ = (
        "_carrier",
        "_failure",
        "_has_ended",
        "_messages",
        "_received",
        "_wake",
        "method",
        "stream",
        "task",
    )

    def __init__(self, carrier: Carrier, stream: int, method: Method) -> None:
        self._carrier = carrier
        self.stream = stream
        self.method = method
        self.task: asyncio.Task[None] | None = None
        self._received = bytearray()
        self._messages: deque[bytes] = deque()
        self._has_ended = False
        self._failure: RefusedError | None = None
        self._wake: asyncio.Future[None] | None = None

    async def read(self) -> bytes | None:
        """The client's next message; None when it has said its last."""
        while not self._messages:
            if self._failure is not None:
                raise self._failure
            if self._has_ended:
                return None
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        message = self._messages.popleft()
        self._carrier.consumed(self.stream, len(message) + _PREFIX_BYTES)
        return message

    async def write(self, message: bytes) -> None:
        """Send a message. Waits while the client does not take what was sent before."""
        if not self._carrier.write(self.stream, message):
            await self._carrier.drained(self.stream)

    def feed(self, data: bytes, *, is_last: bool, limit_bytes: int) -> None:
        """Data of the request.

        Raises:
            RefusedError: a message is too large, compressed or cut off.
        """
        received = self._received
        received += data
        at = 0
        while len(received) - at >= _PREFIX_BYTES:
            length = int.from_bytes(received[at + 1 : at + _PREFIX_BYTES], "big")
            if received[at]:
                raise RefusedError(UNIMPLEMENTED, "compressed messages are not supported")
            if length > limit_bytes:
                text = f"grpc: received message larger than max ({length} vs. {limit_bytes})"
                raise RefusedError(RESOURCE_EXHAUSTED, text)
            end = at + _PREFIX_BYTES + length
            if end > len(received):
                break
            self._messages.append(bytes(received[at + _PREFIX_BYTES : end]))
            at = end
        del received[:at]
        self._has_ended = is_last
        if is_last and received:
            raise RefusedError(INTERNAL, "the request ended in the middle of a message")
        self._awake()

    def fail(self, error: RefusedError) -> None:
        """What the client sends cannot be read: who reads next is told."""
        self._failure = error
        self._awake()

    def _awake(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def request(self) -> bytes | None:
        """The one message of a unary call, when it is whole.

        Raises:
            RefusedError: it is none, or several.
        """
        if not self._has_ended:
            return None
        if len(self._messages) != 1:
            raise RefusedError(INTERNAL, f"{len(self._messages)} messages in a call that takes one")
        return self._messages[0]


@dataclass(frozen=True, slots=True)
class Unary:
    """A method with one request and one answer."""

    handle: Callable[[bytes], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Streaming:
    """A method with a stream of requests, of answers, or both."""

    handle: Callable[[Call], Awaitable[None]]


Method = Unary | Streaming
