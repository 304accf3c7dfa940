"""Waiting for an event and for the time, whichever comes first."""

from __future__ import annotations

import asyncio

import pytest

from gitkube.clock import set_within
from tests.support.fake_clock import FakeClock, settle


@pytest.mark.parametrize("comes", [False, True])
async def test_an_event_is_waited_for_as_long_as_it_may_take(comes: bool) -> None:
    clock, event = FakeClock(), asyncio.Event()
    others = asyncio.all_tasks()
    waiting = asyncio.create_task(set_within(clock, event, 5.0))
    await clock.advance(4.9)
    assert not waiting.done()
    if comes:
        event.set()
        await settle()
    else:
        await clock.advance(0.2)
    assert await waiting is comes
    await settle()
    assert asyncio.all_tasks() == others, "the one that came late was ended"
