"""How the agent knows that the control side is there."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gitkube.node import session as sessions
from gitkube.node.session import Session
from gitkube.wire import STDIN, Connection, Stream, Welcome, WireError
from tests.support.fake_agent import MemoryPipe, memory_pipe

DEAD_AFTER_S = 2.0


class Owner:
    """An agent that reads what it is sent on streams."""

    def hello(self) -> dict[str, Any]:
        return {"type": "hello"}

    async def welcome(self, session: Session, message: dict[str, Any]) -> None:
        return None

    async def take_desired(self, message: dict[str, Any]) -> str:
        return ""

    async def serve_stream(self, stream: Stream) -> None:
        while await stream.read() is not None:
            pass


async def linked(monkeypatch: pytest.MonkeyPatch) -> tuple[Connection, asyncio.Task[None]]:
    monkeypatch.setattr(sessions, "DEAD_AFTER_S", DEAD_AFTER_S)
    monkeypatch.setattr(sessions, "PING_INTERVAL_S", DEAD_AFTER_S / 10)
    control, node = memory_pipe()

    async def ignore(message: dict[str, Any]) -> None:
        return None

    connection = Connection(control, is_opener=True, on_message=ignore)
    asyncio.create_task(connection.run()).add_done_callback(lambda task: task.exception())
    pipe: MemoryPipe = node
    running = asyncio.create_task(Session(Owner(), pipe).run())  # type: ignore[arg-type]
    await connection.send(Welcome(type="welcome", node="ant", term=1))
    return connection, running


async def test_one_that_is_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    _, running = await linked(monkeypatch)
    with pytest.raises(WireError, match="was silent"):
        await asyncio.wait_for(running, 30)


async def test_one_that_only_sends_on_streams_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    connection, running = await linked(monkeypatch)
    stream = await connection.open({"kind": "exec"})
    loop = asyncio.get_running_loop()
    ends = loop.time() + 2 * DEAD_AFTER_S
    while loop.time() < ends:
        await stream.write(STDIN, b"x")
        await asyncio.sleep(DEAD_AFTER_S / 20)
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
