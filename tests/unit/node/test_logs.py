"""Reading CRI logs: whole lines out of parts, the tail, the limits, rotation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitkube.node import logs
from gitkube.node.streams import log_options


def write(log: Path, *lines: str, start: int = 0) -> None:
    text = "".join(
        f"2026-01-31T09:30:{start + index:02d}.5+00:00 {line}\n" for index, line in enumerate(lines)
    )
    log.write_bytes(text.encode())


async def read(log: Path, **options: Any) -> bytes:
    return b"".join([text async for text in logs.read_log(log, logs.Options(**options), lambda: False)])


async def test_parts_are_joined_to_lines(tmp_path: Path) -> None:
    log = tmp_path / "0.log"
    write(log, "stdout P long ", "stdout F line", "stderr F other", "torn", "stdout F ", "stdout F end")
    assert await read(log) == b"long line\nother\n\nend\n"


async def test_timestamps_stand_once_before_each_line(tmp_path: Path) -> None:
    log = tmp_path / "0.log"
    write(log, "stdout P a", "stdout F b", "stdout F c")
    assert (
        await read(log, timestamps=True) == b"2026-01-31T09:30:00.5+00:00 ab\n2026-01-31T09:30:02.5+00:00 c\n"
    )


@pytest.mark.parametrize(
    ("wanted", "expected"), [(0, b""), (1, b"4\n"), (3, b"2\n3\n4\n"), (9, b"0\n1\n2\n3\n4\n")]
)
async def test_the_tail_counts_lines_across_rotated_files(
    tmp_path: Path, wanted: int, expected: bytes
) -> None:
    write(tmp_path / "0.log.1", "stdout F 0", "stdout F 1", "stdout F 2")
    write(tmp_path / "0.log", "stdout F 3", "stdout F 4", start=3)
    assert await read(tmp_path / "0.log", tail_lines=wanted) == expected


async def test_since_and_limit_cut_at_time_and_bytes(tmp_path: Path) -> None:
    log = tmp_path / "0.log"
    write(log, "stdout F old", "stdout F new", "stdout F newer")
    options = log_options({"sinceTime": "2026-01-31T09:30:01Z", "limitBytes": 6}, 0.0)
    assert b"".join([text async for text in logs.read_log(log, options, lambda: False)]) == b"new\nne"


async def test_following_goes_on_in_the_next_file_and_ends_with_the_container(tmp_path: Path) -> None:
    log = tmp_path / "0.log"
    write(log, "stdout F one")
    got, turns = [], 0

    def is_running() -> bool:
        nonlocal turns
        turns += 1
        if turns == 2:
            log.rename(tmp_path / "0.log.1")
            write(log, "stdout F two")
        return turns < 5

    async for text in logs.read_log(log, logs.Options(follow=True), is_running):
        got.append(text)
    assert b"".join(got) == b"one\ntwo\n"


async def test_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert await read(tmp_path / "none.log", tail_lines=3) == b""


def test_rotation_keeps_five_files_and_begins_at_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "MAX_LOG_BYTES", 10)
    log = tmp_path / "0.log"
    log.write_text("short")
    assert not logs.rotate(log, tmp_path / "ctl")
    for number in range(7):
        log.write_text(f"file number {number}")
        assert logs.rotate(log, tmp_path / "ctl")
    kept = [part.read_text() for part in logs.log_files(log)]
    assert kept == [f"file number {number}" for number in range(3, 7)]


@given(st.binary(max_size=200))
def test_no_line_breaks_the_parser(line: bytes) -> None:
    record = logs.parse_record(line)
    assert record is None or record.stream in ("stdout", "stderr")


@given(st.lists(st.tuples(st.booleans(), st.text("ab", max_size=3)), max_size=30), st.integers(0, 12))
def test_the_tail_is_the_end_of_the_whole(parts: list[tuple[bool, str]], wanted: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "0.log"
        write(
            log,
            *(f"stdout {'P' if is_partial else 'F'} {text}" for is_partial, text in [*parts, (False, "z")]),
        )
        whole = [line for line in log.read_bytes().split(b"\n") if line]
        offset = logs.tail_offset(log, wanted)
        kept = [line for line in log.read_bytes()[offset:].split(b"\n") if line]
        assert whole[len(whole) - len(kept) :] == kept
        ends = sum(1 for line in kept if line.split(b" ")[2] == b"F")
        assert ends == min(wanted, sum(1 for line in whole if line.split(b" ")[2] == b"F"))
