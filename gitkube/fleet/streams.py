"""Logs, exec and port-forward: from the API's words to a stream on the host's link, and errors back.

Flow control is the wire's: whoever reads slowly here holds back the host, and only for that stream.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from gitkube import wire
from gitkube.api.errors import StatusError, unavailable
from gitkube.api.streams import ExecOptions, LogOptions
from gitkube.fleet.errors import LinkLost
from gitkube.fleet.link import HostLink
from gitkube.objects import meta, pods
from gitkube.objects.types import Object

_CODES = {"NotFound": 404, "BadRequest": 400, "Forbidden": 403, "Timeout": 504, "LinkLost": 503}


class LinkSession:
    """A `StreamSession` over a stream of the link."""

    def __init__(self, stream: wire.Stream) -> None:
        self._stream = stream

    @property
    def result(self) -> dict[str, Any] | None:
        return self._stream.result

    @result.setter
    def result(self, value: dict[str, Any] | None) -> None:
        self._stream.result = value

    async def read(self) -> tuple[int, bytes] | None:
        try:
            return await self._stream.read()
        except (wire.WireError, OSError) as error:
            raise unavailable(f"the link to the host failed: {error}") from error

    async def write(self, channel: int, data: bytes) -> None:
        try:
            await self._stream.write(channel, data)
        except (wire.WireError, OSError) as error:
            if self._stream.result is not None:
                return  # it has ended: the reader finds out why
            raise unavailable(f"the link to the host failed: {error}") from error

    async def close(self, result: dict[str, Any]) -> None:
        try:
            await self._stream.close(result)
        except (wire.WireError, OSError):
            return  # the link is gone, and with it the stream on the other side


class LinkStreams:
    """`PodStreams` over the links of a fleet."""

    def __init__(self, links: Mapping[str, HostLink]) -> None:
        self._links = links

    async def logs(self, pod: Object, options: LogOptions) -> AsyncIterator[bytes]:
        request = {
            "kind": "logs",
            "container": options.container,
            "follow": options.follow,
            "previous": options.previous,
            "timestamps": options.timestamps,
            "tailLines": options.tail_lines,
            "sinceSeconds": options.since_seconds,
            "sinceTime": options.since_time,
            "limitBytes": options.limit_bytes,
        }
        given = {key: value for key, value in request.items() if value is not None and value != ""}
        session = await self._open(pod, given)
        try:
            while (item := await session.read()) is not None:
                if item[0] == wire.STDOUT and item[1]:
                    yield item[1]
            _raise_error(session.result)
        finally:
            await session.close({"exitCode": 0})

    async def exec(self, pod: Object, options: ExecOptions) -> LinkSession:
        return await self._open(
            pod,
            {
                "kind": "exec",
                "container": options.container,
                "command": list(options.command),
                "stdin": options.stdin,
                "tty": options.tty,
            },
        )

    async def attach(self, pod: Object, options: ExecOptions) -> LinkSession:
        request = {"kind": "attach", "stdin": options.stdin, "tty": options.tty}
        return await self._open(pod, {**request, "container": options.container})

    async def port_forward(self, pod: Object, port: int) -> LinkSession:
        return await self._open(pod, {"kind": "port-forward", "port": port})

    async def _open(self, pod: Object, request: dict[str, Any]) -> LinkSession:
        host = pods.node_name(pod)
        if not host:
            raise StatusError(404, "NotFound", f'pod "{meta.name(pod)}" is on no host yet')
        link = self._links.get(host)
        if link is None:
            raise StatusError(
                404, "NotFound", f'host "{host}" of pod "{meta.name(pod)}" is not in the inventory'
            )
        try:
            return LinkSession(await link.open({**request, "pod": meta.uid(pod)}))
        except LinkLost as error:
            raise unavailable(str(error)) from error


def _raise_error(result: Mapping[str, Any] | None) -> None:
    if result and result.get("error"):
        reason = str(result.get("reason") or "InternalError")
        code = _CODES.get(reason, 500)
        raise StatusError(code, "ServiceUnavailable" if code == 503 else reason, str(result["error"]))
