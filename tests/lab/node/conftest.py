"""One pretend host for the whole session, a fresh agent on it for each test."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gitkube.node import mounts
from tests.support.node_host import NEEDED, Control, Host


@pytest.fixture(scope="session")
def host_base() -> Iterator[Host]:
    if os.geteuid() != 0:
        pytest.skip("needs root: it makes namespaces, mounts and cgroups")
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    directory = Path("/var/tmp") / f"gk-node-{uuid.uuid4().hex[:8]}"
    directory.mkdir(mode=0o700)
    host = Host(directory)
    try:
        host.start_registry()
        yield host
    finally:
        host.stop()
        assert not mounts.mounts_under(directory)
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
async def control(host_base: Host) -> AsyncIterator[Control]:
    """A fresh agent on the pretend host; whatever pods the test made are removed after it."""
    host_base.start_agent()
    control = Control(host_base)
    await control.connect()
    try:
        yield control
        if host_base.agent is None or host_base.agent.poll() is not None:
            host_base.start_agent()
            await control.connect()
        uids = set(control._pods)
        for uid in uids:
            await control.delete(uid, 0)
        await control.wait(lambda: uids <= control.gone)
        control._pods.clear()
        await control.push()
    finally:
        await control.close()
        host_base.kill_agent()
        (host_base.root / "term").unlink(missing_ok=True)
