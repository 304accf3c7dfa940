"""Reading the containers' logs, and keeping them from filling the disk.

conmon writes CRI's format: `TIME STREAM TAG MESSAGE`, where tag `P` is a part of a line that goes on in the
next record and `F` its end. A log has the parts `N.log.4 … N.log.1, N.log`, oldest first. Reading is by
polling the file's size, a cheap thing that needs no agreement with conmon; rotation renames and has conmon
reopen, so no record is torn.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from gitkube.node.kube import parse_time

MAX_LOG_BYTES = 10 * 1024 * 1024
MAX_LOG_FILES = 5
READ_BYTES = 64 * 1024
POLL_INTERVAL_S = 0.1
MAX_LINE_BYTES = 1024 * 1024
"""A line without end is given out in pieces of this size."""


@dataclass(frozen=True)
class Record:
    """One line of a log file."""

    time: str
    stream: str
    is_partial: bool
    message: bytes


@dataclass(frozen=True)
class Options:
    """What of a log is wanted, as in PodLogOptions."""

    follow: bool = False
    timestamps: bool = False
    tail_lines: int | None = None
    since_s: float | None = None  # seconds since the epoch
    limit_bytes: int | None = None


def parse_record(line: bytes) -> Record | None:
    """A line of the log file without its newline; None when it is not a record, as after a power cut."""
    parts = line.split(b" ", 3)
    if len(parts) < 3 or parts[1] not in (b"stdout", b"stderr"):
        return None
    message = parts[3] if len(parts) == 4 else b""
    tags = parts[2].split(b":")
    return Record(parts[0].decode("ascii", "replace"), parts[1].decode(), tags[0] == b"P", message)


def log_files(log: Path) -> list[Path]:
    """The parts of a log that are there, the oldest first."""
    parts = [log.with_name(f"{log.name}.{number}") for number in range(MAX_LOG_FILES - 1, 0, -1)]
    return [part for part in [*parts, log] if part.exists()]


def tail_offset(log: Path, lines: int) -> int:
    """Where the last `lines` whole lines of a file begin.

    Looks at a window at the end that doubles until it holds enough; a file is bounded by the rotation.
    """
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if lines <= 0:
            return size
        window = READ_BYTES
        while True:
            start = max(0, size - window)
            file.seek(start)
            block = file.read(size - start)
            # A window that begins inside a record: that one is not counted.
            skipped = block.find(b"\n") + 1 if start > 0 else 0
            ends = list(_line_ends(block, skipped))
            if len(ends) > lines:
                return start + ends[-lines - 1]
            if start == 0:
                return 0
            window *= 2


def _line_ends(block: bytes, start: int) -> Iterator[int]:
    """The offsets behind each record of a block that ends a line (tag F)."""
    while True:
        newline = block.find(b"\n", start)
        if newline < 0:
            return
        record = parse_record(block[start:newline])
        if record is not None and not record.is_partial:
            yield newline + 1
        start = newline + 1


class Lines:
    """Log records in, the text that a person asked for out. Holds no more than one part of a line."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._in_line: dict[str, bool] = {}
        self._left = options.limit_bytes

    @property
    def is_full(self) -> bool:
        return self._left is not None and self._left <= 0

    def feed(self, line: bytes) -> bytes:
        """What one line of the file adds to the answer."""
        record = parse_record(line)
        if record is None or self.is_full:
            return b""
        if self._options.since_s is not None and _time_of(record) < self._options.since_s:
            return b""
        text = record.message if record.is_partial else record.message + b"\n"
        if self._options.timestamps and not self._in_line.get(record.stream):
            text = record.time.encode() + b" " + text
        self._in_line[record.stream] = record.is_partial
        if self._left is not None:
            text = text[: self._left]
            self._left -= len(text)
        return text


def _time_of(record: Record) -> float:
    try:
        return parse_time(record.time)
    except ValueError:
        return 0.0


async def read_log(log: Path, options: Options, is_running: Callable[[], bool]) -> AsyncIterator[bytes]:
    """The text of a log, and with `follow` what is added until the container has ended.

    Args:
        log: the current part's path.
        options: what is wanted.
        is_running: whether more may come.
    """
    lines = Lines(options)
    parts = await asyncio.to_thread(log_files, log)
    offset = 0
    if options.tail_lines is not None and parts:
        parts, offset = await asyncio.to_thread(_tail, parts, options.tail_lines)
    for part in parts[:-1]:
        async for text in _drain(part, offset, lines):
            yield text
        offset = 0
        if lines.is_full:
            return
    async for text in _follow(log, offset, lines, options.follow, is_running):
        yield text


def _tail(parts: list[Path], wanted: int) -> tuple[list[Path], int]:
    """Which parts, and from where in the first of them, hold the last `wanted` lines."""
    kept: list[Path] = []
    for part in reversed(parts):
        kept.insert(0, part)
        offset = tail_offset(part, wanted)
        if offset > 0:
            return kept, offset
        wanted -= _count_lines(part)
        if wanted <= 0:
            return kept, 0
    return kept, 0


def _count_lines(part: Path) -> int:
    with part.open("rb") as file:
        return sum(1 for line in file if (record := parse_record(line[:-1])) and not record.is_partial)


async def _drain(part: Path, offset: int, lines: Lines) -> AsyncIterator[bytes]:
    rest = b""
    try:
        file = part.open("rb")
    except FileNotFoundError:
        return  # rotated away while we read the one before
    with file:
        file.seek(offset)
        while not lines.is_full:
            block = await asyncio.to_thread(file.read, READ_BYTES)
            if not block:
                return
            rest, text = _split(rest + block, lines)
            if text:
                yield text


async def _follow(
    log: Path, offset: int, lines: Lines, follow: bool, is_running: Callable[[], bool]
) -> AsyncIterator[bytes]:
    rest = b""
    file = None
    try:
        while not lines.is_full:
            may_grow = follow and is_running()  # asked before reading, so that the last words are not missed
            if file is None and log.exists():
                file = log.open("rb")
                file.seek(offset)
            block = file.read(READ_BYTES) if file is not None else b""
            if block:
                rest, text = _split(rest + block, lines)
                if text:
                    yield text
                continue
            if file is not None and _was_rotated(log, file.fileno()):
                file.close()
                file, offset, rest = None, 0, b""
                continue
            if not may_grow:
                return
            await asyncio.sleep(POLL_INTERVAL_S)
    finally:
        if file is not None:
            file.close()


def _was_rotated(log: Path, fd: int) -> bool:
    try:
        return log.stat().st_ino != os.fstat(fd).st_ino
    except FileNotFoundError:
        return False


def _split(data: bytes, lines: Lines) -> tuple[bytes, bytes]:
    """(what is not yet a whole record, the text of those that are)."""
    *whole, rest = data.split(b"\n")
    if len(rest) > MAX_LINE_BYTES:
        rest = b""
    return rest, b"".join(lines.feed(line) for line in whole)


def rotate(log: Path, control: Path) -> bool:
    """Put a log that is too large aside, and have conmon write a new one. Returns whether it did. Blocks.

    Args:
        log: the current part.
        control: conmon's control fifo in the bundle.
    """
    try:
        if log.stat().st_size < MAX_LOG_BYTES:
            return False
    except FileNotFoundError:
        return False
    for number in range(MAX_LOG_FILES - 1, 0, -1):
        older = log.with_name(f"{log.name}.{number}")
        newer = log.with_name(f"{log.name}.{number - 1}") if number > 1 else log
        if newer.exists():
            os.replace(newer, older)
    try:
        fd = os.open(control, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return True  # conmon has ended: nobody writes any more
    try:
        os.write(fd, b"2 0 0\n")
    finally:
        os.close(fd)
    return True


def last_lines(log: Path, lines: int, limit_bytes: int) -> str:
    """The end of a log as text, for FallbackToLogsOnError. Blocks."""
    if not log.exists():
        return ""
    reader = Lines(Options())
    with log.open("rb") as file:
        file.seek(max(tail_offset(log, lines), os.fstat(file.fileno()).st_size - 4 * limit_bytes))
        text = b"".join(reader.feed(line) for line in file.read().split(b"\n"))
    return text[-limit_bytes:].decode(errors="replace")
