"""Notices that the branch moved: by inotify in a millisecond, by a look each second if that fails.

git moves a branch by renaming a lock file onto its ref, or by rewriting `packed-refs`; only the rename is
listened for, because every other event of a push comes before the branch has moved. What is reported is
only that something may have changed: whoever is woken reads the ref.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from gitkube.clock import Clock

POLL_S = 1.0
log = structlog.get_logger(__name__)


class BranchWatcher:
    """Calls `wake` when the branch may have moved, and every POLL_S."""

    def __init__(self, repository: Path, branch: str, wake: Callable[[], None], *, clock: Clock) -> None:
        self._repository = repository
        self._branch = branch
        self._wake = wake
        self._clock = clock

    async def run(self) -> None:
        """Watch until cancelled."""
        observer = self._start(asyncio.get_running_loop())
        try:
            while True:
                await self._clock.sleep(POLL_S)
                self._wake()
        finally:
            if observer is not None:
                observer.stop()
                await asyncio.to_thread(observer.join, 2)

    def _start(self, loop: asyncio.AbstractEventLoop) -> Any:
        heads = self._repository / "refs" / "heads"
        observer = Observer()
        handler = _Renames(
            {str(heads / self._branch), str(self._repository / "packed-refs")}, loop, self._wake
        )
        try:
            observer.schedule(handler, str(heads), recursive=True)
            observer.schedule(handler, str(self._repository), recursive=False)
            observer.start()
        except OSError as error:
            # No inotify watches left, mostly. The poll still sees every push, a second later.
            log.warning("branch_watch_failed", repository=str(self._repository), error=str(error))
            return None
        return observer


class _Renames(FileSystemEventHandler):
    def __init__(self, targets: set[str], loop: asyncio.AbstractEventLoop, wake: Callable[[], None]) -> None:
        self._targets = targets
        self._loop = loop
        self._wake = wake

    def on_moved(self, event: FileSystemEvent) -> None:
        if str(event.dest_path) in self._targets and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake)
