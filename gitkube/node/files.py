"""Writing files so that a crash at any instant leaves the old content or the new, never a mixture.

Temporary file beside the target, fsync, rename, fsync of the directory. What is only a cache of something
else may skip the fsyncs (`durable=False`): after a crash it is made again.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write_atomically(path: Path, content: bytes, *, mode: int = 0o600, durable: bool = True) -> None:
    """Replace a file's content in one step.

    Raises:
        OSError: the disk said no; the old content is untouched.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        os.fchmod(fd, mode)
        written = 0
        while written < len(content):
            written += os.write(fd, content[written:])
        if durable:
            os.fsync(fd)
    finally:
        os.close(fd)
    os.replace(temporary, path)
    if durable:
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make renames inside a directory survive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_json(path: Path, value: Any, *, durable: bool = True) -> None:
    """`write_atomically` for JSON."""
    write_atomically(path, json.dumps(value, separators=(",", ":")).encode(), durable=durable)


def read_json(path: Path) -> Any:
    """What `write_json` wrote, or None where there is no file.

    Raises:
        ValueError: the file is not JSON; it was not written by us, or the disk lost it.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        return json.loads(content)
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def read_text(path: Path, limit_bytes: int = 65536) -> str:
    """The beginning of a text file, or "" where there is none."""
    try:
        with path.open("rb") as file:
            return file.read(limit_bytes).decode(errors="replace")
    except FileNotFoundError:
        return ""
