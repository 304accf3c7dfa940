"""Whoever waits for a write or a read is told once, and those who have left are not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gitkube.store import command
from gitkube.store.command import Compact, Origin
from gitkube.store.proposals import MAX_WAITING, Proposals
from gitkube.store.protocol import CorruptError, Revision, StoreError, UnavailableError
from gitkube.store.reads import Reads
from gitkube.store.waiting import Bell


class Told:
    """Somebody who waits."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.has_left = False

    def done(self) -> bool:
        return self.has_left or bool(self.heard)

    def set_result(self, result: Any, /) -> None:
        self.heard.append(result)

    def set_exception(self, exception: StoreError, /) -> None:
        self.heard.append(str(exception))


class Node:
    """Takes what is proposed and asked."""

    def __init__(self) -> None:
        self.proposed: list[bytes] = []
        self.asked: list[bytes] = []

    def propose(self, datas: list[bytes]) -> None:
        self.proposed += datas

    def read_index(self, context: bytes) -> None:
        self.asked.append(context)


def proposals() -> Proposals:
    return Proposals(retry_s=1.0, why_not=lambda: "no leader")


def test_a_write_that_was_sent_twice_is_proposed_once_and_told_to_both() -> None:
    writes, node, first, second = proposals(), Node(), Told(), Told()
    for each in (first, second):
        writes.add(Origin(1, 1, 1), b"write", each, now=3.0, deadline=10.0)
    writes.flush(node)  # type: ignore[arg-type]
    assert node.proposed == [b"write"]
    assert writes.applied(Origin(1, 1, 1), None) == 3.0
    assert writes.applied(Origin(1, 1, 1), None) is None
    assert first.heard == second.heard == [None]


def _applied(writes: Proposals) -> None:
    writes.applied(Origin(1, 1, 1), None)


def _late(writes: Proposals) -> None:
    writes.sweep(10.0)


def _failed(writes: Proposals) -> None:
    writes.fail(UnavailableError("closed"))


@pytest.mark.parametrize(
    ("end", "heard"),
    [
        pytest.param(_applied, [None], id="applied"),
        pytest.param(_late, ["no leader"], id="late"),
        pytest.param(_failed, ["closed"], id="failed"),
    ],
)
def test_the_end_of_a_write_is_told_once_and_only_to_those_who_stayed(
    end: Callable[[Proposals], None], heard: list[Any]
) -> None:
    writes, stayed, left = proposals(), Told(), Told()
    writes.add(Origin(1, 1, 1), b"write", left, now=0.0, deadline=10.0)
    writes.add(Origin(1, 1, 1), b"write", stayed, now=0.0, deadline=10.0)
    left.has_left = True
    for each in (end, _applied, _late, _failed):
        each(writes)
    assert (stayed.heard, left.heard, len(writes)) == (heard, [], 0)


def test_a_write_too_many_is_refused_and_not_kept() -> None:
    writes, told = proposals(), Told()
    for number in range(MAX_WAITING):
        writes.add(Origin(1, number, 1), b"", told, now=0.0, deadline=10.0)
    with pytest.raises(UnavailableError, match="are waiting for the log"):
        writes.add(Origin(1, MAX_WAITING, 1), b"", Told(), now=0.0, deadline=10.0)
    assert len(writes) == MAX_WAITING


def test_what_was_decoded_on_its_way_in_is_not_decoded_again() -> None:
    origin, asked = Origin(1, 1, 1), Compact(Revision(7))
    data = command.encode(asked, origin)
    writes = proposals()
    writes.add(origin, data, Told(), now=0.0, deadline=10.0, decoded=asked)
    found, whose = writes.decode(bytes(bytearray(data)))  # as a follower has it back from its leader
    assert found is asked
    assert whose == origin
    assert writes.decode(data) == (asked, origin)


@pytest.mark.parametrize("end", [_late, _failed])
def test_of_a_write_that_was_given_up_nothing_is_kept(end: Callable[[Proposals], None]) -> None:
    writes = proposals()
    writes.add(Origin(1, 1, 1), b"no command", Told(), now=0.0, deadline=10.0, decoded=Compact(Revision(7)))
    end(writes)
    with pytest.raises(CorruptError):
        writes.decode(b"no command")


async def test_whoever_closes_waits_until_all_writes_have_an_end() -> None:
    writes = proposals()
    for number in (1, 2):
        writes.add(Origin(1, number, 1), b"", Told(), now=0.0, deadline=10.0 * number)
    closing = asyncio.create_task(writes.wait_empty())
    await asyncio.sleep(0)
    writes.sweep(10.0)
    await asyncio.sleep(0)
    assert not closing.done()
    writes.applied(Origin(1, 2, 1), None)
    async with asyncio.timeout(30):
        await closing


def test_readers_are_told_by_a_question_that_was_asked_after_they_came() -> None:
    reads, node = Reads(mark=b"m", retry_s=1.0, why_not=lambda: "no leader"), Node()
    early, late = Told(), Told()
    reads.add(early, 10.0)
    reads.flush(node, 0.0)  # type: ignore[arg-type]
    reads.add(late, 10.0)
    assert reads.confirmed(node.asked[0])
    assert (early.heard, late.heard) == ([None], [])
    assert not reads.confirmed(node.asked[0])
    reads.flush(node, 0.0)  # type: ignore[arg-type]
    assert not reads.confirmed(node.asked[1])
    assert (early.heard, late.heard) == ([None], [None])


async def test_a_bell_is_heard_once_however_often_it_was_rung() -> None:
    bell, heard = Bell(), 0

    async def listen() -> None:
        nonlocal heard
        while True:
            await bell.wait()
            heard += 1

    bell.ring()
    listening = asyncio.create_task(listen())
    await asyncio.sleep(0)
    assert heard == 1, "also if it was rung before"
    for _ in range(3):
        bell.ring()
    for _ in range(3):
        await asyncio.sleep(0)
    assert heard == 2
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    bell.ring()
    await bell.wait()
