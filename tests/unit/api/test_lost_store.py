"""What the API does while the store cannot be asked, or takes nothing more."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gitkube.api.cache import WatchCache
from gitkube.api.errors import StatusError
from gitkube.api.settings import ApiSettings
from gitkube.objects.kinds import CONFIG_MAP, EVENT
from gitkube.objects.types import Object
from gitkube.store.protocol import UnavailableError
from tests.support import real_api
from tests.support.fake_clock import FakeClock


class WithoutQuorum:
    why = "1 of 3 members can be reached"

    async def range(self, *_: Any, **__: Any) -> None:
        raise UnavailableError(self.why)


async def test_a_store_without_a_quorum_is_told_of_now_and_then_and_whenever_the_reason_changes() -> None:
    store, clock = WithoutQuorum(), FakeClock()
    cache = WatchCache(store, (), clock=clock, settings=ApiSettings())  # type: ignore[arg-type]
    with capture_logs() as logs:
        following = asyncio.create_task(cache.run())
        await clock.advance(20)
        store.why = "0 of 3 members can be reached"
        await clock.advance(40)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    said = [line["error"][0] for line in logs if line["event"] == "cache_lost_store"]
    assert said == ["1", "0", "0"]


def config_map(name: str, data: str) -> Object:
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"x": data}}


def event(name: str) -> Object:
    metadata = {"name": name, "namespace": "default"}
    about = {"kind": "Pod", "name": "web", "namespace": "default"}
    return {"apiVersion": "v1", "kind": "Event", "metadata": metadata, "involvedObject": about}


async def test_a_store_at_its_quota_is_said_to_be_full_and_reads_and_deletions_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(real_api, "SMALL_STORE", replace(real_api.SMALL_STORE, quota_bytes=2_000_000))
    async with real_api.real_client(tmp_path) as client:
        await client.create(CONFIG_MAP, config_map("first", ""))
        with pytest.raises(StatusError) as full:
            for number in range(100):
                await client.create(CONFIG_MAP, config_map(f"m-{number}", "x" * 100_000))
        assert (full.value.code, full.value.reason) == (507, "InsufficientStorage")
        assert "gitkube store compact" in full.value.message and "--store-quota" in full.value.message
        with pytest.raises(StatusError) as again:  # with its lease
            await client.create(EVENT, event("one"))
        assert again.value.code == 507
        await client.get(CONFIG_MAP, "first", "default")
        await client.delete(CONFIG_MAP, "first", "default")
