"""What all of this needs: where things are, what a refusal is, and files that are whole or absent."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from typing import Any

ROOT = "/var/lib/gitkube"
BIN = ROOT + "/bin"
RUN = "/run/gitkube"
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "DEBIAN_FRONTEND": "noninteractive",
    "LANG": "C.UTF-8",
    "HOME": "/root",
}


class Refusal(Exception):
    """A sentence for the person who has to act."""


def say(message: "dict[str, Any]") -> None:
    """One line to the control side."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def call(command: "list[str]", timeout_s: float) -> "subprocess.CompletedProcess[bytes]":
    """Run a program to its end; what it says on either output is `stdout`.

    Raises:
        Refusal: it took too long.
    """
    try:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=ENVIRONMENT, timeout=timeout_s, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Refusal(f"{command[0]} did not end within {timeout_s:.0f} s on the host") from None


def said_by(done: "subprocess.CompletedProcess[bytes]") -> "list[str]":
    """The lines that it said, without empty ones."""
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    return [line.strip() for line in lines if line.strip()]


def read_lines(path: str) -> "list[str]":
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.readlines()


def make_directory(path: str, mode: int) -> None:
    if not os.path.isdir(path):
        os.makedirs(path, mode)
        os.chmod(path, mode)


def write_file(path: str, content: bytes, mode: int) -> None:
    """Whole or not at all, also after a power cut."""
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".new-")
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
    os.rename(temporary, path)
    sync_directory(os.path.dirname(path))


def remove_file(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
        sync_directory(os.path.dirname(path))


def sync_directory(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
