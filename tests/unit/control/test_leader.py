"""Elections: whoever's member leads the store acts, at once and alone, with terms that only grow."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from gitkube.api.errors import unavailable
from gitkube.control.leader import LEASE_NAME, LEASE_NAMESPACE, LeaderElection
from gitkube.objects.kinds import LEASE
from tests.support.fake_client import FakeClient
from tests.support.fake_clock import FakeClock


class Candidate:
    """A controller that stands for election, and what its member says."""

    def __init__(self, name: str, client: FakeClient, log: list[tuple[str, str, int]]) -> None:
        self.name = name
        self.is_leader: bool | None = False
        self.client = client
        self.log = log
        self.stops_after_s = 0.0
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        election = LeaderElection(self.client, self.name, self, clock=self.client.clock, rng=random.Random(1))
        self.task = asyncio.create_task(election.run(self.work))

    async def work(self, term: int) -> None:
        self.log.append(("start", self.name, term))
        try:
            await asyncio.Event().wait()
        finally:
            self.log.append(("stop", self.name, term))

    async def stop(self) -> None:
        assert self.task is not None
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@pytest.fixture
def log() -> list[tuple[str, str, int]]:
    return []


@pytest.fixture
def two(client: FakeClient, log: list[Any]) -> tuple[Candidate, Candidate]:
    return Candidate("a", client, log), Candidate("b", client, log)


async def test_nobody_acts_while_the_store_has_no_leader(
    two: tuple[Candidate, Candidate], clock: FakeClock, log: list[Any]
) -> None:
    for one in two:
        one.is_leader = None
        one.start()
    await clock.advance(60)
    assert log == []
    for one in two:
        await one.stop()


async def test_who_leads_the_store_acts_at_once_whoever_held_the_lease(
    two: tuple[Candidate, Candidate], clock: FakeClock, log: list[Any]
) -> None:
    first, second = two
    first.is_leader = True
    first.start()
    second.start()
    await clock.advance(1)
    first.is_leader, second.is_leader = False, True
    await clock.advance(1)
    # The old one stops a moment later than the new one starts: what it writes meanwhile is fenced.
    assert sorted(entry[:2] for entry in log) == [("start", "a"), ("start", "b"), ("stop", "a")]
    for one in two:
        await one.stop()


async def test_a_dead_leader_is_not_waited_for(
    two: tuple[Candidate, Candidate], clock: FakeClock, log: list[Any]
) -> None:
    first, second = two
    first.is_leader = True
    first.start()
    await clock.advance(1)
    await first.stop()
    second.start()
    second.is_leader = True
    await clock.advance(0.5)
    assert log[-1][:2] == ("start", "b")
    await second.stop()


async def test_the_term_is_the_revision_of_the_lease_and_grows_with_every_leadership(
    two: tuple[Candidate, Candidate], client: FakeClient, clock: FakeClock, log: list[Any]
) -> None:
    first, second = two
    first.start()
    second.start()
    for round_ in range(6):
        first.is_leader, second.is_leader = round_ % 2 == 0, round_ % 2 == 1
        await clock.advance(1)
        lease = await client.get(LEASE, LEASE_NAME, LEASE_NAMESPACE)
        assert lease["spec"]["holderIdentity"] == ("a", "b")[round_ % 2]
        assert max(term for what, _, term in log if what == "start") == int(
            lease["metadata"]["resourceVersion"]
        )
        assert lease["spec"]["leaseTransitions"] == round_
    terms = [term for what, _, term in log if what == "start"]
    assert len(terms) == 6 and terms == sorted(set(terms))
    for one in two:
        await one.stop()


async def test_the_same_controller_leads_again_with_a_higher_term(
    two: tuple[Candidate, Candidate], clock: FakeClock, log: list[Any]
) -> None:
    first, _ = two
    first.start()
    for leads in (True, False, True):
        first.is_leader = leads
        await clock.advance(1)
    assert [what for what, _, _ in log] == ["start", "stop", "start"]
    assert log[2][2] > log[0][2]
    await first.stop()


async def test_the_lease_is_written_once_a_leadership(
    two: tuple[Candidate, Candidate], client: FakeClient, clock: FakeClock
) -> None:
    first, _ = two
    first.is_leader = True
    first.start()
    await clock.advance(600)
    assert len(client.writes) == 1
    await first.stop()


async def test_a_silent_member_does_not_stop_the_work(
    two: tuple[Candidate, Candidate], clock: FakeClock, log: list[Any]
) -> None:
    first, _ = two
    first.is_leader = True
    first.start()
    await clock.advance(1)
    first.is_leader = None
    await clock.advance(30)
    first.is_leader = True
    await clock.advance(1)
    assert [what for what, _, _ in log] == ["start"]
    await first.stop()


@pytest.mark.parametrize("change", ["edited", "deleted"])
async def test_a_lease_that_somebody_changed_is_taken_again(
    two: tuple[Candidate, Candidate], client: FakeClient, clock: FakeClock, log: list[Any], change: str
) -> None:
    first, _ = two
    first.is_leader = True
    first.start()
    await clock.advance(1)
    if change == "edited":
        await client.patch(LEASE, LEASE_NAME, LEASE_NAMESPACE, {"spec": {"holderIdentity": "eve"}})
    else:
        await client.delete(LEASE, LEASE_NAME, LEASE_NAMESPACE)
    await clock.advance(5)
    assert [what for what, _, _ in log] == ["start", "stop", "start"]
    assert log[2][2] > log[0][2]
    await first.stop()


async def test_an_api_that_is_away_is_asked_again(
    two: tuple[Candidate, Candidate], client: FakeClient, clock: FakeClock, log: list[Any]
) -> None:
    first, _ = two
    is_away = True

    def away(*_: Any) -> None:
        if is_away:
            raise unavailable("the store has no quorum")

    client.reactions.append(away)
    first.is_leader = True
    first.start()
    await clock.advance(10)
    assert log == []
    is_away = False
    await clock.advance(2)
    assert [what for what, _, _ in log] == ["start"]
    await first.stop()


async def test_a_failure_of_the_work_is_the_elections(
    client: FakeClient, clock: FakeClock, two: tuple[Candidate, Candidate]
) -> None:
    first, _ = two
    first.is_leader = True

    async def fails(term: int) -> None:
        raise RuntimeError("broken")

    first.work = fails  # type: ignore[method-assign]
    first.start()
    await clock.advance(1)
    assert first.task is not None
    with pytest.raises(RuntimeError, match="broken"):
        first.task.result()


async def test_work_that_is_slow_to_stop_is_waited_for_before_it_starts_anew(
    client: FakeClient, clock: FakeClock, log: list[Any], two: tuple[Candidate, Candidate]
) -> None:
    first, _ = two
    running = 0

    async def slow(term: int) -> None:
        nonlocal running
        running += 1
        assert running == 1, "never twice at a time"
        try:
            await asyncio.Event().wait()
        finally:
            await clock.sleep(3)
            running -= 1
            log.append(("stopped", "a", term))

    first.work = slow  # type: ignore[method-assign]
    first.start()
    for leads in (True, False, True):
        first.is_leader = leads
        await clock.advance(1)
    assert log == []
    await clock.advance(4)
    assert len(log) == 1 and running == 1
    assert first.task is not None
    first.task.cancel()
    await clock.advance(4)
