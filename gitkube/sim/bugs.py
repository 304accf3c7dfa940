"""Known mistakes, planted on purpose: what a simulation is worth is what it finds.

Each is a mistake that a real system has shipped, as a patch on the product that only lasts while a life is
simulated. Nothing in the product knows of them. `tests/sim/test_bugs.py` shows that each is found within a
bounded number of seeds.

Invariant: when `planted` ends, the product is as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from gitkube.store.command import Origin
from gitkube.store.leases import Lessor
from gitkube.store.protocol import LeaseId
from gitkube.store.raft import Entry, RaftNode, ReadState
from gitkube.store.raft.log import RaftLog
from gitkube.store.replica import OwnSnapshot, Replica, Turn
from gitkube.store.results import Result
from gitkube.store.sessions import UNSEEN, SessionTable, Unseen

_Patch = tuple[Any, str, Callable[..., Any]]
"""Where, which attribute, and what takes its place."""


def _vote_without_fsync() -> list[_Patch]:
    """A vote leaves before it is on the disk: after a crash the member votes again in the same term."""
    right = Replica.persist

    def persist(self: Replica, turn: Turn) -> None:
        ready = turn.ready
        if ready.hard_state is not None and not ready.entries and ready.snapshot is None:
            self._wal.append((), ready.hard_state)
        else:
            right(self, turn)

    return [(Replica, "persist", persist)]


def _acknowledge_before_fsync() -> list[_Patch]:
    """Entries are called durable when they are written; the sync comes with the next ones (etcd #14370)."""
    right = Replica.persist

    def persist(self: Replica, turn: Turn) -> None:
        ready = turn.ready
        if ready.snapshot is None and ready.entries:
            self._wal.append(ready.entries, ready.hard_state)
        else:
            right(self, turn)

    return [(Replica, "persist", persist)]


def _truncate_always() -> list[_Patch]:
    """Each APPEND cuts off what is behind it, also when nothing conflicts (PySyncObj 0.3.17)."""

    def try_append(self: RaftLog, index: int, term: int, entries: Sequence[Entry]) -> int | None:
        if self.term(index) != term:
            return None
        last_new = index + len(entries)
        if last_new >= self.committed:
            kept = max(index, self.committed)
            self._truncate(kept)
            self.entries += entries[kept - index :]
            self.last_index = last_new
            self._sliced_from = 0
        return last_new

    return [(RaftLog, "try_append", try_append)]


def _trim_before_snapshot() -> list[_Patch]:
    """The log is trimmed before the state that replaces it is durable (PySyncObj)."""
    right = Replica.write_own

    def write_own(self: Replica, own: OwnSnapshot) -> None:
        self._wal.trim(own.meta.index)
        right(self, own)

    return [(Replica, "write_own", write_own)]


def _stale_read() -> list[_Patch]:
    """A leader serves reads without asking whether it still is one."""
    right = RaftNode.read_index

    def read_index(self: RaftNode, context: bytes) -> None:
        state = self._state
        if state.leader == state.id:
            state.read_states.append(ReadState(state.log.committed, context))
        else:
            right(self, context)

    return [(RaftNode, "read_index", read_index)]


def _forget_sessions() -> list[_Patch]:
    """A write that is sent again is done again."""

    def recall(self: SessionTable, origin: Origin) -> Result | Unseen:
        right(self, origin)
        return UNSEEN

    right = SessionTable.recall
    return [(SessionTable, "recall", recall)]


def _expire_early() -> list[_Patch]:
    """A new leader goes on with what is left of a lease, as far as it can guess."""
    right = Lessor.promote

    def promote(self: Lessor, leases: Mapping[LeaseId, int], now_s: float) -> None:
        right(self, {lease: ttl_s // 2 for lease, ttl_s in leases.items()}, now_s)

    return [(Lessor, "promote", promote)]


BUGS: dict[str, Callable[[], list[_Patch]]] = {
    "vote-without-fsync": _vote_without_fsync,
    "acknowledge-before-fsync": _acknowledge_before_fsync,
    "truncate-always": _truncate_always,
    "trim-before-snapshot": _trim_before_snapshot,
    "stale-read": _stale_read,
    "forget-sessions": _forget_sessions,
    "expire-early": _expire_early,
}


@contextmanager
def planted(name: str) -> Iterator[None]:
    """While it lasts, the product has this bug; "" is none.

    Raises:
        KeyError: there is none of this name.
    """
    with ExitStack() as stack:
        for where, attribute, replacement in BUGS[name]() if name else []:
            stack.callback(setattr, where, attribute, getattr(where, attribute))
            setattr(where, attribute, replacement)
        yield
