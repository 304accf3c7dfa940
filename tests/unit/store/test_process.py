"""The supervisor of a member's process, with programs in its place that do one thing each."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gitkube.clock import SystemClock
from gitkube.store.config import EXIT_REFUSED, MemberConfig
from gitkube.store.protocol import CorruptError
from gitkube.store.remote import StoreProcess


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], StoreProcess]:
    """Makes a supervisor whose member is a shell script."""

    def make(script: str) -> StoreProcess:
        path = tmp_path / "member"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(path))
        config = MemberConfig(data_dir=tmp_path / "store", socket=tmp_path / "s")
        return StoreProcess(config, clock=SystemClock(), rng=random.Random(1))

    return make


async def run(process: StoreProcess) -> None:
    async with asyncio.timeout(30):
        await process.run()


async def test_a_member_that_cannot_start_is_not_started_again_and_its_last_word_is_the_reason(
    program: Callable[[str], StoreProcess],
) -> None:
    with pytest.raises(CorruptError, match=r"^the log is damaged$"):
        await run(program(f"echo first >&2; echo the log is damaged >&2; exit {EXIT_REFUSED}"))


async def test_a_line_of_any_length_in_a_members_log_ends_nothing(
    program: Callable[[str], StoreProcess],
) -> None:
    long_line = "head -c 300000 /dev/zero | tr '\\0' x >&2; echo >&2"
    with pytest.raises(CorruptError, match=r"^the log is damaged$"):
        await run(program(f"{long_line}; echo the log is damaged >&2; exit {EXIT_REFUSED}"))


async def test_a_machine_that_can_make_no_process_now_is_asked_again(
    program: Callable[[str], StoreProcess], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too many processes, too little memory, a full disk: the API says 503 meanwhile, and does not end."""
    ran = tmp_path / "ran"
    process = program(f"test -e {ran} || {{ touch {ran}; exit 1; }}; echo again >&2; exit {EXIT_REFUSED}")
    make, calls = asyncio.create_subprocess_exec, 0

    async def fail_the_second_time(*arguments: str, **options: int) -> asyncio.subprocess.Process:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError(11, "Resource temporarily unavailable")
        return await make(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", fail_the_second_time)
    with pytest.raises(CorruptError, match=r"^again$"):
        await run(process)
    assert calls == 3


async def test_a_member_whose_directory_is_taken_away_while_it_runs_does_not_begin_an_empty_one(
    program: Callable[[str], StoreProcess], tmp_path: Path
) -> None:
    """Watchers would wait for revisions that the new store has not, and never hear of what it writes."""
    identity = tmp_path / "store" / "member.json"
    process = program(
        f"if rm -r {identity.parent}; then exit 1; fi; mkdir {identity.parent}; touch {identity}"
    )
    with pytest.raises(CorruptError, match="was taken away"):
        await run(process)


def test_a_member_may_open_as_many_files_as_the_system_lets_it() -> None:
    code = (
        "import resource; from gitkube.store.process import allow_files\n"
        "number = resource.RLIMIT_NOFILE; _, hard = resource.getrlimit(number)\n"
        "resource.setrlimit(number, (256, hard)); allow_files(512); print(*resource.getrlimit(number))\n"
        "resource.setrlimit(number, (256, 300)); allow_files(512); print(*resource.getrlimit(number))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    raised, bounded = done.stdout.splitlines()
    assert raised.split()[0] == "512"
    assert bounded == "300 300"
