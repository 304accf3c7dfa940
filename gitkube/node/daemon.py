"""The agent's life as a process: one on a host, with directories of its own, until somebody ends it.

Whatever keeps it from starting is left in a file, because the one who asks may come long after.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
from collections.abc import Awaitable
from pathlib import Path
from typing import Callable

from gitkube.node import cgroups
from gitkube.node.agent import Agent, Network
from gitkube.node.paths import Layout


class StartFailure(Exception):
    """The agent cannot work on this host; the text says what to do."""


def prepare(layout: Layout) -> int:
    """Make the directories, and be the only agent here. Returns the lock's descriptor, to be kept open.

    Raises:
        StartFailure: another agent runs.
    """
    for directory in (
        layout.root,
        layout.run,
        layout.pods,
        layout.exits,
        layout.attach_sockets,
        layout.images,
    ):
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    for directory in (layout.run, layout.pods, layout.images):
        directory.chmod(0o700)  # whoever made it before may have left it open
    fd = os.open(layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise StartFailure(f"another agent runs on this host already ({layout.lock} is locked)") from error
    return fd


async def serve(root: Path, run: Path, make_network: Callable[[Path, Path], Network] | None = None) -> None:
    """Run the agent until SIGTERM or SIGINT.

    Raises:
        StartFailure: this host cannot run it; the text says why and what to do.
    """
    layout = Layout(root, run)
    lock = prepare(layout)
    try:
        try:
            found = cgroups.detect()
            agent = _assemble(layout, found, make_network)
        except Exception as error:
            layout.failure.write_text(f"{error}\n")
            raise StartFailure(str(error)) from error
        work: Awaitable[None] = agent.run()
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await task
    finally:
        os.close(lock)


def _assemble(
    layout: Layout, found: cgroups.Cgroups, make_network: Callable[[Path, Path], Network] | None
) -> Agent:
    if make_network is None:
        from gitkube.node.network import Network as HostNetwork

        make_network = HostNetwork
    agent = Agent(layout, make_network(layout.root, layout.run), found)
    agent.prepare()
    return agent
