"""Probes: what rows of answers mean, and how the questions are put."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gitkube.node import probes
from gitkube.node.probes import Answer, Settings, Tally


def verdicts(answers: str, **numbers: int) -> list[bool | None]:
    tally = Tally(Settings.of(numbers))
    return [tally.add(answer == "+") for answer in answers]


def test_a_threshold_must_be_reached_in_a_row() -> None:
    assert verdicts("--+---", failureThreshold=3) == [None, None, True, None, None, False]
    assert verdicts("++-++", successThreshold=2, failureThreshold=1) == [None, True, False, None, True]


def test_what_is_not_said_has_kubernetes_defaults() -> None:
    assert Settings.of({}) == Settings(0, 10, 1, 1, 3)


async def told_by(kind: str, answers: list[bool], count: int, **probe: Any) -> list[bool]:
    """What a probe says while it gets these answers, the last one for ever: so many words, and a bit more."""
    told: list[bool] = []

    async def ask(_: dict[str, Any], timeout_s: float) -> Answer:
        return Answer(answers.pop(0) if len(answers) > 1 else answers[0])

    work = asyncio.ensure_future(
        probes.run_probe(kind, probe, ask, lambda _kind, verdict, _message: told.append(verdict))
    )
    async with asyncio.timeout(60):
        while len(told) < count:  # noqa: ASYNC110 - nobody waits for its words elsewhere
            await asyncio.sleep(0.01)
    await asyncio.wait({work}, timeout=0.5)
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    return told


async def test_a_server_that_is_up_soon_is_ready_soon() -> None:
    told = await told_by("readiness", [False, False, True], 2, periodSeconds=60, failureThreshold=1)
    assert told == [False, True]


async def test_early_looks_do_not_count_against_a_starting_container() -> None:
    assert await told_by("startup", [False], 0, periodSeconds=60, failureThreshold=2) == []
    assert await told_by("startup", [False, False, True], 1, periodSeconds=60) == [True]


async def test_liveness_is_asked_by_its_period_only() -> None:
    assert await told_by("liveness", [False], 1, periodSeconds=60, failureThreshold=1) == [False]


async def serve(answer: bytes) -> tuple[asyncio.AbstractServer, int, list[bytes]]:
    seen: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1], seen


@pytest.mark.parametrize(
    ("answer", "is_success"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", True),
        (b"HTTP/1.0 302 Found\r\n\r\n", True),
        (b"HTTP/1.1 503 Busy\r\n\r\n", False),
        (b"SSH-2.0-x\r\n", False),
        (b"", False),
    ],
)
async def test_an_http_probe_goes_by_the_status(answer: bytes, is_success: bool) -> None:
    server, port, seen = await serve(answer)
    action = {"port": "http", "path": "/up", "httpHeaders": [{"name": "host", "value": "me"}]}
    container = {"ports": [{"name": "http", "containerPort": port}]}
    got = await probes.ask_http("127.0.0.1", container, action, 2)
    server.close()
    assert got.is_success is is_success and (got.message or is_success)
    assert seen[0].startswith(b"GET /up HTTP/1.1\r\n") and seen[0].count(b"ost: ") == 1


async def test_a_closed_port_and_a_silent_server_fail_with_a_sentence() -> None:
    server, port, _ = await serve(b"")
    assert (await probes.ask_tcp("127.0.0.1", port, 1)).is_success
    server.close()
    await server.wait_closed()
    refused = await probes.ask_tcp("127.0.0.1", port, 1)
    assert not refused.is_success and f"127.0.0.1:{port}" in refused.message


def test_a_line_break_cannot_smuggle_a_second_request() -> None:
    for action in ({"path": "/x\r\nX: y"}, {"httpHeaders": [{"name": "A", "value": "b\nC: d"}]}):
        with pytest.raises(ValueError, match="line break"):
            probes.http_request("h", 80, action)
