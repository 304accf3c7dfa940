"""A person without root on this machine: `nobody`, with a home of its own, running what a person runs.

The person must be able to read Python, the virtual environment and the checkout. Where these lie below a
closed directory (such as a checkout in /root), each command gets a mount namespace of its own in which the
way to them is open; nothing changes for the rest of the machine.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

UID = GID = 65534
CHECKOUT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent

# $1: a directory for the views, $2: the closed directory, then what must be seen below it, --, the command.
OPEN = """
set -e
keep=$1 closed=$2; shift 2
number=0; paths=
while [ "$1" != -- ]; do
    number=$((number + 1)); paths="$paths $1"
    mkdir -p "$keep/$number"; mount --rbind "$1" "$keep/$number"
    shift
done
shift
mount -t tmpfs -o mode=755 none "$closed"
number=0
for path in $paths; do
    number=$((number + 1))
    mkdir -p "$path"; mount --rbind "$keep/$number" "$path"
done
exec "$@"
"""


class OrdinaryUser:
    """Runs commands without root; `directory` is the person's and holds the home."""

    def __init__(self, directory: Path) -> None:
        self.home = directory / "home"
        self.home.mkdir()
        os.chown(self.home, UID, GID)
        self._views = directory / "views"
        self._views.mkdir()
        self.environment = {
            "HOME": str(self.home),
            "USER": "nobody",
            "PATH": f"{BIN}:/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "GIT_AUTHOR_NAME": "ada", "GIT_AUTHOR_EMAIL": "ada@example.org",
            "GIT_COMMITTER_NAME": "ada", "GIT_COMMITTER_EMAIL": "ada@example.org",
        }  # fmt: skip

    def command(self, *argv: str) -> list[str]:
        places = list(dict.fromkeys([CHECKOUT, Path(sys.prefix), Path(sys.base_prefix)]))
        closed = dict.fromkeys(path for path in map(_closed_above, places) if path is not None)
        opening = ["unshare", "--mount"] if closed else []
        for number, directory in enumerate(closed):
            below = [str(place) for place in places if place.is_relative_to(directory)]
            keep = str(self._views / str(number))
            opening += ["sh", "-c", OPEN, "open", keep, str(directory), *below, "--"]
        return [*opening, "setpriv", "--reuid", str(UID), "--regid", str(GID), "--clear-groups",
                "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", "--", *argv]  # fmt: skip

    def run(self, *argv: str, timeout_s: float = 90, check: bool = True) -> str:
        """What the command printed, errors included."""
        done = subprocess.run(
            self.command(*argv), cwd=self.home, env=self.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout}")
        return done.stdout

    def start(self, *argv: str, log: Path) -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            return subprocess.Popen(
                self.command(*argv), cwd=self.home, env=self.environment, stdin=subprocess.DEVNULL,
                stdout=output, stderr=output,
            )  # fmt: skip

    def write(self, name: str, text: str) -> Path:
        """A file of the person's, in the home."""
        path = self.home / name
        missing = [parent for parent in path.parents if not parent.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        for made in (path, *missing):
            os.chown(made, UID, GID)
        return path


def _closed_above(place: Path) -> Path | None:
    """The outermost directory above a place that others may not pass."""
    return next((path for path in reversed(place.parents) if not path.stat().st_mode & 0o001), None)
