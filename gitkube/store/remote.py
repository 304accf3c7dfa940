"""A store in another process: the client of `served.py`, and what keeps that process alive.

`RemoteStore` is a `Store` and a `StoreAdmin`. It connects when first needed and again when the connection is
lost; a watch goes on from the revision it had reached, so its reader notices nothing. What was under way
when the connection broke is sent again, a write with the number that it had (`origins.py`), so that it is
done once. Only when nobody answers for a while is that said (`UnavailableError`); nobody knows about such a
write.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import structlog

from gitkube.clock import Clock
from gitkube.store import command, results, rpc
from gitkube.store.command import Origin, Txn, operation_to_list
from gitkube.store.config import EXIT_REFUSED, MemberConfig
from gitkube.store.directory import IDENTITY
from gitkube.store.frames import FrameConnection
from gitkube.store.membership import info_from_list
from gitkube.store.mvcc import NOW
from gitkube.store.origins import Origins
from gitkube.store.protocol import (
    NO_LEASE,
    Compare,
    CorruptError,
    EventType,
    Get,
    Lease,
    LeaseId,
    MemberInfo,
    Operation,
    RangeResult,
    Revision,
    StateHash,
    StoreError,
    StoreStatus,
    TxnResult,
    UnavailableError,
    WatchBatch,
)

log = structlog.get_logger()

CONNECT_TIMEOUT_S = 10.0
"""How long a request waits for a member that is just being restarted."""
_CONNECT_PAUSE_S = 0.02
_RESTART_PAUSES_S = (0.0, 0.2, 1.0, 5.0)
_MAX_LINE_BYTES = 256 * 1024
"""Of the process's log. A longer one is left out."""
_STABLE_S = 30.0
"""A member that ran this long is restarted at once again."""


class ConnectionLostError(UnavailableError):
    """The process went away before it answered."""


class RemoteStore:
    """See the module's text.

    Args:
        path: the unix socket.
    """

    def __init__(self, path: Path, *, clock: Clock, rng: random.Random | None = None) -> None:
        self._path = path
        self._clock = clock
        self._origins = Origins(rng or random.SystemRandom())
        self._frames: FrameConnection | None = None
        self._connecting = asyncio.Lock()
        self._number = 0
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._batches: dict[int, asyncio.Queue[Any]] = {}
        self._is_closed = False

    # ------------------------------------------------------------------ Store

    async def range(
        self,
        key: bytes,
        end: bytes | None = None,
        *,
        limit: int = 0,
        revision: Revision = NOW,
        keys_only: bool = False,
        count_only: bool = False,
        serializable: bool = False,
    ) -> RangeResult:
        return results.range_from_list(
            await self._call("range", key, end, limit, revision, keys_only, count_only, serializable)
        )

    async def read(self, get: Get, *, serializable: bool = False) -> RangeResult:
        return results.range_from_list(await self._call("read", operation_to_list(get), serializable))

    async def txn(
        self,
        compare: Sequence[Compare],
        success: Sequence[Operation],
        failure: Sequence[Operation] = (),
        *,
        previous: bool = False,
    ) -> TxnResult:
        txn = Txn(compare, success, failure)
        body = await self._write("txn", lambda origin: [command.encode(txn, origin), previous])
        return results.txn_from_list(body)

    async def watch(
        self,
        key: bytes,
        end: bytes | None = None,
        *,
        start_revision: Revision = NOW,
        previous: bool = False,
        without: frozenset[EventType] = frozenset(),
        progress_s: float = 0.0,
    ) -> AsyncIterator[WatchBatch]:
        at = start_revision
        has_begun = False
        while True:
            arguments = [key, end, at, previous, sorted(kind.value for kind in without), progress_s]
            is_news = not has_begun  # where it goes on, its reader need not be told again
            try:
                async with contextlib.aclosing(self._stream("watch", arguments)) as bodies:
                    async for body in bodies:
                        batch = rpc.batch_from_list(body)
                        at = Revision(max(at, batch.revision + 1))
                        if is_news or batch.events:
                            yield batch
                        is_news = has_begun = True
            except UnavailableError:
                if not at or self._is_closed:
                    raise
                await self._clock.sleep(_CONNECT_PAUSE_S)  # the member went away: go on from where we are

    async def lease_grant(self, ttl_s: int, lease: LeaseId = NO_LEASE) -> Lease:
        return rpc.lease_from_list(
            await self._write("lease_grant", lambda origin: [ttl_s, lease, list(origin)])
        )

    async def lease_keep_alive(self, lease: LeaseId) -> Lease:
        return rpc.lease_from_list(await self._call("lease_keep_alive", lease))

    async def lease_time_to_live(self, lease: LeaseId) -> Lease:
        return rpc.lease_from_list(await self._call("lease_time_to_live", lease))

    async def lease_revoke(self, lease: LeaseId) -> None:
        await self._write("lease_revoke", lambda origin: [lease, list(origin)])

    async def leases(self) -> Sequence[LeaseId]:
        return [LeaseId(lease) for lease in await self._call("leases")]

    async def compact(self, revision: Revision) -> None:
        await self._write("compact", lambda origin: [revision, list(origin)])

    async def status(self) -> StoreStatus:
        return rpc.status_from_list(await self._call("status"))

    async def metrics(self) -> str:
        """Of the member's process, in Prometheus' text format."""
        return str(await self._call("metrics"))

    # ------------------------------------------------------------------ StoreAdmin

    async def members(self) -> Sequence[MemberInfo]:
        return [info_from_list(item) for item in await self._call("members")]

    async def member_add(
        self, name: str, peer_address: str, *, client_urls: Sequence[str] = (), is_learner: bool = True
    ) -> MemberInfo:
        return info_from_list(
            await self._call_once("member_add", name, peer_address, list(client_urls), is_learner)
        )

    async def member_update(
        self, member: int, *, peer_address: str = "", client_urls: Sequence[str] | None = None
    ) -> MemberInfo:
        urls = None if client_urls is None else list(client_urls)
        return info_from_list(await self._call("member_update", member, peer_address, urls))

    async def member_promote(self, member: int) -> MemberInfo:
        return info_from_list(await self._call("member_promote", member))

    async def member_remove(self, member: int) -> None:
        await self._call_once("member_remove", member)

    async def transfer_leadership(self, member: int = 0) -> int:
        return int(await self._call_once("transfer_leadership", member))

    async def backup(self) -> AsyncIterator[bytes]:
        async for piece in self._stream("backup", []):
            yield piece

    async def hash(self, revision: Revision = NOW) -> StateHash:
        return rpc.hash_from_list(await self._call("hash", revision))

    async def disarm(self) -> None:
        await self._call("disarm")

    async def close(self) -> None:
        self._is_closed = True
        if self._frames is not None:
            await self._frames.finish()

    # ------------------------------------------------------------------ requests

    async def _write(self, method: str, arguments_of: Callable[[Origin], list[Any]]) -> Any:
        """A change, sent with a number of its own so that sending it again is harmless."""
        origin = self._origins.new()
        try:
            answer = await self._call(method, *arguments_of(origin))
        except BaseException as error:
            if isinstance(error, StoreError) and not isinstance(error, UnavailableError):
                self._origins.done(origin)  # that is the answer
            else:
                self._origins.lost(origin)
            raise
        self._origins.done(origin)
        return answer

    async def _call(self, method: str, *arguments: Any) -> Any:
        """The answer, from whichever life of the process gives one."""
        deadline = self._clock.monotonic() + CONNECT_TIMEOUT_S
        while True:
            try:
                return await self._call_once(method, *arguments)
            except ConnectionLostError:
                if self._clock.monotonic() >= deadline or self._is_closed:
                    raise

    async def _call_once(self, method: str, *arguments: Any) -> Any:
        frames = await self._connected()
        number = self._next_number()
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        try:
            frames.write(rpc.encode_frame([number, method, arguments]))
            return await answer
        except asyncio.CancelledError:
            frames.write(rpc.encode_frame([number, "cancel", []]))
            raise
        finally:
            del self._answers[number]

    async def _stream(self, method: str, arguments: list[Any]) -> AsyncGenerator[Any, None]:
        frames = await self._connected()
        number = self._next_number()
        queue: asyncio.Queue[Any] = asyncio.Queue()
        self._batches[number] = queue
        try:
            frames.write(rpc.encode_frame([number, method, arguments]))
            while True:
                item = await queue.get()
                if isinstance(item, Exception):
                    raise item
                if item is None:
                    return
                frames.write(rpc.encode_frame([number, "taken", []]))
                yield item
        finally:
            del self._batches[number]
            frames.write(rpc.encode_frame([number, "cancel", []]))

    def _next_number(self) -> int:
        self._number += 1
        return self._number

    # ------------------------------------------------------------------ the connection

    async def _connected(self) -> FrameConnection:
        if self._frames is not None and not self._frames.is_closing:
            return self._frames
        deadline = self._clock.monotonic() + CONNECT_TIMEOUT_S  # with the time in the queue
        async with self._connecting:
            if self._frames is not None and not self._frames.is_closing:
                return self._frames
            while not self._is_closed:
                try:
                    _, frames = await asyncio.get_running_loop().create_unix_connection(
                        lambda: FrameConnection(rpc.MAX_FRAME_BYTES), str(self._path)
                    )
                except OSError as error:
                    if self._clock.monotonic() >= deadline:
                        raise UnavailableError(f"the store's process does not answer: {error}") from error
                    await self._clock.sleep(_CONNECT_PAUSE_S)
                    continue
                self._frames = frames
                frames.ended.add_done_callback(self._lost)
                frames.deliver(self._deliver)
                return frames
        raise UnavailableError("the store is closed")

    def _lost(self, _: asyncio.Future[None]) -> None:
        lost = ConnectionLostError("the connection to the store's process was lost; it may be restarting")
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(lost)
        for queue in self._batches.values():
            queue.put_nowait(lost)

    def _deliver(self, content: bytes) -> None:
        number, kind, body = rpc.decode_frame(content)
        if number in self._batches:
            item = results.error_from_list(body) if kind == rpc.ERROR else None if kind == rpc.END else body
            self._batches[number].put_nowait(item)
            return
        answer = self._answers.get(number)
        if answer is None or answer.done():
            return  # whoever asked has been cancelled meanwhile
        if kind == rpc.ERROR:
            answer.set_exception(results.error_from_list(body))
        else:
            answer.set_result(body)


class StoreProcess:
    """Keeps a member's process running: starts it again when it dies, with growing pauses.

    Args:
        config: what the process is told; written beside its data directory.
    """

    def __init__(self, config: MemberConfig, *, clock: Clock, rng: random.Random) -> None:
        self._config = config
        self._clock = clock
        self._rng = rng
        self.begun = asyncio.Event()
        """Set once the process has been made, the first time."""
        self.pid = 0
        self._has_store = False
        """Whether its directory has been seen to be a member's."""

    async def run(self) -> None:
        """Until cancelled.

        Raises:
            CorruptError: the member cannot be started, and another try would not help; it says why. Or its
                directory was taken away under it: it would begin an empty store, which is not what watchers
                and writers of the old one go on with.
            OSError, StoreError: the first process cannot be made, or what it is told cannot be written.
        """
        failures = 0
        while True:
            started = self._clock.monotonic()
            self._check_directory()
            try:
                code, said = await self._run_once()
            except (OSError, StoreError) as error:
                if not self.begun.is_set():
                    raise
                code, said = None, f"it cannot be made: {error}"  # the machine or its disk is full just now
            if code == EXIT_REFUSED:
                raise CorruptError(said or f"the store in {self._config.data_dir} cannot be opened")
            log.error("store_process_ended", exit_code=code, said=said)
            failures = 0 if self._clock.monotonic() - started > _STABLE_S else failures + 1
            pause_s = _RESTART_PAUSES_S[min(failures, len(_RESTART_PAUSES_S) - 1)]
            await self._clock.sleep(pause_s * self._rng.uniform(0.8, 1.2))

    def _check_directory(self) -> None:
        directory = self._config.data_dir
        is_store = (directory / IDENTITY).exists()
        if self._has_store and not is_store:
            raise CorruptError(
                f"the store in {directory} was taken away while it ran. Put it back and start again; or "
                "restore a backup (gitkube store restore), or start with what is there now: a new store."
            )
        self._has_store = is_store

    def write_config(self, path: Path) -> None:
        """Where the process reads it. Not again when it is there: on a full disk the process could not be
        started for that alone.

        Raises:
            StoreError: it cannot be written.
        """
        try:
            if path.read_bytes() == self._config.to_json():
                return
        except OSError:
            pass  # not there yet; or as unreadable as it is unwritable, which is said next
        try:
            self._config.write(path)
        except OSError as error:
            raise StoreError(
                f"{path} cannot be written: {error.strerror}; the disk must have room, and "
                f"{path.parent} belong to the user that runs gitkube serve"
            ) from error

    async def _run_once(self) -> tuple[int, str]:
        path = self._config.data_dir.with_name(f"{self._config.data_dir.name}.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.write_config(path)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gitkube.store.process", "--config", str(path),
            stdin=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_MAX_LINE_BYTES,
        )  # fmt: skip
        self.pid = process.pid
        self.begun.set()
        assert process.stderr is not None
        said = ""
        try:
            while True:
                try:
                    line = await process.stderr.readline()
                except ValueError:
                    log.warning("store_process_line_left_out", longer_than_bytes=_MAX_LINE_BYTES)
                    continue
                if not line:
                    break
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
