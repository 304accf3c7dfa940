"""The contract of `Store` on a real etcd, and on our door: both directions of the same translation."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gitkube.clock import SystemClock
from gitkube.store.etcd import EtcdStore
from gitkube.store.protocol import Store
from tests.support.etcd_server import MISSING, etcd_server, is_installed
from tests.unit.store.test_contract import *  # noqa: F403


@pytest.fixture(params=["etcd"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    if not is_installed():
        pytest.skip(MISSING)
    async with etcd_server(tmp_path / "etcd", election_ms=200) as endpoint:
        store = EtcdStore([endpoint], clock=SystemClock())
        yield store
        await store.close()
