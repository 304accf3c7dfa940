"""What has ended on hollow hosts, remembered over a restart of the process that plays them.

A real host has it on its disk: a Job's pod that had succeeded must not run once more because the control side
was restarted. One file for all hosts, a line for each pod that ended and each that was forgotten; only the
newest are kept. A line that a crash has torn is skipped: then the API's word about that pod counts.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gitkube.files import replace_durably

MAX_KEPT = 10_000
"""Pods; the control side keeps fewer that have ended."""


class EndedPods:
    """Pod uid -> the status it ended with.

    Args:
        path: the file; None remembers nothing beyond this object.
    """

    def __init__(self, path: Path | None, *, most: int = MAX_KEPT) -> None:
        self._path, self._most = path, most
        self._kept: dict[str, dict[str, Any]] = {}
        self._lines = 0
        if path is not None and path.exists():
            for line in path.read_text().splitlines():
                self._take(line)
            self._rewrite()

    def get(self, uid: str) -> dict[str, Any] | None:
        return self._kept.get(uid)

    def keep(self, uid: str, status: dict[str, Any]) -> None:
        if uid not in self._kept:
            self._kept[uid] = status
            self._append({"uid": uid, "status": status})

    def forget(self, uid: str) -> None:
        if self._kept.pop(uid, None) is not None:
            self._append({"uid": uid})

    def _take(self, line: str) -> None:
        try:
            entry = json.loads(line)
            uid, status = entry["uid"], entry.get("status")
        except (ValueError, KeyError, TypeError, AttributeError):
            return  # torn by a crash
        self._kept.pop(uid, None)
        if isinstance(status, dict) and "phase" in status:
            self._kept[uid] = status

    def _append(self, entry: dict[str, Any]) -> None:
        while len(self._kept) > self._most:
            del self._kept[next(iter(self._kept))]
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._path.open("a") as file:
            file.write(json.dumps(entry) + "\n")
        self._lines += 1
        if self._lines >= 2 * self._most:
            self._rewrite()

    def _rewrite(self) -> None:
        assert self._path is not None
        lines = [json.dumps({"uid": uid, "status": status}) + "\n" for uid, status in self._kept.items()]
        replace_durably(self._path, "".join(lines).encode())
        self._lines = len(lines)
