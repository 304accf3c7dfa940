"""The member as a process of its own: `python -m gitkube.store.process --data-dir DIR --socket PATH`.

The API's work and the disk's never wait for each other then, and a second core is used. The child serves the
`Store` protocol on a unix socket that only its own user may open, and lives as long as its parent holds the
other end of its standard input. It ends with EXIT_CORRUPT when its data is damaged: starting it again would
not help, so the parent does not.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import socket
import struct
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from gitkube.store import rpc
from gitkube.store.command import compare_from_list, operation_from_list
from gitkube.store.member import Member
from gitkube.store.protocol import LeaseId, Revision, Store, StoreError, UnavailableError

log = structlog.get_logger()

EXIT_CORRUPT = 65
EXIT_FAILED = 70


class StoreServer:
    """Serves a store to the processes of this user on a unix socket."""

    def __init__(self, store: Store, path: Path) -> None:
        self._store = store
        self._path = path
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen. A socket file that nobody serves any more is replaced."""
        self._path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._accept, self._path, limit=2**20)
        finally:
            os.umask(before)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        connection = _Connection(self._store, reader, writer)
        try:
            if peer_uid(writer) in (os.geteuid(), 0):
                await connection.serve()
        finally:
            connection.end()
            writer.close()


def peer_uid(writer: asyncio.StreamWriter) -> int:
    """The user id of the process at the other end of a unix socket (SO_PEERCRED, unix(7))."""
    peer: socket.socket = writer.get_extra_info("socket")
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])


class _Connection:
    def __init__(self, store: Store, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._store = store
        self._reader = reader
        self._writer = writer
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._credits: dict[int, asyncio.Semaphore] = {}
        self._methods: dict[str, Callable[..., Awaitable[Any]]] = {
            "range": self._range,
            "txn": self._txn,
            "lease_grant": self._lease_grant,
            "lease_keep_alive": self._lease_keep_alive,
            "lease_revoke": self._lease_revoke,
            "compact": self._compact,
            "status": self._status,
        }

    async def serve(self) -> None:
        while (frame := await rpc.read_frame(self._reader)) is not None:
            number, method, arguments = frame
            if method == "taken":
                if number in self._credits:
                    self._credits[number].release()
            elif method == "cancel":
                if number in self._tasks:
                    self._tasks[number].cancel()
            elif number not in self._tasks:
                work = self._watch if method == "watch" else self._call
                task = asyncio.create_task(work(number, method, arguments))
                self._tasks[number] = task
                task.add_done_callback(partial(self._forget, number))

    def end(self) -> None:
        for task in list(self._tasks.values()):
            task.cancel()

    def _forget(self, number: int, task: asyncio.Task[None]) -> None:
        self._tasks.pop(number, None)
        self._credits.pop(number, None)

    async def _call(self, number: int, method: str, arguments: list[Any]) -> None:
        try:
            body = await self._methods[method](*arguments)
            self._write([number, rpc.ANSWER, body])
        except StoreError as error:
            self._write([number, rpc.ERROR, rpc.error_to_list(error)])

    async def _watch(self, number: int, method: str, arguments: list[Any]) -> None:
        key, end, start_revision, previous = arguments
        credit = self._credits[number] = asyncio.Semaphore(rpc.WATCH_WINDOW)
        batches = self._store.watch(key, end, start_revision=Revision(start_revision), previous=previous)
        try:
            async for batch in batches:
                await credit.acquire()
                self._write([number, rpc.BATCH, rpc.batch_to_list(batch)])
                await self._writer.drain()
        except StoreError as error:
            self._write([number, rpc.ERROR, rpc.error_to_list(error)])
        except ConnectionError:
            return  # the reader is gone, and with it the watch

    def _write(self, body: list[Any]) -> None:
        if not self._writer.is_closing():
            self._writer.write(rpc.encode_frame(body))

    async def _range(
        self, key: bytes, end: bytes | None, limit: int, revision: int, keys_only: bool, count_only: bool
    ) -> list[Any]:
        result = await self._store.range(
            key, end, limit=limit, revision=Revision(revision), keys_only=keys_only, count_only=count_only
        )
        return rpc.range_to_list(result)

    async def _txn(self, compare: list[Any], success: list[Any], failure: list[Any]) -> list[Any]:
        result = await self._store.txn(
            [compare_from_list(item) for item in compare],
            [operation_from_list(item) for item in success],
            [operation_from_list(item) for item in failure],
        )
        return rpc.txn_to_list(result)

    async def _lease_grant(self, ttl_s: int) -> list[Any]:
        return rpc.lease_to_list(await self._store.lease_grant(ttl_s))

    async def _lease_keep_alive(self, lease: int) -> list[Any]:
        return rpc.lease_to_list(await self._store.lease_keep_alive(LeaseId(lease)))

    async def _lease_revoke(self, lease: int) -> None:
        await self._store.lease_revoke(LeaseId(lease))

    async def _compact(self, revision: int) -> None:
        await self._store.compact(Revision(revision))

    async def _status(self) -> list[Any]:
        return rpc.status_to_list(await self._store.status())


async def serve(data_dir: Path, socket_path: Path) -> None:
    """Open the member of a directory and serve it until standard input ends.

    Raises:
        StoreError: the data is damaged or in use, or the disk failed while running.
    """
    member = await Member.open(data_dir)
    server = StoreServer(member, socket_path)
    gc.freeze()  # what was loaded stays: no need to walk it in each collection
    try:
        await server.start()
        parent = asyncio.create_task(_standard_input_ended())
        failed = asyncio.create_task(member.wait_failed())
        await asyncio.wait({parent, failed}, return_when=asyncio.FIRST_COMPLETED)
        if failed.done():
            raise UnavailableError(str(failed.result()))
        failed.cancel()
    finally:
        await server.close()
        await member.close()


async def _standard_input_ended() -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.read(1024):
        pass


def main() -> int:
    parser = argparse.ArgumentParser(description="A store member; started by gitkube serve.")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--socket", type=Path, required=True)
    options = parser.parse_args()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    # A snapshot is encoded in a thread; writes shall not wait 5 ms for each of its turns.
    sys.setswitchinterval(0.0005)
    try:
        asyncio.run(serve(options.data_dir, options.socket))
    except UnavailableError as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    except StoreError as error:
        print(error, file=sys.stderr)
        return EXIT_CORRUPT
    return 0


if __name__ == "__main__":
    sys.exit(main())
