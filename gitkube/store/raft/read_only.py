"""Reads that wait for a leader's proof that it still leads (thesis, section 6.4).

A read may be served at a commit index if the leader, *after* the read came, has heard from a majority: nobody
can have been elected and have committed more before that. One round of heartbeats proves it for all reads
that came before the round went out:

```
 add() ─▶ waiting ─ start_round(index) ─▶ batches ─ answered(member, round) … confirmed(round) ─▶ served
```

A round is a number that rises; an answer to round n also answers all before. Reads that come while a round is
under way wait for the next one, so that there is one round a round trip however many reads come.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from gitkube.store.raft.types import MemberId

_ROUND_BYTES = 8


class Read(NamedTuple):
    """Asked by `member`, who knows it by `context`."""

    member: MemberId
    context: bytes


class _Batch(NamedTuple):
    round: int
    read_at: int
    reads: list[Read]


class ReadOnly:
    """The waiting reads of one leader, for one term of its office."""

    __slots__ = ("_batches", "answered", "round", "waiting")

    def __init__(self) -> None:
        self.waiting: list[Read] = []
        """Not yet in a round."""
        self.round = 0
        """Of the newest batch."""
        self.answered: dict[MemberId, int] = {}
        """The newest round that each member has answered."""
        self._batches: deque[_Batch] = deque()

    def __len__(self) -> int:
        return len(self.waiting) + sum(len(batch.reads) for batch in self._batches)

    @property
    def round_is_open(self) -> bool:
        """Whether some reads wait for answers to a round."""
        return bool(self._batches)

    def start_round(self, index: int) -> None:
        """All waiting reads shall be served at `index`, the commit index now, once the round is confirmed."""
        self.round += 1
        self._batches.append(_Batch(self.round, index, self.waiting))
        self.waiting = []

    def context(self) -> bytes:
        """What the heartbeats of the newest round carry; empty if no read waits for it."""
        return self.round.to_bytes(_ROUND_BYTES, "big") if self._batches else b""

    def note_answer(self, member: MemberId, context: bytes) -> bool:
        """A heartbeat's answer has come back with this context.

        Returns:
            Whether it may confirm a round.
        """
        if len(context) != _ROUND_BYTES:
            return False
        answered = int.from_bytes(context, "big")
        if not self.answered.get(member, 0) < answered <= self.round:
            return False
        self.answered[member] = answered
        return bool(self._batches)

    def confirmed(self, round_number: int) -> list[tuple[int, Read]]:
        """A majority has answered this round: the reads of it and all before, each with its index."""
        served: list[tuple[int, Read]] = []
        while self._batches and self._batches[0].round <= round_number:
            batch = self._batches.popleft()
            served += [(batch.read_at, read) for read in batch.reads]
        return served
