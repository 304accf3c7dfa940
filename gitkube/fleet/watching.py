"""Notices that a file was changed: by an editor, by a rename over it, by a removal.

watchdog calls from a thread of its own; an asyncio event carries the news over. Directories are watched, not
files, because an atomic write replaces the file that a watch would hang on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from watchdog.events import (
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

_EVENTS: list[type[FileSystemEvent]] = [FileCreatedEvent, FileDeletedEvent, FileModifiedEvent, FileMovedEvent]


@contextlib.contextmanager
def watched(files: Iterable[Path]) -> Iterator[asyncio.Event]:
    """An event that is set whenever one of the files may have changed; the caller clears it."""
    changed = asyncio.Event()
    wanted = {path.absolute() for path in files}
    observer = Observer()
    handler = _Handler(wanted, asyncio.get_running_loop(), changed)
    for directory in {path.parent for path in wanted}:
        observer.schedule(handler, str(directory), recursive=False, event_filter=_EVENTS)
    observer.start()
    try:
        yield changed
    finally:
        observer.stop()
        observer.join(timeout=2.0)


class _Handler(FileSystemEventHandler):
    def __init__(self, files: set[Path], loop: asyncio.AbstractEventLoop, changed: asyncio.Event) -> None:
        self._files, self._loop, self._changed = files, loop, changed

    def on_any_event(self, event: FileSystemEvent) -> None:
        touched = {str(event.src_path), str(event.dest_path)}
        if any(str(path) in touched for path in self._files):
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._changed.set)
