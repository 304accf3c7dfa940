"""The contract of the store: etcd's key space, as far as gitkube uses it.

Every implementation (the embedded log, a member in a process of its own, an external etcd) keeps it, and
one suite of tests runs on all of them. What it promises:

- one revision counter; each transaction that changes something takes the next revision;
- an answer to a write means that the write is on the disks of a quorum;
- a watch from any uncompacted revision gives every later change once, in order, none left out.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, NewType, Protocol

Revision = NewType("Revision", int)
LeaseId = NewType("LeaseId", int)

NO_LEASE = LeaseId(0)
MAX_KEY_BYTES = 4 * 1024
MAX_VALUE_BYTES = 3 * 1024 * 1024 // 2
"""As etcd's default request limit: what is larger does not belong into a replicated log."""
MAX_TXN_OPERATIONS = 128


class StoreError(Exception):
    """Base of what a store refuses or fails at."""


class CompactedError(StoreError):
    """The revision asked for has been compacted; `compact_revision` is the oldest that can be read."""

    def __init__(self, compact_revision: Revision) -> None:
        super().__init__(f"revision was compacted; the oldest readable one is {compact_revision}")
        self.compact_revision = compact_revision


class FutureRevisionError(StoreError):
    """The revision asked for does not exist yet."""


class LeaseNotFoundError(StoreError):
    """The lease has expired, was revoked or never was."""


class LeaseExistsError(StoreError):
    """A lease was asked for by an id that is taken."""


class InvalidRequestError(StoreError):
    """Key or value too large, too many operations, the same key put twice in one transaction."""


class DuplicateKeyError(InvalidRequestError):
    """One branch of a transaction puts a key twice, or puts a key that it also deletes."""


class KeyNotFoundError(InvalidRequestError):
    """A Put that keeps the value or the lease of a key which is not there."""


class NoSpaceError(StoreError):
    """The key space has reached its quota: reads and deletions go on, what would grow it is refused.

    Remedy: delete, compact, then disarm the alarm; or raise the quota.
    """


class CorruptError(StoreError):
    """Data on disk fails its checksum in a place that a crash cannot explain. Names file and offset."""


class UnavailableError(StoreError):
    """No quorum, or the member is restarting. Nothing is known about a write that was under way."""


class SessionExpiredError(UnavailableError):
    """The write's session was forgotten, or its answer was: whether it was done is not known.

    Remedy: read what is there, then go on with a new session. The same write sent again fails again.
    """


class MembershipError(StoreError):
    """A change of the members that would cost the cluster its quorum, or names one that is not there."""


class IdentityError(StoreError):
    """Another cluster's member or data directory, or one that was removed from this cluster."""


class RemovedError(IdentityError):
    """This member was removed from its cluster, and is told so by those who are left."""


class KeyValue(NamedTuple):
    """One version of a key. A tuple, as hundreds of thousands of them are made and kept."""

    key: bytes
    value: bytes
    create_revision: Revision
    mod_revision: Revision
    version: int
    """How often the key was put since it was created; 1 is the creation."""
    lease: LeaseId = NO_LEASE


class RangeResult(NamedTuple):
    kvs: Sequence[KeyValue]
    revision: Revision
    """The store's revision when it was read (not that of the snapshot asked for)."""
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody needs on a result
    """How many keys the range has, whatever the limit."""
    more: bool = False


class Target(enum.Enum):
    """What of a key a comparison looks at. A key that does not exist has 0, and b"" as its value."""

    VERSION = "version"
    CREATE = "create"
    MOD = "mod"
    VALUE = "value"
    LEASE = "lease"


class Op(enum.Enum):
    EQUAL = "="
    NOT_EQUAL = "!="
    GREATER = ">"
    LESS = "<"


class Compare(NamedTuple):
    key: bytes
    target: Target
    op: Op
    value: int | bytes
    end: bytes | None = None
    """With it the comparison must hold for each key of the range; one without keys is like a missing key."""


class Put(NamedTuple):
    key: bytes
    value: bytes
    lease: LeaseId = NO_LEASE
    ignore_value: bool = False
    """Keep the value that is there; the key must exist."""
    ignore_lease: bool = False
    """Keep the lease that it has; the key must exist."""


class Delete(NamedTuple):
    key: bytes
    end: bytes | None = None


class SortBy(enum.Enum):
    KEY = "key"
    VERSION = "version"
    CREATE = "create"
    MOD = "mod"
    VALUE = "value"


class Get(NamedTuple):
    """A read of a range; `Store.range` with the same words takes the commonest of them."""

    key: bytes
    end: bytes | None = None
    limit: int = 0
    revision: Revision = Revision(0)
    keys_only: bool = False
    count_only: bool = False
    sort_by: SortBy = SortBy.KEY
    descending: bool = False
    min_mod_revision: int = 0
    """These four leave out keys outside of the bounds; 0 is no bound."""
    max_mod_revision: int = 0
    min_create_revision: int = 0
    max_create_revision: int = 0


Operation = Put | Delete | Get


class PutResult(NamedTuple):
    previous: KeyValue | None
    """What was there before; None also where nobody asked for it."""


class DeleteResult(NamedTuple):
    deleted: Sequence[KeyValue]
    """What was there before, in the order of the keys."""


OperationResult = PutResult | DeleteResult | RangeResult


class TxnResult(NamedTuple):
    succeeded: bool
    """Whether all comparisons held, so that `success` was run and not `failure`."""
    revision: Revision
    """Of the transaction, or the store's revision when nothing was changed."""
    results: Sequence[OperationResult]

    def without_previous(self) -> TxnResult:
        """For those who did not ask what was there before their puts: it is most of an answer's bytes."""
        results = [_PUT if isinstance(each, PutResult) else each for each in self.results]
        return TxnResult(self.succeeded, self.revision, results)


_PUT = PutResult(None)


class EventType(enum.Enum):
    PUT = "PUT"
    DELETE = "DELETE"


@dataclass(frozen=True, slots=True)
class Event:
    type: EventType
    kv: KeyValue
    """For a DELETE only key and mod_revision mean something."""
    previous: KeyValue | None = None


@dataclass(frozen=True, slots=True)
class WatchBatch:
    """All events of one or more whole revisions, or none: then it says that all up to `revision` was seen."""

    revision: Revision
    events: Sequence[Event] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True)
class Lease:
    id: LeaseId
    granted_ttl_s: int
    remaining_ttl_s: float
    keys: Sequence[bytes] = ()


@dataclass(frozen=True, slots=True)
class StoreStatus:
    member: str
    is_leader: bool
    term: int
    revision: Revision
    compact_revision: Revision
    keys: int
    size_bytes: int
    """Of the log and snapshots on disk."""
    cluster_id: int = 0
    member_id: int = 0
    leader_id: int = 0
    """0: none is known."""
    last_index: int = 0
    applied_index: int = 0
    live_bytes: int = 0
    """Of the versions that are kept, with what each costs beside its bytes; the quota counts them."""
    quota_bytes: int = 0
    is_learner: bool = False
    alarms: Sequence[str] = ()
    """Such as "NOSPACE" or "CORRUPT"."""


@dataclass(frozen=True, slots=True)
class MemberInfo:
    """One member of the cluster, as the cluster itself has it recorded."""

    id: int
    name: str
    peer_address: str
    """HOST:PORT where the other members reach it; "" for a member that is alone."""
    client_urls: Sequence[str] = ()
    """Where its API is reached, for those who look for another one."""
    is_learner: bool = False


@dataclass(frozen=True, slots=True)
class StateHash:
    """Of all that can be read at a revision: equal on all members, or one of them has diverged."""

    revision: Revision
    compact_revision: Revision
    hash: int


class Store(Protocol):
    """See the module's text. All methods may raise `UnavailableError`."""

    async def range(
        self,
        key: bytes,
        end: bytes | None = None,
        *,
        limit: int = 0,
        revision: Revision = Revision(0),
        keys_only: bool = False,
        count_only: bool = False,
        serializable: bool = False,
    ) -> RangeResult:
        """Keys from `key` up to but without `end`, in order; `end` None is the single key.

        Args:
            limit: at most so many; 0 is all.
            revision: read the key space as of it; 0 is now.
            serializable: answer at once from this member, which may be behind; else it is linearizable: what
                was acknowledged before the call is seen.

        Raises:
            CompactedError, FutureRevisionError: `revision` cannot be read.
        """
        ...

    async def txn(
        self,
        compare: Sequence[Compare],
        success: Sequence[Operation],
        failure: Sequence[Operation] = (),
        *,
        previous: bool = False,
    ) -> TxnResult:
        """If every comparison holds do `success`, else `failure`, as one step at one revision.

        Args:
            previous: with the result of each Put what was there before.

        Raises:
            InvalidRequestError: a limit above is passed, or a key is changed twice.
            LeaseNotFoundError: a Put names a lease that is not there.
        """
        ...

    def watch(
        self,
        key: bytes,
        end: bytes | None = None,
        *,
        start_revision: Revision = Revision(0),
        previous: bool = False,
        without: frozenset[EventType] = frozenset(),
        progress_s: float = 0.0,
    ) -> AsyncIterator[WatchBatch]:
        """Changes of a range from `start_revision` on (0: from the next one), for ever.

        The first batch may be empty: it says from which revision on the watch is in force.

        Args:
            previous: with each event what was there before.
            without: kinds of events to leave out.
            progress_s: when nothing happened for so long, an empty batch says up to which revision all was
                seen; 0 is never.

        Raises (while iterating):
            CompactedError: `start_revision` was compacted, or the watcher is too slow and must read again.
        """
        ...

    async def read(self, get: Get, *, serializable: bool = False) -> RangeResult:
        """`range` with every option."""
        ...

    async def lease_grant(self, ttl_s: int, lease: LeaseId = NO_LEASE) -> Lease:
        """A new lease; its keys are deleted when it has not been kept alive for `ttl_s` seconds.

        Args:
            lease: the id that it shall have; 0 chooses one.

        Raises:
            LeaseExistsError: the id is taken.
        """
        ...

    async def lease_keep_alive(self, lease: LeaseId) -> Lease:
        """Start the lease's time anew.

        Raises:
            LeaseNotFoundError: it has expired.
        """
        ...

    async def lease_revoke(self, lease: LeaseId) -> None:
        """End the lease now, and delete its keys in one transaction."""
        ...

    async def lease_time_to_live(self, lease: LeaseId) -> Lease:
        """What is left of a lease, and its keys.

        Raises:
            LeaseNotFoundError: it has expired.
        """
        ...

    async def leases(self) -> Sequence[LeaseId]:
        """Those that are in force."""
        ...

    async def compact(self, revision: Revision) -> None:
        """Forget what was overwritten or deleted before `revision`."""
        ...

    async def status(self) -> StoreStatus: ...

    async def close(self) -> None: ...


class StoreAdmin(Protocol):
    """What whoever runs the store may do beyond reading and writing. All may raise `UnavailableError`."""

    async def members(self) -> Sequence[MemberInfo]: ...

    async def member_add(
        self, name: str, peer_address: str, *, client_urls: Sequence[str] = (), is_learner: bool = True
    ) -> MemberInfo:
        """Record a new member; it must then be started with the id that it got.

        Raises:
            MembershipError: the cluster would lose its quorum, or name or address is taken.
        """
        ...

    async def member_update(
        self, member: int, *, peer_address: str = "", client_urls: Sequence[str] | None = None
    ) -> MemberInfo:
        """Record a new address of a member, its own or another's."""
        ...

    async def member_promote(self, member: int) -> MemberInfo:
        """Make a learner a voter.

        Raises:
            MembershipError: it is not a learner, or still too far behind.
        """
        ...

    async def member_remove(self, member: int) -> None:
        """Raises:
        MembershipError: without it the others have no quorum.
        """
        ...

    async def transfer_leadership(self, member: int = 0) -> int:
        """Hand over to that member, or to the one that is furthest; the id of the new leader.

        Raises:
            MembershipError: it is no voter.
        """
        ...

    def backup(self) -> AsyncIterator[bytes]:
        """The whole state as one file, in pieces; see `store/backup.py`."""
        ...

    async def hash(self, revision: Revision = Revision(0)) -> StateHash:
        """Of this member's own state."""
        ...

    async def disarm(self) -> None:
        """Lift the alarms; those whose cause is still there come back."""
        ...


EVERYTHING = (b"\x00", b"\x00")
"""`key` and `end` of the range of all keys, by etcd's convention."""


def prefix_end(prefix: bytes) -> bytes:
    """The `end` that makes a range of all keys with a prefix: the next key that does not have it."""
    trimmed = prefix.rstrip(b"\xff")
    if not trimmed:
        return b"\x00"  # etcd's convention: no upper bound
    return trimmed[:-1] + bytes([trimmed[-1] + 1])
