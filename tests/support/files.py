"""What lies below a directory in which others work: files come and go while one looks."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path


def entries_below(directory: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Each file and directory with what it is; no links, and nothing that is gone by the time it is asked."""
    for parent, directories, files in os.walk(directory):  # passes over what it cannot list any more
        for name in (*directories, *files):
            path = Path(parent, name)
            try:
                found = path.lstat()
            except FileNotFoundError:
                continue
            if not stat.S_ISLNK(found.st_mode):
                yield path, found


def contents_below(directory: Path) -> Iterator[tuple[Path, os.stat_result, bytes]]:
    """Each plain file with what it is and what is in it."""
    for path, found in entries_below(directory):
        if not stat.S_ISREG(found.st_mode):
            continue
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            continue
        yield path, found, data
