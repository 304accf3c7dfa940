"""What a member does because time has passed, and not because somebody asked.

The core's ticks, with which deadlines, leases and the freeing of old versions go; and two pauses of
milliseconds, after which followers hear what they were not told at once: a commit that no entries carried to
them, and a read's heartbeat for which others were asked first.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from gitkube.store import command
from gitkube.store.command import LeaseRevoke
from gitkube.store.raft.types import ProposalDropped

if TYPE_CHECKING:
    from gitkube.store.engine import Engine

log = structlog.get_logger()

COMMIT_TOLD_AFTER_S = 0.002
"""A commit that no entries follow is told to the followers after so long: their watchers wait for it."""
SPARED_S = 0.002
"""Whoever was not asked to confirm a read is asked after so long without the others' answers."""
SWEPT_PER_TICK = 500
"""Revisions of a compacted history that are freed at once: about a millisecond."""
EXPIRED_PER_TICK = 100
"""Leases whose end is proposed at once: ten thousand together would hold up the log."""


class Ticks:
    """See the module's text."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.has_committed = asyncio.Event()
        """Set by whoever applies something as a leader of others."""
        self.is_sparing = asyncio.Event()
        """Set by whoever holds heartbeats back."""

    async def run(self) -> None:
        """A tick each `tick_s`, until cancelled."""
        engine = self._engine
        while True:
            await engine.clock.sleep(engine.settings.tick_s)
            engine.rounds.interval_begins()
            engine.replica.tick()
            now = engine.clock.monotonic()
            for _ in range(engine.proposals.sweep(now)):
                engine.metrics.failed()
            engine.reads.sweep(now)
            engine.replica.space.sweep(SWEPT_PER_TICK)
            if engine.lessor.is_primary and engine.replica.is_leader:
                self._expire_leases(now)
            engine.wake()

    async def tell_commits(self) -> None:
        """Until cancelled."""
        engine = self._engine
        while True:
            await self.has_committed.wait()
            self.has_committed.clear()
            committed = engine.replica.node.committed
            await engine.clock.sleep(COMMIT_TOLD_AFTER_S)
            if engine.replica.node.tell_commit(committed):
                engine.wake()

    async def ask_the_spared(self) -> None:
        """Until cancelled."""
        engine = self._engine
        while True:
            await self.is_sparing.wait()
            self.is_sparing.clear()
            while engine.rounds.is_holding:
                asked = engine.rounds.round
                await engine.clock.sleep(SPARED_S)
                if engine.rounds.round == asked:
                    engine.send(engine.rounds.late())

    def _expire_leases(self, now: float) -> None:
        """Ask the log to end what has run out; the lessor names it again if that gets lost.

        Not as other proposals, which are sent again to the next leader: that one has given each lease its
        whole time anew, and may have answered a keep-alive that this member knows nothing of.
        """
        engine = self._engine
        for lease in engine.lessor.expired(now, EXPIRED_PER_TICK):
            try:
                engine.replica.node.propose([command.encode(LeaseRevoke(lease))])
            except ProposalDropped as error:
                log.info("store_lease_not_revoked", lease=f"{lease:x}", error=str(error))
