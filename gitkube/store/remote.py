"""A store in another process: the client of `process.py`, and what keeps that process alive.

`RemoteStore` is a `Store`. It connects when first needed and again when the connection is lost; a watch goes
on from the revision it had reached, so its reader notices nothing. A write that was under way when the
connection broke raises `UnavailableError`: nobody can say whether it was done.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import structlog

from gitkube.clock import Clock
from gitkube.store import rpc
from gitkube.store.command import compare_to_list, operation_to_list
from gitkube.store.mvcc import NOW
from gitkube.store.process import EXIT_CORRUPT
from gitkube.store.protocol import (
    Compare,
    CorruptError,
    Lease,
    LeaseId,
    Operation,
    RangeResult,
    Revision,
    StoreStatus,
    TxnResult,
    UnavailableError,
    WatchBatch,
)

log = structlog.get_logger()

CONNECT_TIMEOUT_S = 5.0
"""How long a request waits for a member that is just being restarted."""
_CONNECT_PAUSE_S = 0.02
_RESTART_PAUSES_S = (0.0, 0.2, 1.0, 5.0)
_STABLE_S = 30.0
"""A member that ran this long is restarted at once again."""


class RemoteStore:
    """See the module's text."""

    def __init__(self, path: Path, *, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._connecting = asyncio.Lock()
        self._number = 0
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._batches: dict[int, asyncio.Queue[WatchBatch | Exception]] = {}
        self._is_closed = False

    async def range(
        self,
        key: bytes,
        end: bytes | None = None,
        *,
        limit: int = 0,
        revision: Revision = NOW,
        keys_only: bool = False,
        count_only: bool = False,
    ) -> RangeResult:
        return rpc.range_from_list(
            await self._call("range", key, end, limit, revision, keys_only, count_only)
        )

    async def txn(
        self, compare: Sequence[Compare], success: Sequence[Operation], failure: Sequence[Operation] = ()
    ) -> TxnResult:
        body = await self._call(
            "txn",
            [compare_to_list(item) for item in compare],
            [operation_to_list(item) for item in success],
            [operation_to_list(item) for item in failure],
        )
        return rpc.txn_from_list(body)

    async def watch(
        self,
        key: bytes,
        end: bytes | None = None,
        *,
        start_revision: Revision = NOW,
        previous: bool = False,
    ) -> AsyncIterator[WatchBatch]:
        at = start_revision
        while True:
            writer = await self._connected()
            number = self._next_number()
            queue: asyncio.Queue[WatchBatch | Exception] = asyncio.Queue()
            self._batches[number] = queue
            try:
                writer.write(rpc.encode_frame([number, "watch", [key, end, at, previous]]))
                while True:
                    item = await queue.get()
                    if isinstance(item, UnavailableError) and at and not self._is_closed:
                        break  # the connection was lost: go on from where we are
                    if isinstance(item, Exception):
                        raise item
                    if not writer.is_closing():
                        writer.write(rpc.encode_frame([number, "taken", []]))
                    is_known = item.revision < at and not item.events
                    at = Revision(max(at, item.revision + 1))
                    if not is_known or start_revision == NOW:
                        yield item
            finally:
                del self._batches[number]
                if not writer.is_closing():
                    writer.write(rpc.encode_frame([number, "cancel", []]))

    async def lease_grant(self, ttl_s: int) -> Lease:
        return rpc.lease_from_list(await self._call("lease_grant", ttl_s))

    async def lease_keep_alive(self, lease: LeaseId) -> Lease:
        return rpc.lease_from_list(await self._call("lease_keep_alive", lease))

    async def lease_revoke(self, lease: LeaseId) -> None:
        await self._call("lease_revoke", lease)

    async def compact(self, revision: Revision) -> None:
        await self._call("compact", revision)

    async def status(self) -> StoreStatus:
        return rpc.status_from_list(await self._call("status"))

    async def close(self) -> None:
        self._is_closed = True
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    # ------------------------------------------------------------------ the connection

    async def _call(self, method: str, *arguments: Any) -> Any:
        writer = await self._connected()
        number = self._next_number()
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        try:
            writer.write(rpc.encode_frame([number, method, list(arguments)]))
            return await answer
        finally:
            del self._answers[number]

    def _next_number(self) -> int:
        self._number += 1
        return self._number

    async def _connected(self) -> asyncio.StreamWriter:
        if self._writer is not None and not self._writer.is_closing():
            return self._writer
        async with self._connecting:
            if self._writer is not None and not self._writer.is_closing():
                return self._writer
            deadline = self._clock.monotonic() + CONNECT_TIMEOUT_S
            while not self._is_closed:
                try:
                    reader, writer = await asyncio.open_unix_connection(self._path, limit=2**20)
                except OSError as error:
                    if self._clock.monotonic() >= deadline:
                        raise UnavailableError(f"the store's process does not answer: {error}") from error
                    await self._clock.sleep(_CONNECT_PAUSE_S)
                    continue
                self._writer = writer
                self._reading = asyncio.create_task(self._read(reader, writer), name="store-client")
                return writer
        raise UnavailableError("the store is closed")

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lost = UnavailableError("the connection to the store's process was lost; it may be restarting")
        try:
            while (frame := await rpc.read_frame(reader)) is not None:
                number, kind, body = frame
                self._deliver(number, kind, body)
        finally:
            writer.close()
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(lost)
            for queue in self._batches.values():
                queue.put_nowait(lost)

    def _deliver(self, number: int, kind: int, body: Any) -> None:
        if number in self._batches:
            item = rpc.error_from_list(body) if kind == rpc.ERROR else rpc.batch_from_list(body)
            self._batches[number].put_nowait(item)
            return
        answer = self._answers.get(number)
        if answer is None or answer.done():
            return  # whoever asked has been cancelled meanwhile
        if kind == rpc.ERROR:
            answer.set_exception(rpc.error_from_list(body))
        else:
            answer.set_result(body)


class StoreProcess:
    """Keeps a member's process running: starts it again when it dies, with growing pauses."""

    def __init__(self, data_dir: Path, socket_path: Path, *, clock: Clock, rng: random.Random) -> None:
        self._data_dir = data_dir
        self._socket_path = socket_path
        self._clock = clock
        self._rng = rng
        self.pid = 0

    async def run(self) -> None:
        """Until cancelled.

        Raises:
            CorruptError: the member's data is damaged or in use; it says where and what to do.
        """
        failures = 0
        while True:
            started = self._clock.monotonic()
            code, said = await self._run_once()
            if code == EXIT_CORRUPT:
                raise CorruptError(said or f"the store in {self._data_dir} cannot be opened")
            log.error("store_process_ended", exit_code=code, said=said)
            failures = 0 if self._clock.monotonic() - started > _STABLE_S else failures + 1
            pause_s = _RESTART_PAUSES_S[min(failures, len(_RESTART_PAUSES_S) - 1)]
            await self._clock.sleep(pause_s * self._rng.uniform(0.8, 1.2))

    async def _run_once(self) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gitkube.store.process",
            "--data-dir", str(self._data_dir), "--socket", str(self._socket_path),
            stdin=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        self.pid = process.pid
        assert process.stderr is not None
        said = ""
        try:
            while line := await process.stderr.readline():
                said = line.decode(errors="replace").strip()
                sys.stderr.write(said + "\n")
            return await process.wait(), said
        finally:
            assert process.stdin is not None
            process.stdin.close()  # tells the member to answer what is queued and to end
            with contextlib.suppress(TimeoutError):
                await asyncio.shield(asyncio.wait_for(process.wait(), 10))
            if process.returncode is None:
                process.kill()
            self.pid = 0
