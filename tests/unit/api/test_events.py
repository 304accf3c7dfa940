"""Events count up, survive restarts, are limited, and never hurt the one who speaks."""

from __future__ import annotations

import pytest

from gitkube.api.errors import StatusError, unavailable
from gitkube.api.events import BURST, EventRecorder
from gitkube.objects.kinds import EVENT, Kind
from gitkube.objects.types import Object
from tests.support.fake_client import FakeClient
from tests.support.fake_clock import FakeClock

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "resourceVersion": "7"},
}


async def events(client: FakeClient) -> list[Object]:
    return (await client.list(EVENT)).items


async def test_the_same_words_are_one_event_with_a_count(client: FakeClient, clock: FakeClock) -> None:
    recorder = EventRecorder(client, "scheduler", clock=clock)
    await recorder.event(POD, "Warning", "FailedScheduling", "0/3 nodes")
    await clock.advance(5)
    await recorder.event(POD, "Warning", "FailedScheduling", "0/3 nodes")
    await recorder.event(POD, "Normal", "Scheduled", "to bee")
    first, second = sorted(await events(client), key=lambda event: -event["count"])
    assert (first["count"], second["count"]) == (2, 1)
    assert first["involvedObject"]["uid"] == "u1" and first["metadata"]["namespace"] == "shop"
    assert first["firstTimestamp"] < first["lastTimestamp"]


async def test_a_restarted_recorder_goes_on_counting(client: FakeClient, clock: FakeClock) -> None:
    for _ in range(3):
        await EventRecorder(client, "scheduler", clock=clock).event(POD, "Normal", "Same", "words")
    assert [event["count"] for event in await events(client)] == [3]


async def test_an_event_that_expired_in_the_store_starts_again(client: FakeClient, clock: FakeClock) -> None:
    recorder = EventRecorder(client, "scheduler", clock=clock)
    await recorder.event(POD, "Normal", "Same", "words")
    (event,) = await events(client)
    await client.delete(EVENT, event["metadata"]["name"], "shop")
    await recorder.event(POD, "Normal", "Same", "words")
    assert [event["count"] for event in await events(client)] == [1]


async def test_a_noisy_object_is_cut_off_and_others_are_not(client: FakeClient, clock: FakeClock) -> None:
    recorder = EventRecorder(client, "scheduler", clock=clock)
    for number in range(BURST + 10):
        await recorder.event(POD, "Normal", "Noise", f"number {number}")
    assert len(await events(client)) == BURST
    other = {**POD, "metadata": {**POD["metadata"], "name": "other", "uid": "u2"}}
    await recorder.event(other, "Normal", "Noise", "hello")
    assert len(await events(client)) == BURST + 1
    await clock.advance(301)
    await recorder.event(POD, "Normal", "Noise", "later")
    assert len(await events(client)) == BURST + 2


async def test_a_failing_api_does_not_reach_the_caller(client: FakeClient, clock: FakeClock) -> None:
    def refuse(verb: str, kind: Kind, obj: Object) -> None:
        raise unavailable("no store")

    client.reactions.append(refuse)
    await EventRecorder(client, "scheduler", clock=clock).event(POD, "Normal", "Same", "words")
    client.reactions.clear()
    assert await events(client) == []
    with pytest.raises(StatusError):
        await client.get(EVENT, "none", "shop")
