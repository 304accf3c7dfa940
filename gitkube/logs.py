"""structlog, for the processes that run for long: loaded without rich.

structlog loads rich wherever that is installed, for tracebacks in colours that no such process prints: 6 MB
and 0.05 s in each of them. rich is optional to it, so it is told that there is none. Invariant: this is
imported before everything else that imports structlog; `tests/unit/cli/test_start.py` watches over that.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["structlog"]


@contextmanager
def _as_if_missing(package: str) -> Iterator[None]:
    if package in sys.modules:
        yield
        return
    # Python's own way to say so: a package that stands here as None is not found.
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]


with _as_if_missing("rich"):
    import structlog
