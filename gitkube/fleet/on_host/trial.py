"""A new agent is on trial until somebody has reached it over a new connection.

An agent that cannot talk could never be replaced from afar, so the change takes itself back: beside the
agents lies the file `trial` ("NEW PREVIOUS SECONDS") from before the switch until the confirmation. When the
time is over and the file is still there, the start script's guard puts the previous agent back and renames
the file to `refused`. Invariant: while `trial` exists, PREVIOUS is an agent that was confirmed, and its file
is kept.

A refused agent is left alone for a while, and then gets another chance: perhaps only the line was down.
"""

import contextlib
import os
import time

from gitkube.fleet.on_host.base import BIN, read_lines, remove_file, write_file

TRIAL = BIN + "/trial"
REFUSED = BIN + "/refused"
REFUSED_FOR_S = 600.0


def begin(new: str, current: str, seconds: float) -> None:
    """Write down what to go back to, before the switch. An agent itself on trial is nothing to go back to."""
    previous = words(TRIAL)[1] if on_trial(current) else current
    if previous == new:
        remove_file(TRIAL)
    else:
        write_file(TRIAL, f"{new} {previous} {max(1, round(seconds))}\n".encode(), 0o644)
    remove_file(REFUSED)


def on_trial(name: str) -> bool:
    return bool(name) and words(TRIAL)[0] == name


def confirm(name: str) -> bool:
    """End the trial of this agent. False when it is not on trial (any more)."""
    if not on_trial(name):
        return False
    remove_file(TRIAL)
    return True


def was_refused(name: str) -> bool:
    """Whether this agent was taken back a short time ago."""
    if words(REFUSED)[0] != name:
        return False
    # A clock that was set back must not keep an agent out for ever.
    return abs(time.time() - os.path.getmtime(REFUSED)) < REFUSED_FOR_S


def words(path: str) -> "list[str]":
    """The three words of a file; empty ones when there is none."""
    found: list[str] = []
    with contextlib.suppress(OSError):
        found = "".join(read_lines(path)[:1]).split()
    return [*found, "", "", ""][:3]
