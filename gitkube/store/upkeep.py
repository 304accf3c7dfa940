"""What a member does beside answering: snapshots, compaction, and the log's next segment ahead of its need.

None of it is needed for correctness, all of it for staying small and quick. A snapshot that cannot be
written costs nothing but disk: the log still has everything, and it is tried again after a while. History is
compacted by the leader, through the log, so that all members can read the same revisions.

A snapshot is encoded in a thread, which the interpreter runs in turn with the loop: while it works, each
write takes longer. So it rests after each part as long as writes go on, and its cost is spread thin.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

import structlog

from gitkube.store.ages import RevisionAges
from gitkube.store.command import Compact
from gitkube.store.protocol import (
    CompactedError,
    CorruptError,
    FutureRevisionError,
    Revision,
    UnavailableError,
)
from gitkube.store.raft.types import Message
from gitkube.store.replica import OwnSnapshot

if TYPE_CHECKING:
    from gitkube.store.engine import Engine

log = structlog.get_logger()

PERIOD_S = 1.0
SNAPSHOT_RETRY_S = 30.0
TOLD_AGAIN_S = 60.0
"""A disk that stays full is in the log once a minute."""
RESTS = 3.0
"""A part of a snapshot is followed by a rest of so many times as long as it took."""
SEGMENT_REST_S = 0.02
"""After each of the sixteen pieces of the log's next segment; the one in use lasts two seconds at least."""
MAX_REST_S = 0.02
"""A part that took longer waited for the disk."""

T = TypeVar("T")


class Upkeep:
    """See the module's text."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._snapshot: asyncio.Task[None] | None = None
        self._snapshot_again_at = 0.0
        self._is_ending = threading.Event()
        self._unprepared_told_again_at = 0.0
        self._ages = RevisionAges(engine.settings.keep_history_s)

    def after_turn(self) -> None:
        """Look whether a snapshot is due. Called between turns, when the state is whole."""
        engine = self._engine
        if self._snapshot is not None or not engine.replica.snapshot_is_due():
            return
        if engine.clock.monotonic() < self._snapshot_again_at:
            return
        own = engine.replica.take_snapshot()
        node = engine.replica.node
        parts = with_rests(
            own.parts,
            progress=lambda: node.applied,
            monotonic=engine.clock.monotonic,
            rest=self._is_ending.wait,
        )
        own = own._replace(parts=parts)
        self._snapshot = asyncio.create_task(self._write(own), name="store-snapshot")

    async def _write(self, own: OwnSnapshot) -> None:
        engine = self._engine
        try:
            await engine.disk_work.in_thread(engine.replica.write_own, own)
            engine.replica.snapshot_written(own.meta)
            await engine.disk_work.in_thread(engine.replica.trim_log)
            log.info("store_snapshot_written", index=own.meta.index)
        except Exception as error:
            self._snapshot_again_at = engine.clock.monotonic() + SNAPSHOT_RETRY_S
            unforeseen = None if isinstance(error, OSError) else error
            log.error(
                "store_snapshot_failed",
                error=str(error),
                member=engine.replica.identity.name,
                exc_info=unforeseen,
            )
        finally:
            self._snapshot = None

    async def run(self) -> None:
        """Once a period, until cancelled."""
        while True:
            await self._engine.clock.sleep(PERIOD_S)
            await self._prepare_log()
            self._ages.note(self._engine.clock.monotonic(), self._engine.replica.space.revision)
            if self._engine.is_leader:
                await self._compact()

    async def finish(self) -> None:
        """Wait for a snapshot that is being written."""
        self._is_ending.set()
        if self._snapshot is not None:
            await asyncio.gather(self._snapshot, return_exceptions=True)

    async def _prepare_log(self) -> None:
        try:
            await self._engine.disk_work.in_thread(
                self._engine.replica.prepare_log, lambda: self._is_ending.wait(SEGMENT_REST_S)
            )
        except OSError as error:
            # The segment at hand may have room for long yet; when it has none, the write itself says so.
            now = self._engine.clock.monotonic()
            if now >= self._unprepared_told_again_at:
                self._unprepared_told_again_at = now + TOLD_AGAIN_S
                log.warning(
                    "store_segment_not_prepared", error=str(error), member=self._engine.replica.identity.name
                )

    # ------------------------------------------------------------------ compaction

    async def _compact(self) -> None:
        target = self.compaction_target()
        if target is None:
            return
        try:
            await self._engine.propose(Compact(target))
        except (CompactedError, FutureRevisionError):
            return  # somebody compacted by hand meanwhile
        except UnavailableError as error:
            log.info("store_not_compacted", error=str(error))

    def compaction_target(self) -> Revision | None:
        """Up to which revision history is to go, if that is worth a step: each one is a short pause."""
        settings, space = self._engine.settings, self._engine.replica.space
        by_count = space.revision - settings.keep_revisions
        by_age = self._ages.old_at(self._engine.clock.monotonic())
        target = max(by_count, by_age)
        step = max(1, min(settings.keep_revisions // 10, (space.revision - space.compact_revision) // 10))
        if target - space.compact_revision < step:
            return None
        return Revision(target)

    # ------------------------------------------------------------------ states for others

    async def state_pieces(self, message: Message, piece_bytes: int) -> AsyncIterator[bytes]:
        """The bytes of the state that a SNAPSHOT message announces, read in a thread.

        Raises:
            UnavailableError: a newer one has replaced it; the core will announce that one.
        """
        assert message.snapshot is not None
        replica = self._engine.replica
        try:
            pieces: Iterator[bytes] = await asyncio.to_thread(
                replica.snapshot_pieces, message.snapshot, piece_bytes
            )
            while piece := await asyncio.to_thread(next, pieces, b""):
                yield piece
        except (OSError, CorruptError) as error:
            raise UnavailableError(f"the state cannot be read: {error}") from error


def with_rests(
    parts: Iterator[T],
    *,
    progress: Callable[[], int],
    monotonic: Callable[[], float],
    rest: Callable[[float], object],
) -> Iterator[T]:
    """The parts, with a rest after each during which something else went on.

    Args:
        progress: a number that has changed when it did.
        monotonic: the time in seconds.
        rest: sleeps for so many seconds.
    """
    began, before = monotonic(), progress()
    for part in parts:
        yield part
        if progress() != before:
            rest(min((monotonic() - began) * RESTS, MAX_REST_S))
        began, before = monotonic(), progress()
