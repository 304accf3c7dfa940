"""The endpoints of the Service `kubernetes`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gitkube.clock import SystemClock
from gitkube.objects.kinds import ENDPOINT_SLICE, ENDPOINTS
from gitkube.server.api_endpoints import ApiEndpoints, places_of
from tests.support.real_api import real_client


@pytest.mark.parametrize(
    ("urls", "places"),
    [
        (["https://192.0.2.2:6443", "https://192.0.2.1"], [("192.0.2.1", 443), ("192.0.2.2", 6443)]),
        (["https://127.0.0.1:6443", "https://[::1]:6443", "https://ctl-1:6443", "https://0.0.0.0:1"], []),
        (["https://169.254.0.1:6443", "https://192.0.2.1:1", "https://192.0.2.1:1"], [("192.0.2.1", 1)]),
    ],
)
def test_only_addresses_that_mean_the_same_everywhere_are_endpoints(
    urls: list[str], places: list[tuple[str, int]]
) -> None:
    assert places_of(urls) == places


@pytest.mark.parametrize(
    ("urls", "places", "port"),
    [
        (["https://192.0.2.1:6443", "https://192.0.2.2:6443"], ["192.0.2.1", "192.0.2.2"], 6443),
        # Nobody else reaches a loopback; every pod reaches the Service.
        (["https://127.0.0.1:6443"], ["10.43.0.1"], 443),
    ],
)
async def test_the_leader_writes_them_in_both_forms(
    tmp_path: Path, urls: list[str], places: list[str], port: int
) -> None:
    async with real_client(tmp_path) as client:
        writer = ApiEndpoints(client, lambda: urls, service_address="10.43.0.1", clock=SystemClock())
        running = asyncio.create_task(writer.run())
        async with asyncio.timeout(20):
            while not (await client.list(ENDPOINTS, "default")).items:  # noqa: ASYNC110 - it is another's
                await asyncio.sleep(0.05)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        piece = await client.get(ENDPOINT_SLICE, "kubernetes", "default")
        whole = await client.get(ENDPOINTS, "kubernetes", "default")
    assert [one["addresses"] for one in piece["endpoints"]] == [[place] for place in places]
    assert piece["ports"] == [{"name": "https", "port": port, "protocol": "TCP"}]
    assert whole["subsets"][0]["addresses"] == [{"ip": place} for place in places]
    assert whole["subsets"][0]["ports"] == piece["ports"]
