"""Linearizable reads, many for the price of one round to a majority (Raft thesis, section 6.4).

A read must see every write that was acknowledged before it began. So it asks the leader, through the core,
how far the log was committed at a moment after its beginning, and waits until that much is applied here. All
reads that come while one such question is under way share the next one.

Invariant: a reader is woken by a question that was asked after it began to wait, never by an older one.
"""

from __future__ import annotations

from collections.abc import Callable

from gitkube.store.protocol import StoreError, UnavailableError
from gitkube.store.raft import ProposalDropped, RaftNode
from gitkube.store.waiting import Waiter

_Reader = tuple[Waiter[None], float]


class Reads:
    """See the module's text.

    Args:
        mark: begins each question's context: no other member, and no earlier life of this one, may have it.
        retry_s: after so long a question counts as lost and is asked again.
        why_not: the sentence that says why nothing can be confirmed now.
    """

    def __init__(self, *, mark: bytes, retry_s: float, why_not: Callable[[], str]) -> None:
        self._mark = mark
        self._retry_s = retry_s
        self._why_not = why_not
        self._number = 0
        self._asked_at: float | None = None
        self._asking: list[_Reader] = []
        """Those whom the question under way serves."""
        self._next: list[_Reader] = []

    def add(self, ready: Waiter[None], deadline: float) -> None:
        """Tell `ready` when the key space has all that was acknowledged before this call.

        Args:
            deadline: of the monotonic clock, in seconds.
        """
        self._next.append((ready, deadline))

    @property
    def has_next(self) -> bool:
        """Whether somebody waits, and no question is under way."""
        return bool(self._next) and self._asked_at is None

    def flush(self, node: RaftNode, now: float) -> None:
        """Ask, if somebody waits and no question is under way."""
        if not self.has_next:
            return
        self._number += 1
        try:
            node.read_index(self._context())
        except ProposalDropped:
            return
        self._asked_at = now
        self._asking, self._next = self._next, []

    def confirmed(self, context: bytes) -> bool:
        """The question's answer is applied; whether others wait to ask the next one."""
        if self._asked_at is None or context != self._context():
            return False  # the answer to a question that was given up
        served, self._asking, self._asked_at = self._asking, [], None
        for ready, _ in served:
            if not ready.done():
                ready.set_result(None)
        return bool(self._next)

    def ask_again(self) -> None:
        """A new leader does not know the question."""
        if self._asked_at is not None:
            self._next = self._asking + self._next
            self._asking, self._asked_at = [], None

    def sweep(self, now: float) -> None:
        """Give up readers past their deadline, and forget a question that got lost."""
        if self._asked_at is not None and now - self._asked_at >= self._retry_s:
            self.ask_again()
        for reader in (*self._asking, *self._next):
            ready, deadline = reader
            if deadline <= now and not ready.done():
                ready.set_exception(UnavailableError(self._why_not()))
        self._next = [reader for reader in self._next if not reader[0].done()]

    def _context(self) -> bytes:
        return self._mark + self._number.to_bytes(8, "big")

    def fail(self, error: StoreError) -> None:
        """Nothing will be confirmed any more."""
        for ready, _ in (*self._asking, *self._next):
            if not ready.done():
                ready.set_exception(error)
        self._asking, self._next, self._asked_at = [], [], None
