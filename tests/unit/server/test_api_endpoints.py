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


async def test_the_leader_writes_them_in_both_forms(tmp_path: Path) -> None:
    async with real_client(tmp_path) as client:
        urls = ["https://192.0.2.1:6443", "https://192.0.2.2:6443"]
        running = asyncio.create_task(ApiEndpoints(client, lambda: urls, clock=SystemClock()).run())
        async with asyncio.timeout(20):
            while not (await client.list(ENDPOINTS, "default")).items:  # noqa: ASYNC110 - it is another's
                await asyncio.sleep(0.05)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        piece = await client.get(ENDPOINT_SLICE, "kubernetes", "default")
        whole = await client.get(ENDPOINTS, "kubernetes", "default")
    assert [one["addresses"] for one in piece["endpoints"]] == [["192.0.2.1"], ["192.0.2.2"]]
    assert piece["ports"] == [{"name": "https", "port": 6443, "protocol": "TCP"}]
    assert whole["subsets"][0]["addresses"] == [{"ip": "192.0.2.1"}, {"ip": "192.0.2.2"}]
