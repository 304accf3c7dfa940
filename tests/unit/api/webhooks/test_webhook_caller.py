"""Calling webhooks over real HTTPS: what is answered, what is refused, and that nothing is unbounded."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import random
import re
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec

from gitkube.api.cache import WatchCache
from gitkube.api.errors import unavailable
from gitkube.api.settings import ApiSettings
from gitkube.api.webhooks.caller import WebhookCaller, WebhookCallError
from gitkube.api.webhooks.exchange import MAX_ANSWER_BYTES
from gitkube.clock import SystemClock
from gitkube.objects.kinds import ENDPOINT_SLICE, POD, SERVICE, Kind
from gitkube.objects.types import Object
from tests.support.tcp_session import TcpSession
from tests.support.webhook_server import WebhookServer, after, saying, self_signed, webhook_server

LONG_S = 20.0
SHORT_S = 1.0
MANY = 3 * MAX_ANSWER_BYTES // 65536
"""Chunks of 64 KiB that are far more than any answer."""


def empty_cache() -> WatchCache:
    kinds = (SERVICE, ENDPOINT_SLICE, POD)
    return WatchCache(None, kinds, clock=SystemClock(), settings=ApiSettings())  # type: ignore[arg-type]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[WebhookServer]:
    async with webhook_server(tmp_path, "hook.team.svc") as running:
        yield running


@pytest.fixture
async def caller() -> AsyncIterator[WebhookCaller]:
    made = WebhookCaller(empty_cache(), random.Random(1))
    yield made
    await made.close()


async def refusal(caller: WebhookCaller, config: dict[str, Any], timeout_s: float = LONG_S) -> str:
    with pytest.raises(WebhookCallError) as caught:
        await caller.call(config, {"a": 1}, timeout_s)
    return str(caught.value)


async def test_a_document_goes_there_and_one_comes_back(server: WebhookServer, caller: WebhookCaller) -> None:
    server.answers["/hook"] = saying('{"kind": "Answer"}')
    answered = await caller.call(server.client_config("/hook"), {"kind": "Question"}, 5)
    assert answered == {"kind": "Answer"}
    assert server.asked == [("/hook", "timeout=5s", {"kind": "Question"})]


async def test_calls_go_over_one_connection(server: WebhookServer, caller: WebhookCaller) -> None:
    server.answers["/hook"] = saying("{}")
    for _ in range(5):
        await caller.call(server.client_config("/hook"), {}, LONG_S)
    assert len(server.connections) == 1


async def test_a_connection_that_was_closed_meanwhile_is_no_failure(
    server: WebhookServer, caller: WebhookCaller
) -> None:
    async def last(review: dict[str, Any]) -> web.StreamResponse:
        response = web.json_response({})
        response.force_close()
        return response

    server.answers["/hook"] = last
    for _ in range(3):
        assert await caller.call(server.client_config("/hook"), {}, LONG_S) == {}


async def test_a_webhook_that_hangs_costs_its_time_only(server: WebhookServer, caller: WebhookCaller) -> None:
    server.answers["/hook"] = after(60, saying("{}"))
    why = await refusal(caller, server.client_config("/hook"), SHORT_S)
    url = server.url("/hook")
    assert why == f'failed to call webhook: Post "{url}?timeout=1s": context deadline exceeded'


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10737418240\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n",
    ],
    ids=["length", "chunks", "to the end", "headers"],
)
async def test_an_answer_without_end_is_cut(tmp_path: Path, caller: WebhookCaller, head: bytes) -> None:
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    async with webhook_server(tmp_path) as server, raw_server(head, chunk, tmp_path / "webhook.pem") as port:
        config = {"url": f"https://127.0.0.1:{port}/", "caBundle": server.ca_bundle}
        assert "larger than" in await refusal(caller, config)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (saying("boom", 500), 'an error on the server ("boom") has prevented the request from succeeding'),
        (saying('{"kind": "Status", "message": "gone"}', 404), "failed to call webhook: gone"),
        (saying("no", 404, "text/plain"), "the server could not find the requested resource"),
        (saying("<html>"), "json parse error: the answer is no JSON"),
        (saying('"text"'), "json parse error: the answer is no object"),
        (saying(""), "json parse error: the answer is no JSON"),
    ],
    ids=range(6),
)
async def test_what_is_no_document_is_an_error_that_says_so(
    server: WebhookServer, caller: WebhookCaller, answer: Any, why: str
) -> None:
    server.answers["/hook"] = answer
    assert why in await refusal(caller, server.client_config("/hook"))


async def test_an_unknown_authority_is_not_trusted(server: WebhookServer, caller: WebhookCaller) -> None:
    server.answers["/hook"] = saying("{}")
    other = base64.b64encode(self_signed(ec.generate_private_key(ec.SECP256R1()))).decode()
    assert await caller.call(server.client_config("/hook"), {}, LONG_S) == {}
    for bundle in (other, ""):
        config = {"url": server.url("/hook"), "caBundle": bundle}
        assert "x509: certificate signed by unknown authority" in await refusal(caller, config)
    config = {"url": server.url("/hook"), "caBundle": "AAAA"}
    assert "unable to load root certificates" in await refusal(caller, config)


async def test_a_certificate_for_another_name_is_not_trusted(
    server: WebhookServer, caller: WebhookCaller
) -> None:
    config = {"url": f"https://127.0.0.2:{server.port}/", "caBundle": server.ca_bundle}
    why = await refusal(caller, config)
    # Loopback has many addresses; where the server listens on one of them only, it is not even reached.
    assert "certificate is not valid for 127.0.0.2" in why or "connection refused" in why


async def test_where_nobody_listens_is_said_in_the_usual_words(caller: WebhookCaller) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        why = await refusal(caller, {"url": f"https://127.0.0.1:{port}/x"})
    assert f"dial tcp 127.0.0.1:{port}: connect: connection refused" in why


@contextlib.asynccontextmanager
async def raw_server(head: bytes, forever: bytes, certificate: Path | None = None) -> AsyncIterator[int]:
    """Answers anything with `head`, then with `forever` many times; without a certificate in plain text."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read(1)
            writer.write(head)
            for _ in range(MANY if forever else 0):
                if writer.is_closing():
                    break
                writer.write(forever)
                await writer.drain()
                await asyncio.sleep(0)  # a closed TLS connection takes everything without waiting
        writer.transport.abort()

    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    server = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def test_who_speaks_no_tls_is_not_spoken_with(caller: WebhookCaller) -> None:
    async with raw_server(b"HTTP/1.1 400 Bad Request\r\n\r\n", b"") as port:
        why = await refusal(caller, {"url": f"https://127.0.0.1:{port}/"})
    assert re.search(r"tls:|EOF|reset", why), why


# ------------------------------------------------------------------------------------------------- services


def known(caller: WebhookCaller, kind: Kind, name: str, **rest: Any) -> None:
    """Put an object into the cache that the caller reads."""
    metadata = {"name": name, "namespace": "team", "uid": f"uid-{name}", **rest.pop("metadata", {})}
    caller.services._cache.of(kind).objects[f"team/{name}"] = {"metadata": metadata, **rest}


def known_service(caller: WebhookCaller, *, ready: bool = True) -> None:
    known(caller, SERVICE, "hook", spec={"ports": [{"name": "https", "port": 443, "targetPort": 8443}]})
    known(caller, POD, "pod")
    known(
        caller,
        ENDPOINT_SLICE,
        "hook-1",
        metadata={"labels": {"kubernetes.io/service-name": "hook"}},
        ports=[{"name": "https", "port": 8443}],
        endpoints=[
            {
                "addresses": ["192.0.2.1"],
                "conditions": {"ready": ready},
                "targetRef": {"kind": "Pod", "name": "pod"},
            }
        ],
    )


def service_config(server: WebhookServer, **more: Any) -> dict[str, Any]:
    service = {"namespace": "team", "name": "hook", "path": "/hook", **more}
    return {"service": service, "caBundle": server.ca_bundle}


async def test_a_service_is_reached_at_a_ready_pod_by_the_link_to_its_host(
    server: WebhookServer, caller: WebhookCaller
) -> None:
    server.answers["/hook"] = saying('{"kind": "Answer"}')
    known_service(caller)
    dialled: list[tuple[str, int]] = []

    async def forward(pod: Object, port: int) -> TcpSession:
        dialled.append((pod["metadata"]["name"], port))
        return TcpSession(*await asyncio.open_connection("127.0.0.1", server.port))

    caller.services.forward = forward
    for _ in range(3):
        assert await caller.call(service_config(server), {}, LONG_S) == {"kind": "Answer"}
    assert dialled == [("pod", 8443)]


async def test_a_host_out_of_reach_is_a_failed_call(server: WebhookServer, caller: WebhookCaller) -> None:
    known_service(caller)

    async def forward(pod: Object, port: int) -> TcpSession:
        raise unavailable("the host ant is out of reach")

    caller.services.forward = forward
    why = await refusal(caller, service_config(server))
    assert why.startswith('failed to call webhook: Post "https://hook.team.svc:443/hook?timeout=20s": ')
    assert "the host ant is out of reach" in why


async def test_a_service_that_is_not_there_or_has_nobody_ready_is_said_to_be_so(
    server: WebhookServer, caller: WebhookCaller
) -> None:
    assert 'service "hook" not found' in await refusal(caller, service_config(server))
    known_service(caller, ready=False)
    assert 'no endpoints available for service "hook"' in await refusal(caller, service_config(server))
    assert "no service port 80 found" in await refusal(caller, service_config(server, port=80))


async def test_the_certificate_must_be_for_the_service(tmp_path: Path, caller: WebhookCaller) -> None:
    known_service(caller)
    async with webhook_server(tmp_path / "other", "other.team.svc") as server:

        async def forward(pod: Object, port: int) -> TcpSession:
            return TcpSession(*await asyncio.open_connection("127.0.0.1", server.port))

        caller.services.forward = forward
        why = await refusal(caller, service_config(server))
    assert "certificate is not valid for hook.team.svc" in why
