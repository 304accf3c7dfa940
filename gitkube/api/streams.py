"""What the API asks of the hosts: logs, exec and port-forward of running pods.

The protocol is defined here, where it is needed; `fleet` implements it over its links, and `server` speaks
HTTP and WebSocket with the client on the other side.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from gitkube.objects.types import Object


@dataclass(frozen=True, slots=True)
class LogOptions:
    """As in Kubernetes' PodLogOptions."""

    container: str
    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    tail_lines: int | None = None
    since_seconds: int | None = None
    since_time: str = ""
    limit_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class ExecOptions:
    container: str
    command: Sequence[str]
    stdin: bool = False
    tty: bool = False


class StreamSession(Protocol):
    """A two-way stream with channels numbered as in Kubernetes' remote command protocol."""

    result: dict[str, Any] | None
    """After the end: `{"exitCode": n}` or `{"error": sentence, "reason": word}`."""

    async def read(self) -> tuple[int, bytes] | None:
        """The next (channel, data), or None at the end."""
        ...

    async def write(self, channel: int, data: bytes) -> None:
        """Empty data on channel 0 is the end of standard input."""
        ...

    async def close(self, result: dict[str, Any]) -> None: ...


class PodStreams(Protocol):
    """All methods raise `StatusError` (404 for a pod that is on no host, 503 for a host out of reach)."""

    def logs(self, pod: Object, options: LogOptions) -> AsyncIterator[bytes]: ...

    async def exec(self, pod: Object, options: ExecOptions) -> StreamSession: ...

    async def port_forward(self, pod: Object, port: int) -> StreamSession:
        """Bytes to the pod on channel 0, bytes from it on channel 1."""
        ...


@runtime_checkable
class PodAttach(Protocol):
    """What a `PodStreams` may also do; where it does not, attach is refused with a sentence."""

    async def attach(self, pod: Object, options: ExecOptions) -> StreamSession:
        """The terminal or the streams of the container's own process; `options.command` is empty."""
        ...
