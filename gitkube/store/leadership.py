"""Who leads, as this member sees it, and what follows when that changes.

A new leader may not know what the old one was given, so what waits is sent again. Leases are counted down by
the leader alone. What only the leader can answer is passed on to it, over a change of leaders if need be; and
whoever comes when nobody has led for long is told at once why.

Invariant: leases are counted only by a member that leads and has applied all that leaders before it have
committed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from gitkube.clock import set_within
from gitkube.store.protocol import UnavailableError
from gitkube.store.raft.types import NOBODY, SoftState
from gitkube.store.replica import Outcome

if TYPE_CHECKING:
    from gitkube.store.engine import Engine

log = structlog.get_logger()

T = TypeVar("T")


class Leadership:
    """See the module's text."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._soft_state = SoftState(NOBODY, engine.replica.node.role)
        self._changed = asyncio.Event()
        """Set and replaced at each change."""
        self._leaderless_since: float | None = engine.clock.monotonic()

    @property
    def leader_id(self) -> int:
        """0: none is known."""
        return self._soft_state.leader

    async def wait_change(self) -> None:
        """Return when another member leads, or this one begins or ceases to."""
        await self._changed.wait()

    def announce(self) -> None:
        """Wake whoever waits for a change."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def follow(self, outcome: Outcome) -> None:
        """See what a turn has changed.

        A new leader gives every lease its whole time again, and may not have what the old one was given.
        """
        engine = self._engine
        is_leader = engine.is_leader
        if is_leader and not engine.lessor.is_primary:
            engine.lessor.promote(engine.replica.space.leases, engine.clock.monotonic())
            self.announce()
        elif not engine.replica.is_leader and engine.lessor.is_primary:
            engine.lessor.demote()
            self.announce()
        if outcome.soft_state is not None and outcome.soft_state != self._soft_state:
            before, self._soft_state = self._soft_state, outcome.soft_state
            if outcome.soft_state.leader != before.leader:
                self._leaderless_since = None if outcome.soft_state.leader else engine.clock.monotonic()
                engine.metrics.leader_changed(
                    has_leader=bool(outcome.soft_state.leader), is_leader=engine.replica.is_leader
                )
                log.info(
                    "store_leader", leader=f"{outcome.soft_state.leader:x}", term=engine.replica.node.term
                )
                if outcome.soft_state.leader:
                    engine.proposals.send_again()
                    engine.reads.ask_again()
                    engine.wake()
            self.announce()

    # ------------------------------------------------------------------ for those who need a leader

    async def ask(self, method: str, arguments: Sequence[Any]) -> Any:
        """The answer of whoever leads, as soon as somebody does, and has applied what leaders before him have
        committed.

        Raises:
            UnavailableError: nobody does, within the deadline.
        """
        engine = self._engine
        deadline = engine.clock.monotonic() + engine.settings.deadline_s
        while True:
            engine.check_alive()
            leader = self._soft_state.leader
            left_s = deadline - engine.clock.monotonic()
            if left_s <= 0:
                raise UnavailableError(self.why_not())
            try:
                if engine.is_leader:
                    return await engine.answer(method, arguments)
                is_other = leader not in (NOBODY, engine.replica.node.id)
                if is_other and engine.transport is not None:
                    asking = engine.transport.ask(leader, method, arguments, timeout_s=left_s)
                    return await self._unless_replaced(leader, asking)
            except UnavailableError as error:
                log.info("store_leader_did_not_answer", leader=f"{leader:x}", error=str(error))
            await self._pause()

    async def _unless_replaced(self, leader: int, asking: Coroutine[Any, Any, T]) -> T:
        """The leader's answer. One that was frozen does not give it, and does not hang up either.

        Raises:
            UnavailableError: another member leads now.
        """
        answer = asyncio.ensure_future(asking)
        try:
            while True:
                changed = asyncio.ensure_future(self.wait_change())
                try:
                    await asyncio.wait((answer, changed), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    changed.cancel()
                if answer.done():
                    return answer.result()
                if self.leader_id not in (NOBODY, leader):
                    raise UnavailableError(f"{self.leader_id:x} leads now")
        finally:
            answer.cancel()
            # Also when it has come just as whoever asked went away: a refusal that nobody takes would be
            # logged as a failure of ours.
            await asyncio.gather(answer, return_exceptions=True)

    async def _pause(self) -> None:
        """Until something about the leader changes, or a tick has passed."""
        await set_within(self._engine.clock, self._changed, self._engine.settings.tick_s)

    def check_hope(self) -> None:
        """Refuse at once when a whole deadline has passed without a leader: an election is over sooner, so
        who comes now need not wait for as long again to be told why.

        Raises:
            UnavailableError: it has.
        """
        since = self._leaderless_since
        if since is not None and self._engine.clock.monotonic() - since > self._engine.settings.deadline_s:
            raise UnavailableError(self.why_not())

    def why_not(self) -> str:
        """Why nothing can be committed now, and what to do."""
        engine = self._engine
        voters = engine.replica.node.conf.voters
        errors = engine.transport.last_error if engine.transport is not None else {}
        members = engine.replica.membership.members
        lost = [
            f"{members[each].name if each in members else hex(each)}: {errors[each]}"
            for each in voters
            if each in errors
        ]
        needed = len(voters) // 2 + 1
        if engine.is_over:
            return str(engine.unavailable())
        reached = len(voters) - len(lost)
        if reached < needed:
            return (
                f"the store has no quorum: {reached} of {len(voters)} members can be reached "
                f"and {needed} are needed ({'; '.join(lost)}). Start the others; serializable reads go on."
            )
        missing = f" ({'; '.join(lost)})" if lost else ""
        return (
            f"the store has no leader yet, or its disk is too slow to answer in time; {reached} of "
            f"{len(voters)} members can be reached{missing}. Try again"
        )
