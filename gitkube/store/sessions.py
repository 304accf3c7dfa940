"""A write that is sent again is done once (Ongaro's thesis, section 6.3).

A client that got no answer cannot know whether its write was done, so it sends it again, under the same
session and sequence. The table keeps each session's answers until the client says that it has them; a write
whose answer is here gets that answer and changes nothing. An error is an answer too.

The table is part of the replicated state: it changes only by applied commands, never by time, so all members
forget the same things at the same command. What must hold although it is bounded: *a write that was done is
never done again*. Therefore a write which may have been done and forgotten is refused, not done:

- one at or below its session's `floor`, whose answers were acknowledged or had to go;
- one of a session that is not known, yet has had answers: it was forgotten as the least recently used.

A session that was forgotten before it had its first answer acknowledged is not told from a new one; there
are MAX_SESSIONS of other clients between the two sendings then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from gitkube.store.command import Origin
from gitkube.store.protocol import SessionExpiredError
from gitkube.store.results import Result, result_from_list, result_to_list

MAX_SESSIONS = 1024
"""A client process has one or a few; more than this many at a time are clients that come and go."""
MAX_ANSWERS = 4096
"""Of one session: more than a client may have under way; what it does not acknowledge goes, oldest first."""
_SESSIONS_PER_PART = 64


class _Session:
    __slots__ = ("answers", "floor")

    def __init__(self, floor: int) -> None:
        self.floor = floor
        """Writes up to here are over: their answers are not kept, and they are never done again."""
        self.answers: dict[int, Result] = {}


class Unseen:
    """A write that was not done before."""


UNSEEN = Unseen()


class SessionTable:
    """See the module's text. For each command: `recall`, then `remember` if it was unseen."""

    def __init__(self, *, max_sessions: int = MAX_SESSIONS, max_answers: int = MAX_ANSWERS) -> None:
        self._sessions: dict[int, _Session] = {}
        self._max_sessions = max_sessions
        self._max_answers = max_answers

    def __len__(self) -> int:
        return len(self._sessions)

    def recall(self, origin: Origin) -> Result | Unseen:
        """The answer that this write has had, an error if it is not known any more, or `UNSEEN`."""
        number, sequence, acknowledged = origin
        session = self._sessions.pop(number, None)
        if session is None:
            if acknowledged > 1:
                return SessionExpiredError(
                    f"session {number:x} is not known any more: {self._max_sessions} others wrote since. "
                    f"Whether its write {sequence} was done is not known; read, and begin a new session"
                )
            session = _Session(0)
            if len(self._sessions) >= self._max_sessions:
                del self._sessions[next(iter(self._sessions))]
        self._sessions[number] = session  # at the end: the dictionary is in the order of last use
        if acknowledged - 1 > session.floor:
            self._raise_floor(session, acknowledged - 1)
        if sequence <= session.floor:
            return SessionExpiredError(
                f"write {sequence} of session {number:x} was over before; its answer is not kept any more"
            )
        return session.answers.get(sequence, UNSEEN)

    def remember(self, origin: Origin, result: Result) -> None:
        """Keep the answer of a write that `recall` had not seen."""
        session = self._sessions[origin.session]
        session.answers[origin.sequence] = result
        if len(session.answers) > self._max_answers:
            self._raise_floor(session, min(session.answers))

    def _raise_floor(self, session: _Session, floor: int) -> None:
        over: Iterable[int] = range(session.floor + 1, floor + 1)
        if floor - session.floor > len(session.answers):
            over = [sequence for sequence in session.answers if sequence <= floor]
        for sequence in over:
            session.answers.pop(sequence, None)
        session.floor = floor

    # ------------------------------------------------------------------ snapshots

    def dump(self) -> Iterator[list[Any]]:
        """As parts of a snapshot; copied before this returns."""
        copied = [
            (number, session.floor, dict(session.answers)) for number, session in self._sessions.items()
        ]
        return _parts(copied)

    def load(self, part: Sequence[Any]) -> None:
        """Take in one part that `dump` gave; the parts come in their order."""
        for number, floor, answers in part:
            session = self._sessions[number] = _Session(floor)
            session.answers = {sequence: result_from_list(item) for sequence, item in answers}


def _parts(sessions: list[tuple[int, int, dict[int, Result]]]) -> Iterator[list[Any]]:
    for start in range(0, len(sessions), _SESSIONS_PER_PART):
        yield [
            [number, floor, [[sequence, result_to_list(result)] for sequence, result in answers.items()]]
            for number, floor, answers in sessions[start : start + _SESSIONS_PER_PART]
        ]
