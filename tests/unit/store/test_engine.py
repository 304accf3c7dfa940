"""What a member does with what is under way when it ends, and with what could never get through."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from pathlib import Path

import pytest

from gitkube.store.command import Origin
from gitkube.store.member import Member
from gitkube.store.proposals import MAX_COMMAND_BYTES, Proposals
from gitkube.store.protocol import InvalidRequestError, Put, UnavailableError
from gitkube.store.replica import OwnSnapshot, Replica
from tests.support.real_api import SMALL_STORE


async def opened(directory: Path) -> Member:
    return await Member.open(directory, rng=random.Random(7), settings=SMALL_STORE)


async def test_a_backup_that_waits_for_its_moment_is_told_when_the_member_fails(tmp_path: Path) -> None:
    member = await opened(tmp_path)
    waiting = asyncio.create_task(member.engine.between_turns(lambda: 1))
    await asyncio.sleep(0)
    member.engine.fail(OSError(5, "Input/output error"))
    async with asyncio.timeout(30):
        with pytest.raises(UnavailableError, match="Input/output error"):
            await waiting
        with pytest.raises(UnavailableError):
            await member.engine.between_turns(lambda: 1)
    await member.close()


async def test_what_fails_between_two_turns_is_the_askers_and_not_the_members(tmp_path: Path) -> None:
    member = await opened(tmp_path)

    def fail() -> None:
        raise RuntimeError("a mistake of ours")

    async with asyncio.timeout(30):
        with pytest.raises(RuntimeError, match="a mistake of ours"):
            await member.engine.between_turns(fail)
        assert await member.engine.between_turns(lambda: 1) == 1
        await member.txn([], [Put(b"a", b"1")])
    await member.close()


async def test_a_snapshot_that_fails_for_whatever_reason_is_tried_again_later_and_not_at_each_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, tries = replace(SMALL_STORE, snapshot_entries=5), 0

    def fail(replica: Replica, own: OwnSnapshot) -> None:
        nonlocal tries
        tries += 1
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(Replica, "write_own", fail)
    member = await Member.open(tmp_path, rng=random.Random(7), settings=settings)
    for number in range(30):
        await member.txn([], [Put(b"%d" % number, b"")])
    assert tries == 1
    await member.close()


async def test_a_transaction_that_no_message_between_members_could_carry_is_refused(tmp_path: Path) -> None:
    """It would be sent again and again, and all that follow it in the log would wait."""
    member = await opened(tmp_path)
    count = MAX_COMMAND_BYTES // (1024 * 1024) + 1
    with pytest.raises(InvalidRequestError, match="bytes in one transaction"):
        await member.txn([], [Put(b"%d" % number, bytes(1024 * 1024)) for number in range(count)])
    await member.txn([], [Put(b"a", b"1")])
    await member.close()


class Counted(int):
    """A number that counts how often any of its kind was compared."""

    compared = 0

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return int(self) == other

    def __hash__(self) -> int:
        return int.__hash__(self)


async def test_many_writes_that_wait_for_a_leader_are_swept_without_comparing_each_with_each() -> None:
    """The loop would stand still for a second while an election needs it."""
    proposals, count = Proposals(retry_s=1.0, why_not=lambda: "no leader"), 1000
    for number in range(count):
        answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        proposals.add(Origin(1, Counted(number), 0), b"", answer, now=0.0, deadline=10.0)
    Counted.compared = 0
    proposals.sweep(5.0)
    assert Counted.compared < 10 * count
