"""Leases: which there are and what hangs on them (replicated), and when they run out (the leader's alone).

Time is not part of the replicated state: clocks differ, so a lease's end is a command of the log like any
other. The `LeaseTable` of the key space knows only the leases, their lengths and their keys. The leader
keeps a `Lessor` beside it, counts down, and proposes `LeaseRevoke` for what ran out. A new leader does not
know when the old one last heard of a lease, so it gives each its full length again: a lease may live longer
than its time, never shorter. (etcd: `lease/lessor.go`.)
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping

from gitkube.store.protocol import (
    NO_LEASE,
    InvalidRequestError,
    LeaseExistsError,
    LeaseId,
    LeaseNotFoundError,
    UnavailableError,
)

MAX_TTL_S = 9_000_000_000
"""As etcd's; some 285 years."""
_RETRY_S = 3.0
"""A lease that was reported as expired and is still there is reported again after this (etcd's interval)."""


def min_ttl_s(election_timeout_s: float) -> int:
    """The shortest lease worth granting: 1.5 times the election timeout, in whole seconds (as etcd).

    A shorter one could run out while there is nobody to keep it alive with.
    """
    return max(1, math.ceil(1.5 * election_timeout_s))


class LeaseTable:
    """The leases in force and the keys that hang on each. A key hangs on one lease at most."""

    def __init__(self) -> None:
        self.ttl_s: dict[LeaseId, int] = {}
        self._keys: dict[LeaseId, set[bytes]] = {}

    def grant(self, lease: LeaseId, ttl_s: int) -> None:
        """Raises:
        LeaseExistsError: the id is taken.
        LeaseNotFoundError: the id is 0, which is no lease.
        InvalidRequestError: the time is too long.
        """
        if lease == NO_LEASE:
            raise lease_not_found(lease)
        if ttl_s > MAX_TTL_S:
            raise InvalidRequestError(f"a lease of {ttl_s} s; the limit is {MAX_TTL_S} s")
        if lease in self.ttl_s:
            raise LeaseExistsError(f"lease {lease:x} exists already")
        self.ttl_s[lease] = ttl_s
        self._keys[lease] = set()

    def check(self, lease: LeaseId) -> None:
        """Raises:
        LeaseNotFoundError: there is no such lease.
        """
        if lease not in self.ttl_s:
            raise lease_not_found(lease)

    def keys_of(self, lease: LeaseId) -> list[bytes]:
        """In their order, so that all members delete them in the same one."""
        return sorted(self._keys.get(lease, ()))

    def attach(self, lease: LeaseId, key: bytes) -> None:
        self._keys[lease].add(key)

    def detach(self, lease: LeaseId, key: bytes) -> None:
        self._keys[lease].discard(key)

    def remove(self, lease: LeaseId) -> None:
        """Forget a lease whose keys are deleted."""
        del self.ttl_s[lease]
        del self._keys[lease]


def lease_not_found(lease: LeaseId) -> LeaseNotFoundError:
    return LeaseNotFoundError(f"lease {lease:x} does not exist or has expired")


class Lessor:
    """When leases run out. Only a leader's counts; `now_s` is any clock that never goes back.

    Invariant: while primary, each lease has a deadline, and one entry of the heap that counts: the one at
    `_due`, which is not later than the deadline. An entry that comes up too early is put off then, so keeping
    a lease alive costs a write to a dictionary; an entry that is not at its lease's `_due` is of a lease
    that is gone.
    """

    def __init__(self, min_ttl_s: int) -> None:
        self._min_ttl_s = min_ttl_s
        self._ttl_s: dict[LeaseId, int] = {}
        self._deadlines: dict[LeaseId, float] = {}
        self._due: dict[LeaseId, float] = {}
        self._heap: list[tuple[float, LeaseId]] = []
        self.is_primary = False

    def ttl_for(self, asked_ttl_s: int) -> int:
        """The length to grant, which goes into the `LeaseGrant` that is proposed.

        Raises:
            InvalidRequestError: it is too long.
        """
        if asked_ttl_s > MAX_TTL_S:
            raise InvalidRequestError(f"a lease of {asked_ttl_s} s; the limit is {MAX_TTL_S} s")
        return max(asked_ttl_s, self._min_ttl_s)

    def promote(self, leases: Mapping[LeaseId, int], now_s: float) -> None:
        """Begin to count, as the new leader: every lease has its full length again.

        Args:
            leases: all in force, each with its length in seconds.
        """
        self.is_primary = True
        self._ttl_s = dict(leases)
        self._deadlines = {lease: now_s + ttl_s for lease, ttl_s in leases.items()}
        self._due = dict(self._deadlines)
        self._heap = [(deadline_s, lease) for lease, deadline_s in self._deadlines.items()]
        heapq.heapify(self._heap)

    def demote(self) -> None:
        """Another member leads: count no more."""
        self.is_primary = False
        self._ttl_s.clear()
        self._deadlines.clear()
        self._due.clear()
        self._heap.clear()

    def granted(self, lease: LeaseId, ttl_s: int, now_s: float) -> None:
        """A `LeaseGrant` was applied. A member that doesn't lead need not tell."""
        if self.is_primary:
            self._ttl_s[lease] = ttl_s
            self._deadlines[lease] = now_s + ttl_s
            self._schedule(lease, now_s + ttl_s)

    def revoked(self, lease: LeaseId) -> None:
        """A `LeaseRevoke` was applied."""
        self._ttl_s.pop(lease, None)
        self._deadlines.pop(lease, None)
        self._due.pop(lease, None)

    def keep_alive(self, lease: LeaseId, now_s: float) -> int:
        """Start the lease's time anew; its length in seconds.

        Args:
            now_s: when the keep-alive was asked for, if that was earlier: what was promised since stays.

        Raises:
            LeaseNotFoundError: there is none, or it has run out, even if it is not revoked yet.
            UnavailableError: this member does not lead.
        """
        if self.remaining_s(lease, now_s) <= 0:
            raise lease_not_found(lease)
        ttl_s = self._ttl_s[lease]
        self._deadlines[lease] = max(self._deadlines[lease], now_s + ttl_s)
        return ttl_s

    def remaining_s(self, lease: LeaseId, now_s: float) -> float:
        """What is left of the lease; below 0 when it waits for its end in the log.

        Raises:
            LeaseNotFoundError: there is none.
            UnavailableError: this member does not lead.
        """
        if not self.is_primary:
            raise UnavailableError("this member does not lead the cluster, so it does not count leases down")
        deadline_s = self._deadlines.get(lease)
        if deadline_s is None:
            raise lease_not_found(lease)
        return deadline_s - now_s

    def expired(self, now_s: float, limit: int) -> list[LeaseId]:
        """Leases that have run out, the earliest first: the caller proposes `LeaseRevoke` for each.

        One that is still there some seconds later is given again, as its proposal may have been lost.

        Args:
            limit: at most so many, lest ten thousand of them at once hold up the log.
        """
        found: list[LeaseId] = []
        while self._heap and self._heap[0][0] <= now_s and len(found) < limit:
            at_s, lease = heapq.heappop(self._heap)
            if self._due.get(lease) != at_s:
                continue
            deadline_s = self._deadlines[lease]
            if deadline_s <= now_s:
                found.append(lease)
                self._schedule(lease, now_s + _RETRY_S)
            else:
                self._schedule(lease, deadline_s)
        return found

    def _schedule(self, lease: LeaseId, at_s: float) -> None:
        self._due[lease] = at_s
        heapq.heappush(self._heap, (at_s, lease))

    def next_s(self) -> float | None:
        """When to call `expired` again, at the latest; None without leases."""
        return self._heap[0][0] if self._heap else None

    def __len__(self) -> int:
        return len(self._deadlines)
