"""The way to an etcd of several members: which one is asked, and what happens when it does not answer.

One member is asked until it fails; then the next of the list is, in turn. A read may be asked again, and is
until `REQUEST_PATIENCE_S` has passed. A write is never sent twice: a connection is established before it is
sent, and when it fails after that, nobody can say whether it was done, so `UnavailableError` says just that.

Invariant: every answer comes from one cluster. The id in its header is compared with the first one seen; a
list of endpoints that mixes two clusters would otherwise mix their revisions.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from gitkube.clock import Clock
from gitkube.store.etcd.errors import from_etcd, reason_of
from gitkube.store.etcd.wire import grpc, method_path, rpc, service_methods
from gitkube.store.protocol import (
    CompactedError,
    IdentityError,
    InvalidRequestError,
    Revision,
    StoreError,
    UnavailableError,
)

log = structlog.get_logger()

REQUEST_PATIENCE_S = 5.0
"""How long a request looks for a member that answers; an election takes one to two seconds."""
REQUEST_TIMEOUT_S = 10.0
"""Of one attempt. A disk that stalls longer than this is not slow but gone."""
CONNECT_TIMEOUT_S = 2.0
RETRY_PAUSE_S = 0.1

_REQUIRE_LEADER = (("hasleader", "true"),)
"""A member that lost its leader then refuses at once, and ends the streams it serves."""
_OPTIONS = (
    ("grpc.max_receive_message_length", -1),  # a read of everything may be large
    ("grpc.max_send_message_length", -1),  # etcd says itself what is too large for it
    ("grpc.keepalive_time_ms", 10_000),  # etcd takes a ping each 5 s at most
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.use_local_subchannel_pool", 1),
)
_LOST = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----")
_PRIVATE_KEY = re.compile(rb"-----BEGIN ([A-Z]+ )?PRIVATE KEY-----")


@dataclass(frozen=True, slots=True)
class ClientTls:
    """Certificates for the connections to etcd, as files in PEM.

    `certificate` and `key` are our own, for an etcd with `--client-cert-auth`.
    """

    authority: Path
    certificate: Path | None = None
    key: Path | None = None


class _Endpoint:
    def __init__(self, address: str, channel: Any) -> None:
        self.address = address
        self.channel = channel
        self.calls: dict[str, Any] = {}


class Stream:
    """One stream to one endpoint. Its errors are ours; its end is one, too: etcd's streams have none."""

    def __init__(self, connection: Connection, endpoint: _Endpoint, call: Any) -> None:
        self._connection = connection
        self._endpoint = endpoint
        self._call = call

    async def write(self, request: Any) -> None:
        """Raises:
        UnavailableError: the stream has ended.
        """
        try:
            await self._call.write(request)
        except grpc.aio.AioRpcError as error:
            raise self._connection.refused(self._endpoint, error) from error
        except asyncio.InvalidStateError as error:
            raise self._ended() from error

    async def read(self) -> Any:
        """The next message.

        Raises:
            StoreError: the stream has ended, for what etcd said or because the connection was lost.
        """
        try:
            message = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise self._connection.refused(self._endpoint, error) from error
        if message is grpc.aio.EOF:
            raise self._ended()
        self._connection.check(message.header)
        return message

    def _ended(self) -> UnavailableError:
        self._connection.give_up(self._endpoint)
        return UnavailableError(f"etcd at {self._endpoint.address} ended a stream")


class Connection:
    """See the module's text. The channels are made when they are first needed."""

    def __init__(self, endpoints: Sequence[str], *, clock: Clock, tls: ClientTls | None = None) -> None:
        """Args:
            endpoints: HOST:PORT each.

        Raises:
            InvalidRequestError: no endpoint was given.
        """
        if not endpoints:
            raise InvalidRequestError("etcd: no endpoint was given; name at least one as HOST:PORT")
        self._addresses = tuple(endpoints)
        self._clock = clock
        self._tls = tls
        self._endpoints: dict[int, _Endpoint] = {}
        self._current = 0
        self._cluster_id = 0
        self._is_closed = False

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    @property
    def place(self) -> str:
        """The endpoint that is being asked."""
        return self._addresses[self._current]

    async def read(self, service: str, method: str, request: Any) -> Any:
        """Ask, and ask again at the next endpoint while none answers.

        Raises:
            StoreError: what etcd refused it for; `UnavailableError` when none answered in time.
        """
        deadline = self._clock.monotonic() + REQUEST_PATIENCE_S
        while True:
            try:
                return await self._ask(service, method, request)
            except UnavailableError:
                if self._is_closed or self._clock.monotonic() >= deadline:
                    raise
                await self._clock.sleep(RETRY_PAUSE_S)

    async def write(self, service: str, method: str, request: Any) -> Any:
        """Send a request that must not be done twice.

        Raises:
            UnavailableError: no endpoint could be reached, or the connection broke after it was sent; in the
                second case it may have been done.
            StoreError: what etcd refused it for.
        """
        await self.connect()
        return await self._ask(service, method, request)

    async def connect(self) -> None:
        """Make sure that the current endpoint is one that can be reached.

        Raises:
            UnavailableError: none can, for `REQUEST_PATIENCE_S`.
        """
        deadline = self._clock.monotonic() + REQUEST_PATIENCE_S
        reasons: dict[str, str] = {}
        while True:
            endpoint = self._endpoint()
            if endpoint.channel.get_state() is grpc.ChannelConnectivity.READY:
                return
            reason = await self._why_out_of_reach(endpoint)
            if reason is None:
                return
            reasons[endpoint.address] = reason
            self.give_up(endpoint)
            if self._clock.monotonic() >= deadline:
                tried = "; ".join(f"{address}: {each}" for address, each in reasons.items())
                raise UnavailableError(f"no member of etcd can be reached ({tried})")
            await self._clock.sleep(RETRY_PAUSE_S)

    async def _why_out_of_reach(self, endpoint: _Endpoint) -> str | None:
        """None: it can be reached.

        A harmless question tells why not, which the state of gRPC's channel does not.
        """
        ask = self._method(endpoint, "Maintenance", "Status", is_stream=False)
        try:
            await ask(rpc.StatusRequest(), timeout=CONNECT_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                return f"no answer within {CONNECT_TIMEOUT_S:g} s"
            if error.code() in _LOST:
                return reason_of(error.details() or error.code().name)
        return None

    @asynccontextmanager
    async def stream(self, service: str, method: str) -> AsyncIterator[Stream]:
        """A stream in both directions that ends with the block.

        Raises:
            UnavailableError: no endpoint could be reached.
        """
        await self.connect()
        endpoint = self._endpoint()
        call = self._method(endpoint, service, method, is_stream=True)(metadata=_REQUIRE_LEADER)
        try:
            yield Stream(self, endpoint, call)
        finally:
            call.cancel()

    def check(self, header: Any) -> None:
        """Raises:
        IdentityError: the answer comes from another cluster.
        """
        if header.cluster_id == 0:
            return  # some answers (of alarms, for one) carry no id
        if self._cluster_id == 0:
            self._cluster_id = header.cluster_id
        elif header.cluster_id != self._cluster_id:
            raise IdentityError(
                f"etcd at {self.place} belongs to cluster {header.cluster_id:x}, the others to "
                f"{self._cluster_id:x}; the list of endpoints must name members of one cluster"
            )

    async def close(self) -> None:
        self._is_closed = True
        for endpoint in self._endpoints.values():
            await endpoint.channel.close()
        self._endpoints.clear()

    # ------------------------------------------------------------------ one endpoint

    async def _ask(self, service: str, method: str, request: Any) -> Any:
        endpoint = self._endpoint()
        call = self._method(endpoint, service, method, is_stream=False)
        try:
            answer = await call(request, timeout=REQUEST_TIMEOUT_S, metadata=_REQUIRE_LEADER)
        except grpc.aio.AioRpcError as error:
            refused = self.refused(endpoint, error)
            if isinstance(refused, CompactedError):
                refused = CompactedError(Revision(max(1, await self.compact_revision())))
            raise refused from error
        self.check(answer.header)
        return answer

    async def compact_revision(self) -> Revision:
        """The oldest revision that can be read; 0 when nothing was compacted yet.

        etcd tells it only to a watch that comes too late. So: is revision 1 still there? If not, a watch from
        there is cancelled at once, with the number.
        """
        request = rpc.RangeRequest(key=b"\x00", revision=1, count_only=True, serializable=True)
        endpoint = self._endpoint()
        try:
            await self._method(endpoint, "KV", "Range", is_stream=False)(request, timeout=REQUEST_TIMEOUT_S)
            return Revision(0)
        except grpc.aio.AioRpcError as error:
            refused = self.refused(endpoint, error)
            if not isinstance(refused, CompactedError):
                raise refused from error
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S), self.stream("Watch", "Watch") as stream:
                await stream.write(
                    rpc.WatchRequest(create_request=rpc.WatchCreateRequest(key=b"\x00", start_revision=1))
                )
                while True:
                    answer = await stream.read()
                    if answer.compact_revision:
                        return Revision(answer.compact_revision)
        except TimeoutError as error:
            raise UnavailableError(
                f"etcd at {endpoint.address} did not tell its compaction in time"
            ) from error

    def refused(self, endpoint: _Endpoint, error: Any) -> StoreError:
        refused = from_etcd(error.code(), error.details() or "", place=endpoint.address)
        if error.code() in _LOST:
            self.give_up(endpoint)
        return refused

    def give_up(self, endpoint: _Endpoint) -> None:
        """Ask the next one from now on, unless somebody else has turned to it already."""
        if self._endpoints.get(self._current) is endpoint and len(self._addresses) > 1:
            self._current = (self._current + 1) % len(self._addresses)
            log.warning("etcd_endpoint_failed", endpoint=endpoint.address, next=self.place)

    def _endpoint(self) -> _Endpoint:
        if self._is_closed:
            raise UnavailableError("the connection to etcd was closed")
        endpoint = self._endpoints.get(self._current)
        if endpoint is None:
            endpoint = _Endpoint(self.place, self._channel(self.place))
            self._endpoints[self._current] = endpoint
        return endpoint

    def _channel(self, address: str) -> Any:
        if self._tls is None:
            return grpc.aio.insecure_channel(address, options=_OPTIONS)
        key, certificate = self._tls.key, self._tls.certificate
        credentials = grpc.ssl_channel_credentials(
            _pem(self._tls.authority, _CERTIFICATE),
            _pem(key, _PRIVATE_KEY) if key else None,
            _pem(certificate, _CERTIFICATE) if certificate else None,
        )
        return grpc.aio.secure_channel(address, credentials, options=_OPTIONS)

    def _method(self, endpoint: _Endpoint, service: str, method: str, *, is_stream: bool) -> Any:
        path = method_path(f"etcdserverpb.{service}", method)
        call = endpoint.calls.get(path)
        if call is None:
            request, response = service_methods(service)[method]
            make = endpoint.channel.stream_stream if is_stream else endpoint.channel.unary_unary
            call = make(
                path, request_serializer=request.SerializeToString, response_deserializer=response.FromString
            )
            endpoint.calls[path] = call
        return call


def _pem(path: Path, kind: re.Pattern[bytes]) -> bytes:
    """Raises:
    InvalidRequestError: the file cannot be read, or holds no such thing; gRPC would only fail to connect.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        why = f"{path}, for connections to etcd, cannot be read: {error.strerror}"
        raise InvalidRequestError(why) from error
    if not kind.search(data):
        what = "certificate" if kind is _CERTIFICATE else "private key"
        raise InvalidRequestError(f"{path}, for connections to etcd, holds no {what} in PEM form")
    return data
