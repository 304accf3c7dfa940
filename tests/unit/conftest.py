"""What many unit tests stand on: time that moves when the test says so, and an API in memory."""

from __future__ import annotations

import pytest

from tests.support.fake_client import FakeClient
from tests.support.fake_clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def client(clock: FakeClock) -> FakeClient:
    return FakeClient(clock)
