"""What a member's disk must still have after a crash, noted from outside.

The member under test notes nothing here: its shell tells each write when it begins and when its sync is
over, and after each start what was found is compared. So a sync that was left out shows at the first crash
that needed it, long before a second one would make it a lost write.

Invariant: `last_index` and `hard_state` were synced; a write under way may have replaced entries from its
first index on, whether its sync was reached or not.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gitkube.store.raft import NOBODY, HardState, RaftNode, Ready


@dataclass(slots=True)
class Durable:
    """See the module's text."""

    last_index: int = 0
    newest_write: int = 0
    """First index of the newest entries written: what looks like a torn tail may take these, and no more."""
    under_way: int = 0
    """First index of entries that were being written when the power went; 0 for none."""
    hard_state: HardState = field(default_factory=HardState)

    def begin_write(self, ready: Ready) -> None:
        if ready.snapshot is not None:
            self.under_way = ready.snapshot.index + 1
        elif ready.entries:
            self.under_way = ready.entries[0].index

    def end_write(self, ready: Ready) -> None:
        """All of it is synced, or need not be."""
        self.under_way = 0
        if ready.snapshot is not None:
            self.last_index = self.newest_write = ready.snapshot.index
        if ready.entries:
            self.newest_write, self.last_index = ready.entries[0].index, ready.entries[-1].index
        if ready.hard_state is not None and ready.must_sync:
            self.hard_state = ready.hard_state

    def is_found_in(self, node: RaftNode) -> bool:
        """Whether a member that has just started has all of it."""
        before = self.hard_state
        has_vote = node.term == before.term and before.vote in (NOBODY, node.vote)
        needed = min(self.last_index, self.under_way - 1) if self.under_way else self.last_index
        return (has_vote or node.term > before.term) and node.last_index >= needed

    def begin_anew(self, node: RaftNode) -> None:
        """The member acts on what it has read at its start, so that must be durable from now on."""
        self.last_index, self.under_way = node.last_index, 0
        self.newest_write = min(self.newest_write, node.last_index + 1)
        self.hard_state = HardState(node.term, node.vote, node.committed)
