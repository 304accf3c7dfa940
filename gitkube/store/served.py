"""A member for the other processes of this user: `Store` and `StoreAdmin` on a unix socket.

A request that waits for a quorum holds up no other. The two that nearly all are, a read and a transaction,
begin in the turn of the loop in which they arrive and are answered in the one in which their answer is known;
any other is a task of its own. A stream (a watch, a backup) sends no more batches than its reader has credit
for, so that a slow one costs neither memory nor anybody else's time.

Invariant: a request is answered once, and not after it was cancelled or its connection ended.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import structlog

from gitkube.store import command, results, rpc
from gitkube.store.command import Origin, Txn, operation_from_list
from gitkube.store.frames import FrameConnection
from gitkube.store.member import Member
from gitkube.store.membership import info_to_list
from gitkube.store.protocol import (
    CorruptError,
    EventType,
    Get,
    InvalidRequestError,
    LeaseId,
    Revision,
    StoreError,
    UnavailableError,
)
from gitkube.store.results import Result

log = structlog.get_logger()

T = TypeVar("T")

_OF_ANOTHER_VERSION = (TypeError, ValueError, KeyError, IndexError)
"""What arguments that are not those which this version expects lead to."""


class StoreServer:
    """Serves a member to the processes of this user on a unix socket."""

    def __init__(self, member: Member, path: Path) -> None:
        self._member = member
        self._path = path
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()

    async def start(self) -> None:
        """Listen. A socket file that nobody serves any more is replaced."""
        self._path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            self._server = await asyncio.get_running_loop().create_unix_server(
                lambda: FrameConnection(rpc.MAX_FRAME_BYTES, self._opened), self._path
            )
        finally:
            os.umask(before)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        connections = list(self._connections)
        for connection in connections:
            connection.end()
        await asyncio.gather(*(connection.frames.finish() for connection in connections))

    def _opened(self, frames: FrameConnection) -> None:
        if peer_uid(frames) not in (os.geteuid(), 0):
            frames.close()
            return
        connection = _Connection(self._member, frames)
        self._connections.add(connection)
        frames.ended.add_done_callback(lambda _: self._forget(connection))
        frames.deliver(connection.on_frame)

    def _forget(self, connection: _Connection) -> None:
        self._connections.discard(connection)
        connection.end()


def peer_uid(frames: FrameConnection) -> int:
    """The user id of the process at the other end of a unix socket (SO_PEERCRED, unix(7))."""
    peer: socket.socket = frames.extra("socket")
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])


class _Request(Generic[T]):
    """A request without a task: a `Waiter` for what its answer is made of.

    Args:
        body_of: makes the answer, or raises the `StoreError` that is the answer.
    """

    __slots__ = ("_body_of", "_connection", "_number")

    def __init__(self, connection: _Connection, number: int, body_of: Callable[[T], Any]) -> None:
        self._connection: _Connection | None = connection
        self._number = number
        self._body_of = body_of
        connection.requests[number] = self

    def done(self) -> bool:
        return self._connection is None

    def set_result(self, result: T, /) -> None:
        connection = self.leave()
        try:
            connection.write(self._number, rpc.ANSWER, self._body_of(result))
        except StoreError as error:
            connection.write(self._number, rpc.ERROR, results.error_to_list(error))
        except Exception as error:
            # Whoever tells us has others to tell, and a log to write: one bad answer is not their fault.
            log.error("store_answer_failed", error=repr(error))
            connection.frames.close(error)

    def set_exception(self, exception: StoreError, /) -> None:
        self.leave().write(self._number, rpc.ERROR, results.error_to_list(exception))

    def leave(self) -> _Connection:
        """Nobody waits for the answer any more. The connection that it would have been sent on."""
        connection, self._connection = self._connection, None
        assert connection is not None, "a request is answered once"
        del connection.requests[self._number]
        return connection


def _txn_of(data: bytes) -> tuple[Txn, Origin]:
    try:
        txn, origin = command.decode(data)
    except CorruptError as error:
        raise InvalidRequestError(f"a transaction of another version: {error}") from error
    if not isinstance(txn, Txn):
        raise InvalidRequestError(f"{txn!r} is no transaction")
    return txn, origin


def _txn_body(previous: bool, result: Result) -> list[Any]:
    return results.txn_to_list(results.txn_result(result, previous=previous))


class _Connection:
    def __init__(self, member: Member, frames: FrameConnection) -> None:
        self.frames = frames
        self._member = member
        self._admin = member.administration
        self.requests: dict[int, _Request[Any]] = {}
        """Under way without a task."""
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._credits: dict[int, asyncio.Semaphore] = {}
        self._short: dict[str, Callable[..., bool]] = {
            "range": self._begin_range,
            "read": self._begin_read,
            "txn": self._begin_txn,
        }
        self._methods: dict[str, Callable[..., Awaitable[Any]]] = {
            "txn": self._txn,
            "lease_grant": self._lease_grant,
            "lease_keep_alive": self._lease_keep_alive,
            "lease_time_to_live": self._lease_time_to_live,
            "lease_revoke": self._lease_revoke,
            "leases": self._leases,
            "compact": self._compact,
            "status": self._status,
            "metrics": self._metrics,
            "members": self._members,
            "member_add": self._member_add,
            "member_update": self._member_update,
            "member_promote": self._member_promote,
            "member_remove": self._admin.member_remove,
            "transfer_leadership": self._admin.transfer_leadership,
            "hash": self._hash,
            "disarm": self._admin.disarm,
        }
        self._streams: dict[str, Callable[..., AsyncIterator[Any]]] = {
            "watch": self._watch,
            "backup": self._admin.backup,
        }

    def on_frame(self, content: bytes) -> None:
        number, method, arguments = rpc.decode_frame(content)
        if method == "taken":
            if number in self._credits:
                self._credits[number].release()
        elif method == "cancel":
            if number in self.requests:
                self.requests[number].leave()
            elif number in self._tasks:
                self._tasks[number].cancel()
        elif number not in self._tasks and number not in self.requests:
            if method in self._short and self._begin(number, method, arguments):
                return
            work = self._stream if method in self._streams else self._call
            task = asyncio.create_task(work(number, method, arguments))
            self._tasks[number] = task
            task.add_done_callback(partial(self._forget, number))

    def _begin(self, number: int, method: str, arguments: list[Any]) -> bool:
        """Whether the request is answered, or will be without a task."""
        try:
            return self._short[method](number, *arguments)
        except Exception as error:
            if number in self.requests:
                self.requests[number].leave()
            self._refuse(number, method, error)
        return True

    def end(self) -> None:
        for request in list(self.requests.values()):
            request.leave()
        for task in list(self._tasks.values()):
            task.cancel()
        self.frames.close()
        for table in (self._short, self._methods, self._streams):
            table.clear()  # they lead back to us, and the collector does not look at us; see process.py

    def _forget(self, number: int, task: asyncio.Task[None]) -> None:
        self._tasks.pop(number, None)
        self._credits.pop(number, None)

    async def _call(self, number: int, method: str, arguments: list[Any]) -> None:
        try:
            if method not in self._methods:
                raise InvalidRequestError(
                    f"the store's process knows no {method!r}: it is of another version"
                )
            body = await self._methods[method](*arguments)
            self.write(number, rpc.ANSWER, body)
        except Exception as error:
            self._refuse(number, method, error)

    async def _stream(self, number: int, method: str, arguments: list[Any]) -> None:
        credit = self._credits[number] = asyncio.Semaphore(rpc.WATCH_WINDOW)
        try:
            async for batch in self._streams[method](*arguments):
                await credit.acquire()
                self.write(number, rpc.BATCH, batch)
                await self.frames.drain()
            self.write(number, rpc.END, None)
        except ConnectionError:
            return  # the reader is gone, and with it the stream
        except Exception as error:
            self._refuse(number, method, error)

    def _refuse(self, number: int, method: str, error: Exception) -> None:
        """Answer with an error, whatever it is: who asked waits without a limit."""
        told = error if isinstance(error, StoreError) else None
        if told is None:
            log.error("store_request_failed", method=method, exc_info=error)
            if isinstance(error, _OF_ANOTHER_VERSION):
                told = InvalidRequestError(f"the request {method!r} is of another version: {error!r}")
            else:
                told = UnavailableError(f"the store failed at {method!r}: {error!r}; its log says where")
        self.write(number, rpc.ERROR, results.error_to_list(told))

    def write(self, number: int, kind: int, body: Any) -> None:
        self.frames.write(rpc.encode_frame([number, kind, body]))

    # ------------------------------------------------------------------ Store

    def _begin_range(
        self, number: int, key: bytes, end: bytes | None, limit: int, revision: int, keys_only: bool,
        count_only: bool, serializable: bool,
    ) -> bool:  # fmt: skip
        get = Get(key, end, limit, Revision(revision), keys_only=keys_only, count_only=count_only)
        return self._begin_get(number, get, serializable)

    def _begin_read(self, number: int, item: list[Any], serializable: bool) -> bool:
        get = operation_from_list(item)
        if not isinstance(get, Get):
            raise InvalidRequestError("a read that is no Get")
        return self._begin_get(number, get, serializable)

    def _begin_get(self, number: int, get: Get, serializable: bool) -> bool:
        def body(_: None) -> list[Any]:
            return results.range_to_list(self._member.read_now(get))

        request = _Request(self, number, body)
        if serializable:
            request.set_result(None)
        else:
            self._member.engine.when_current(request)
        return True

    def _begin_txn(self, number: int, data: bytes, previous: bool) -> bool:
        txn, origin = _txn_of(data)
        request = _Request(self, number, partial(_txn_body, previous))
        is_begun = self._member.begin_txn(txn, origin, request, data)
        if not is_begun:
            request.leave()
        return is_begun

    async def _txn(self, data: bytes, previous: bool) -> list[Any]:
        txn, origin = _txn_of(data)
        result = await self._member.txn(*txn, previous=previous, origin=origin)
        return results.txn_to_list(result)

    async def _watch(
        self, key: bytes, end: bytes | None, start_revision: int, previous: bool, without: list[str],
        progress_s: float,
    ) -> AsyncIterator[list[Any]]:  # fmt: skip
        async for batch in self._member.watch(
            key, end, start_revision=Revision(start_revision), previous=previous,
            without=frozenset(map(EventType, without)), progress_s=progress_s,
        ):  # fmt: skip
            yield rpc.batch_to_list(batch)

    async def _lease_grant(self, ttl_s: int, lease: int, origin: list[int]) -> list[Any]:
        granted = await self._member.lease_grant(ttl_s, LeaseId(lease), origin=Origin(*origin))
        return rpc.lease_to_list(granted)

    async def _lease_keep_alive(self, lease: int) -> list[Any]:
        return rpc.lease_to_list(await self._member.lease_keep_alive(LeaseId(lease)))

    async def _lease_time_to_live(self, lease: int) -> list[Any]:
        return rpc.lease_to_list(await self._member.lease_time_to_live(LeaseId(lease)))

    async def _lease_revoke(self, lease: int, origin: list[int]) -> None:
        await self._member.lease_revoke(LeaseId(lease), origin=Origin(*origin))

    async def _leases(self) -> list[int]:
        return list(await self._member.leases())

    async def _compact(self, revision: int, origin: list[int]) -> None:
        await self._member.compact(Revision(revision), origin=Origin(*origin))

    async def _status(self) -> list[Any]:
        return rpc.status_to_list(await self._member.status())

    async def _metrics(self) -> str:
        return self._member.metrics()

    # ------------------------------------------------------------------ StoreAdmin

    async def _members(self) -> list[Any]:
        return [info_to_list(info) for info in await self._admin.members()]

    async def _member_add(
        self, name: str, peer_address: str, client_urls: list[str], is_learner: bool
    ) -> list[Any]:
        return info_to_list(
            await self._admin.member_add(name, peer_address, client_urls=client_urls, is_learner=is_learner)
        )

    async def _member_update(
        self, member: int, peer_address: str, client_urls: list[str] | None
    ) -> list[Any]:
        return info_to_list(
            await self._admin.member_update(member, peer_address=peer_address, client_urls=client_urls)
        )

    async def _member_promote(self, member: int) -> list[Any]:
        return info_to_list(await self._admin.member_promote(member))

    async def _hash(self, revision: int) -> list[Any]:
        return rpc.hash_to_list(await self._admin.hash(Revision(revision)))
