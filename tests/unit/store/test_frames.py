"""Frames come out as they went in, however the network cuts them, in both ways of reading."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitkube.store.frames import MAX_QUEUED_BYTES, FrameConnection, FrameError, frame

MAX_BYTES = 4 * 1024 * 1024


class PretendTransport:
    """Notes what is asked of it."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.is_reading = True
        self._is_closing = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        self._is_closing = True

    def get_write_buffer_size(self) -> int:
        return 0


def connection() -> tuple[FrameConnection, PretendTransport]:
    transport = PretendTransport()
    frames = FrameConnection(MAX_BYTES)
    frames.connection_made(transport)  # type: ignore[arg-type]
    return frames, transport


@given(st.lists(st.binary(max_size=200), max_size=20), st.data())
def test_what_is_delivered_does_not_depend_on_where_the_network_cuts(
    contents: list[bytes], data: st.DataObject
) -> None:
    async def cut() -> list[bytes]:
        frames, _ = connection()
        found: list[bytes] = []
        frames.deliver(found.append)
        rest = b"".join(map(frame, contents))
        while rest:
            size = data.draw(st.integers(1, len(rest)))
            frames.data_received(rest[:size])
            rest = rest[size:]
        return found

    assert asyncio.run(cut()) == contents


async def test_frames_that_came_before_are_delivered_first() -> None:
    frames, _ = connection()
    frames.data_received(frame(b"first") + frame(b"second") + frame(b"third"))
    assert await frames.read() == b"first"
    found: list[bytes] = []
    frames.deliver(found.append)
    frames.data_received(frame(b"fourth"))
    assert found == [b"second", b"third", b"fourth"]


async def test_a_sender_waits_while_nobody_reads() -> None:
    frames, transport = connection()
    large = bytes(MAX_QUEUED_BYTES)
    frames.data_received(frame(large) + frame(b"more"))
    assert not transport.is_reading
    assert await frames.read() == large
    assert transport.is_reading
    assert await frames.read() == b"more"


async def test_a_reader_hears_of_the_end_after_the_last_frame() -> None:
    frames, _ = connection()
    frames.data_received(frame(b"last") + b"\0\0")
    reading = asyncio.create_task(_read_all(frames))
    await asyncio.sleep(0)
    frames.connection_lost(None)
    assert await reading == [b"last"]


async def test_a_frame_too_long_ends_the_connection_and_says_so() -> None:
    frames, transport = connection()
    frames.data_received((MAX_BYTES + 1).to_bytes(4, "big") + b"begin")
    assert transport.is_closing()
    frames.connection_lost(None)
    with pytest.raises(FrameError, match="a frame of"):
        await frames.read()


async def test_what_a_callback_raises_ends_the_connection_with_that_error() -> None:
    frames, transport = connection()

    def refuse(content: bytes) -> None:
        raise FrameError(f"no {content!r} here")

    frames.deliver(refuse)
    frames.data_received(frame(b"a") + frame(b"b"))
    assert transport.is_closing()
    assert str(frames.error) == "no b'a' here"


async def test_all_frames_of_a_turn_leave_together() -> None:
    frames, transport = connection()
    frames.write(frame(b"a"))
    frames.write(frame(b"b"))
    assert transport.written == []
    await asyncio.sleep(0)
    assert transport.written == [frame(b"a") + frame(b"b")]


async def test_what_is_sent_at_once_does_not_overtake_what_waits() -> None:
    frames, transport = connection()
    frames.write(frame(b"a"))
    frames.write_now(frame(b"b"))
    assert b"".join(transport.written) == frame(b"a") + frame(b"b")


async def test_who_drains_waits_for_room_and_learns_that_the_other_end_has_gone() -> None:
    frames, _ = connection()
    frames.pause_writing()
    draining = asyncio.create_task(frames.drain())
    await asyncio.sleep(0)
    assert not draining.done()
    frames.resume_writing()
    await draining
    frames.connection_lost(None)
    with pytest.raises(ConnectionError):
        await frames.drain()


async def _read_all(frames: FrameConnection) -> list[Any]:
    found = []
    while (content := await frames.read()) is not None:
        found.append(content)
    return found
