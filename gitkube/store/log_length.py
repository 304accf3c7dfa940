"""How long a member's log gets: when its state is written so that the log before it can go, and what stays.

The log since the newest snapshot lies in memory and is read at a start; a snapshot costs processor and disk
as much as the state is large. So a small state is written after so many entries, a large one only when the
log has grown with it. Members of one cluster have one log and would all be busy with their snapshots at the
same entry; while one alone is, the others are a quorum. So each waits a little longer than the one before.
"""

from __future__ import annotations

from collections.abc import Sequence

from gitkube.store.raft.types import Entry, MemberId

SMALL_STATE_BYTES = 16 * 1024 * 1024
SMALL_LOG_BYTES = 32 * 1024 * 1024
LOG_SHARE = 0.5
"""A state that is not small is written again only when the log behind it has this share of its bytes, and is
not small either: else a large one would be written again and again for little."""
LARGE_LOG_BYTES = 64 * 1024 * 1024
"""Of few entries with large values, which count like many small ones."""
KEPT_BYTES = 16 * 1024 * 1024
"""At most so much stays behind a snapshot for followers, however many entries may."""
STAGGER = 0.5
"""By this share more the last of all voters lets its log grow than the first."""
FORGOTTEN_PER_TICK = 2000
"""Entries of the log in memory: a millisecond. All behind a snapshot at once would be a pause of ten."""


def is_due(
    entries: int,
    log_bytes: int,
    state_bytes: int,
    *,
    max_entries: int,
    voters: Sequence[MemberId],
    member: MemberId,
) -> bool:
    """Whether the state is to be written.

    Args:
        entries: of the log behind the newest snapshot.
        log_bytes: of their data.
        state_bytes: as the quota counts them.
        max_entries: after so many a small state is written.
        voters, member: of the cluster, and who asks.
    """
    if entries < max_entries and log_bytes < LARGE_LOG_BYTES:
        return False  # nearly always, and for everybody
    share = 1 + STAGGER * place_among(voters, member)
    if entries < max_entries * share and log_bytes < LARGE_LOG_BYTES * share:
        return False
    is_small = state_bytes < SMALL_STATE_BYTES
    return is_small or log_bytes >= max(state_bytes * LOG_SHARE, SMALL_LOG_BYTES) * share


def place_among(voters: Sequence[MemberId], member: MemberId) -> float:
    """From 0 up to 1, another one for each voter; 0 for one that is none."""
    return sorted(voters).index(member) / len(voters) if member in voters else 0.0


def kept(entries: Sequence[Entry], max_entries: int) -> int:
    """How many of a snapshot's last entries stay in memory, for a follower that is a little behind.

    Args:
        entries: up to the snapshot.
    """
    count, size_bytes = 0, 0
    for entry in reversed(entries[max(0, len(entries) - max_entries) :]):
        size_bytes += len(entry.data)
        if size_bytes > KEPT_BYTES:
            break
        count += 1
    return count
