"""Tasks that belong together: how they end, and that a cancellation is never lost."""

from __future__ import annotations

import asyncio

import pytest

from gitkube.tasks import together


async def fail(error: Exception) -> None:
    await asyncio.sleep(0)
    raise error


async def test_all_of_it_is_waited_for() -> None:
    done: list[int] = []

    async def one(number: int) -> None:
        for _ in range(number):
            await asyncio.sleep(0)
        done.append(number)

    await together(one(number) for number in (3, 1, 2))
    assert done == [1, 2, 3]
    await together(())


async def test_a_failure_ends_the_others_and_is_raised() -> None:
    ended = asyncio.Event()

    async def other() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(ExceptionGroup) as caught:
        await together((other(), fail(ValueError("first"))))
    assert [str(error) for error in caught.value.exceptions] == ["first"]
    assert ended.is_set()


async def test_a_cancellation_while_the_others_are_ended_is_not_lost() -> None:
    is_ending, may_end = asyncio.Event(), asyncio.Event()

    async def slow_to_end() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            is_ending.set()
            await may_end.wait()

    task = asyncio.create_task(together((slow_to_end(), fail(OSError("the link broke")))))
    await is_ending.wait()
    task.cancel()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
