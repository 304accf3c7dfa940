"""What the API's cache does while the store cannot be asked."""

from __future__ import annotations

import asyncio
from typing import Any

from structlog.testing import capture_logs

from gitkube.api.cache import WatchCache
from gitkube.api.settings import ApiSettings
from gitkube.store.protocol import UnavailableError
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
