"""Which followers are asked whether this member still leads, so that a read troubles no more than it needs.

The core sends the heartbeats of a read to all followers, and a majority's answers confirm it. Of three
members one follower is enough; the other's work, and ours for its answer, would only take the processors from
the next read. So the heartbeats go to as many as are needed, those first who answered first lately, and the
rest are held back. If the round is not confirmed soon they leave, too: whoever answers then is asked first
the next time. Heartbeats of the interval go to all at once; followers live on them.

To the core this is a network that delays some messages and loses some, which it must stand anyway. Invariant:
a heartbeat that is held back is sent, unless its round is confirmed or a newer one takes its place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gitkube.store.raft.types import ConfState, MemberId, Message, MessageKind

_HEARTBEAT = MessageKind.HEARTBEAT


class Rounds:
    """See the module's text. Of one leader; what others' terms left behind does no harm."""

    def __init__(self) -> None:
        self._quickest: list[MemberId] = []
        """Followers, those who answered first lately before the others."""
        self._held: list[Message] = []
        self._is_interval = False
        self.round = (0, b"")
        """Term and context of the newest round of which something was held back."""
        self._missing = 0
        """How many answers it still needs."""

    @property
    def is_holding(self) -> bool:
        """Whether something is held back."""
        return bool(self._held)

    def interval_begins(self) -> None:
        """The next heartbeats are the interval's."""
        self._is_interval = True

    def to_send(
        self, messages: Sequence[Message], conf: ConfState, is_reachable: Callable[[MemberId], bool]
    ) -> Sequence[Message]:
        """Of a turn's messages, those that shall leave at once."""
        first = next((each for each in messages if each.kind is _HEARTBEAT), None)
        if first is None:
            return messages
        was_interval, self._is_interval = self._is_interval, False
        self._held, self._missing = [], 0
        needed = len(conf.voters) // 2
        if was_interval or not first.context or conf.voters_outgoing or first.sender not in conf.voters:
            return messages
        voters = [each for each in conf.voters if each != first.sender]
        asked = self._first(voters, is_reachable, needed)
        if len(asked) < needed:
            return messages
        self.round, self._missing = (first.term, first.context), needed
        sent: list[Message] = []
        for message in messages:
            is_spared = message.kind is _HEARTBEAT and message.to not in asked
            (self._held if is_spared else sent).append(message)
        return sent

    def _first(
        self, voters: list[MemberId], is_reachable: Callable[[MemberId], bool], needed: int
    ) -> list[MemberId]:
        self._quickest = [each for each in self._quickest if each in voters]
        order = self._quickest + [each for each in voters if each not in self._quickest]
        return [each for each in order if is_reachable(each)][:needed]

    def answered(self, member: MemberId, term: int, context: bytes) -> None:
        """A follower has answered a heartbeat."""
        if not self._missing or (term, context) != self.round:
            return
        self._missing -= 1
        if member in self._quickest:
            self._quickest.remove(member)
        self._quickest.insert(0, member)
        if not self._missing:
            self._held = []

    def late(self) -> Sequence[Message]:
        """The round was not confirmed in time: what was held back of it."""
        held, self._held = self._held, []
        return held
