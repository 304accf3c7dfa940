"""The wire between control side and host: frames in any pieces, and streams that don't hold each other up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitkube import wire
from gitkube.wire import Connection, Decoder, Frame, Stream, WireError

frames = st.lists(
    st.builds(
        Frame, st.integers(wire.MESSAGE, wire.CLOSE), st.integers(0, 2**32 - 1), st.binary(max_size=50)
    ),
    max_size=8,
)


@given(frames, st.integers(1, 20))
def test_frames_come_out_as_they_went_in_however_the_bytes_are_cut(sent: list[Frame], piece: int) -> None:
    data = b"".join(wire.encode(frame) for frame in sent)
    decoder = Decoder()
    received = []
    for start in range(0, len(data), piece):
        received += decoder.feed(data[start : start + piece])
    assert received == sent


@given(st.binary(min_size=9, max_size=40))
def test_garbage_is_frames_or_an_error_and_never_anything_else(data: bytes) -> None:
    try:
        Decoder().feed(data)
    except WireError:
        return


def test_a_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert wire.digest_of({"a": 1, "b": [2]}) == wire.digest_of({"b": [2], "a": 1})


class Pipe:
    """Two `ByteStream`s joined in memory."""

    def __init__(self) -> None:
        self._here: asyncio.Queue[bytes] = asyncio.Queue()
        self.other: Pipe

    @classmethod
    def pair(cls) -> tuple[Pipe, Pipe]:
        one, two = cls(), cls()
        one.other, two.other = two, one
        return one, two

    async def read(self) -> bytes:
        return await self._here.get()

    async def write(self, data: bytes) -> None:
        self.other._here.put_nowait(data)

    async def close(self) -> None:
        self.other._here.put_nowait(b"")


async def nothing(message: dict[str, Any]) -> None:
    raise AssertionError(f"nobody asked for {message}")


async def joined(on_open: Any, on_message: Any = nothing) -> tuple[Connection, list[asyncio.Task[None]]]:
    ours, theirs = Pipe.pair()
    control = Connection(ours, is_opener=True, on_message=nothing)
    node = Connection(theirs, is_opener=False, on_message=on_message, on_open=on_open)
    return control, [asyncio.create_task(control.run()), asyncio.create_task(node.run())]


async def end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_messages_arrive_in_order() -> None:
    seen: list[int] = []
    complete = asyncio.Event()

    async def take(message: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        seen.append(message["n"])
        if len(seen) == 50:
            complete.set()

    control, tasks = await joined(None, take)
    for number in range(50):
        await control.send({"n": number})
    await complete.wait()
    assert seen == list(range(50))
    await end(tasks)


async def test_a_stream_carries_both_ways_and_ends_with_a_result() -> None:
    async def upper(stream: Stream) -> None:
        while (item := await stream.read()) is not None and item[1]:
            await stream.write(wire.STDOUT, item[1].upper())
        await stream.close({"exitCode": 3})

    control, tasks = await joined(upper)
    stream = await control.open({"kind": "exec"})
    await stream.write(wire.STDIN, b"hello")
    await stream.write(wire.STDIN, b"")
    assert await stream.read() == (wire.STDOUT, b"HELLO")
    assert await stream.read() is None
    assert stream.result == {"exitCode": 3}
    with pytest.raises(WireError):
        await stream.write(wire.STDIN, b"too late")
    await end(tasks)


async def test_a_reader_that_stands_still_holds_back_its_stream_and_no_other() -> None:
    written = 0

    async def pour(stream: Stream) -> None:
        nonlocal written
        for _ in range(100):
            await stream.write(wire.STDOUT, b"x" * wire.DATA_CHUNK_BYTES)
            written += wire.DATA_CHUNK_BYTES if stream.request["kind"] == "slow" else 0
        await stream.close({"exitCode": 0})

    control, tasks = await joined(pour)
    slow = await control.open({"kind": "slow"})
    quick = await control.open({"kind": "quick"})
    total = 0
    while (item := await quick.read()) is not None:
        total += len(item[1])
    assert total == 100 * wire.DATA_CHUNK_BYTES
    assert written <= wire.STREAM_WINDOW_BYTES
    total = 0
    while (item := await slow.read()) is not None:
        total += len(item[1])
    assert total == 100 * wire.DATA_CHUNK_BYTES
    await end(tasks)


async def test_a_lost_link_ends_every_stream_with_a_reason() -> None:
    opened = asyncio.Event()

    async def wait(stream: Stream) -> None:
        opened.set()
        await stream.read()

    control, tasks = await joined(wait)
    stream = await control.open({"kind": "logs"})
    await opened.wait()
    tasks[1].cancel()
    assert await stream.read() is None
    assert stream.result is not None
    assert stream.result["reason"] == "LinkLost"
    await end(tasks)


async def test_a_handler_that_fails_tells_the_other_side() -> None:
    async def fail(stream: Stream) -> None:
        raise WireError("broken")

    control, tasks = await joined(fail)
    stream = await control.open({"kind": "logs"})
    assert await stream.read() is None
    assert stream.result is not None
    assert "error" in stream.result
    await end(tasks)


async def test_the_peer_may_not_open_a_stream_with_our_numbers() -> None:
    ours, theirs = Pipe.pair()
    node = Connection(ours, is_opener=False, on_message=nothing, on_open=nothing)  # type: ignore[arg-type]
    await theirs.write(wire.encode(Frame(wire.OPEN, 2, b"{}")))
    with pytest.raises(WireError, match="cannot be opened"):
        await node.run()
