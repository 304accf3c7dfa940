"""Writes on their way through consensus: sent, sent again when nothing is heard, answered or given up.

A proposal can get lost without anybody knowing: a leader dies, a message is dropped, a new leader overwrites
an entry. So every proposal is kept with its origin until its entry is applied *here*, and proposed again
after a while; applying it twice is what sessions prevent. What waits past its deadline is answered with
`UnavailableError`, which says that its outcome is unknown.

Invariant: whoever waits in `_waiting` is told exactly once: the entry's result, the deadline, or `fail`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field

from gitkube.store import command
from gitkube.store.command import Command, Origin
from gitkube.store.mvcc import Result
from gitkube.store.protocol import InvalidRequestError, StoreError, UnavailableError
from gitkube.store.raft import ProposalDropped, RaftNode
from gitkube.store.waiting import Waiter

MAX_WAITING = 8192
"""More writers than this are sent away: a queue without an end only hides that the disk is too slow."""
MAX_COMMAND_BYTES = 32 * 1024 * 1024
"""Of one write. A larger one fits into no frame between members in the end: it would be sent again and again,
and all that follow it would wait."""
MAX_TURN_BYTES = 16 * 1024 * 1024
"""Of proposals that go into the log together, and so into one record and one fsync."""

_Key = tuple[int, int]


@dataclass(slots=True)
class _Proposal:
    data: bytes
    began: float
    deadline: float
    again_at: float
    answers: list[Waiter[Result]] = field(default_factory=list)


class Proposals:
    """See the module's text.

    Args:
        retry_s: after so long without a result a proposal is sent again: longer than a commit takes on a slow
            disk, and about as long as an election.
        why_not: the sentence that says why nothing can be committed now.
    """

    def __init__(self, *, retry_s: float, why_not: Callable[[], str]) -> None:
        self._retry_s = retry_s
        self._why_not = why_not
        self._waiting: dict[_Key, _Proposal] = {}
        self._unsent: dict[_Key, None] = {}
        """In the order in which they came."""
        self._decoded: dict[bytes, tuple[Command, Origin]] = {}
        """What the data of some that wait say."""

    def add(
        self,
        origin: Origin,
        data: bytes,
        answer: Waiter[Result],
        *,
        now: float,
        deadline: float,
        decoded: Command | None = None,
    ) -> None:
        """A write begins now.

        Args:
            answer: is told its result.
            now, deadline: of the monotonic clock, in seconds.
            decoded: the command, if it was decoded from `data` here.

        Raises:
            InvalidRequestError: it is too large.
            UnavailableError: too many wait already.
        """
        if len(data) > MAX_COMMAND_BYTES:
            raise InvalidRequestError(
                f"{len(data)} bytes in one transaction; the limit is {MAX_COMMAND_BYTES}. Divide it."
            )
        key = (origin.session, origin.sequence)
        proposal = self._waiting.get(key)
        if proposal is None:
            if len(self._waiting) >= MAX_WAITING:
                raise UnavailableError(f"{MAX_WAITING} writes are waiting for the log; try again")
            proposal = self._waiting[key] = _Proposal(data, now, deadline, now + self._retry_s)
            if decoded is not None:
                self._decoded[data] = decoded, origin
            self._unsent[key] = None
        proposal.deadline = max(proposal.deadline, deadline)
        proposal.answers.append(answer)

    def flush(self, node: RaftNode) -> None:
        """Hand to the core what has not been sent yet, or stays until there is a leader."""
        while self._unsent:
            datas: list[bytes] = []
            taken: list[_Key] = []
            size_bytes = 0
            for key in self._unsent:
                proposal = self._waiting.get(key)
                if proposal is not None:
                    size_bytes += len(proposal.data)
                    if datas and size_bytes > MAX_TURN_BYTES:
                        break
                    datas.append(proposal.data)
                taken.append(key)
            if datas:
                try:
                    node.propose(datas)
                except ProposalDropped:
                    return
            for key in taken:
                del self._unsent[key]

    def decode(self, data: bytes) -> tuple[Command, Origin]:
        """As `command.decode`, for an entry that is applied now: some of ours were decoded when they came."""
        return self._decoded.pop(data, None) or command.decode(data)

    def send_again(self) -> None:
        """A new leader may not have what the old one was given."""
        self._unsent = dict.fromkeys(self._waiting)

    def applied(self, origin: Origin, result: Result) -> float | None:
        """The entry of a write was applied, perhaps for the second time.

        Returns:
            When the write began, if it is one that waited here.
        """
        proposal = self._waiting.pop((origin.session, origin.sequence), None)
        if proposal is None:
            return None
        for answer in proposal.answers:
            if not answer.done():
                answer.set_result(result)
        return proposal.began

    def sweep(self, now: float) -> int:
        """Give up what is past its deadline, send again what was not heard of; how many were given up."""
        given_up = 0
        for key, proposal in list(self._waiting.items()):
            if proposal.deadline <= now or all(answer.done() for answer in proposal.answers):
                del self._waiting[key]
                self._decoded.pop(proposal.data, None)
                given_up += _refuse(proposal, UnavailableError(self._why_not()))
            elif proposal.again_at <= now:
                proposal.again_at = now + self._retry_s
                self._unsent[key] = None
        return given_up

    def fail(self, error: StoreError) -> None:
        """Nothing will be answered any more."""
        for proposal in self._waiting.values():
            _refuse(proposal, error)
        self._waiting.clear()
        self._unsent.clear()
        self._decoded.clear()

    async def wait_empty(self) -> None:
        """Return when nothing waits any more."""
        while self._waiting:
            told: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
            self._waiting[next(reversed(self._waiting))].answers.append(told)
            with contextlib.suppress(UnavailableError):
                await told
            await asyncio.sleep(0)

    def __len__(self) -> int:
        return len(self._waiting)


def _refuse(proposal: _Proposal, error: StoreError) -> int:
    waiting = [answer for answer in proposal.answers if not answer.done()]
    for answer in waiting:
        answer.set_exception(error)
    return len(waiting)
