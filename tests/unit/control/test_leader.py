"""Elections: one leader at a time, growing terms, and work that stops before another may start."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from gitkube.api.errors import unavailable
from gitkube.control.leader import LeaderElection
from gitkube.objects.kinds import LEASE
from tests.support.fake_client import FakeClient
from tests.support.fake_clock import FakeClock


class Cable:
    """A client that can be cut off from the API."""

    def __init__(self, client: FakeClient) -> None:
        self._client = client
        self.is_cut = False

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            if self.is_cut:
                raise unavailable("cut off")
            return await method(*args, **kwargs)

        return call


@dataclass
class Candidate:
    name: str
    cable: Cable
    log: list[tuple[str, str, int, float]]
    clock: FakeClock
    seed: int = 1
    terms: list[int] = field(default_factory=list)
    task: asyncio.Task[None] | None = None

    def start(self) -> None:
        election = LeaderElection(
            self.cable,  # type: ignore[arg-type]
            self.name,
            clock=self.clock,
            rng=random.Random(self.seed),
        )
        self.task = asyncio.create_task(election.run(self.work))

    async def work(self, term: int) -> None:
        self.log.append(("start", self.name, term, self.clock.now()))
        try:
            await asyncio.Event().wait()
        finally:
            self.log.append(("stop", self.name, term, self.clock.now()))

    async def stop(self) -> None:
        assert self.task is not None
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@pytest.fixture
def log() -> list[tuple[str, str, int, float]]:
    return []


def candidate(name: str, client: FakeClient, log: list[Any], clock: FakeClock, seed: int = 1) -> Candidate:
    return Candidate(name, Cable(client), log, clock, seed)


async def test_one_of_two_leads_and_the_other_follows_when_it_leaves(
    client: FakeClient, clock: FakeClock, log: list[Any]
) -> None:
    first, second = candidate("a", client, log, clock), candidate("b", client, log, clock, 2)
    first.start()
    await clock.advance(0.1)
    second.start()
    await clock.advance(60)
    assert [entry[:3] for entry in log] == [("start", "a", 1)]
    await first.stop()
    await clock.advance(5)
    assert [entry[:3] for entry in log] == [("start", "a", 1), ("stop", "a", 1), ("start", "b", 2)]
    await second.stop()


async def test_a_leader_that_is_cut_off_stops_before_another_starts(
    client: FakeClient, clock: FakeClock, log: list[Any]
) -> None:
    first, second = candidate("a", client, log, clock), candidate("b", client, log, clock, 2)
    first.start()
    await clock.advance(0.1)
    second.start()
    await clock.advance(10)
    cut_at = clock.now()
    first.cable.is_cut = True
    await clock.advance(30)
    assert [entry[:2] for entry in log] == [("start", "a"), ("stop", "a"), ("start", "b")]
    stopped, started = log[1][3], log[2][3]
    assert stopped <= cut_at + 12.1 and stopped < started
    first.cable.is_cut = False
    await clock.advance(60)
    assert len(log) == 3, "the deposed one waits"
    for one in (first, second):
        await one.stop()


async def test_a_leader_whose_requests_hang_stops_in_time(
    client: FakeClient, clock: FakeClock, log: list[Any]
) -> None:
    first = candidate("a", client, log, clock)
    first.start()
    await clock.advance(5)

    async def hang(*args: Any, **kwargs: Any) -> Any:
        await asyncio.Event().wait()

    client.update = hang  # type: ignore[method-assign]
    await clock.advance(12.5)
    assert [entry[:2] for entry in log] == [("start", "a"), ("stop", "a")]
    await first.stop()


async def test_a_restart_is_a_new_term_without_waiting(
    client: FakeClient, clock: FakeClock, log: list[Any]
) -> None:
    for _ in range(3):
        one = candidate("a", client, log, clock)
        one.start()
        await clock.advance(1)
        assert one.task is not None
        one.cable.is_cut = True  # killed: it could not release
        await one.stop()
    assert [entry[2] for entry in log if entry[0] == "start"] == [1, 2, 3]


async def test_a_lost_answer_does_not_cost_the_leadership(
    client: FakeClient, clock: FakeClock, log: list[Any]
) -> None:
    first = candidate("a", client, log, clock)
    first.start()
    await clock.advance(1)
    real_update = client.update
    lost = 1

    async def lose_the_answer(*args: Any, **kwargs: Any) -> Any:
        nonlocal lost
        answer = await real_update(*args, **kwargs)
        if lost:
            lost -= 1
            raise unavailable("the answer was lost")
        return answer

    client.update = lose_the_answer  # type: ignore[method-assign]
    await clock.advance(60)
    assert [entry[:2] for entry in log] == [("start", "a")]
    await first.stop()


async def test_work_that_fails_ends_the_election_with_its_reason(
    client: FakeClient, clock: FakeClock
) -> None:
    async def work(term: int) -> None:
        raise RuntimeError("no disk")

    election = LeaderElection(client, "a", clock=clock, rng=random.Random(1))
    with pytest.raises(RuntimeError, match="no disk"):
        await election.run(work)
    lease = await client.get(LEASE, "gitkube-controller", "kube-system")
    assert lease["spec"]["holderIdentity"] == "", "the next one need not wait"


async def test_two_that_try_at_once_never_both_win(
    client: FakeClient, clock: FakeClock, log: list[Any]
) -> None:
    candidates = [candidate(name, client, log, clock, seed) for seed, name in enumerate("abcde")]
    for one in candidates:
        one.start()
    await clock.advance(5)
    rng = random.Random(7)
    for _ in range(40):
        victim = rng.choice(candidates)
        victim.cable.is_cut = not victim.cable.is_cut
        await clock.advance(rng.random() * 10)
    leading: set[str] = set()
    last_term = 0
    for event, name, term, _ in log:
        if event == "start":
            assert not leading and term > last_term
            leading.add(name)
            last_term = term
        else:
            leading.discard(name)
    assert last_term >= 3
    for one in candidates:
        await one.stop()
