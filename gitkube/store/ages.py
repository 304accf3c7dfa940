"""How old revisions are, so that history can be forgotten by age."""

from __future__ import annotations

from collections import deque

from gitkube.store.protocol import Revision


class RevisionAges:
    """The newest revision at some moments; what was long before `keep_s` seconds ago is dropped."""

    def __init__(self, keep_s: float) -> None:
        self._keep_s = keep_s
        self._seen: deque[tuple[float, Revision]] = deque()
        """(when, revision), oldest first."""

    def note(self, now_s: float, revision: Revision) -> None:
        """It is the newest now."""
        self._seen.append((now_s, revision))
        while len(self._seen) > 1 and self._seen[1][0] <= now_s - self._keep_s:
            self._seen.popleft()

    def old_at(self, now_s: float) -> Revision:
        """The newest that was there `keep_s` seconds ago; 0 is none."""
        if not self._seen or self._seen[0][0] > now_s - self._keep_s:
            return Revision(0)
        return self._seen[0][1]
