"""What a loop has asked for and not yet seen.

The informers' copy lags: right after creating three pods it still shows none, and whoever looked then would
create three more. So a loop notes what it is about to do, the informers' handlers strike it off as it becomes
visible, and the loop does not act on an object while something is open. What stays open for long (an event
was missed) is given up, and the loop looks again. Source: client-go's ControllerExpectations.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gitkube.clock import Clock

TIMEOUT_S = 300.0
UNSEEN_RETRY_S = 30.0
"""When to look again while something is open; the event that closes it normally comes first."""


@dataclass(slots=True)
class _Open:
    since: float
    creations: int = 0
    deletions: set[str] = field(default_factory=set)


class Expectations:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._open: dict[str, _Open] = {}

    def are_met(self, key: str) -> bool:
        """Whether the copy shows all that was done for this key (or it is too long ago to wait)."""
        expected = self._open.get(key)
        if expected is None or (expected.creations <= 0 and not expected.deletions):
            return True
        return self._clock.monotonic() >= expected.since + TIMEOUT_S

    def expect(self, key: str, *, creations: int = 0, deletions: set[str] | None = None) -> None:
        """Before acting: so many creations, and the deletions of these uids, will show up."""
        self._open[key] = _Open(self._clock.monotonic(), creations, set(deletions or ()))

    def created(self, key: str) -> None:
        """A creation showed up, or will never (it failed)."""
        if key in self._open:
            self._open[key].creations -= 1

    def deleted(self, key: str, uid: str) -> None:
        """A deletion showed up, or will never."""
        if key in self._open:
            self._open[key].deletions.discard(uid)

    def forget(self, key: str) -> None:
        self._open.pop(key, None)
