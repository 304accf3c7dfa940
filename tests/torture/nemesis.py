"""What is done to the members: one fault after another, drawn from a seed.

A fault begins, lasts, is undone, and then the cluster must take writes again; how long that took is part of
the history. Each kind is a method of one screen. Kinds that need several members are left out of a cluster of
one.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from gitkube.store.protocol import CompactedError, MembershipError, Revision, StoreError, UnavailableError
from tests.support.store_cluster import StoreCluster
from tests.support.store_links import LinkState
from tests.torture.history import Fault, History

RECOVERY_TIMEOUT_S = 60.0
"""Without an acknowledged write for so long after a fault was undone, the cluster is stuck."""
MAX_DOWN_S = 2.0
MAX_STOPPED_S = 5.0
MAX_CUT_S = 6.0
BURST_KILLS = 8
QUIET_S = 1.0
"""At most, between two faults: some must meet a cluster that is still recovering."""


@dataclass(frozen=True, slots=True)
class _Kind:
    name: str
    weight: int
    strike: Callable[[Fault], Awaitable[None]]
    min_members: int = 1


class Nemesis:
    """See the module's text.

    Args:
        acknowledged: how many writes have been acknowledged so far.
        now: seconds since the run began.
        with_membership: also replace members, which takes longer.
    """

    def __init__(
        self,
        cluster: StoreCluster,
        history: History,
        *,
        acknowledged: Callable[[], int],
        now: Callable[[], float],
        with_membership: bool,
    ) -> None:
        self._cluster = cluster
        self._history = history
        self._acknowledged = acknowledged
        self._now = now
        self._rng = random.Random(history.seed)
        self._kinds = [
            _Kind("kill one", 4, self._kill_one),
            _Kind("kill leader", 5, self._kill_leader, min_members=2),
            _Kind("kill two", 3, self._kill_two, min_members=3),
            _Kind("kill all", 4, self._kill_all),
            _Kind("kill again and again", 6, self._kill_again_and_again),
            _Kind("stop one", 2, self._stop_one),
            _Kind("stop leader", 2, self._stop_leader, min_members=2),
            _Kind("stop all", 1, self._stop_all),
            _Kind("cut off leader", 3, self._cut_off_leader, min_members=2),
            _Kind("cut off one", 2, self._cut_off_one, min_members=2),
            _Kind("cut one way", 3, self._cut_one_way, min_members=2),
            _Kind("slow links", 1, self._slow_links, min_members=2),
            _Kind("kill leader while one is cut off", 2, self._kill_while_cut, min_members=3),
            _Kind("transfer leadership", 1, self._transfer, min_members=2),
            _Kind("compact", 1, self._compact),
        ]
        if with_membership:
            self._kinds.append(_Kind("replace a member", 4, self._replace, min_members=3))

    async def run(self, until_s: float, *, max_kills: int = 0) -> None:
        """One fault after the other until that time, or so many kills."""
        while self._now() < until_s and not self._history.incidents:
            await asyncio.sleep(self._rng.uniform(0, QUIET_S))
            kinds = [kind for kind in self._kinds if kind.min_members <= len(self._cluster.members)]
            kind = self._rng.choices(kinds, [kind.weight for kind in kinds])[0]
            await self._strike(kind)
            if max_kills and sum(fault.kills for fault in self._history.faults) >= max_kills:
                break

    async def run_script(self, names: Sequence[str]) -> None:
        """Just these faults, in this order."""
        by_name = {kind.name: kind for kind in self._kinds}
        for name in names:
            await asyncio.sleep(self._rng.uniform(0, QUIET_S))
            await self._strike(by_name[name])

    async def heal(self) -> None:
        """All members run, none is stopped, all links are open."""
        self._cluster.links.heal()
        for number in list(self._cluster.members):
            self._cluster.resume(number)
            await self._cluster.restart(number)

    async def _strike(self, kind: _Kind) -> None:
        fault = Fault(kind.name, [], self._now())
        self._history.faults.append(fault)
        try:
            await kind.strike(fault)
        finally:
            await self.heal()
            fault.end = self._now()
            fault.able = fault.able or fault.end
        self.note_deaths()
        before = self._acknowledged()
        while self._acknowledged() == before:
            if self._now() > fault.end + RECOVERY_TIMEOUT_S:
                self._history.incidents.append(
                    f"no write was acknowledged within {RECOVERY_TIMEOUT_S:.0f} s after '{fault.what}' of "
                    "members "
                    f"{fault.members} ended at {fault.end:.1f} s"
                )
                return
            await asyncio.sleep(0.05)

    def note_deaths(self) -> None:
        """Write down which members have ended by themselves."""
        for death in self._cluster.deaths:
            self._history.incidents.append(
                f"member {death.member} ended by itself with code {death.code} before {self._now():.1f} s; "
                f"it said: {death.last_words}"
            )
        self._cluster.deaths.clear()

    # ------------------------------------------------------------------ helpers

    def _numbers(self) -> list[int]:
        return sorted(self._cluster.members)

    def _one(self) -> int:
        return self._rng.choice(self._numbers())

    async def _leader(self) -> int:
        """Who leads, or anybody if nobody does soon."""
        try:
            return await self._cluster.leader(timeout_s=5)
        except TimeoutError:
            return self._one()

    async def _kill(self, fault: Fault, *numbers: int) -> None:
        for number in numbers:
            if self._cluster.members[number].pid:
                fault.kills += 1
                fault.members.append(number)
        await asyncio.gather(*(self._cluster.kill(number) for number in numbers))

    async def _pause(self, longest_s: float) -> None:
        await asyncio.sleep(self._rng.uniform(0, longest_s))

    def _majority_left(self, fault: Fault, touched: int) -> None:
        """With a majority untouched the cluster is able to go on from the very beginning of the fault."""
        if len(self._cluster.members) - touched > len(self._cluster.members) // 2:
            fault.able = self._now()

    # ------------------------------------------------------------------ kills

    async def _kill_one(self, fault: Fault) -> None:
        self._majority_left(fault, 1)
        await self._kill(fault, self._one())
        await self._pause(MAX_DOWN_S)

    async def _kill_leader(self, fault: Fault) -> None:
        leader = await self._leader()
        fault.begin = self._now()
        self._majority_left(fault, 1)
        await self._kill(fault, leader)
        # Long enough for the others to elect one of them, mostly.
        await asyncio.sleep(self._rng.uniform(0, 3 * MAX_DOWN_S))

    async def _kill_two(self, fault: Fault) -> None:
        await self._kill(fault, *self._rng.sample(self._numbers(), 2))
        await self._pause(MAX_DOWN_S)

    async def _kill_all(self, fault: Fault) -> None:
        await self._kill(fault, *self._numbers())
        if self._rng.random() < 0.5:
            await self._pause(MAX_DOWN_S)

    async def _kill_again_and_again(self, fault: Fault) -> None:
        """Kill some, start them, and kill again before, while or soon after they have recovered."""
        for _ in range(self._rng.randint(3, BURST_KILLS)):
            numbers = self._rng.sample(self._numbers(), self._rng.randint(1, len(self._numbers())))
            await self._kill(fault, *numbers)
            for number in numbers:
                await self._cluster.restart(number)
            await self._pause(1.5)

    # ------------------------------------------------------------------ pauses

    async def _stop(self, fault: Fault, *numbers: int) -> None:
        fault.members += numbers
        for number in numbers:
            self._cluster.stop(number)
        await self._pause(MAX_STOPPED_S)

    async def _stop_one(self, fault: Fault) -> None:
        self._majority_left(fault, 1)
        await self._stop(fault, self._one())

    async def _stop_leader(self, fault: Fault) -> None:
        leader = await self._leader()
        fault.begin = self._now()
        self._majority_left(fault, 1)
        await self._stop(fault, leader)

    async def _stop_all(self, fault: Fault) -> None:
        await self._stop(fault, *self._numbers())

    # ------------------------------------------------------------------ the network

    def _isolate(self, number: int, state: LinkState) -> None:
        for other in self._numbers():
            if other != number:
                self._cluster.links.set(number, other, state)
                self._cluster.links.set(other, number, state)

    def _broken(self) -> LinkState:
        return self._rng.choice([LinkState.HELD, LinkState.HELD, LinkState.CUT])

    async def _cut_off_leader(self, fault: Fault) -> None:
        leader = await self._leader()
        fault.begin = self._now()
        fault.members.append(leader)
        self._majority_left(fault, 1)
        self._isolate(leader, self._broken())
        await self._pause(MAX_CUT_S)

    async def _cut_off_one(self, fault: Fault) -> None:
        number = self._one()
        fault.members.append(number)
        self._majority_left(fault, 1)
        self._isolate(number, self._broken())
        await self._pause(MAX_CUT_S)

    async def _cut_one_way(self, fault: Fault) -> None:
        """Some hear others that do not hear them."""
        source = await self._leader() if self._rng.random() < 0.5 else self._one()
        targets = [number for number in self._numbers() if number != source]
        targets = self._rng.sample(targets, self._rng.randint(1, len(targets)))
        fault.members += [source, *targets]
        for target in targets:
            pair = (source, target) if self._rng.random() < 0.5 else (target, source)
            self._cluster.links.set(*pair, LinkState.HELD)
        await self._pause(MAX_CUT_S)

    async def _slow_links(self, fault: Fault) -> None:
        for source in self._numbers():
            for target in self._numbers():
                if source != target:
                    self._cluster.links.set(
                        source, target, LinkState.OPEN, delay_s=self._rng.choice([0.0, 0.02, 0.2])
                    )
        await self._pause(MAX_CUT_S)

    async def _kill_while_cut(self, fault: Fault) -> None:
        """The one that was cut off must not lead when it is let in again, whatever it thinks."""
        leader = await self._leader()
        other = self._rng.choice([number for number in self._numbers() if number != leader])
        self._isolate(other, self._broken())
        await self._pause(MAX_CUT_S / 2)
        await self._kill(fault, leader)
        await self._pause(MAX_DOWN_S)
        self._cluster.links.heal()
        await self._pause(MAX_DOWN_S)

    # ------------------------------------------------------------------ upkeep in the middle of it

    async def _transfer(self, fault: Fault) -> None:
        fault.able = self._now()
        store = self._cluster.store(self._one())
        try:
            async with asyncio.timeout(15):
                await store.transfer_leadership()
        except (TimeoutError, UnavailableError, MembershipError):
            return  # nobody was able to take over, and that is an answer
        finally:
            await store.close()

    async def _compact(self, fault: Fault) -> None:
        fault.able = self._now()
        store = self._cluster.store(self._one())
        try:
            async with asyncio.timeout(15):
                revision = (await store.status()).revision
                await store.compact(Revision(max(1, revision - self._rng.randrange(200))))
        except (TimeoutError, UnavailableError, CompactedError):
            return  # the automatic one was faster, or it comes another time
        finally:
            await store.close()

    async def _replace(self, fault: Fault) -> None:
        """A member is lost for good: it is removed, and a new one with an empty disk takes its place."""
        number = self._one()
        fault.members.append(number)
        fault.able = self._now()
        if self._rng.random() < 0.5:
            await self._kill(fault, number)
        try:
            await self._cluster.remove_member(number)
            added = await self._cluster.add_member()
            fault.members.append(added.number)
        except StoreError as error:
            self._history.incidents.append(f"member {number} could not be replaced: {error}")
