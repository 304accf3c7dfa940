"""A running container as the target of an exec: the same user, directory, variables and rights as its own.

crun's own defaults for an exec differ (its directory is `/`), so each exec gets a process file made from the
container's configuration, with nothing but the command and the terminal changed.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gitkube.node import files

MAX_ARGUMENTS_BYTES = 128 * 1024


def check_command(command: Any) -> list[str]:
    """A command as an argument list.

    Raises:
        ValueError: it is empty, too long, or has a zero byte.
    """
    if not isinstance(command, list) or not command:
        raise ValueError("you must specify at least one command for the container")
    words = [str(word) for word in command]
    if sum(len(word) + 1 for word in words) > MAX_ARGUMENTS_BYTES or any("\0" in word for word in words):
        raise ValueError(f"the command is longer than {MAX_ARGUMENTS_BYTES} bytes or has a zero byte")
    return words


def process_of(config: dict[str, Any], command: Sequence[str], *, tty: bool) -> dict[str, Any]:
    """The OCI process of an exec in a container with this configuration. Pure."""
    process = {key: value for key, value in config["process"].items() if key != "oomScoreAdj"}
    process.update(args=list(command), terminal=tty)
    if tty and not any(str(entry).startswith("TERM=") for entry in process.get("env") or []):
        process["env"] = [*(process.get("env") or []), "TERM=xterm"]
    return process


@dataclass(frozen=True)
class Target:
    """A running container to do something in."""

    crun: str
    identifier: str
    bundle: Path
    run_dir: Path

    @contextlib.contextmanager
    def arguments(self, command: Sequence[str], *options: str, tty: bool = False) -> Iterator[list[str]]:
        """crun's argument list for an exec; its process file is there while the context is open.

        Raises:
            OSError: the container's configuration cannot be read.
        """
        config = files.read_json(self.bundle / "config.json")
        if config is None:
            raise FileNotFoundError(2, "the container's configuration is gone", str(self.bundle))
        place = self.run_dir / f"exec-{uuid.uuid4().hex[:12]}.json"
        files.write_json(place, process_of(config, command, tty=tty), durable=False)
        try:
            yield [self.crun, "exec", *options, "--process", str(place), self.identifier]
        finally:
            place.unlink(missing_ok=True)
