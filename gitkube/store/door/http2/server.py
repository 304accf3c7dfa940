"""The edge: sockets and TLS on one side, gRPC's methods on the other, HTTP/2 (`connection.py`) between.

```
 socket ─▶ data_received ─▶ Connection.receive ─▶ events ─▶ a task a call ─▶ handler
   ▲                                                                            │
   └───────────── one write a turn of the loop ◀── Connection.taken ◀── send, end
```
A unary call's task begins when its request is whole. A streaming call's task begins with its headers, and it
reads messages and writes them through its `Call`; a `write` waits while the client does not take what was
written before. All that is answered in one turn of the event loop goes out in one write.

The status of a call comes in trailers; a deadline is left to the client, which resets the stream when it has
passed.

Invariant: a call that has ended, in whatever way, has exactly one status or its stream was reset.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import cast
from urllib.parse import quote

import structlog

from gitkube.store.door.http2 import hpack
from gitkube.store.door.http2.call import (
    INTERNAL,
    UNAVAILABLE,
    UNIMPLEMENTED,
    Call,
    Method,
    RefusedError,
    Streaming,
    Unary,
)
from gitkube.store.door.http2.connection import Connection, ConnectionFailed, Data, Event, Request, Reset
from gitkube.store.door.http2.tls import ServerTls

log = structlog.get_logger()

MAX_CONNECTIONS = 1000
MAX_BACKLOG_BYTES = 16 * 1024 * 1024
"""Of one connection's write buffer. Flow control keeps answers far below it; only a client that asks for ever
more of what flow control does not count (pings, settings) and reads none of it comes here, and is cut off."""
MAX_STREAMED_REQUEST_BYTES = 256 * 1024
"""Of a message in a stream of requests. Far less than a stream's window, which opens only as whole messages
are read: a larger one might never arrive."""
_KEEPALIVE_IDLE_S = 60

_STATUS_200 = b"\x88"  # entry 8 of the static table
_CONTENT_TYPE = (b"content-type", b"application/grpc")
_RESPONSE = _STATUS_200 + hpack.encoded([_CONTENT_TYPE])
_SUCCESS = hpack.encoded([(b"grpc-status", b"0")])
_NOT_GRPC = hpack.encoded([(b":status", b"415")])


class GrpcServer:
    """See the module's text. `start` it, and `close` it."""

    def __init__(self, methods: Mapping[str, Method], *, max_request_bytes: int) -> None:
        """Args:
        methods: by path, such as `/etcdserverpb.KV/Put`.
        """
        self._methods = {path.encode(): method for path, method in methods.items()}
        self.max_request_bytes = max_request_bytes
        self._connections: set[_ServerProtocol] = set()
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int, tls: ServerTls | None = None) -> int:
        """Listen; the port.

        Raises:
            OSError: the address cannot be listened on.
        """

        def make() -> _ServerProtocol:
            if tls is not None:
                tls.renew()
            return _ServerProtocol(self, self._methods, is_tls=tls is not None)

        loop = asyncio.get_running_loop()
        context = None if tls is None else tls.context
        self._server = await loop.create_server(make, host, port, ssl=context, reuse_address=True)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self, grace_s: float) -> None:
        """Listen no more; give calls `grace_s` seconds to end, then end them."""
        if self._server is not None:
            self._server.close()
        connections = list(self._connections)
        for connection in connections:
            connection.go_away()
        tasks = [task for connection in connections for task in connection.unary_tasks()]
        if tasks:
            await asyncio.wait(tasks, timeout=grace_s)
        for connection in connections:
            await connection.end()

    def admit(self, connection: _ServerProtocol) -> bool:
        if len(self._connections) >= MAX_CONNECTIONS:
            log.warning("door_connections_exhausted", limit=MAX_CONNECTIONS)
            return False
        self._connections.add(connection)
        return True

    def forget(self, connection: _ServerProtocol) -> None:
        self._connections.discard(connection)


class _ServerProtocol(asyncio.Protocol):
    """One connection."""

    def __init__(self, server: GrpcServer, methods: Mapping[bytes, Method], *, is_tls: bool) -> None:
        self._server = server
        self._methods = methods
        self._is_tls = is_tls
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._http2 = Connection()
        self._calls: dict[int, Call] = {}
        self._is_flush_due = False
        self._resumed: asyncio.Event = asyncio.Event()
        self._resumed.set()
        self._writable: dict[int, asyncio.Event] = {}

    # ------------------------------------------------------------------ asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        is_h2 = not self._is_tls or transport.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
        if not is_h2 or not self._server.admit(self):
            self._transport.abort()
            return
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_IDLE_S)
        self._flush_soon()

    def data_received(self, data: bytes) -> None:
        try:
            events = self._http2.receive(data)
        except ConnectionFailed as error:
            log.warning("door_connection_failed", error=str(error))
            self._flush()
            if self._transport is not None:
                self._transport.close()
            return
        for event in events:
            self._happened(event)
        self._flush_soon()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._server.forget(self)
        self._resumed.set()
        for call in list(self._calls.values()):
            self._cancel(call)

    def pause_writing(self) -> None:
        self._resumed.clear()

    def resume_writing(self) -> None:
        self._resumed.set()

    # ------------------------------------------------------------------ for calls

    def consumed(self, stream: int, size: int) -> None:
        self._http2.consumed(stream, size)
        self._flush_soon()

    def write(self, stream: int, message: bytes) -> bool:
        """Send a message; whether the client takes what was sent so far."""
        self._http2.send(stream, b"\x00" + len(message).to_bytes(4, "big") + message)
        if not self._is_flush_due:
            self._flush_soon()
        return self._resumed.is_set() and not self._http2.is_waiting(stream)

    async def drained(self, stream: int) -> None:
        """Return when the client has taken what was sent on a stream."""
        while self._http2.is_waiting(stream):
            event = self._writable.get(stream)
            if event is None:
                event = self._writable[stream] = asyncio.Event()
            await event.wait()
        await self._resumed.wait()

    # ------------------------------------------------------------------ the end

    def go_away(self) -> None:
        self._http2.go_away()
        self._flush_soon()

    def unary_tasks(self) -> list[asyncio.Task[None]]:
        return [call.task for call in self._calls.values() if call.task and isinstance(call.method, Unary)]

    async def end(self) -> None:
        tasks = [call.task for call in self._calls.values() if call.task is not None]
        for call in list(self._calls.values()):
            self._cancel(call)
        await asyncio.gather(*tasks, return_exceptions=True)
        self._flush()
        if self._transport is not None:
            self._transport.close()

    # ------------------------------------------------------------------ events

    def _happened(self, event: Event) -> None:
        if isinstance(event, Data):
            self._data_came(event)
        elif isinstance(event, Request):
            self._request_came(event)
        elif isinstance(event, Reset):
            call = self._calls.get(event.stream)
            if call is None:
                self._http2.finish(event.stream)
            else:
                self._cancel(call)
        else:
            waiting = self._writable.pop(event.stream, None)
            if waiting is not None:
                waiting.set()

    def _request_came(self, request: Request) -> None:
        fields = dict(request.fields)
        if not fields.get(b"content-type", b"").startswith(b"application/grpc"):
            self._http2.respond(request.stream, _NOT_GRPC, is_last=True)
            self._http2.finish(request.stream)
            return
        path = fields.get(b":path", b"")
        method = self._methods.get(path)
        if method is None:
            self._refuse(request.stream, UNIMPLEMENTED, f"unknown method {path.decode(errors='replace')}")
            return
        call = self._calls[request.stream] = Call(self, request.stream, method)
        if isinstance(method, Streaming):
            # Before the first message: a client may wait for them before it sends anything.
            self._http2.respond(request.stream, _RESPONSE)
            call.task = self._loop.create_task(self._stream(call, method), name="door-stream")

    def _data_came(self, event: Data) -> None:
        call = self._calls.get(event.stream)
        if call is None:
            self._http2.consumed(event.stream, len(event.data))
            return
        method = call.method
        try:
            is_unary = isinstance(method, Unary)
            limit_bytes = self._server.max_request_bytes if is_unary else MAX_STREAMED_REQUEST_BYTES
            call.feed(event.data, is_last=event.is_last, limit_bytes=limit_bytes)
            if isinstance(method, Unary):
                self._http2.consumed(event.stream, len(event.data))
                request = call.request()
                if request is not None:
                    call.task = self._loop.create_task(self._unary(call, method, request), name="door-call")
        except RefusedError as error:
            if call.task is not None:
                call.fail(error)
                return
            del self._calls[event.stream]
            self._refuse(event.stream, error.code, str(error))

    async def _unary(self, call: Call, method: Unary, request: bytes) -> None:
        stream = call.stream
        try:
            answer = await method.handle(request)
            self._http2.respond(stream, _RESPONSE)
            self._http2.send(stream, b"\x00" + len(answer).to_bytes(4, "big") + answer)
            self._http2.end(stream, _SUCCESS)
            self._http2.finish(stream)
        except RefusedError as error:
            self._refuse(stream, error.code, str(error))
        except asyncio.CancelledError:
            self._refuse(stream, UNAVAILABLE, "the server is closing")
            raise
        except Exception as error:
            log.exception("door_call_failed", error=str(error))
            self._refuse(stream, INTERNAL, "the server failed; its log says why")
        finally:
            self._calls.pop(stream, None)
            self._flush_soon()

    async def _stream(self, call: Call, method: Streaming) -> None:
        stream, trailers = call.stream, _SUCCESS
        try:
            await method.handle(call)
        except RefusedError as error:
            trailers = _status(error.code, str(error))
        except asyncio.CancelledError:
            trailers = _status(UNAVAILABLE, "the server is closing")
            raise
        except Exception as error:
            log.exception("door_call_failed", error=str(error))
            trailers = _status(INTERNAL, "the server failed; its log says why")
        finally:
            self._calls.pop(stream, None)
            self._http2.end(stream, trailers)
            self._http2.finish(stream)
            self._flush_soon()

    def _refuse(self, stream: int, code: int, text: str) -> None:
        self._http2.respond(
            stream, _STATUS_200 + hpack.encoded([_CONTENT_TYPE]) + _status(code, text), is_last=True
        )
        self._http2.finish(stream)

    def _cancel(self, call: Call) -> None:
        if call.task is not None:
            call.task.cancel()
        else:
            self._calls.pop(call.stream, None)
            self._http2.finish(call.stream)

    # ------------------------------------------------------------------ writing

    def _flush_soon(self) -> None:
        if not self._is_flush_due:
            self._is_flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flush_due = False
        data = self._http2.taken()
        if not data or self._transport is None:
            return
        self._transport.write(data)
        if self._transport.get_write_buffer_size() > MAX_BACKLOG_BYTES:
            log.warning("door_connection_stuffed", limit_bytes=MAX_BACKLOG_BYTES)
            self._transport.abort()


def _status(code: int, text: str) -> bytes:
    """The trailers that end a call with an error; the text is percent-encoded as gRPC wants it."""
    message = quote(text, safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~").encode()
    return hpack.encoded([(b"grpc-status", b"%d" % code), (b"grpc-message", message)])
