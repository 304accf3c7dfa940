"""How long `gitkube demo` takes: the first time (packages being installed already), again, and down.

The first run builds the images, makes hosts, starts the control side, installs agents and pushes; the second
finds all of it there. Each is the command itself, as a person runs it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import Row, against, options, report

SECOND_GOAL_S = 20.0


def timed(directory: Path, *arguments: str) -> float:
    command = [sys.executable, "-m", "gitkube.cli.main", "demo", "--dir", str(directory / "lab")]
    started = time.perf_counter()
    done = subprocess.run(
        [*command, "--listen", "127.0.0.1:0", *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(done.stdout + done.stderr)
    return time.perf_counter() - started


def main() -> None:
    arguments = options(__doc__ or "")
    if os.geteuid() != 0:
        raise SystemExit("the demo makes a lab, so it needs root")
    directory = Path(tempfile.mkdtemp(prefix=".bench-", dir=Path.cwd()))
    try:
        first = timed(directory)
        second = timed(directory)
    finally:
        down = timed(directory, "--down")
        shutil.rmtree(directory, ignore_errors=True)
    rows = [
        Row("first demo, packages installed", first, "s"),
        against("second demo", second, "s", SECOND_GOAL_S, "goal"),
        Row("demo --down", down, "s"),
    ]
    report(rows, "one run each; three hosts, the sample pushed and healthy", arguments.json)


if __name__ == "__main__":
    main()
