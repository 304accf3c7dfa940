"""Running the host's tools (`nft`, `wg`), always with argument lists."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from gitkube.node.network.errors import NetworkError

TIMEOUT_S = 20.0


def run(argv: Sequence[str], *, stdin: str = "", package: str = "") -> str:
    """What the program printed.

    Args:
        package: what to install when it is missing, for the person who reads the error.

    Raises:
        NetworkError: it is missing, failed, or took too long.
    """
    try:
        done = subprocess.run(
            list(argv), input=stdin, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except FileNotFoundError as error:
        raise NetworkError(f"`{argv[0]}` is not on this host; install {package or argv[0]}") from error
    except subprocess.TimeoutExpired as error:
        raise NetworkError(f"`{' '.join(argv[:3])}` did not end within {TIMEOUT_S:.0f} s") from error
    if done.returncode != 0:
        said = " ".join((done.stderr or done.stdout).split())[:600] or f"exit code {done.returncode}"
        raise NetworkError(f"`{' '.join(argv[:3])}` failed: {said}")
    return done.stdout
