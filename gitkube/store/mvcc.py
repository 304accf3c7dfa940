"""The key space in memory: every version of every key since the last compaction.

Pure and deterministic: `apply` takes a command and gives its result; no clock, no disk. Three structures,
and what binds them:

- `_current`: key -> its newest value, for keys that exist. Reads of "now" need nothing else.
- `_history`: key -> its versions, oldest first, a deletion being a version without a value. Holds what is
  needed to read any revision >= `compact_revision`.
- `_log`: the events of each revision after `compact_revision`, one entry a revision without gaps
  (`_log[r - _log_base]`). A watch is a cursor on it, so a slow watcher costs nothing and loses nothing,
  until compaction overtakes it and it is told so.

The semantics are etcd's: one revision for a transaction, however many keys it changes; `version` starts at 1
at each creation; a deletion of nothing changes nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from sortedcontainers import SortedDict

from gitkube.store.command import (
    Command,
    Compact,
    LeaseGrant,
    LeaseRevoke,
    Txn,
    kv_from_list,
    kv_to_list,
)
from gitkube.store.protocol import (
    MAX_KEY_BYTES,
    MAX_TXN_OPERATIONS,
    MAX_VALUE_BYTES,
    NO_LEASE,
    CompactedError,
    Compare,
    Delete,
    DeleteResult,
    Event,
    EventType,
    FutureRevisionError,
    Get,
    InvalidRequestError,
    KeyValue,
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

NO_END = b"\x00"
"""As `end` of a range: no upper bound."""
NOW = Revision(0)

Result = TxnResult | StoreError | None


class KeySpace:
    """See the module's text."""

    def __init__(self) -> None:
        self.revision = Revision(1)  # etcd's empty store is at 1
        self.compact_revision = Revision(0)
        self._current: SortedDict[bytes, KeyValue] = SortedDict()
        self._history: SortedDict[bytes, list[tuple[Revision, KeyValue | None]]] = SortedDict()
        self._log: deque[tuple[Event, ...]] = deque()
        self._log_base = Revision(2)
        self.leases: dict[LeaseId, int] = {}
        self._lease_keys: dict[LeaseId, set[bytes]] = {}

    # ------------------------------------------------------------------ reading

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
        if revision > self.revision:
            raise FutureRevisionError(
                f"revision {revision} is in the future; the store is at {self.revision}"
            )
        if 0 < revision < self.compact_revision:
            raise CompactedError(self.compact_revision)
        if revision in (0, self.revision):
            return self._range_now(key, end, limit, keys_only, count_only)
        found = list(self._values_at(key, end, revision))
        count = len(found)
        chosen = [] if count_only else found[: limit or None]
        if keys_only:
            chosen = [_without_value(kv) for kv in chosen]
        return RangeResult(chosen, self.revision, count, more=not count_only and len(chosen) < count)

    def _range_now(
        self, key: bytes, end: bytes | None, limit: int, keys_only: bool, count_only: bool
    ) -> RangeResult:
        chosen: list[KeyValue]
        if end is None:
            kv = self._current.get(key)
            count = 0 if kv is None else 1
            chosen = [] if kv is None or count_only else [kv]
        else:
            first = self._current.bisect_left(key)
            last = len(self._current) if end == NO_END else self._current.bisect_left(end)
            count = max(0, last - first)
            stop = min(last, first + limit) if limit else last
            if count_only or count == 0:
                chosen = []
            else:
                chosen = [self._current[each] for each in self._current.islice(first, stop)]
        if keys_only:
            chosen = [_without_value(kv) for kv in chosen]
        return RangeResult(chosen, self.revision, count, more=not count_only and len(chosen) < count)

    def _values_at(self, key: bytes, end: bytes | None, revision: Revision) -> Iterator[KeyValue]:
        keys: Sequence[bytes]
        if end is None:
            keys = [key] if key in self._history else []
        else:
            keys = list(self._history.irange(key, None if end == NO_END else end, inclusive=(True, False)))
        for each in keys:
            value: KeyValue | None = None
            for at, version in self._history[each]:
                if at > revision:
                    break
                value = version
            if value is not None:
                yield value

    def events_since(self, revision: Revision, limit: int) -> list[tuple[Revision, tuple[Event, ...]]]:
        """The events of at most `limit` revisions, from `revision` on.

        Raises:
            CompactedError: they are no longer known.
        """
        if revision <= self.compact_revision:
            raise CompactedError(self.compact_revision)
        start = revision - self._log_base
        return [
            (Revision(revision + offset), events)
            for offset, events in enumerate(islice(self._log, start, start + limit))
        ]

    def keys_of_lease(self, lease: LeaseId) -> list[bytes]:
        return sorted(self._lease_keys.get(lease, ()))

    def __len__(self) -> int:
        return len(self._current)

    # ------------------------------------------------------------------ changing

    def check(self, command: Command) -> None:
        """Refuse what no state could make valid, before it is written to the log.

        Raises:
            InvalidRequestError: a limit of the protocol is passed, or a key is changed twice.
        """
        if not isinstance(command, Txn):
            return
        for operations in (command.success, command.failure):
            if len(operations) > MAX_TXN_OPERATIONS:
                raise InvalidRequestError(
                    f"{len(operations)} operations in one transaction; the limit is {MAX_TXN_OPERATIONS}"
                )
            _check_operations(operations)

    def apply(self, command: Command) -> Result:
        """Do a command of the log. Errors of its content are results too: every member must agree on them."""
        match command:
            case Txn():
                return self._txn(command)
            case LeaseGrant(lease, ttl_s):
                self.leases[lease] = ttl_s
                self._lease_keys.setdefault(lease, set())
                return None
            case LeaseRevoke(lease):
                if lease not in self.leases:
                    return LeaseNotFoundError(f"lease {lease:x} does not exist or has expired")
                keys = self.keys_of_lease(lease)
                self._commit([(key, None, NO_LEASE) for key in keys])
                del self.leases[lease]
                del self._lease_keys[lease]
                return None
            case Compact(revision):
                return self._compact(revision)

    def _txn(self, txn: Txn) -> TxnResult | StoreError:
        succeeded = all(self._holds(compare) for compare in txn.compare)
        operations = txn.success if succeeded else txn.failure
        for operation in operations:
            if (
                isinstance(operation, Put)
                and operation.lease != NO_LEASE
                and operation.lease not in self.leases
            ):
                return LeaseNotFoundError(f"lease {operation.lease:x} does not exist or has expired")
        changes: list[tuple[bytes, bytes | None, LeaseId]] = []
        results: list[OperationResult] = []
        for operation in operations:
            match operation:
                case Put(key, value, lease):
                    results.append(PutResult(self._current.get(key)))
                    changes.append((key, value, lease))
                case Delete(key, end):
                    deleted = self._range_now(key, end, 0, False, False).kvs
                    results.append(DeleteResult(deleted))
                    changes.extend((kv.key, None, NO_LEASE) for kv in deleted)
                case Get(key, end, limit):
                    results.append(self._range_now(key, end, limit, False, False))
        self._commit(changes)
        return TxnResult(succeeded, self.revision, results)

    def _holds(self, compare: Compare) -> bool:
        kv = self._current.get(compare.key)
        actual: Any
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
                    return False  # as etcd: a key that is not there has no value to compare with
                actual = kv.value
        match compare.op:
            case Op.EQUAL:
                return bool(actual == compare.value)
            case Op.NOT_EQUAL:
                return bool(actual != compare.value)
            case Op.GREATER:
                return bool(actual > compare.value)
            case Op.LESS:
                return bool(actual < compare.value)

    def _commit(self, changes: Sequence[tuple[bytes, bytes | None, LeaseId]]) -> None:
        if not changes:
            return
        self.revision = Revision(self.revision + 1)
        events: list[Event] = []
        for key, value, lease in changes:
            previous = self._current.get(key)
            if previous is not None and previous.lease != NO_LEASE:
                self._lease_keys[previous.lease].discard(key)
            history = self._history.setdefault(key, [])
            if value is None:
                del self._current[key]
                tombstone = KeyValue(key, b"", Revision(0), self.revision, 0)
                history.append((self.revision, None))
                events.append(Event(EventType.DELETE, tombstone, previous))
                continue
            created = previous.create_revision if previous else self.revision
            version = previous.version + 1 if previous else 1
            kv = KeyValue(key, value, created, self.revision, version, lease)
            self._current[key] = kv
            history.append((self.revision, kv))
            if lease != NO_LEASE:
                self._lease_keys[lease].add(key)
            events.append(Event(EventType.PUT, kv, previous))
        self._log.append(tuple(events))

    def _compact(self, revision: Revision) -> StoreError | None:
        if revision > self.revision:
            return FutureRevisionError(f"cannot compact at {revision}; the store is at {self.revision}")
        if revision <= self.compact_revision:
            return CompactedError(self.compact_revision)
        touched: set[bytes] = set()
        while self._log and self._log_base <= revision:
            touched.update(event.kv.key for event in self._log.popleft())
            self._log_base = Revision(self._log_base + 1)
        for key in touched:
            history = self._history.get(key)
            if history is None:
                continue
            kept = 0  # the newest version at or before `revision` is still readable at `revision`
            for index, (at, _) in enumerate(history):
                if at <= revision:
                    kept = index
            del history[:kept]
            if history[0][1] is None and history[0][0] <= revision:
                del history[0]
            if not history:
                del self._history[key]
        self.compact_revision = revision
        return None

    # ------------------------------------------------------------------ snapshots

    def dump(self) -> Iterator[list[Any]]:
        """The whole state as plain lists, for a snapshot.

        It is copied before this returns, so that another thread may take its time over encoding it.
        """
        head: list[list[Any]] = [
            ["revision", self.revision, self.compact_revision, self._log_base],
            ["leases", list(self.leases.items())],
        ]
        histories = [(key, tuple(history)) for key, history in self._history.items()]
        log = tuple(self._log)
        return _dump_parts(head, histories, log)

    @classmethod
    def load(cls, parts: Iterator[list[Any]]) -> KeySpace:
        """The state that `dump` gave."""
        space = cls()
        versions_at: dict[tuple[bytes, int], KeyValue] = {}
        for part in parts:
            match part:
                case ["revision", revision, compact_revision, log_base]:
                    space.revision = Revision(revision)
                    space.compact_revision = Revision(compact_revision)
                    space._log_base = Revision(log_base)
                case ["leases", leases]:
                    space.leases = {LeaseId(lease): ttl_s for lease, ttl_s in leases}
                    space._lease_keys = {lease: set() for lease in space.leases}
                case ["key", key, versions]:
                    history = [
                        (Revision(at), None if item is None else kv_from_list(item)) for at, item in versions
                    ]
                    space._history[key] = history
                    versions_at.update({(key, at): kv for at, kv in history if kv is not None})
                    newest = history[-1][1]
                    if newest is not None:
                        space._current[key] = newest
                        if newest.lease != NO_LEASE:
                            space._lease_keys[newest.lease].add(key)
                case ["log", events]:
                    space._log.append(tuple(_load_event(event, versions_at) for event in events))
        return space


def _dump_parts(
    head: list[list[Any]],
    histories: Sequence[tuple[bytes, Sequence[tuple[Revision, KeyValue | None]]]],
    log: Sequence[tuple[Event, ...]],
) -> Iterator[list[Any]]:
    yield from head
    for key, history in histories:
        yield ["key", key, [[at, None if kv is None else kv_to_list(kv)] for at, kv in history]]
    for events in log:
        yield ["log", [_dump_event(event) for event in events]]


def _dump_event(event: Event) -> list[Any]:
    previous_revision = 0 if event.previous is None else event.previous.mod_revision
    return [event.type is EventType.PUT, event.kv.key, event.kv.mod_revision, previous_revision]


def _load_event(item: Sequence[Any], versions_at: dict[tuple[bytes, int], KeyValue]) -> Event:
    is_put, key, mod_revision, previous_revision = item
    # A previous version older than the compaction is no longer known, as in etcd.
    previous = versions_at.get((key, previous_revision))
    if is_put:
        return Event(EventType.PUT, versions_at[(key, mod_revision)], previous)
    tombstone = KeyValue(key, b"", Revision(0), Revision(mod_revision), 0)
    return Event(EventType.DELETE, tombstone, previous)


def _without_value(kv: KeyValue) -> KeyValue:
    return KeyValue(kv.key, b"", kv.create_revision, kv.mod_revision, kv.version, kv.lease)


def _check_operations(operations: Sequence[Operation]) -> None:
    put: set[bytes] = set()
    deletes: list[Delete] = []
    for operation in operations:
        if not operation.key:
            raise InvalidRequestError("a key may not be empty")
        if len(operation.key) > MAX_KEY_BYTES:
            raise InvalidRequestError(f"a key of {len(operation.key)} bytes; the limit is {MAX_KEY_BYTES}")
        if isinstance(operation, Put):
            if len(operation.value) > MAX_VALUE_BYTES:
                raise InvalidRequestError(
                    f"a value of {len(operation.value)} bytes; the limit is {MAX_VALUE_BYTES}"
                )
            if operation.key in put:
                raise InvalidRequestError(f"key {operation.key!r} is put twice in one transaction")
            put.add(operation.key)
        elif isinstance(operation, Delete):
            deletes.append(operation)
    for index, delete in enumerate(deletes):
        if any(_covers(delete, key) for key in put):
            raise InvalidRequestError(f"range at {delete.key!r} is deleted and put in one transaction")
        if any(_overlap(delete, other) for other in deletes[:index]):
            raise InvalidRequestError(f"range at {delete.key!r} is deleted twice in one transaction")


def _covers(delete: Delete, key: bytes) -> bool:
    if delete.end is None:
        return delete.key == key
    return delete.key <= key and (delete.end == NO_END or key < delete.end)


def _overlap(one: Delete, other: Delete) -> bool:
    return _covers(one, other.key) or _covers(other, one.key)
