"""The work queue's promises, told one by one and then checked over random schedules."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Hashable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gitkube.api.workqueue import QueueShutDown, WorkQueue, run_workers
from gitkube.clock import SystemClock
from gitkube.control.garbage_collector import Item
from gitkube.gitops.check import Ref
from gitkube.objects.kinds import DEPLOYMENT, NAMESPACE
from tests.support.fake_clock import FakeClock, settle


@pytest.fixture
def queue(clock: FakeClock) -> WorkQueue[str]:
    return WorkQueue(clock, random.Random(1))


async def test_keys_come_out_in_the_order_in_which_they_were_first_added(queue: WorkQueue[str]) -> None:
    for key in ("a", "b", "a", "c", "b"):
        queue.add(key)
    assert [await queue.get() for _ in range(3)] == ["a", "b", "c"]
    assert len(queue) == 0


async def test_a_key_added_while_it_is_worked_on_comes_again_after_done(queue: WorkQueue[str]) -> None:
    queue.add("a")
    assert await queue.get() == "a"
    queue.add("a")
    other = asyncio.create_task(queue.get())
    await settle()
    assert not other.done(), "nobody else may get a key that is being worked on"
    queue.done("a")
    await settle()
    assert other.result() == "a"


async def test_shutdown_gives_out_what_is_ready_and_then_ends_everyone(queue: WorkQueue[str]) -> None:
    queue.add("a")
    queue.shut_down()
    queue.add("b")
    assert await queue.get() == "a"
    with pytest.raises(QueueShutDown):
        await queue.get()


async def test_waiting_workers_learn_of_the_shutdown(queue: WorkQueue[str]) -> None:
    waiting = [asyncio.create_task(queue.get()) for _ in range(3)]
    await settle()
    queue.shut_down()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(result, QueueShutDown) for result in results)


async def test_a_delayed_key_comes_when_its_time_has_come(queue: WorkQueue[str], clock: FakeClock) -> None:
    queue.add_after("late", 10)
    queue.add_after("early", 5)
    queue.add_after("late", 20)
    got: list[str] = []

    async def take() -> None:
        while True:
            key = await queue.get()
            got.append(key)
            queue.done(key)

    task = asyncio.create_task(take())
    await clock.advance(4.9)
    assert got == []
    await clock.advance(0.2)
    assert got == ["early"]
    await clock.advance(5)
    assert got == ["early", "late"]
    await clock.advance(60)
    assert got == ["early", "late"], "the later of two delays for one key is dropped"
    task.cancel()


async def test_a_nearer_delay_wakes_a_worker_that_waits_for_a_farther_one(
    queue: WorkQueue[str], clock: FakeClock
) -> None:
    queue.add_after("far", 100)
    waiting = asyncio.create_task(queue.get())
    await settle()
    queue.add_after("near", 1)
    await clock.advance(1)
    assert waiting.result() == "near"


async def test_a_nearer_delay_counts_also_between_a_workers_wake_up_and_its_turn(
    queue: WorkQueue[str], clock: FakeClock
) -> None:
    queue.add_after("far", 100)
    woken = asyncio.create_task(queue.get())
    await settle()

    async def be_quicker() -> str:
        queue.add("now")
        queue.add_after("near", 1)
        assert await queue.get() == "now"
        return await queue.get()

    quicker = asyncio.create_task(be_quicker())
    await clock.advance(1)
    assert [task.result() for task in (woken, quicker) if task.done()] == ["near"]
    woken.cancel()
    quicker.cancel()


async def test_delays_double_with_each_failure_up_to_the_limit(clock: FakeClock) -> None:
    queue: WorkQueue[str] = WorkQueue(clock, random.Random(1), base_delay_s=1, max_delay_s=8)
    waits = []
    for _ in range(6):
        queue.add_rate_limited("a")
        start = clock.monotonic()
        waiting = asyncio.create_task(queue.get())
        while not waiting.done():
            await clock.advance(0.1)
        waits.append(clock.monotonic() - start)
        queue.done("a")
    assert [round(wait) for wait in waits[:3]] == [1, 2, 4]
    assert all(8 <= wait <= 8.9 for wait in waits[3:])
    queue.forget("a")
    assert queue.failures("a") == 0


async def test_a_cancelled_waiter_passes_its_wake_up_on(queue: WorkQueue[str]) -> None:
    first = asyncio.create_task(queue.get())
    second = asyncio.create_task(queue.get())
    await settle()
    queue.add("a")
    first.cancel()
    await settle()
    assert second.result() == "a"


async def test_no_timer_outlives_the_workers(queue: WorkQueue[str]) -> None:
    queue.add_after("a", 1000)
    task = asyncio.create_task(queue.get())
    await settle()
    task.cancel()
    await settle()
    assert [other.get_name() for other in asyncio.all_tasks() if "timer" in other.get_name()] == []


async def test_workers_retry_failures_and_look_again_when_asked(clock: FakeClock) -> None:
    queue: WorkQueue[str] = WorkQueue(clock, random.Random(1), base_delay_s=1)
    looks: list[tuple[str, float]] = []

    async def reconcile(key: str) -> float | None:
        looks.append((key, clock.monotonic()))
        if len(looks) == 1:
            raise RuntimeError("no luck")
        return 30.0 if len(looks) == 2 else None

    queue.add("a")
    task = asyncio.create_task(run_workers(queue, reconcile, workers=3, name="test"))
    await clock.advance(100)
    task.cancel()
    assert [key for key, _ in looks] == ["a", "a", "a"]
    assert 1 <= looks[1][1] <= 1.1
    assert looks[2][1] == pytest.approx(looks[1][1] + 30)


async def test_looks_that_wait_for_nothing_leave_others_their_turns(queue: WorkQueue[str]) -> None:
    looks = 0

    async def look(key: str) -> None:
        nonlocal looks
        looks += 1
        if looks < 1000:
            queue.add(key)  # there is always something to do

    work = asyncio.create_task(run_workers(queue, look, workers=2, name="busy"))
    queue.add("a")
    for _ in range(10):
        await asyncio.sleep(0)
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    assert 0 < looks < 100


async def test_a_key_whose_worker_is_cancelled_is_not_lost(queue: WorkQueue[str]) -> None:
    async def reconcile(key: str) -> None:
        await asyncio.Event().wait()

    queue.add("a")
    task = asyncio.create_task(run_workers(queue, reconcile, workers=1, name="test"))
    await settle()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await queue.get() == "a"


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from("abcd"), st.sampled_from(["add", "after", "limited", "tick"])), max_size=40
    ),
    workers=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
def test_no_change_is_ever_missed_and_no_key_is_worked_on_twice_at_once(
    steps: list[tuple[str, str]], workers: int, seed: int
) -> None:
    async def run() -> None:
        clock = FakeClock()
        rng = random.Random(seed)
        queue: WorkQueue[str] = WorkQueue(clock, random.Random(seed))
        busy: set[str] = set()
        changed_at: dict[str, int] = {}
        looked_at: dict[str, int] = {}

        async def reconcile(key: str) -> None:
            assert key not in busy
            busy.add(key)
            looked_at[key] = changed_at[key]
            await clock.sleep(rng.random())
            busy.discard(key)
            if rng.random() < 0.2:
                looked_at[key] = -1
                raise RuntimeError("try again")

        task = asyncio.create_task(run_workers(queue, reconcile, workers=workers, name="test"))
        for number, (key, step) in enumerate(steps):
            if step == "tick":
                await clock.advance(rng.random())
                continue
            changed_at[key] = number
            if step == "add":
                queue.add(key)
            elif step == "after":
                queue.add_after(key, rng.random() * 3)
            else:
                queue.add_rate_limited(key)
            await asyncio.sleep(0)
        await clock.advance(300)
        assert not task.done()
        task.cancel()
        assert looked_at == changed_at

    asyncio.run(run())


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("shop/web", "shop/web"),
        (("host-a", "6c5f"), "host-a/6c5f"),
        (Ref(DEPLOYMENT, "shop", "web"), "Deployment shop/web"),
        (Item(NAMESPACE, "", "shop", "6c5f"), "Namespace shop"),
    ],
)
async def test_a_failure_names_its_key_as_people_write_it(key: Hashable, shown: str) -> None:
    queue: WorkQueue[Hashable] = WorkQueue(SystemClock(), random.Random(1))

    async def reconcile(key: Hashable) -> float | None:
        queue.shut_down()
        raise OSError("no way there")

    queue.add(key)
    with capture_logs() as logs:
        await run_workers(queue, reconcile, workers=1, name="looks")
    (line,) = [one for one in logs if one["event"] == "reconcile_failed"]
    assert (line["key"], line["loop"]) == (shown, "looks")
