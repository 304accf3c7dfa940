"""What a leader knows of one other member's log, and how it therefore sends.

```
             an answer that fits                    the next entry is compacted
   PROBE ───────────────────────▶ REPLICATE        any ────────────────▶ SNAPSHOT
     ▲      a rejection, or the      │                                       │
     ├───────── member is unreachable┘     reported done or failed, or an    │
     └──────────────────────────────────── answer at or behind its index ◀───┘
```

In PROBE one APPEND is under way at a time, to find where the logs part. In REPLICATE entries are sent ahead
of the answers, up to a window of APPENDs. In SNAPSHOT nothing is sent until the state has arrived.
Invariant: `match < next`; everything up to `match` is durable there and equals the leader's log.
"""

from __future__ import annotations

import enum
from collections import deque

from gitkube.store.raft.types import Entry


class ProgressState(enum.Enum):
    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


_PROBE, _REPLICATE, _SNAPSHOT = ProgressState.PROBE, ProgressState.REPLICATE, ProgressState.SNAPSHOT


class Progress:
    """One member in its leader's eyes. Only the core changes it."""

    __slots__ = (
        "append_is_owed",
        "awaits_commit",
        "heartbeat_is_open",
        "inflight",
        "is_learner",
        "match",
        "max_inflight",
        "needs_snapshot",
        "next",
        "pending_snapshot",
        "probe_is_out",
        "recent_active",
        "sent_commit",
        "state",
        "was_active",
    )

    def __init__(self, *, next_index: int, max_inflight: int, is_learner: bool = False) -> None:
        self.match = 0
        self.next = next_index
        self.state = _PROBE
        self.is_learner = is_learner
        self.recent_active = False
        """Whether it answered since the quorum was last checked."""
        self.was_active = False
        """Whether it had, when the quorum was last checked."""
        self.append_is_owed = True
        """Whether it must be sent an APPEND even if that is empty, to hear where its log stands."""
        self.probe_is_out = False
        """PROBE: nothing more is sent before an answer, of whatever kind."""
        self.heartbeat_is_open = False
        """Whether the last regular heartbeat is unanswered; its answer is used to notice lost APPENDs."""
        self.inflight: deque[int] = deque()
        """REPLICATE: the last index of each APPEND that is under way, rising."""
        self.max_inflight = max_inflight
        self.pending_snapshot = 0
        """SNAPSHOT: the index of the state that is under way."""
        self.needs_snapshot = False
        """Whether it has told that it knows no configuration, which only a snapshot brings."""
        self.sent_commit = 0
        """The commit index that it will know once all that was sent arrives."""
        self.awaits_commit = 0
        """It must hear of commits up to this index by themselves: somebody there waits for them. Others ride
        with the next entries."""

    @property
    def is_paused(self) -> bool:
        """Whether nothing may be sent now."""
        if self.state is _REPLICATE:
            return len(self.inflight) >= self.max_inflight
        return self.state is _SNAPSHOT or self.probe_is_out

    def wants_commit(self, committed: int) -> bool:
        """Whether it must be told of this commit index though there is nothing else to send."""
        return self.sent_commit < committed and self.sent_commit < self.awaits_commit

    @property
    def is_alive(self) -> bool:
        """Whether it was heard of lately, whenever one asks: in a full interval, or in the one under way."""
        return self.recent_active or self.was_active

    # ------------------------------------------------------------------ states
    def become_probe(self) -> None:
        """Look again for the place where the logs part; behind a snapshot that arrived, if it did."""
        arrived = self.pending_snapshot if self.state is _SNAPSHOT else 0
        self._leave(_PROBE)
        self.next = max(self.match, arrived) + 1
        self.sent_commit = min(self.sent_commit, self.match)
        self.append_is_owed = True

    def become_replicate(self) -> None:
        self._leave(_REPLICATE)
        self.next = self.match + 1

    def become_snapshot(self, index: int) -> None:
        self._leave(_SNAPSHOT)
        self.pending_snapshot = index
        self.needs_snapshot = False

    def snapshot_failed(self) -> None:
        """Nothing arrived: as if it had not been sent."""
        self.pending_snapshot = 0

    def _leave(self, state: ProgressState) -> None:
        self.state = state
        self.probe_is_out = False
        self.append_is_owed = False
        self.pending_snapshot = 0
        self.inflight.clear()

    # ------------------------------------------------------------------ sending
    def sent(self, entries: tuple[Entry, ...], committed: int) -> None:
        """An APPEND with these entries has gone out."""
        self.append_is_owed = False
        if self.state is _PROBE:
            # `next` stays: what a probe carries is sent again if it is not answered.
            self.probe_is_out = True
            self.sent_commit = min(committed, self.next - 1 + len(entries))
            return
        if entries:
            self.next = entries[-1].index + 1
            self.inflight.append(self.next - 1)
        self.sent_commit = min(committed, self.next - 1)

    # ------------------------------------------------------------------ answers
    def accepted(self, index: int) -> bool:
        """It has everything up to `index` on its disk.

        Returns:
            Whether that is news.
        """
        inflight = self.inflight
        while inflight and inflight[0] <= index:
            inflight.popleft()
        self.probe_is_out = False
        if index <= self.match:
            return False
        self.match = index
        self.needs_snapshot = False
        if self.next <= index:
            self.next = index + 1
        return True

    def rejected(self, previous: int, retry_at: int) -> bool:
        """It has no such entry at `previous`; the logs may agree at `retry_at`.

        Returns:
            Whether this is the answer to something that was sent since, and not an old one.
        """
        if self.state is _REPLICATE:
            if previous <= self.match:
                return False
            self.become_probe()
            return True
        if self.state is _SNAPSHOT or self.next - 1 != previous:
            return False
        self.next = max(min(previous, retry_at + 1), self.match + 1)
        self.sent_commit = min(self.sent_commit, self.match)
        self.probe_is_out = False
        self.append_is_owed = True
        return True

    def heard(self) -> None:
        """It answered a heartbeat, so it is there: probe on, and make room in a window of lost APPENDs."""
        self.probe_is_out = False
        if self.state is _REPLICATE and len(self.inflight) >= self.max_inflight:
            self.inflight.popleft()

    def __repr__(self) -> str:
        flags = "".join(
            (
                " learner" if self.is_learner else "",
                " paused" if self.is_paused else "",
                f" pending_snapshot={self.pending_snapshot}" if self.pending_snapshot else "",
                f" inflight={len(self.inflight)}" if self.inflight else "",
            )
        )
        return f"{self.state.value} match={self.match} next={self.next}{flags}"
