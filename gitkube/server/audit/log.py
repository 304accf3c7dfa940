"""The file of the audit log: lines in, written in order by a thread, turned over when it is large.

Invariants: a request never waits for this file; and nothing is lost in silence. What cannot be written yet
(the disk is full, or slow) waits in memory up to a limit. Beyond it events are dropped and counted: in the
log of `serve` at once and then each minute, in the metric `apiserver_audit_event_total`, and, when writing
works again, in the audit log itself, as an event that says how many are missing. That is a choice: an API
that stops when a disk is full can be stopped by filling the disk.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import orjson
import structlog

from gitkube.clock import Clock, rfc3339
from gitkube.files import write_all

log = structlog.get_logger(__name__)

MAX_WAITING_BYTES = 16 * 1024 * 1024
RETRY_S = 2.0
SAY_AGAIN_S = 60.0
DEFAULT_FILE_BYTES = 100 * 1024 * 1024
DEFAULT_KEPT_FILES = 10
Counts = Callable[[str, int], None]
"""Called with what became of events ("written", "dropped") and how many they were."""


class AuditLogError(Exception):
    """The file cannot be written at all; the text says why."""


class _Batch(NamedTuple):
    lines: list[bytes]
    gap: list[bytes]
    """A line that says how many events are missing, when some are."""
    lost: int


class AuditLog:
    """`run` must be running for anything to be written."""

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock,
        file_bytes: int = DEFAULT_FILE_BYTES,
        kept_files: int = DEFAULT_KEPT_FILES,
    ) -> None:
        """
        Args:
            file_bytes: a file that would grow beyond it is put aside.
            kept_files: of those that were put aside, the newest stay.
        """
        self._path = path
        self._clock = clock
        self._file_bytes = file_bytes
        self._kept_files = kept_files
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._came = asyncio.Event()
        self._dropped = 0
        self._said: dict[str, float] = {}
        """What is wrong -> when it was last said, on the monotonic clock."""
        self._descriptor: int | None = None
        self.count: Counts = lambda outcome, number: None

    def open(self) -> None:
        """Open the file, so that a mistake is found before anything is served.

        Raises:
            AuditLogError: it cannot be written.
        """
        try:
            self._opened()
        except OSError as error:
            raise AuditLogError(f"--audit-log {self._path} cannot be written: {error.strerror}") from error

    def add(self, event: dict[str, object]) -> None:
        """Take an event; never waits."""
        line = orjson.dumps(event) + b"\n"
        if self._waiting_bytes + len(line) > MAX_WAITING_BYTES:
            self._dropped += 1
            self.count("dropped", 1)
            self._say("too many events wait for the disk")
            return
        self._waiting.append(line)
        self._waiting_bytes += len(line)
        self._came.set()

    async def run(self) -> None:
        """Write until cancelled, and then what is left."""
        writing: asyncio.Future[int] | None = None
        try:
            while True:
                await self._came.wait()
                self._came.clear()
                while self._waiting:
                    batch = self._take()
                    lines = batch.lines + batch.gap
                    writing = asyncio.ensure_future(asyncio.to_thread(self._write, lines))
                    try:
                        self._done(batch, await asyncio.shield(writing))
                    except OSError as error:
                        self._put_back(batch)
                        self._say(error.strerror or str(error))
                        await self._clock.sleep(RETRY_S)
        finally:
            await self._finish(writing)

    async def _finish(self, writing: asyncio.Future[int] | None) -> None:
        if writing is not None:
            await asyncio.wait([writing])
        batch = self._take()
        try:
            if batch.lines:
                self._write(batch.lines + batch.gap)
        except OSError as error:
            log.error(
                "audit_log_lost", path=str(self._path), lost_events=len(batch.lines), error=error.strerror
            )
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _take(self) -> _Batch:
        gap = [orjson.dumps(_gap(self._dropped, self._clock.now())) + b"\n"] if self._dropped else []
        batch = _Batch(list(self._waiting), gap, self._dropped)
        self._waiting.clear()
        self._waiting_bytes = 0
        return batch

    def _put_back(self, batch: _Batch) -> None:
        self._waiting.extendleft(reversed(batch.lines))
        self._waiting_bytes += sum(len(line) for line in batch.lines)

    def _done(self, batch: _Batch, written: int) -> None:
        self._dropped -= batch.lost
        if self._said:
            log.error("audit_log_resumed", path=str(self._path), lost_events=batch.lost)
            self._said.clear()
        self.count("written", written)

    def _say(self, why: str) -> None:
        now_s = self._clock.monotonic()
        if why not in self._said or now_s - self._said[why] >= SAY_AGAIN_S:
            self._said[why] = now_s
            log.error(
                "audit_log_not_written",
                path=str(self._path), error=why, waiting_bytes=self._waiting_bytes, lost_events=self._dropped,
            )  # fmt: skip

    # ------------------------------------------------------------------ in the thread

    def _write(self, lines: list[bytes]) -> int:
        descriptor = self._opened()
        size = os.fstat(descriptor).st_size
        data = b"".join(lines)
        if size and size + len(data) > self._file_bytes:
            descriptor = self._turn_over()
            size = 0
        try:
            write_all(descriptor, data)
        except OSError:
            os.ftruncate(descriptor, size)  # no half line stays, and nothing twice
            raise
        return len(lines)

    def _opened(self) -> int:
        if self._descriptor is not None and not self._is_ours(self._descriptor):
            os.close(self._descriptor)  # somebody has moved the file away
            self._descriptor = None
        if self._descriptor is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
            self._descriptor = os.open(self._path, flags, 0o600)
        return self._descriptor

    def _is_ours(self, descriptor: int) -> bool:
        try:
            there = os.stat(self._path, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(there, os.fstat(descriptor))

    def _turn_over(self) -> int:
        """Put the file aside under the time of day, and begin another."""
        at = datetime.fromtimestamp(self._clock.now(), UTC)
        stem, suffix = self._path.stem, self._path.suffix
        aside = self._path.with_name(f"{stem}-{at:%Y-%m-%dT%H-%M-%S.%f}{suffix}")
        os.rename(self._path, aside)
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        descriptor = self._opened()
        old = sorted(self._path.parent.glob(f"{_literal(stem)}-*T*{_literal(suffix)}"))
        for path in old[: max(0, len(old) - self._kept_files)]:
            path.unlink(missing_ok=True)
        return descriptor


def _literal(text: str) -> str:
    """Text as a pattern of `glob` that matches only itself."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in text)


def _gap(lost: int, now_s: float) -> dict[str, object]:
    at = rfc3339(now_s)
    return {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Metadata",
        "auditID": f"gap-{now_s:.6f}",
        "stage": "Panic",
        "requestURI": "",
        "verb": "",
        "user": {"username": "system:gitkube:audit"},
        "requestReceivedTimestamp": at,
        "stageTimestamp": at,
        "annotations": {"gitkube.dev/lost-events": str(lost)},
    }
