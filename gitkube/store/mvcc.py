"""The key space: what all members agree on, and the commands that change it.

Pure and deterministic: `apply` takes a command of the log and gives its result; no clock, no disk, no chance.
It holds the versions of the keys (versions.py), the leases, the sessions' answers, the alarms, and a running
hash over all that, which members compare. Errors of a command's content are results too: every member must
come to the same ones, and a failed command changes nothing.

The semantics are etcd 3.4's: one revision for a transaction, however many keys it changes; its operations see
what the earlier ones did; `version` starts at 1 at each creation; deleting nothing changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from gitkube.store import dumping
from gitkube.store.checks import check_command, check_key
from gitkube.store.command import (
    NO_ORIGIN,
    Alarm,
    Command,
    Compact,
    LeaseGrant,
    LeaseRevoke,
    Origin,
    Txn,
)
from gitkube.store.hashing import (
    ALARM_LIFTED,
    ALARM_RAISED,
    COMPACTED,
    LEASE_GRANTED,
    LEASE_REVOKED,
    hash_fact,
    hash_of,
    hash_version,
)
from gitkube.store.leases import LeaseTable
from gitkube.store.protocol import (
    NO_LEASE,
    CompactedError,
    CorruptError,
    Delete,
    DeleteResult,
    Event,
    Get,
    KeyNotFoundError,
    LeaseId,
    Operation,
    OperationResult,
    Put,
    PutResult,
    RangeResult,
    Revision,
    StateHash,
    StoreError,
    TxnResult,
)
from gitkube.store.quota import Alarms, cost_bytes, grows, no_space
from gitkube.store.ranges import NO_END
from gitkube.store.reading import ALL, holds, read
from gitkube.store.results import Result
from gitkube.store.sessions import SessionTable, Unseen
from gitkube.store.versions import Versions

__all__ = ["NOW", "NO_END", "KeySpace", "Result"]

NOW = Revision(0)
SWEPT_REVISIONS_PER_COMMAND = 8
"""How much of a compaction's work each later command does: more than it adds, and little beside itself, as
many commands are applied together."""


class KeySpace:
    """See the module's text."""

    def __init__(self) -> None:
        self.versions = Versions()
        self.state_hash = 0
        """Running, over every change: equal on all members that applied the same commands."""
        self._leases = LeaseTable()
        self._sessions = SessionTable()
        self._alarms = Alarms()

    @property
    def revision(self) -> Revision:
        return self.versions.revision

    @property
    def compact_revision(self) -> Revision:
        """The oldest revision that can be read; 0 when nothing was compacted."""
        return Revision(max(0, self.versions.compacted))

    @property
    def live_bytes(self) -> int:
        """What the quota counts, see `Versions.live_bytes`."""
        return self.versions.live_bytes

    @property
    def leases(self) -> dict[LeaseId, int]:
        """The leases in force, each with its length in seconds."""
        return self._leases.ttl_s

    @property
    def alarms(self) -> list[Alarm]:
        """Those that are raised."""
        return self._alarms.raised()

    def __len__(self) -> int:
        """How many keys there are."""
        return len(self.versions)

    # ------------------------------------------------------------------ reading

    def read(self, get: Get) -> RangeResult:
        """As `Store.read`.

        Raises:
            InvalidRequestError: the key is empty.
            CompactedError, FutureRevisionError: `get.revision` cannot be read.
        """
        check_key(get.key)
        if get.revision > 0:
            self.versions.check_readable(get.revision)
        return read(self.versions, get)

    def range(
        self,
        key: bytes,
        end: bytes | None = None,
        *,
        limit: int = 0,
        revision: Revision = NOW,
        keys_only: bool = False,
        count_only: bool = False,
    ) -> RangeResult:
        """As `Store.range`."""
        return self.read(Get(key, end, limit, revision, keys_only, count_only))

    def events_since(self, revision: Revision, limit: int) -> list[tuple[Revision, tuple[Event, ...]]]:
        """The events of at most `limit` revisions, from `revision` on.

        Raises:
            CompactedError: they are no longer known. Those of the compacted revision itself are.
        """
        versions = self.versions
        if revision < versions.compacted:
            raise CompactedError(self.compact_revision)
        start = max(revision, versions.oldest_change)
        return [
            (
                Revision(at),
                tuple(versions.event(each, with_previous=True) for each in versions.changes_of(at)),
            )
            for at in range(start, min(start + limit, self.revision + 1))
        ]

    def keys_of_lease(self, lease: LeaseId) -> list[bytes]:
        """In their order."""
        return self._leases.keys_of(lease)

    def hash_at(self, revision: Revision = NOW) -> StateHash:
        """A hash of all that can be read at a revision. It reads everything: a second per million keys.

        Raises:
            CompactedError, FutureRevisionError: the revision cannot be read.
        """
        self.versions.check_readable(revision or self.revision)
        at = revision or self.revision
        return StateHash(at, self.compact_revision, hash_of(self.versions.state_at(at)))

    # ------------------------------------------------------------------ changing

    def check(self, command: Command) -> None:
        """Refuse what no state could make valid, before it is written to the log.

        Raises:
            InvalidRequestError: see `checks.check_command`.
        """
        check_command(command)

    def would_exceed(self, command: Command, quota_bytes: int) -> bool:
        """Whether a command could grow the key space beyond a quota; 0 is no quota."""
        if quota_bytes <= 0:
            return False
        cost = cost_bytes(command)
        return cost > 0 and self.live_bytes + cost > quota_bytes

    def apply(self, command: Command, origin: Origin = NO_ORIGIN) -> Result:
        """Do a command of the log, once for its origin; a repeated one has the same result again."""
        if not self.versions.is_swept:
            self.sweep(SWEPT_REVISIONS_PER_COMMAND)
        if not origin.session:
            return self._do(command)
        known = self._sessions.recall(origin)
        if not isinstance(known, Unseen):
            return known
        result = self._do(command)
        self._sessions.remember(origin, result)
        return result

    def answer(self, txn: Txn) -> TxnResult:
        """Do a transaction that only reads; it needs no place in the log.

        Raises:
            CompactedError, FutureRevisionError: a revision that it asks for cannot be read.
        """
        assert not any(isinstance(each, Put | Delete) for each in (*txn.success, *txn.failure))
        return self._txn(txn)

    def sweep(self, revisions: int) -> bool:
        """Do some of what a compaction left to do; True: there is more. Nobody can see the difference."""
        self.versions.sweep(revisions)
        return not self.versions.is_swept

    def _do(self, command: Command) -> Result:
        try:
            if self._alarms.is_out_of_space and grows(command):
                raise no_space()
            match command:
                case Txn():
                    return self._txn(command)
                case LeaseGrant(lease, ttl_s):
                    self._leases.grant(lease, ttl_s)
                    self._note(LEASE_GRANTED, lease, ttl_s)
                case LeaseRevoke(lease):
                    self._revoke(lease)
                case Compact(revision):
                    self.versions.compact(revision)
                    self._note(COMPACTED, revision, 0)
                case Alarm(kind, member, is_raised):
                    if self._alarms.apply(command):
                        self._note(ALARM_RAISED if is_raised else ALARM_LIFTED, kind.value, member)
            return None
        except StoreError as error:
            # Raised by a check, all of which come before the first change.
            return error.with_traceback(None)

    def _txn(self, txn: Txn) -> TxnResult:
        versions = self.versions
        succeeded = True
        for compare in txn.compare:
            if not holds(versions, compare):
                succeeded = False
                break
        operations = txn.success if succeeded else txn.failure
        self._check_against_state(operations)
        results: list[OperationResult] = []
        for operation in operations:
            if isinstance(operation, Put):
                results.append(self._put(operation))
            elif isinstance(operation, Delete):
                results.append(self._delete(operation))
            else:
                results.append(read(versions, operation))
        self._commit()
        return TxnResult(succeeded, versions.revision, results)

    def _check_against_state(self, operations: Sequence[Operation]) -> None:
        # In etcd's order: all puts first, then all reads.
        for operation in operations:
            if isinstance(operation, Put):
                if (operation.ignore_value or operation.ignore_lease) and not self.versions.get(
                    operation.key
                ):
                    raise KeyNotFoundError(
                        f"key {operation.key!r} is not there, so it has no value or lease that could be kept"
                    )
                if operation.lease:
                    self._leases.check(operation.lease)
        for operation in operations:
            if isinstance(operation, Get) and operation.revision:
                self.versions.check_readable(operation.revision)

    def _put(self, put: Put) -> PutResult:
        key, value, lease = put.key, put.value, put.lease
        if put.ignore_value or put.ignore_lease:
            # A deletion without an end may have come before it in the same transaction.
            now = self.versions.get(key)
            if now is not None:
                value = now.value if put.ignore_value else value
                lease = now.lease if put.ignore_lease else lease
        previous = self.versions.put(key, value, lease)
        before = previous.lease if previous is not None else NO_LEASE
        if lease != before:
            if before:
                self._leases.detach(before, key)
            if lease:
                self._leases.attach(lease, key)
        return PutResult(previous)

    def _delete(self, delete: Delete) -> DeleteResult:
        _, deleted = self.versions.find(delete.key, delete.end, self.versions.latest, ALL)
        self.versions.delete(deleted)
        for kv in deleted:
            if kv.lease:
                self._leases.detach(kv.lease, kv.key)
        return DeleteResult(deleted)

    def _revoke(self, lease: LeaseId) -> None:
        self._leases.check(lease)
        for key in self._leases.keys_of(lease):
            kv = self.versions.get(key)
            assert kv is not None, "a key that hangs on a lease exists"
            self.versions.delete([kv])
        self._leases.remove(lease)
        self._commit()
        self._note(LEASE_REVOKED, lease, 0)

    def _commit(self) -> None:
        for version in self.versions.commit():
            self.state_hash = hash_version(self.state_hash, version)

    def _note(self, kind: int, number: int, detail: int) -> None:
        self.state_hash = hash_fact(self.state_hash, kind, number, detail)

    # ------------------------------------------------------------------ snapshots

    def dump(self) -> Iterator[list[Any]]:
        """The whole state as plain lists, for a snapshot; see dumping.py.

        It is copied before this returns, so that another thread may take its time over encoding it.
        """
        head: list[list[Any]] = [
            ["space", dumping.FORMAT, self.revision, self.versions.compacted],
            ["hash", self.state_hash],
            ["leases", [[lease, ttl_s] for lease, ttl_s in self.leases.items()]],
            ["alarms", self._alarms.dump()],
        ]
        sessions = (["sessions", part] for part in self._sessions.dump())
        return chain(head, sessions, dumping.dump_versions(self.versions.copy()))

    @classmethod
    def load(cls, parts: Iterator[list[Any]]) -> KeySpace:
        """The state that `dump` gave.

        Raises:
            CorruptError: parts are missing or not understood.
        """
        space = cls()
        versions = space.versions
        revision = 0
        is_base_complete = False
        for part in parts:
            match part:
                case ["space", format_number, revision, compacted]:
                    if format_number != dumping.FORMAT:
                        raise CorruptError(
                            f"a snapshot of format {format_number}; this version knows {dumping.FORMAT}"
                        )
                    versions.load_start(revision, compacted)
                case ["hash", state_hash]:
                    space.state_hash = state_hash
                case ["leases", leases]:
                    for lease, ttl_s in leases:
                        space._leases.grant(LeaseId(lease), ttl_s)
                case ["alarms", alarms]:
                    space._alarms.load(alarms)
                case ["sessions", sessions]:
                    space._sessions.load(sessions)
                case _:
                    if part[0] == "changes" and not is_base_complete:
                        versions.load_keys()
                        is_base_complete = True
                    dumping.load_versions(part, versions)
        if not is_base_complete:
            versions.load_keys()
        if versions.revision != revision:
            raise CorruptError(f"the snapshot ends at revision {versions.revision} instead of {revision}")
        for lease, key in versions.leased():
            space._leases.attach(lease, key)
        return space

    def move_on(self, revisions: int) -> None:
        """For a restore, see `Versions.move_on`. The sessions go, as their clients' cluster is gone."""
        self.versions.move_on(revisions)
        self._sessions = SessionTable()
        self._note(COMPACTED, self.versions.compacted, 0)
