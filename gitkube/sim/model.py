"""The second opinion: what every command must answer, written as simply as can be.

The key space of the product is built for speed; this one is built to be read. It is fed each committed entry
once, in the order of the log, and says which revision and which result must come of it; it also keeps every
state that ever was, so that a read at any revision can be compared. It knows the commands that the workload
uses, and nothing of snapshots, members or disks.

Invariant: nothing is ever forgotten or changed: `events[r]` and the versions of each key only grow.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from gitkube.store.command import Command, Compact, LeaseGrant, LeaseRevoke, Origin, Txn
from gitkube.store.protocol import (
    NO_LEASE,
    CompactedError,
    Compare,
    Delete,
    DeleteResult,
    Event,
    EventType,
    FutureRevisionError,
    Get,
    KeyValue,
    LeaseExistsError,
    LeaseId,
    LeaseNotFoundError,
    Op,
    Operation,
    OperationResult,
    Put,
    PutResult,
    RangeResult,
    Revision,
    StoreError,
    Target,
    TxnResult,
)

Answer = TxnResult | type[StoreError] | None
"""What must come of a command: a result, the class of the refusal, or None where only its success matters."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one write of a session must have come to."""

    answer: Answer
    revision: Revision
    """The store's revision right after it."""
    has_changed: bool


@dataclass(slots=True)
class Model:
    """See the module's text."""

    revision: Revision = field(default=Revision(1))
    compact_revision: Revision = field(default=Revision(-1))
    """-1: there was no compaction yet."""
    current: dict[bytes, KeyValue] = field(default_factory=dict)
    versions: dict[bytes, list[tuple[Revision, KeyValue | None]]] = field(default_factory=dict)
    events: dict[int, tuple[Event, ...]] = field(default_factory=dict)
    leases: dict[LeaseId, int] = field(default_factory=dict)
    verdicts: dict[tuple[int, int], Verdict] = field(default_factory=dict)
    """By session and sequence: the first application counts, and the only one that may change anything."""

    def apply(self, command: Command, origin: Origin) -> Verdict | None:
        """Take the next committed command; None when it repeats one of its session."""
        name = (origin.session, origin.sequence)
        if origin.session and name in self.verdicts:
            return None
        before = self.revision
        answer = self._answer(command)
        verdict = Verdict(answer, self.revision, self.revision != before)
        if origin.session:
            self.verdicts[name] = verdict
        return verdict

    def _answer(self, command: Command) -> Answer:
        match command:
            case Txn():
                return self._txn(command)
            case LeaseGrant():
                if command.lease in self.leases:
                    return LeaseExistsError
                self.leases[command.lease] = command.ttl_s
                return None
            case LeaseRevoke(lease):
                if lease not in self.leases:
                    return LeaseNotFoundError
                del self.leases[lease]
                keys = sorted(key for key, kv in self.current.items() if kv.lease == lease)
                self._record([self._delete(key, Revision(self.revision + 1)) for key in keys])
                return None
            case Compact(revision):
                if revision > self.revision:
                    return FutureRevisionError
                if revision <= self.compact_revision:
                    return CompactedError
                self.compact_revision = revision
                return None
        raise AssertionError(f"the workload makes no {command!r}")

    def _txn(self, txn: Txn) -> Answer:
        succeeded = all(self._holds(compare) for compare in txn.compare)
        operations = txn.success if succeeded else txn.failure
        for operation in operations:
            lease = operation.lease if isinstance(operation, Put) else NO_LEASE
            if lease != NO_LEASE and lease not in self.leases:
                return LeaseNotFoundError
        revision = Revision(self.revision + 1)
        events: list[Event] = []
        results: list[OperationResult] = []
        for operation in operations:
            results.append(self._operate(operation, revision, events))
        self._record(events)
        return TxnResult(succeeded, self.revision, results)

    def _operate(self, operation: Operation, revision: Revision, events: list[Event]) -> OperationResult:
        match operation:
            case Put(key, value, lease):
                previous = self.current.get(key)
                kv = KeyValue(
                    key,
                    value,
                    previous.create_revision if previous else revision,
                    revision,
                    previous.version + 1 if previous else 1,
                    lease,
                )
                self.current[key] = kv
                events.append(Event(EventType.PUT, kv, previous))
                return PutResult(previous)
            case Delete(key, end):
                keys = _keys_in(self.current, key, end)
                deleted = [self.current[each] for each in keys]
                events.extend(self._delete(each, revision) for each in keys)
                return DeleteResult(deleted)
            case Get():
                return self.read(operation, self.revision)
        raise AssertionError(f"the workload makes no {operation!r}")

    def _delete(self, key: bytes, revision: Revision) -> Event:
        return Event(EventType.DELETE, KeyValue(key, b"", Revision(0), revision, 0), self.current.pop(key))

    def _record(self, events: Sequence[Event]) -> None:
        if not events:
            return
        self.revision = Revision(self.revision + 1)
        self.events[self.revision] = tuple(events)
        for event in events:
            kv = event.kv if event.type is EventType.PUT else None
            self.versions.setdefault(event.kv.key, []).append((self.revision, kv))

    def _holds(self, compare: Compare) -> bool:
        kv = self.current.get(compare.key)
        actual: int | bytes
        match compare.target:
            case Target.VERSION:
                actual = kv.version if kv else 0
            case Target.CREATE:
                actual = kv.create_revision if kv else 0
            case Target.MOD:
                actual = kv.mod_revision if kv else 0
            case Target.LEASE:
                actual = kv.lease if kv else 0
            case Target.VALUE:
                if kv is None:
                    return False
                actual = kv.value
        assert compare.op in (Op.EQUAL, Op.NOT_EQUAL), "the workload asks for nothing else"
        return (actual == compare.value) is (compare.op is Op.EQUAL)

    # ------------------------------------------------------------------ reading

    def read(self, get: Get, revision: Revision) -> RangeResult:
        """What a read must give that was served when the store was at `revision`."""
        at = get.revision or revision
        found: list[KeyValue] = []
        for key in _keys_in(self.versions, get.key, get.end):
            kv: KeyValue | None = None
            for since, version in self.versions[key]:
                if since > at:
                    break
                kv = version
            if kv is not None:
                found.append(kv)
        kvs = [] if get.count_only else found[: get.limit or None]
        if get.keys_only:
            kvs = [kv._replace(value=b"") for kv in kvs]
        return RangeResult(kvs, revision, len(found), more=not get.count_only and len(kvs) < len(found))


def _keys_in(candidates: Iterable[bytes], key: bytes, end: bytes | None) -> list[bytes]:
    if end is None:
        return [key] if key in candidates else []
    return sorted(each for each in candidates if key <= each and (end == b"\x00" or each < end))
