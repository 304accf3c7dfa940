"""How a member behaves: sizes, times and limits, each with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gitkube.store.config import DEFAULT_KEEP_HISTORY_S, DEFAULT_KEEP_REVISIONS, DEFAULT_QUOTA_BYTES
from gitkube.store.peer_tls import PeerTls
from gitkube.store.wal import SEGMENT_BYTES


@dataclass(frozen=True, slots=True)
class MemberSettings:
    segment_bytes: int = SEGMENT_BYTES
    snapshot_entries: int = 20_000
    """A snapshot is taken after so many entries: bounds both the disk and the time of a start."""
    keep_entries: int = 5_000
    keep_revisions: int = DEFAULT_KEEP_REVISIONS
    """History is compacted to about this many revisions: how far back a watch may resume ..."""
    keep_history_s: float = DEFAULT_KEEP_HISTORY_S
    """... and to what is younger than this, whichever keeps less."""
    quota_bytes: int = DEFAULT_QUOTA_BYTES
    lock_wait_s: float = 5.0
    """How long to wait for a directory that is in use: after a crash the old member takes a moment to end."""
    tick_s: float = 0.1
    election_ticks: int = 10
    """An election begins after one to two times this without a word of the leader."""
    deadline_s: float = 10.0
    """How long a request waits for a quorum before it is told that there is none."""

    @property
    def retry_s(self) -> float:
        """After so long without a result a write or a read is sent again."""
        return self.tick_s * self.election_ticks * 1.5


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """How a member is reached by others, and reaches them."""

    listen: str
    tls: PeerTls
    advertise: str = ""
    client_urls: tuple[str, ...] = ()
    seeds: Mapping[int, str] = field(default_factory=dict)
    """Where others were when this member was added; until the cluster itself has told it."""
