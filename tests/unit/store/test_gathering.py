"""Who waits for whom before a call goes to the store."""

from __future__ import annotations

import asyncio

from gitkube.store.door.gathering import MAX_GATHERED, Gathering


class Calls:
    """Calls through one gathering; what is let through stays until `answer`."""

    def __init__(self) -> None:
        self.gathering = Gathering()
        self.let_through: list[int] = []
        self._answered = asyncio.Event()

    async def call(self, number: int) -> None:
        async with self.gathering:
            self.let_through.append(number)
            await self._answered.wait()

    def begin(self, number: int) -> asyncio.Task[None]:
        return asyncio.create_task(self.call(number))

    def answer(self) -> None:
        self._answered.set()
        self._answered = asyncio.Event()


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def soon_waits_for_nobody(calls: Calls) -> bool:
    """Whether, after some calls that were alone, one is let through at once."""
    for number in range(10):
        call = calls.begin(number)
        await turns(20)
        calls.answer()
        await call
    calls.let_through.clear()
    call = calls.begin(99)
    await turns(1)
    has_waited = not calls.let_through
    await turns(20)
    calls.answer()
    await call
    return not has_waited


async def test_a_call_that_is_alone_waits_for_nobody() -> None:
    calls = Calls()
    for number in range(3):
        call = calls.begin(number)
        await turns(1)
        assert calls.let_through == list(range(number + 1))
        calls.answer()
        await call


async def test_those_that_come_one_by_one_while_another_is_under_way_go_on_together() -> None:
    calls = Calls()
    begun = [calls.begin(0)]
    await turns(1)
    for number in range(1, 6):
        begun.append(calls.begin(number))
        await turns(1)
        assert calls.let_through == [0]
    await turns(20)
    assert calls.let_through == [0, 1, 2, 3, 4, 5]
    calls.answer()
    await asyncio.gather(*begun)


async def test_who_comes_first_again_after_all_were_answered_waits_for_the_others() -> None:
    calls = Calls()
    begun = [calls.begin(number) for number in range(8)]
    await turns(20)
    calls.answer()
    await asyncio.gather(*begun)
    calls.let_through.clear()
    again = calls.begin(0)
    await turns(2)
    assert calls.let_through == []
    later = calls.begin(1)
    await turns(20)
    assert calls.let_through == [0, 1]
    calls.answer()
    await asyncio.gather(again, later)


async def test_one_that_stays_alone_is_soon_taken_for_it() -> None:
    calls = Calls()
    begun = [calls.begin(number) for number in range(MAX_GATHERED)]
    await turns(20)
    calls.answer()
    await asyncio.gather(*begun)
    assert await soon_waits_for_nobody(calls)


async def test_a_stream_of_newcomers_holds_nobody_up_for_ever() -> None:
    calls = Calls()
    begun = [calls.begin(0)]
    for number in range(1, 3 * MAX_GATHERED):
        await turns(1)
        begun.append(calls.begin(number))
        waiting = number - len(calls.let_through)
        assert waiting <= MAX_GATHERED + 2
    await turns(20)
    assert calls.let_through == list(range(3 * MAX_GATHERED))
    calls.answer()
    await asyncio.gather(*begun)


async def test_a_client_that_goes_away_while_it_waits_takes_nobody_with_it() -> None:
    calls = Calls()
    begun = [calls.begin(number) for number in range(4)]
    await turns(2)
    begun[2].cancel()
    await turns(20)
    assert calls.let_through == [0, 1, 3]
    calls.answer()
    await asyncio.gather(*begun, return_exceptions=True)
    assert await soon_waits_for_nobody(calls)
