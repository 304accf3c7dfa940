"""What the store's socket answers: each request once and in order, and none that was cancelled."""

from __future__ import annotations

import asyncio
import gc
import random
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import pytest

from gitkube.store import command, results, rpc
from gitkube.store.command import Compact, Origin, Txn
from gitkube.store.frames import FrameConnection
from gitkube.store.member import Member
from gitkube.store.protocol import MAX_KEY_BYTES, Get, LeaseId, Operation, Put, Revision
from gitkube.store.served import StoreServer
from gitkube.store.settings import MemberSettings
from tests.support.real_api import SMALL_STORE

SESSION = 77


class Caller:
    """A client of the socket that says exactly what it is told to."""

    def __init__(self, frames: FrameConnection) -> None:
        self.frames = frames

    def send(self, *requests: list[Any]) -> None:
        """In one piece, so that all of them arrive in one turn of the member's loop."""
        self.frames.write_now(b"".join(map(rpc.encode_frame, requests)))

    async def answers(self, count: int) -> list[list[Any]]:
        return [await self.answer() for _ in range(count)]

    async def answer(self) -> list[Any]:
        async with asyncio.timeout(30):
            content = await self.frames.read()
        assert content is not None, "the connection ended"
        return rpc.decode_frame(content)


def txn(number: int, *operations: Operation) -> list[Any]:
    return [number, "txn", [command.encode(Txn((), operations), Origin(SESSION, number, number)), False]]


def put(number: int, key: bytes, value: bytes = b"v") -> list[Any]:
    return txn(number, Put(key, value))


def get(number: int, key: bytes, *, revision: int = 0, serializable: bool = False) -> list[Any]:
    return [number, "range", [key, None, 0, revision, False, False, serializable]]


@asynccontextmanager
async def served(
    directory: Path, settings: MemberSettings = SMALL_STORE
) -> AsyncIterator[tuple[Member, StoreServer]]:
    member = await Member.open(directory / "data", rng=random.Random(7), settings=settings)
    server = StoreServer(member, directory / "s")
    await server.start()
    try:
        yield member, server
    finally:
        await server.close()
        await member.close()


@asynccontextmanager
async def calling(directory: Path) -> AsyncIterator[Caller]:
    _, frames = await asyncio.get_running_loop().create_unix_connection(
        lambda: FrameConnection(rpc.MAX_FRAME_BYTES), str(directory / "s")
    )
    try:
        yield Caller(frames)
    finally:
        frames.close()
        await frames.wait_ended()


async def test_writes_that_arrive_together_are_answered_in_their_order_and_once(tmp_path: Path) -> None:
    async with served(tmp_path), calling(tmp_path) as caller:
        caller.send(*(put(number, b"k/%d" % number) for number in range(1, 101)))
        answers = await caller.answers(100)
        assert [number for number, _, _ in answers] == list(range(1, 101))
        revisions = [results.txn_from_list(body).revision for _, kind, body in answers if kind == rpc.ANSWER]
        assert revisions == list(range(revisions[0], revisions[0] + 100))


async def test_a_read_sees_what_was_acknowledged_before_it(tmp_path: Path) -> None:
    async with served(tmp_path), calling(tmp_path) as caller:
        caller.send(put(1, b"a", b"new"))
        await caller.answer()
        caller.send(get(2, b"a"), get(3, b"a", serializable=True))
        for _, kind, body in await caller.answers(2):
            assert kind == rpc.ANSWER
            assert [kv.value for kv in results.range_from_list(body).kvs] == [b"new"]


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        pytest.param(put(9, b""), "InvalidRequestError", id="an empty key"),
        pytest.param(put(9, b"k" * (MAX_KEY_BYTES + 1)), "InvalidRequestError", id="a key too long"),
        pytest.param(get(9, b"a", revision=99), "FutureRevisionError", id="a revision to come"),
        pytest.param(get(9, b""), "InvalidRequestError", id="a read without a key"),
        pytest.param([9, "read", [[1, b"a", b"v"], True]], "InvalidRequestError", id="a put as a read"),
        pytest.param([9, "txn", [b"\x91\x07", False]], "InvalidRequestError", id="no transaction"),
        pytest.param(
            [9, "txn", [msgpack.packb([1, 1, 1, 1, [], [[99, b"a"]], []]), False]],
            "InvalidRequestError",
            id="no operation",
        ),
        pytest.param(
            [9, "txn", [command.encode(Compact(Revision(1))), False]],
            "InvalidRequestError",
            id="another command",
        ),
        pytest.param([9, "range", [b"a"]], "InvalidRequestError", id="too few arguments"),
        pytest.param([9, "nothing", []], "InvalidRequestError", id="an unknown method"),
        pytest.param([9, "lease_grant", []], "InvalidRequestError", id="too few arguments of a rarer method"),
        pytest.param([9, "watch", [b"a"]], "InvalidRequestError", id="too few arguments of a stream"),
        pytest.param(
            [9, "watch", [b"a", None, 0, False, ["NEVER"], 0.0]], "InvalidRequestError", id="no such event"
        ),
    ],
)
async def test_a_request_that_is_wrong_is_told_so_and_its_neighbours_are_served(
    tmp_path: Path, request_: list[Any], error: str
) -> None:
    async with served(tmp_path), calling(tmp_path) as caller:
        caller.send(put(1, b"a"), request_, put(2, b"b"))
        answers = {number: (kind, body) for number, kind, body in await caller.answers(3)}
        assert answers[9][0] == rpc.ERROR
        assert answers[9][1][0] == error
        assert answers[1][0] == answers[2][0] == rpc.ANSWER


async def test_an_error_of_the_state_is_the_answer(tmp_path: Path) -> None:
    unknown_lease = txn(1, Put(b"a", b"v", LeaseId(4711)))
    async with served(tmp_path), calling(tmp_path) as caller:
        caller.send(unknown_lease)
        number, kind, (name, _, _) = await caller.answer()
        assert (number, kind, name) == (1, rpc.ERROR, "LeaseNotFoundError")


async def test_a_transaction_that_only_reads_needs_no_revision(tmp_path: Path) -> None:
    async with served(tmp_path) as (member, _), calling(tmp_path) as caller:
        caller.send(put(1, b"a"))
        await caller.answer()
        before = member.engine.replica.node.last_index
        caller.send(txn(2, Get(b"a")))
        _, kind, body = await caller.answer()
        assert kind == rpc.ANSWER
        assert results.txn_from_list(body).succeeded
        assert member.engine.replica.node.last_index == before


async def test_what_exceeds_the_quota_is_refused_and_raises_the_alarm(tmp_path: Path) -> None:
    settings = replace(SMALL_STORE, quota_bytes=10_000)
    async with served(tmp_path, settings) as (member, _), calling(tmp_path) as caller:
        caller.send(put(1, b"a", b"v" * 20_000))
        _, kind, (name, _, _) = await caller.answer()
        assert (kind, name) == (rpc.ERROR, "NoSpaceError")
        assert (await member.status()).alarms == ["NOSPACE"]


async def test_a_cancelled_write_is_not_answered_and_disturbs_no_other(tmp_path: Path) -> None:
    async with served(tmp_path), calling(tmp_path) as caller:
        caller.send(put(1, b"a"), put(2, b"b"), [1, "cancel", []], [7, "cancel", []], put(3, b"c"))
        assert [number for number, _, _ in await caller.answers(2)] == [2, 3]
        caller.send(get(4, b"c"))
        assert (await caller.answer())[0] == 4


async def test_a_number_that_is_under_way_is_not_begun_again(tmp_path: Path) -> None:
    async with served(tmp_path), calling(tmp_path) as caller:
        caller.send(put(1, b"a"), put(1, b"b"), put(2, b"c"))
        assert [number for number, _, _ in await caller.answers(2)] == [1, 2]
        caller.send(get(3, b"b"))
        _, _, body = await caller.answer()
        assert not results.range_from_list(body).kvs


async def test_a_caller_that_goes_away_leaves_the_member_at_work(tmp_path: Path) -> None:
    async with served(tmp_path):
        async with calling(tmp_path) as caller:
            caller.send(*(put(number, b"gone") for number in range(1, 20)))
        async with calling(tmp_path) as caller:
            caller.send(put(20, b"here"))
            assert (await caller.answer())[:2] == [20, rpc.ANSWER]


async def test_an_answer_that_cannot_be_made_ends_its_connection_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(result: Any) -> list[Any]:
        raise RuntimeError("a bug")

    async with served(tmp_path) as (member, _):
        async with calling(tmp_path) as caller:
            monkeypatch.setattr(results, "txn_to_list", broken)
            caller.send(put(1, b"a"))
            async with asyncio.timeout(30):
                assert await caller.frames.read() is None
        monkeypatch.undo()
        member.engine.check_alive()
        async with calling(tmp_path) as caller:
            caller.send(put(2, b"b"))
            assert (await caller.answer())[:2] == [2, rpc.ANSWER]


async def test_a_request_that_fails_in_a_way_that_nobody_thought_of_is_answered_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other end waits without a limit: whoever gets no answer would wait for ever."""
    async with served(tmp_path) as (member, _), calling(tmp_path) as caller:

        def fail(revision: int) -> None:
            raise RuntimeError("a mistake of ours")

        monkeypatch.setattr(member.engine.replica.space, "hash_at", fail)
        caller.send([9, "hash", [0]], put(1, b"a"))
        answers = {number: (kind, body) for number, kind, body in await caller.answers(2)}
        kind, (name, text, _) = answers[9]
        assert (kind, name) == (rpc.ERROR, "UnavailableError")
        assert "a mistake of ours" in text
        assert answers[1][0] == rpc.ANSWER


async def test_a_server_ends_though_somebody_does_not_take_his_answers(tmp_path: Path) -> None:
    """A client may be stopped in its terminal; the member must be able to end, or it cannot be restarted."""
    async with served(tmp_path) as (_, server), calling(tmp_path) as caller:
        caller.send(put(1, b"a", bytes(1024 * 1024)))
        await caller.answer()
        caller.send(*(get(number, b"a", serializable=True) for number in range(2, 30)))
        async with asyncio.timeout(30):
            while not any(each.frames.unsent_bytes for each in server._connections):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await server.close()


async def test_a_connection_that_has_ended_leaves_nothing_to_the_collector(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, server):
        gc.collect()
        gc.disable()
        try:
            async with calling(tmp_path) as caller:
                caller.send(put(1, b"a"), get(2, b"a"), [3, "status", []])
                await caller.answers(3)
                (connection,) = server._connections
                gone = asyncio.Event()
                weakref.finalize(connection, gone.set)
                del connection
            async with asyncio.timeout(30):
                await gone.wait()
        finally:
            gc.enable()
