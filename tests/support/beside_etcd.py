"""One gRPC client that asks a real etcd and our door the same, and makes the answers comparable.

A `Request` names a method and its fields; revisions in it are `Rel`ative to where the example began, and so
are those in the answers. What must differ is left out: ids of cluster and member, terms, what is left of a
lease. Nothing else is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gitkube.store.etcd.wire import grpc, mvcc, rpc, service_methods

ANSWER_TIMEOUT_S = 60.0

_ALL = b"\x00"
_REVISIONS = frozenset({"revision", "create_revision", "mod_revision", "compact_revision"})
_IGNORED = frozenset({"cluster_id", "member_id", "raft_term"})
_SERVICES = ("KV", "Lease")
_METHODS = {
    method: (service, *classes)
    for service in _SERVICES
    for method, classes in service_methods(service).items()
}


@dataclass(frozen=True)
class Rel:
    """A revision, counted from where the example began."""

    offset: int

    def __repr__(self) -> str:
        return f"Rel({self.offset})"


@dataclass(frozen=True)
class Request:
    method: str
    fields: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"Request({self.method!r}, {dict(self.fields)!r})"


@dataclass(frozen=True)
class Watching:
    """Fields of a WatchCreateRequest."""

    fields: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"Watching({dict(self.fields)!r})"


class Side:
    """Etcd or ours."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.base = 0
        self._channel = grpc.aio.insecure_channel(
            address, options=[("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
        )
        self._calls: dict[str, Any] = {}
        for method, (service, request, response) in _METHODS.items():
            make = self._channel.unary_unary if method != "LeaseKeepAlive" else self._channel.stream_stream
            self._calls[method] = make(
                f"/etcdserverpb.{service}/{method}",
                request_serializer=request.SerializeToString,
                response_deserializer=response.FromString,
            )
        self._watch = self._channel.stream_stream(
            "/etcdserverpb.Watch/Watch",
            request_serializer=rpc.WatchRequest.SerializeToString,
            response_deserializer=rpc.WatchResponse.FromString,
        )

    async def begin(self) -> None:
        """Nothing is there, nothing is remembered, and revisions count from here."""
        for lease in (await self._send("LeaseLeases")).leases:
            await self._send("LeaseRevoke", ID=lease.ID)
        await self._send("DeleteRange", key=_ALL, range_end=_ALL)
        await self._send("Put", key=b"~", value=b"")
        self.base = (await self._send("DeleteRange", key=b"~")).header.revision
        await self._send("Compact", revision=self.base)

    async def ask(self, request: Request) -> Any:
        """The answer, or the error, in comparable form."""
        try:
            fields = resolve(request.fields, self.base)
            answer = await self._send(request.method, **fields)
        except grpc.aio.AioRpcError as error:
            return ("ERROR", error.code().name, error.details())
        comparable_answer = comparable(answer, self.base)
        if request.method == "LeaseTimeToLive" and answer.TTL >= 0:
            comparable_answer["TTL"] = "what is left"
        if request.method == "LeaseLeases":
            comparable_answer.get("leases", []).sort(key=lambda lease: lease["ID"])
        return comparable_answer

    async def _send(self, method: str, **fields: Any) -> Any:
        request = _METHODS[method][1](**fields)
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            if method != "LeaseKeepAlive":
                return await self._calls[method](request)
            call = self._calls[method]()
            await call.write(request)
            answer = await call.read()
            call.cancel()
            return answer

    async def watch(self, watching: Watching) -> Watcher:
        call = self._watch()
        fields = resolve(watching.fields, self.base)
        await call.write(rpc.WatchRequest(create_request=fields))
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            created = await call.read()
        return Watcher(call, self.base, created)

    async def close(self) -> None:
        await self._channel.close()


class Watcher:
    """One watch on a stream of its own, and all that it was told."""

    def __init__(self, call: Any, base: int, created: Any) -> None:
        self._call = call
        self._base = base
        self.created = comparable(created, base)
        self.is_cancelled = created.canceled
        self.events: list[Any] = []
        self.end: Any = None

    async def read_until(self, offset: int) -> None:
        """Until an event at that revision or later was seen, or the watch was cancelled."""
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            while not self.is_cancelled and not (self.events and _revision(self.events[-1]) >= offset):
                response = await self._call.read()
                self.events += [comparable(event, self._base) for event in response.events]
                if response.canceled:
                    self.is_cancelled = True
                    self.end = comparable(response, self._base)

    def close(self) -> None:
        self._call.cancel()


def resolve(value: Any, base: int) -> Any:
    """The value with each `Rel` as a revision of the side."""
    if isinstance(value, Rel):
        return base + value.offset
    if isinstance(value, Mapping):
        return {name: resolve(each, base) for name, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [resolve(each, base) for each in value]
    return value


def comparable(message: Any, base: int) -> dict[str, Any]:
    """The fields that are set, by name; revisions counted from `base`."""
    found: dict[str, Any] = {}
    for field, value in message.ListFields():
        if field.name in _IGNORED:
            continue
        if field.name in _REVISIONS:
            found[field.name] = value - base
        elif field.message_type is None:
            found[field.name] = list(value) if field.is_repeated else value
        elif field.is_repeated:
            found[field.name] = [comparable(each, base) for each in value]
        else:
            found[field.name] = comparable(value, base)
    return found


def _revision(event: Any) -> int:
    revision: int = event["kv"]["mod_revision"]
    return revision


PUT, DELETE = mvcc.Event.PUT, mvcc.Event.DELETE
