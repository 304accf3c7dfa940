"""The informer's copy against an API that changes, forgets and fails."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gitkube.api.errors import unavailable
from gitkube.api.informer import Informer
from gitkube.api.informers import Informers
from gitkube.control.manager import Manager
from gitkube.control.settings import ControlSettings
from gitkube.fleet.pods import Copies
from gitkube.gitops.view import View
from gitkube.objects.kinds import CONFIG_MAP, POD, Kind
from gitkube.objects.types import Object
from gitkube.scheduler.scheduler import Scheduler
from tests.support.fake_client import FakeClient
from tests.support.fake_clock import FakeClock, settle


def config_map(name: str, namespace: str = "default", **data: str) -> Object:
    return {"metadata": {"name": name, "namespace": namespace}, "data": data}


@pytest.fixture
async def informer(client: FakeClient, clock: FakeClock) -> AsyncIterator[Informer]:
    informer = Informer(client, CONFIG_MAP, clock=clock, rng=random.Random(1))
    informer.add_index("colour", lambda obj: [obj["data"]["colour"]] if "colour" in obj["data"] else [])
    task = asyncio.create_task(informer.run())
    yield informer
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_it_holds_what_is_there_and_follows_what_happens(
    client: FakeClient, informer: Informer
) -> None:
    await client.create(CONFIG_MAP, config_map("a"))
    await informer.wait_synced()
    await client.create(CONFIG_MAP, config_map("b", "other"))
    await client.patch(CONFIG_MAP, "a", "default", {"data": {"x": "1"}})
    await settle()
    assert informer.get("a", "default")["data"] == {"x": "1"}
    assert [obj["metadata"]["name"] for obj in informer.list()] == ["a", "b"]
    assert [obj["metadata"]["name"] for obj in informer.list("other")] == ["b"]
    await client.delete(CONFIG_MAP, "a", "default")
    await settle()
    assert informer.get("a", "default") is None


async def test_handlers_see_before_and_after_and_late_ones_are_told_of_all(
    client: FakeClient, informer: Informer
) -> None:
    seen: list[tuple[Any, Any]] = []

    def value(obj: Object | None) -> Any:
        return obj and obj["data"].get("x", "-")

    informer.add_handler(lambda before, after: seen.append((value(before), value(after))))
    await client.create(CONFIG_MAP, config_map("a", x="1"))
    await informer.wait_synced()
    await client.patch(CONFIG_MAP, "a", "default", {"data": {"x": "2"}})
    await client.delete(CONFIG_MAP, "a", "default")
    await client.create(CONFIG_MAP, config_map("a", x="3"))
    await settle()
    assert seen == [(None, "1"), ("1", "2"), ("2", None), (None, "3")]
    late: list[Any] = []
    informer.add_handler(lambda before, after: late.append((before, value(after))))
    assert late == [(None, "3")]


async def test_an_index_follows_the_objects(client: FakeClient, informer: Informer) -> None:
    await client.create(CONFIG_MAP, config_map("a", colour="red"))
    await client.create(CONFIG_MAP, config_map("b", colour="red"))
    await settle()
    assert len(informer.by_index("colour", "red")) == 2
    await client.patch(CONFIG_MAP, "a", "default", {"data": {"colour": "blue"}})
    await client.delete(CONFIG_MAP, "b", "default")
    await settle()
    assert informer.by_index("colour", "red") == []
    assert [obj["metadata"]["name"] for obj in informer.by_index("colour", "blue")] == ["a"]


async def test_after_a_410_it_lists_again_and_shows_only_the_differences(
    client: FakeClient, clock: FakeClock, informer: Informer
) -> None:
    for name in ("kept", "deleted", "replaced"):
        await client.create(CONFIG_MAP, config_map(name))
    await informer.wait_synced()
    await settle()
    seen: list[tuple[str, str]] = []

    def handler(before: Object | None, after: Object | None) -> None:
        verb = "created" if before is None else "deleted" if after is None else "changed"
        seen.append((verb, (after or before or {})["metadata"]["name"]))

    informer.add_handler(handler)
    seen.clear()
    history = list(client._history)
    client._history.clear()  # the watch misses what follows, as if it had been away
    await client.delete(CONFIG_MAP, "deleted", "default")
    await client.delete(CONFIG_MAP, "replaced", "default")
    await client.create(CONFIG_MAP, config_map("replaced"))
    await client.create(CONFIG_MAP, config_map("new"))
    client._history[:] = history
    client.compacted = client._revision
    async with client._changed:
        client._changed.notify_all()
    await clock.advance(20)
    assert sorted(seen) == [
        ("created", "new"),
        ("created", "replaced"),
        ("deleted", "deleted"),
        ("deleted", "replaced"),
    ]


async def test_it_tries_again_when_the_api_is_away(client: FakeClient, clock: FakeClock) -> None:
    attempts = 0
    real_list = client.list

    async def failing_list(*args: Any, **kwargs: Any) -> Any:
        nonlocal attempts
        attempts += 1
        if attempts < 4:
            raise unavailable("starting")
        return await real_list(*args, **kwargs)

    client.list = failing_list  # type: ignore[method-assign]
    informer = Informer(client, CONFIG_MAP, clock=clock, rng=random.Random(1))
    task = asyncio.create_task(informer.run())
    await settle()
    assert attempts == 1 and not informer.has_synced
    await clock.advance(5)
    assert attempts == 4 and informer.has_synced
    task.cancel()


async def test_a_handler_that_raises_blinds_nobody_else(client: FakeClient, informer: Informer) -> None:
    seen: list[str] = []

    def broken(before: Object | None, after: Object | None) -> None:
        raise KeyError("oops")

    informer.add_handler(broken)
    informer.add_handler(lambda before, after: seen.append("told"))
    await client.create(CONFIG_MAP, config_map("a"))
    await settle()
    assert seen == ["told"]


class CountingClient(FakeClient):
    """Counts who lists."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.lists: list[Kind] = []

    async def list(self, kind: Kind, *args: Any, **options: Any) -> Any:
        self.lists.append(kind)
        return await super().list(kind, *args, **options)


async def test_all_loops_of_a_leader_share_one_copy_of_each_kind(clock: FakeClock) -> None:
    client, rng = CountingClient(clock), random.Random(1)
    informers = Informers(client, clock=clock, rng=rng)
    Manager(client, clock=clock, rng=rng, settings=ControlSettings(), informers=informers)
    Scheduler(client, clock=clock, rng=rng, informers=informers)
    copies = Copies(informers)
    view = View(client, clock=clock, rng=rng, informers=informers)
    await client.create(CONFIG_MAP, config_map("a"))
    running = asyncio.create_task(informers.run())
    await informers.wait_synced()
    seen: list[str] = []
    async with asyncio.TaskGroup() as tasks:
        await view.start(tasks, lambda before, after: seen.append((after or {})["metadata"]["name"]))
    assert "a" in seen, "who comes later is told of all that is there"
    assert copies.config_maps.get("a", "default") is not None
    assert client.lists.count(CONFIG_MAP) == client.lists.count(POD) == 1
    assert len(client.lists) == len(set(client.lists))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
