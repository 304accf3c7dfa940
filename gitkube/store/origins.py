"""Where a write comes from, so that one that is sent twice is applied once.

A client has a session and numbers its writes. Whoever does not hear an answer sends the same write with the
same number again, to the same member or another; the key space (`sessions.py`) knows by the number whether
it was done, and gives the first answer again (Raft thesis, section 6.3). With each write goes the lowest
number that is still open, so that older answers need not be kept.

A write that was given up without an answer may still be done later. It ends its session: "all below is
answered" could not be said truly any more, and the key space would have to keep answers that nobody will ask
for.
"""

from __future__ import annotations

import random

from gitkube.store.command import Origin


class Origins:
    """Numbers the writes of one client.

    Args:
        rng: chooses sessions that no other client has.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._begin()

    def _begin(self) -> None:
        self._session = self._rng.getrandbits(62) + 1
        self._next = 1
        self._open: dict[int, None] = {}  # insertion order is the order of numbers

    def new(self) -> Origin:
        """Of a write that begins now; `done` or `lost` must follow."""
        number = self._next
        self._next += 1
        self._open[number] = None
        return Origin(self._session, number, next(iter(self._open)))

    def done(self, origin: Origin) -> None:
        """Its answer was heard."""
        if origin.session == self._session:
            self._open.pop(origin.sequence, None)

    def lost(self, origin: Origin) -> None:
        """Nobody waits for its answer any more, and it may yet be done: later writes are another
        session's.
        """
        if origin.session == self._session:
            self._begin()
