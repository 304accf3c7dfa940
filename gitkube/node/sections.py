"""The desired sections on the disk: what the control side wants, kept so that a host needs nobody to start.

A section is on the disk before anything acts on it. Beside them lies the highest term ever heard, which
makes a deposed leader's orders worthless to this host for good.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from gitkube.node import files
from gitkube.node.paths import Layout
from gitkube.wire import digest_of

log = logging.getLogger(__name__)

SECTIONS = ("network", "services", "pods")
"""In the order in which they are put in force at the start."""


class StaleTerm(Exception):
    """An order of a leader that has been deposed."""


class Sections:
    """Reads and writes the persisted desired state. Methods block."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._held: dict[str, dict[str, Any]] = {}
        self.term = 0
        self.node = ""

    def load(self) -> None:
        """Read what was kept. A damaged file is not used; its section will be asked for again."""
        self._layout.desired.mkdir(parents=True, exist_ok=True, mode=0o700)
        kept = _readable(self._layout.term) or {}
        self.term, self.node = int(kept.get("term") or 0), str(kept.get("node") or "")
        for section in SECTIONS:
            value = _readable(self._path(section))
            if isinstance(value, dict) and digest_of(value.get("data")) == value.get("digest"):
                self._held[section] = value

    def digests(self) -> dict[str, str]:
        return {section: str(value["digest"]) for section, value in self._held.items()}

    def data(self, section: str) -> dict[str, Any] | None:
        value = self._held.get(section)
        return None if value is None else dict(value["data"])

    def meet(self, term: int, node: str) -> None:
        """Take note of a leader's term.

        Raises:
            StaleTerm: a higher one was heard before.
            OSError: the disk said no.
        """
        if term < self.term:
            raise StaleTerm(f"this host has obeyed term {self.term}; orders of term {term} are refused")
        if term != self.term or node != self.node:
            files.write_json(self._layout.term, {"term": term, "node": node})
            self.term, self.node = term, node

    def keep(self, message: dict[str, Any]) -> None:
        """Put a section on the disk.

        Raises:
            StaleTerm: it comes from a deposed leader.
            ValueError: it is not a section, or its digest is not its content's.
            OSError: the disk said no; the old section stays.
        """
        section, data = str(message.get("section")), message.get("data")
        self.meet(int(message.get("term") or 0), self.node)
        if section not in SECTIONS or not isinstance(data, dict):
            raise ValueError(f"section {section!r} is not one that this host knows ({', '.join(SECTIONS)})")
        if digest_of(data) != message.get("digest"):
            raise ValueError(f"section {section!r} has other content than its digest says")
        value = {key: message.get(key) for key in ("section", "term", "revision", "digest", "data")}
        files.write_json(self._path(section), value)
        self._held[section] = value

    def _path(self, section: str) -> Path:
        return self._layout.desired / f"{section}.json"


def _readable(path: Path) -> Any:
    try:
        return files.read_json(path)
    except ValueError as error:
        log.error("persisted state not used: %s", error)
        return None
