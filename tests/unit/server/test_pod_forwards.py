"""A webhook in a pod is called from a controller that does not lead: through the leader."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web

from gitkube.api.cache import WatchCache
from gitkube.api.errors import StatusError, not_found
from gitkube.api.settings import ApiSettings
from gitkube.api.streams import PodStreams
from gitkube.api.webhooks.caller import WebhookCaller
from gitkube.clock import SystemClock
from gitkube.objects.kinds import ENDPOINT_SLICE, POD, SERVICE
from gitkube.objects.types import Object
from gitkube.server.app import HttpServer
from gitkube.server.cluster import ClusterEndpoints
from gitkube.server.identity import user_of_certificate
from gitkube.server.pki import Pki
from gitkube.server.pod_forwards import FORWARD_PATH, LeadersForwards
from tests.support.memory_cluster import MemoryCluster
from tests.support.tcp_session import TcpSession
from tests.support.webhook_server import saying, webhook_server

POD_WITH_HOOK = {"metadata": {"name": "pod", "namespace": "team", "uid": "uid-pod"}}


class Links:
    """The leader's way to pods: each port of the pod is a port of this machine."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.asked: list[tuple[str, int]] = []

    async def port_forward(self, pod: Object, port: int) -> TcpSession:
        self.asked.append((pod["metadata"]["name"], port))
        if pod["metadata"]["name"] != "pod":
            raise not_found("", "pods", pod["metadata"]["name"])
        return TcpSession(*await asyncio.open_connection("127.0.0.1", self._port))


class Leader:
    def __init__(self, directory: Path) -> None:
        self.pki = Pki.open(directory / "pki", clock=SystemClock())
        self.pki.member_files("ctl-1")
        self.url = ""
        self.links: Links | None = None

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        clock = SystemClock()
        app = web.Application()
        ClusterEndpoints(
            MemoryCluster("ctl-1").member("ctl-1"),
            authenticate=user_of_certificate,
            clock=clock,
            streams=lambda: cast(PodStreams, self.links),
        ).add_to(app)
        server = HttpServer(app, host="127.0.0.1", port=0, pki=self.pki, clock=clock)
        await server.start()
        self.url = server.url
        try:
            yield
        finally:
            await server.stop()

    def forwards(self) -> LeadersForwards:
        return LeadersForwards(lambda: self.url, self.pki.controller_context)


@pytest.fixture
async def leader(tmp_path: Path) -> AsyncIterator[Leader]:
    made = Leader(tmp_path)
    async with made.serving():
        yield made


def cache_with_service() -> WatchCache:
    kinds = (SERVICE, ENDPOINT_SLICE, POD)
    cache = WatchCache(None, kinds, clock=SystemClock(), settings=ApiSettings())  # type: ignore[arg-type]
    metadata: dict[str, Any] = {"namespace": "team", "name": "hook"}
    cache.of(SERVICE).objects["team/hook"] = {"metadata": metadata, "spec": {"ports": [{"port": 443}]}}
    cache.of(POD).objects["team/pod"] = POD_WITH_HOOK
    cache.of(ENDPOINT_SLICE).objects["team/hook-1"] = {
        "metadata": {"labels": {"kubernetes.io/service-name": "hook"}},
        "ports": [{"port": 8443}],
        "endpoints": [{"addresses": ["192.0.2.1"], "targetRef": {"kind": "Pod", "name": "pod"}}],
    }
    return cache


async def test_a_webhook_in_a_pod_is_called_through_the_leader(leader: Leader, tmp_path: Path) -> None:
    caller = WebhookCaller(cache_with_service(), random.Random(1))
    async with webhook_server(tmp_path / "webhook", "hook.team.svc") as server:
        leader.links = Links(server.port)
        large = '{"text": "%s"}' % ("x" * 500_000)
        server.answers["/check"] = saying(large)
        caller.services.forward = leader.forwards().port_forward
        service = {"namespace": "team", "name": "hook", "path": "/check"}
        config = {"service": service, "caBundle": server.ca_bundle}
        for _ in range(3):
            answered = await caller.call(config, {"text": "y" * 500_000}, 30)
            assert len(answered["text"]) == 500_000
        await caller.close()
    assert leader.links.asked == [("pod", 8443)]


async def test_what_the_leader_cannot_reach_is_its_own_refusal(leader: Leader) -> None:
    leader.links = Links(1)
    lost = {"metadata": {"name": "lost", "namespace": "team"}}
    with pytest.raises(StatusError, match='pods "lost" not found'):
        await leader.forwards().port_forward(lost, 80)


async def test_without_a_leader_it_is_said_so(leader: Leader) -> None:
    with pytest.raises(StatusError, match="cannot be reached"):
        await leader.forwards().port_forward(POD_WITH_HOOK, 80)
    nowhere = LeadersForwards(lambda: "", leader.pki.controller_context)
    with pytest.raises(StatusError, match="no controller leads"):
        await nowhere.port_forward(POD_WITH_HOOK, 80)


async def test_who_is_no_controller_reaches_no_pod(leader: Leader) -> None:
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False)) as nobody,
        nobody.get(leader.url + FORWARD_PATH) as answer,
    ):
        assert answer.status == 401
