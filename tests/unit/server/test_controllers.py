"""What a controller sees of the others, and does for the membership."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from gitkube.server.controllers import SILENT_PROBES, Addresses, Controllers
from tests.support.fake_clock import FakeClock
from tests.support.memory_cluster import MemoryCluster, MemoryStore


class Eye:
    """A controller's `Controllers`, running; APIs in `silent` do not answer it."""

    def __init__(self, cluster: MemoryCluster, name: str, clock: FakeClock, peer: str = "") -> None:
        self.store: MemoryStore = cluster.member(name)
        self.silent: set[str] = set()
        self.changes = 0
        self.it = Controllers(
            self.store,
            Addresses(peer or f"{name}:2380", (f"https://{name}:6443",)),
            clock=clock,
            is_alive=self._is_alive,
            on_change=self._changed,
        )
        self.task = asyncio.create_task(self.it.run())

    async def _is_alive(self, url: str, timeout_s: float) -> bool:
        return url not in self.silent

    def _changed(self) -> None:
        self.changes += 1


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def cluster() -> MemoryCluster:
    return MemoryCluster("ctl-1", "ctl-2", "ctl-3")


async def test_who_leads_and_where_is_known_and_changes_are_told(
    cluster: MemoryCluster, clock: FakeClock
) -> None:
    eye = Eye(cluster, "ctl-2", clock)
    assert eye.it.is_leader is None and eye.it.leader is None and eye.it.is_alone
    await clock.advance(1)
    assert eye.it.is_leader is False and not eye.it.is_alone
    assert eye.it.leader is not None and eye.it.leader.client_urls == ("https://ctl-1:6443",)
    seen = eye.changes
    await clock.advance(5)
    assert eye.changes == seen
    cluster.lead("ctl-2")
    await clock.advance(1)
    assert eye.it.is_leader and eye.changes > seen
    cluster.lead("")
    await clock.advance(1)
    assert eye.it.leader is None and eye.it.is_leader is False
    eye.store.is_cut = True
    await clock.advance(1)
    assert eye.it.is_leader is None


async def test_a_member_that_stands_still_is_soon_one_that_does_not_answer(
    cluster: MemoryCluster, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What acts must not go on for ever on the last word of a leader that was stopped."""
    monkeypatch.setattr("gitkube.server.controllers.ANSWER_TIMEOUT_S", 0.05)
    eye = Eye(cluster, "ctl-1", clock)
    await clock.advance(1)
    assert eye.it.is_leader

    async def stand_still() -> None:
        await asyncio.Event().wait()

    with monkeypatch.context() as stopped:
        stopped.setattr(eye.store, "status", stand_still)
        async with asyncio.timeout(30):
            while eye.it.is_leader is not None:
                await clock.advance(1)
                await asyncio.sleep(0.02)
    async with asyncio.timeout(30):
        while not eye.it.is_leader:
            await clock.advance(1)
            await asyncio.sleep(0.02)


async def test_a_changed_address_is_recorded_and_a_missing_one_is_not(
    cluster: MemoryCluster, clock: FakeClock
) -> None:
    Eye(cluster, "ctl-2", clock, peer="10.0.0.9:2380")
    await clock.advance(2)
    assert cluster.members[1].peer_address == "10.0.0.9:2380"
    Controllers(cluster.member("ctl-3"), Addresses("", ()), clock=clock, is_alive=_never)
    await clock.advance(2)
    assert cluster.members[2].peer_address == "ctl-3:2380"


async def _never(url: str, timeout_s: float) -> bool:
    return False


async def test_a_learner_becomes_a_voter_when_it_has_caught_up(
    cluster: MemoryCluster, clock: FakeClock
) -> None:
    added = await cluster.member("ctl-1").member_add("ctl-4", "ctl-4:2380")
    eyes = [Eye(cluster, name, clock) for name in ("ctl-1", "ctl-2")]
    await clock.advance(5)
    assert cluster.members[3].is_learner, "nobody makes a voter of one that was never started"
    cluster.behind.add(added.id)
    eyes.append(Eye(cluster, "ctl-4", clock))
    await clock.advance(5)
    assert cluster.members[3].is_learner
    cluster.behind.clear()
    await clock.advance(2)
    assert not cluster.members[3].is_learner
    assert all(eye.it.members[3].is_learner is False for eye in eyes)


async def test_a_leader_whose_api_falls_silent_loses_the_leadership(
    cluster: MemoryCluster, clock: FakeClock
) -> None:
    eye = Eye(cluster, "ctl-2", clock)
    await clock.advance(3)
    eye.silent.add("https://ctl-1:6443")
    await clock.advance(SILENT_PROBES - 1)
    assert cluster.leader_id == 1, "one lost answer is no silence"
    await clock.advance(3)
    assert cluster.leader_id == 2


@pytest.mark.parametrize(
    "when",
    [
        lambda eye, cluster: eye.silent.add("https://ctl-1:6443"),
        lambda eye, cluster: cluster.members.__setitem__(0, _without_api(cluster)),
    ],
    ids=["never answered", "has no address"],
)
async def test_a_leader_that_was_never_reached_is_left_alone(
    cluster: MemoryCluster, clock: FakeClock, when: Callable[[Eye, MemoryCluster], None]
) -> None:
    eye = Eye(cluster, "ctl-2", clock)
    when(eye, cluster)
    await clock.advance(60)
    assert cluster.leader_id == 1


def _without_api(cluster: MemoryCluster):  # type: ignore[no-untyped-def]
    from dataclasses import replace

    return replace(cluster.members[0], client_urls=())


async def test_an_answer_ends_the_silence(cluster: MemoryCluster, clock: FakeClock) -> None:
    eye = Eye(cluster, "ctl-2", clock)
    await clock.advance(3)
    for _ in range(5):
        eye.silent.add("https://ctl-1:6443")
        await clock.advance(SILENT_PROBES - 2)
        eye.silent.clear()
        await clock.advance(2)
    assert cluster.leader_id == 1
