"""Requests that last: watches, followed logs, exec. They are counted, limited, ended when the server stops.

Without this a stopping server would wait for clients that never go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from gitkube.api.errors import StatusError

MAX_LONG_REQUESTS = 20_000
"""Each costs a connection and a few kilobytes."""


class Lifetime:
    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[object]] = set()
        self._is_stopping = False

    @property
    def open_requests(self) -> int:
        return len(self._tasks)

    @property
    def is_stopping(self) -> bool:
        return self._is_stopping

    @contextmanager
    def long_request(self) -> Iterator[None]:
        """Within it, the current task is one that `stop` cancels.

        Raises:
            StatusError: 503 when the server is stopping, 429 when there are too many.
        """
        if self._is_stopping:
            raise StatusError(503, "ServiceUnavailable", "the server is stopping", retry_after_s=1)
        if len(self._tasks) >= MAX_LONG_REQUESTS:
            text = f"{MAX_LONG_REQUESTS} watches and streams are open already"
            raise StatusError(429, "TooManyRequests", text, retry_after_s=5)
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a request is served by a task")
        self._tasks.add(task)
        try:
            yield
        finally:
            self._tasks.discard(task)

    def stop(self) -> None:
        """End them all."""
        self._is_stopping = True
        for task in list(self._tasks):
            task.cancel()
