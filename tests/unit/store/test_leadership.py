"""What is asked of the leader, while leaders come and go."""

from __future__ import annotations

import asyncio
import gc
import re
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gitkube.clock import SystemClock
from gitkube.store.leadership import Leadership
from gitkube.store.protocol import MembershipError
from gitkube.store.raft.types import NOBODY, MemberId, Role, SoftState
from gitkube.store.replica import Outcome

OWN, FROZEN, NEXT = MemberId(1), MemberId(2), MemberId(3)


class Engine:
    """A follower's, whose leader was stopped: its machine still takes what is sent to it."""

    def __init__(self) -> None:
        self.clock = SystemClock()
        self.settings = SimpleNamespace(deadline_s=30.0, tick_s=0.01)
        self.replica = SimpleNamespace(
            is_leader=False, node=SimpleNamespace(id=OWN, role=Role.FOLLOWER, term=2)
        )
        self.lessor = SimpleNamespace(is_primary=False)
        self.metrics = SimpleNamespace(leader_changed=lambda **facts: None)
        self.proposals = SimpleNamespace(send_again=lambda: None)
        self.reads = SimpleNamespace(ask_again=lambda: None)
        self.is_leader = False
        self.is_over = False
        self.last_error: dict[int, str] = {}
        self.transport = self
        self.asked: list[int] = []
        self.given_up: list[int] = []

    def wake(self) -> None:
        pass

    def check_alive(self) -> None:
        pass

    async def answer(self, method: str, arguments: Sequence[Any]) -> Any:
        return [OWN, method, *arguments]

    async def ask(self, member: int, method: str, arguments: Sequence[Any], *, timeout_s: float) -> Any:
        self.asked.append(member)
        if method == "refuse":
            raise MembershipError("no")
        if member == FROZEN:
            try:
                await asyncio.Event().wait()
            finally:
                self.given_up.append(member)
        return [member, method, *arguments]


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def leadership(engine: Engine) -> Leadership:
    made = Leadership(cast(Any, engine))
    leads(made, FROZEN)
    return made


def leads(leadership: Leadership, member: MemberId) -> None:
    leadership.follow(Outcome([], soft_state=SoftState(member, Role.FOLLOWER)))


async def test_what_a_frozen_leader_does_not_answer_is_asked_of_the_next_one(
    engine: Engine, leadership: Leadership
) -> None:
    asking = asyncio.create_task(leadership.ask("lease_keep_alive", [7]))
    while not engine.asked:  # noqa: ASYNC110
        await asyncio.sleep(0)
    leads(leadership, NOBODY)
    await asyncio.sleep(0.05)
    assert not asking.done(), "an election may confirm the one that there was"
    leads(leadership, NEXT)
    async with asyncio.timeout(20):
        assert await asking == [NEXT, "lease_keep_alive", 7]
    assert (engine.asked, engine.given_up) == ([FROZEN, NEXT], [FROZEN])


async def test_whoever_gives_up_asking_leaves_nothing_under_way(
    engine: Engine, leadership: Leadership
) -> None:
    asking = asyncio.create_task(leadership.ask("lease_keep_alive", [7]))
    while not engine.asked:  # noqa: ASYNC110
        await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert engine.given_up == [FROZEN]


async def test_what_the_leader_refuses_is_refused(engine: Engine, leadership: Leadership) -> None:
    with pytest.raises(MembershipError, match="no"):
        await leadership.ask("refuse", [])


async def test_a_refusal_that_comes_as_its_asker_goes_away_is_nobodys_failure(
    engine: Engine, leadership: Leadership
) -> None:
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    leads(leadership, NEXT)
    for turns in range(6):
        asking = asyncio.create_task(leadership.ask("refuse", []))
        for _ in range(turns):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        del asking
    gc.collect()
    await asyncio.sleep(0)
    assert failures == []


async def test_a_member_that_has_yet_to_apply_what_it_leads_with_asks_nobody(
    engine: Engine, leadership: Leadership
) -> None:
    leads(leadership, OWN)
    asking = asyncio.create_task(leadership.ask("lease_keep_alive", [7]))
    await asyncio.sleep(0.05)
    assert not asking.done()
    engine.is_leader = True
    async with asyncio.timeout(20):
        assert await asking == [OWN, "lease_keep_alive", 7]
    assert engine.asked == []


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ({}, "no leader yet, .* 3 of 3 members can be reached. Try"),
        ({2: "gone"}, r"no leader yet, .* 2 of 3 members can be reached \(0x2: gone\)"),
        ({2: "gone", 3: "cut"}, r"no quorum: 1 of 3 members .* 2 are needed \(0x2: gone; 0x3: cut\)"),
    ],
)
def test_a_quorum_that_is_there_is_not_said_to_be_missing(
    engine: Engine, leadership: Leadership, lost: dict[int, str], said: str
) -> None:
    engine.replica.node.conf = SimpleNamespace(voters=[OWN, FROZEN, NEXT])
    engine.replica.membership = SimpleNamespace(members={})
    engine.last_error = lost
    assert re.search(said, leadership.why_not())
