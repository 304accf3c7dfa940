"""The settings of one member of the consensus core. Time is counted in ticks, which the caller makes."""

from __future__ import annotations

from dataclasses import dataclass

from gitkube.store.raft.types import NOBODY, MemberId


@dataclass(frozen=True)
class RaftConfig:
    """How one member behaves. All members of a cluster should agree on the ticks.

    `election_ticks` without a word of a leader make a follower campaign; each wait is drawn from
    [election_ticks, 2 * election_ticks), so that two seldom campaign at once (Raft, section 5.2).
    """

    id: MemberId
    election_ticks: int = 10
    heartbeat_ticks: int = 1
    max_append_bytes: int = 1 << 20
    """Of the entries in one APPEND; a single larger entry still goes."""
    max_inflight: int = 256
    """APPENDs under way to one follower in replicate state."""
    max_uncommitted_bytes: int = 64 << 20
    """Of a leader's entries that are not applied yet; proposals beyond are dropped."""
    max_committed_entries: int = 4096
    """In one `Ready.committed`, so that a long catch-up does not hold up heartbeats."""
    max_waiting_reads: int = 1 << 16
    """Reads that a leader remembers while it can't confirm them; reads beyond are dropped."""
    pre_vote: bool = True
    check_quorum: bool = True

    def __post_init__(self) -> None:
        assert self.id != NOBODY, "a member needs an id"
        assert 0 < self.heartbeat_ticks < self.election_ticks, "heartbeats must come before elections"
        assert self.max_append_bytes > 0 and self.max_inflight > 0 and self.max_committed_entries > 0
