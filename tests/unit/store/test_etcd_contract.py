"""The contract of `Store` on a real etcd, and on our door: both directions of the same translation."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gitkube.clock import SystemClock
from gitkube.store.door import serve_door
from gitkube.store.etcd import EtcdStore
from gitkube.store.member import Member
from gitkube.store.protocol import Store
from tests.support.etcd_server import MISSING, etcd_server, is_installed
from tests.support.real_api import SMALL_STORE
from tests.unit.store.test_contract import *  # noqa: F403

pytestmark = pytest.mark.slow


@pytest.fixture(params=["etcd", "door"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    clock = SystemClock()
    if request.param == "door":
        member = await Member.open(tmp_path, rng=random.Random(7), settings=SMALL_STORE)
        door = await serve_door(member, member.administration, "127.0.0.1:0", clock=clock)
        store = EtcdStore([door.address], clock=clock)
        yield store
        await store.close()
        await door.close()
        await member.close()
        return
    if not is_installed():
        pytest.skip(MISSING)
    async with etcd_server(tmp_path / "etcd", election_ms=200) as endpoint:
        store = EtcdStore([endpoint], clock=clock)
        yield store
        await store.close()
