"""Running other programs: argument lists, a time limit, a cap on output, an error with a cause.

Nothing here knows a shell. Each run ends within its limit or is killed, and a failure carries the program's
own last words, since those are what a person needs.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import zipfile
from collections.abc import Sequence
from typing import NamedTuple

MAX_OUTPUT_BYTES = 1024 * 1024
"""What is kept of a program's output; the rest is read and dropped."""


class CommandError(Exception):
    """A program could not be run, failed, or took too long. The text names it and its last words."""


class Result(NamedTuple):
    code: int
    stdout: bytes
    stderr: bytes


def find_program(name: str) -> str:
    """The absolute path of an installed program.

    Raises:
        CommandError: it is not installed.
    """
    path = shutil.which(
        name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
    )
    if path is None:
        raise CommandError(f"{name} is not installed on this host: install it with the package manager")
    return path


def self_command(*arguments: str) -> list[str]:
    """An argument list that runs this agent again, out of the same zipapp or source tree."""
    if zipfile.is_zipfile(sys.argv[0]):
        return [sys.executable, os.path.abspath(sys.argv[0]), *arguments]
    return [sys.executable, "-m", "gitkube.node", *arguments]


def self_environment() -> dict[str, str]:
    """The environment under which `self_command` finds this package."""
    package_root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return {"PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": package_root, "LC_ALL": "C.UTF-8"}


async def _collect(reader: asyncio.StreamReader) -> bytes:
    kept = bytearray()
    while True:
        chunk = await reader.read(64 * 1024)
        if not chunk:
            return bytes(kept)
        if len(kept) < MAX_OUTPUT_BYTES:
            kept += chunk[: MAX_OUTPUT_BYTES - len(kept)]


async def run(
    argv: Sequence[str],
    *,
    timeout_s: float,
    env: dict[str, str] | None = None,
    cwd: str | None = None,
    pass_fds: Sequence[int] = (),
) -> Result:
    """Run a program to its end. Its exit code is the caller's to judge.

    Raises:
        CommandError: it could not be started, or had not ended after `timeout_s`.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=env,
            cwd=cwd,
            pass_fds=tuple(pass_fds),
        )
    except OSError as error:
        raise CommandError(f"{argv[0]} could not be started: {error.strerror}") from error
    assert process.stdout is not None and process.stderr is not None
    ending = asyncio.gather(_collect(process.stdout), _collect(process.stderr), process.wait())
    try:
        stdout, stderr, code = await asyncio.wait_for(ending, timeout_s)
    except asyncio.TimeoutError as error:
        raise CommandError(f"{argv[0]} had not ended after {timeout_s:g} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Result(code, stdout, stderr)


async def check(argv: Sequence[str], *, timeout_s: float, env: dict[str, str] | None = None) -> bytes:
    """Run a program that must succeed, and return what it printed.

    Raises:
        CommandError: it could not be started, took too long, or ended with another code than 0.
    """
    result = await run(argv, timeout_s=timeout_s, env=env)
    if result.code != 0:
        raise CommandError(last_words(argv[0], result))
    return result.stdout


def last_words(program: str, result: Result) -> str:
    """One sentence for a failed run: the program's last lines on stderr, or its exit code."""
    said = result.stderr.decode(errors="replace").strip().splitlines()
    if not said:
        return f"{os.path.basename(program)} ended with code {result.code}"
    return f"{os.path.basename(program)}: {' '.join(line.strip() for line in said[-3:])[:2000]}"
