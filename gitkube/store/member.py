"""One durable member: the key space, its log, its leases and its watchers, in one event loop.

The way of a write: `txn` checks it and queues it; the writer takes all that is queued, appends it to the log,
syncs once, applies each command in order and only then answers. So one fsync serves all who came meanwhile
(group commit), and nothing is answered, applied or shown to a watcher before it is on the disk.

This is the member that has nobody beside it: it is its own quorum. Terms are counted all the same, one a
start, so that the log of a lone member reads like that of a replicated one.

An error of the disk ends the member: after a failed fsync nobody can say what is on the disk, so it must not
go on as if it knew.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from gitkube.clock import Clock, SystemClock
from gitkube.store import command
from gitkube.store.command import Command, Compact, LeaseGrant, LeaseRevoke, Txn
from gitkube.store.directory import check_format, lock_directory
from gitkube.store.mvcc import NOW, KeySpace, Result
from gitkube.store.protocol import (
    CompactedError,
    Compare,
    Event,
    FutureRevisionError,
    Get,
    InvalidRequestError,
    Lease,
    LeaseId,
    LeaseNotFoundError,
    Operation,
    RangeResult,
    Revision,
    StoreError,
    StoreStatus,
    TxnResult,
    UnavailableError,
    WatchBatch,
)
from gitkube.store.snapshot import (
    SnapshotId,
    newest_snapshot,
    read_snapshot,
    snapshot_bytes,
    write_snapshot,
)
from gitkube.store.wal import Entry, HardState, Wal

log = structlog.get_logger()

MAX_QUEUED_WRITES = 4096
"""More writers than this wait outside: a queue without an end only hides that the disk is too slow."""
MAX_TURN_BYTES = 64 * 1024 * 1024
"""Of the commands that share one fsync, and so of a record; what is over waits for the next turn."""
WATCH_REVISIONS_PER_BATCH = 1000
_INLINE_FSYNC_S = 0.001
"""A disk this fast is synced in the loop, which saves two thread switches; a slower one in a thread."""
MAX_LEASE_TTL_S = 365 * 24 * 3600


@dataclass(frozen=True, slots=True)
class MemberSettings:
    segment_bytes: int = 16 * 1024 * 1024
    snapshot_entries: int = 20_000
    """A snapshot is taken after so many entries: bounds both the disk and the time of a start."""
    keep_revisions: int = 20_000
    """History is compacted to about this many revisions: how far back a watch may resume."""
    lock_wait_s: float = 5.0
    """How long to wait for a directory that is in use: after a crash the old member takes a moment to end."""


@dataclass(slots=True)
class _Write:
    command: Command
    answer: asyncio.Future[Result]


class Member:
    """A `Store` on a directory of this machine. Make one with `Member.open`."""

    def __init__(
        self,
        directory: Path,
        lock: int,
        wal: Wal,
        space: KeySpace,
        *,
        name: str,
        clock: Clock,
        rng: random.Random,
        settings: MemberSettings,
        snapshot_index: int,
    ) -> None:
        self._directory = directory
        self._lock = lock
        self._wal = wal
        self._space = space
        self._name = name
        self._clock = clock
        self._rng = rng
        self._settings = settings
        self._snapshot_index = snapshot_index
        self._index = wal.last_index
        self._queue: list[_Write] = []
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()
        self._failure: BaseException | None = None
        self._is_closed = False
        self._sync_s = 0.0
        self._deadlines = {lease: clock.monotonic() + ttl_s for lease, ttl_s in space.leases.items()}
        self._lease_added = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._snapshot_task: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        directory: Path,
        *,
        name: str = "0",
        clock: Clock | None = None,
        rng: random.Random | None = None,
        settings: MemberSettings | None = None,
    ) -> Member:
        """Open (or make) the member of a data directory.

        Raises:
            CorruptError: what is on the disk is damaged or of a newer format; nothing is changed then.
            StoreError: another process has the directory.
        """
        settings = settings or MemberSettings()
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        clock = clock or SystemClock()
        lock = await lock_directory(directory, clock, settings.lock_wait_s)
        try:
            check_format(directory)
            identity = newest_snapshot(directory / "snap")
            space = KeySpace.load(read_snapshot(directory / "snap", identity)) if identity else KeySpace()
            wal = Wal(directory / "wal", segment_bytes=settings.segment_bytes)
            entries = wal.open(identity.last_index if identity else 0)
            for entry in entries:
                if entry.data:
                    space.apply(*command.decode(entry.data))
            term = wal.hard_state.term + 1
            wal.append([Entry(wal.last_index + 1, term, b"")], HardState(term, 1, wal.last_index + 1))
            wal.sync()
        except BaseException:
            os.close(lock)
            raise
        log.info("store_opened", revision=space.revision, entries_replayed=len(entries), term=term)
        member = cls(
            directory,
            lock,
            wal,
            space,
            name=name,
            clock=clock,
            rng=rng or random.SystemRandom(),
            settings=settings,
            snapshot_index=identity.last_index if identity else 0,
        )
        member._tasks = [
            asyncio.create_task(member._write_loop(), name="store-writer"),
            asyncio.create_task(member._lease_loop(), name="store-leases"),
        ]
        return member

    # ------------------------------------------------------------------ the Store protocol

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
        self._check_alive()
        return self._space.range(
            key, end, limit=limit, revision=revision, keys_only=keys_only, count_only=count_only
        )

    async def txn(
        self, compare: Sequence[Compare], success: Sequence[Operation], failure: Sequence[Operation] = ()
    ) -> TxnResult:
        txn = Txn(tuple(compare), tuple(success), tuple(failure))
        self._space.check(txn)
        if all(isinstance(operation, Get) for operation in (*success, *failure)):
            # It changes nothing, and all that was answered is applied: no need for the log.
            self._check_alive()
            result: Result = self._space.apply(txn)
        else:
            result = await self._propose(txn)
        if not isinstance(result, TxnResult):
            raise InvalidRequestError(f"a transaction gave {result!r}")
        return result

    async def watch(
        self,
        key: bytes,
        end: bytes | None = None,
        *,
        start_revision: Revision = NOW,
        previous: bool = False,
    ) -> AsyncIterator[WatchBatch]:
        self._check_alive()
        if start_revision > self._space.revision + 1:
            raise FutureRevisionError(
                f"cannot watch from {start_revision}; the store is at {self._space.revision}"
            )
        at = Revision(start_revision or self._space.revision + 1)
        if at <= self._space.compact_revision:
            raise CompactedError(self._space.compact_revision)
        yield WatchBatch(Revision(at - 1))
        while True:
            while at > self._space.revision:
                changed = self._changed
                await changed.wait()
                self._check_alive()
            revisions = self._space.events_since(at, WATCH_REVISIONS_PER_BATCH)
            events = [
                event if previous else Event(event.type, event.kv)
                for _, each in revisions
                for event in each
                if _in_range(event.kv.key, key, end)
            ]
            at = Revision(revisions[-1][0] + 1)
            yield WatchBatch(revisions[-1][0], events)

    async def lease_grant(self, ttl_s: int) -> Lease:
        if not 0 < ttl_s <= MAX_LEASE_TTL_S:
            raise InvalidRequestError(f"a lease of {ttl_s} s; it must be 1 to {MAX_LEASE_TTL_S}")
        lease = LeaseId(self._rng.getrandbits(62) + 1)
        await self._propose(LeaseGrant(lease, ttl_s))
        self._deadlines[lease] = self._clock.monotonic() + ttl_s
        self._lease_added.set()
        return Lease(lease, ttl_s, float(ttl_s))

    async def lease_keep_alive(self, lease: LeaseId) -> Lease:
        self._check_alive()
        ttl_s = self._space.leases.get(lease)
        if ttl_s is None or self._deadlines.get(lease, 0.0) <= self._clock.monotonic():
            raise LeaseNotFoundError(f"lease {lease:x} does not exist or has expired")
        self._deadlines[lease] = self._clock.monotonic() + ttl_s
        return Lease(lease, ttl_s, float(ttl_s), self._space.keys_of_lease(lease))

    async def lease_revoke(self, lease: LeaseId) -> None:
        await self._propose(LeaseRevoke(lease))
        self._deadlines.pop(lease, None)

    async def compact(self, revision: Revision) -> None:
        await self._propose(Compact(revision))

    async def status(self) -> StoreStatus:
        self._check_alive()
        return StoreStatus(
            member=self._name,
            is_leader=True,
            term=self._wal.hard_state.term,
            revision=self._space.revision,
            compact_revision=self._space.compact_revision,
            keys=len(self._space),
            size_bytes=self._wal.size_bytes + snapshot_bytes(self._directory / "snap"),
        )

    async def close(self) -> None:
        """Answer what is queued, and release the directory."""
        if self._is_closed:
            return
        self._is_closed = True
        self._wake.set()
        self._notify()
        for task in self._tasks[1:]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._snapshot_task is not None:
            await asyncio.gather(self._snapshot_task, return_exceptions=True)
        self._wal.close()
        os.close(self._lock)

    async def wait_failed(self) -> BaseException:
        """Return when the member cannot go on, with the reason. Its process should end then."""
        await asyncio.wait(self._tasks, return_when=asyncio.FIRST_EXCEPTION)
        return self._failure or UnavailableError("the store was closed")

    # ------------------------------------------------------------------ writing

    async def _propose(self, proposal: Command) -> Result:
        self._check_alive()
        if len(self._queue) >= MAX_QUEUED_WRITES:
            raise UnavailableError(f"{MAX_QUEUED_WRITES} writes are waiting for the disk; try again")
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._queue.append(_Write(proposal, answer))
        self._wake.set()
        result = await answer
        if isinstance(result, StoreError):
            raise result
        return result

    async def _write_loop(self) -> None:
        try:
            while not (self._is_closed and not self._queue):
                await self._wake.wait()
                self._wake.clear()
                while self._queue:
                    await self._write_queued()
        except BaseException as error:
            self._fail(error)
            raise

    async def _write_queued(self) -> None:
        entries = self._entries_of_a_turn()
        writes, self._queue = self._queue[: len(entries)], self._queue[len(entries) :]
        try:
            self._wal.append(entries)
            await self._sync()
        except BaseException:
            self._queue = writes + self._queue  # they get the failure's answer with the others
            raise
        self._index = entries[-1].index
        before = self._space.revision
        for write in writes:
            result = self._space.apply(write.command)
            if not write.answer.done():
                write.answer.set_result(result)
        if self._space.revision != before:
            self._notify()
        self._maintain()

    def _entries_of_a_turn(self) -> list[Entry]:
        """Of the writes that waited longest, as many as MAX_TURN_BYTES hold, and one at least."""
        term, entries, size_bytes = self._wal.hard_state.term, list[Entry](), 0
        for offset, write in enumerate(self._queue, start=1):
            data = command.encode(write.command)
            size_bytes += len(data)
            if entries and size_bytes > MAX_TURN_BYTES:
                break
            entries.append(Entry(self._index + offset, term, data))
        return entries

    async def _sync(self) -> None:
        started = self._clock.monotonic()
        if self._sync_s < _INLINE_FSYNC_S:
            self._wal.sync()
        else:
            await asyncio.to_thread(self._wal.sync)
        self._sync_s += (self._clock.monotonic() - started - self._sync_s) / 8

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _fail(self, error: BaseException) -> None:
        self._failure = error
        if not isinstance(error, asyncio.CancelledError):
            log.critical("store_failed", error=str(error), directory=str(self._directory))
        for write in self._queue:
            if not write.answer.done():
                write.answer.set_exception(self._unavailable())
        self._queue.clear()
        self._notify()

    def _unavailable(self) -> UnavailableError:
        if self._failure is None:
            return UnavailableError("the store is closed")
        return UnavailableError(f"the store has stopped: {self._failure}")

    def _check_alive(self) -> None:
        if self._failure is not None or self._is_closed:
            raise self._unavailable()

    # ------------------------------------------------------------------ upkeep

    def _maintain(self) -> None:
        history = self._space.revision - max(self._space.compact_revision, 1)
        if history > self._settings.keep_revisions * 11 // 10:  # in small steps: each is a pause
            target = Revision(self._space.revision - self._settings.keep_revisions)
            answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
            self._queue.append(_Write(Compact(target), answer))
            self._wake.set()
        if (
            self._index - self._snapshot_index >= self._settings.snapshot_entries
            and self._snapshot_task is None
        ):
            self._snapshot_task = asyncio.create_task(self._snapshot(), name="store-snapshot")

    async def _snapshot(self) -> None:
        identity = SnapshotId(self._index, self._wal.hard_state.term)
        parts = self._space.dump()
        try:
            await asyncio.to_thread(write_snapshot, self._directory / "snap", identity, parts)
            self._snapshot_index = identity.last_index
            self._wal.trim(identity.last_index)
            log.info("store_snapshot_written", index=identity.last_index, revision=self._space.revision)
        except OSError as error:
            # The log still has everything: writing goes on, and the next round tries again.
            log.error("store_snapshot_failed", error=str(error), directory=str(self._directory))
        finally:
            self._snapshot_task = None

    async def _lease_loop(self) -> None:
        while True:
            now = self._clock.monotonic()
            for lease in [lease for lease, at in self._deadlines.items() if at <= now]:
                del self._deadlines[lease]
                if lease in self._space.leases:
                    await self._propose(LeaseRevoke(lease))
            self._lease_added.clear()
            if not self._deadlines:
                await self._lease_added.wait()
            await self._clock.sleep(min(1.0, max(0.01, min(self._deadlines.values()) - now)))


def _in_range(candidate: bytes, key: bytes, end: bytes | None) -> bool:
    if end is None:
        return candidate == key
    return key <= candidate and (end == b"\x00" or candidate < end)
