"""What the control side as a whole does about things that go wrong beside its work."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gitkube.server.control_plane import ControlPlane
from gitkube.server.pki import RENEWAL_CHECK_S, Pki
from gitkube.server.settings import ControlPlaneSettings
from tests.support.fake_clock import FakeClock


async def test_a_certificate_that_cannot_be_renewed_now_is_tried_again_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ControlPlaneSettings(data_dir=tmp_path, inventory=tmp_path / "i", repository=tmp_path / "r")
    clock, tries = FakeClock(), 0

    def full(*arguments: Any) -> None:
        nonlocal tries
        tries += 1
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gitkube.server.control_plane.member_config", full)
    pki = Pki.open(tmp_path / "pki", clock=clock)
    renewing = asyncio.create_task(ControlPlane(settings, clock=clock)._renew(pki, "a"))
    for _ in range(3):
        await clock.advance(RENEWAL_CHECK_S)
    assert not renewing.done()
    assert tries == 3
    renewing.cancel()
