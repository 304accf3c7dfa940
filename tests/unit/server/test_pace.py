"""How many requests begin in one turn of the event loop."""

from __future__ import annotations

import asyncio

from gitkube.server.pace import BEGUN_AT_ONCE, Pace


async def begin_all(count: int, gone: frozenset[int] = frozenset()) -> list[list[int]]:
    """The requests that began in each turn of the loop in which one did, of so many that came together."""
    pace, turns, order = Pace(), [0], []

    async def one(number: int) -> None:
        await pace.begin()
        order.append((turns[0], number))

    tasks = [asyncio.create_task(one(number)) for number in range(count)]
    for number in gone:
        asyncio.get_running_loop().call_soon(tasks[number].cancel)
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0)
        turns[0] += 1
    return [[number for turn, number in order if turn == at] for at in sorted({turn for turn, _ in order})]


async def test_a_few_that_come_together_all_begin_at_once() -> None:
    assert await begin_all(BEGUN_AT_ONCE) == [list(range(BEGUN_AT_ONCE))]


async def test_of_many_that_come_together_a_part_begins_in_each_turn_in_their_order() -> None:
    begun = await begin_all(64)
    assert [len(part) for part in begun] == [8, 28, 14, 8, 6]
    assert [number for part in begun for number in part] == list(range(64))


async def test_who_has_gone_away_takes_nobodys_place() -> None:
    begun = await begin_all(3 * BEGUN_AT_ONCE, frozenset(range(BEGUN_AT_ONCE, 2 * BEGUN_AT_ONCE)))
    assert begun == [list(range(BEGUN_AT_ONCE)), list(range(2 * BEGUN_AT_ONCE, 3 * BEGUN_AT_ONCE))]


async def test_who_comes_later_waits_behind_those_who_wait() -> None:
    pace, order = Pace(), []

    async def one(name: str) -> None:
        await pace.begin()
        order.append(name)

    first = [asyncio.create_task(one("first")) for _ in range(4 * BEGUN_AT_ONCE)]
    await asyncio.sleep(0)
    late = asyncio.create_task(one("late"))
    await asyncio.gather(*first, late)
    assert order == ["first"] * (4 * BEGUN_AT_ONCE) + ["late"]
