"""The key space beside a model that is too simple to be wrong: a copy of all keys at each revision.

Everything is compared on every step: results, errors, reads of any revision, events, the leases' keys. At any
point the state may be dumped and loaded, and a second replica is fed the same commands: it must agree in
everything, its hash included.
"""

from __future__ import annotations

import operator
from typing import Any

import msgpack
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gitkube.store import command
from gitkube.store.command import (
    Alarm,
    AlarmKind,
    Command,
    Compact,
    LeaseGrant,
    LeaseRevoke,
    Origin,
    Txn,
)
from gitkube.store.mvcc import KeySpace
from gitkube.store.protocol import (
    CompactedError,
    Compare,
    Delete,
    DeleteResult,
    Event,
    EventType,
    FutureRevisionError,
    Get,
    InvalidRequestError,
    KeyNotFoundError,
    KeyValue,
    LeaseExistsError,
    LeaseId,
    LeaseNotFoundError,
    NoSpaceError,
    Op,
    Operation,
    Put,
    PutResult,
    RangeResult,
    Revision,
    SessionExpiredError,
    SortBy,
    StoreError,
    Target,
    TxnResult,
)

_OPERATORS = {
    Op.EQUAL: operator.eq,
    Op.NOT_EQUAL: operator.ne,
    Op.GREATER: operator.gt,
    Op.LESS: operator.lt,
}
_FIELDS = {
    "version": "version",
    "create": "create_revision",
    "mod": "mod_revision",
    "value": "value",
    "lease": "lease",
}


class Model:
    """All states there ever were, and plain loops over them."""

    def __init__(self) -> None:
        self.states: dict[int, dict[bytes, KeyValue]] = {1: {}}
        self.events: dict[int, list[Event]] = {}
        self.compacted = -1
        self.leases: dict[int, int] = {}
        self.answers: dict[tuple[int, int], Any] = {}
        self.floors: dict[int, int] = {}
        self.alarms: set[tuple[AlarmKind, int]] = set()

    @property
    def revision(self) -> int:
        return max(self.states)

    def apply(self, wanted: Command, origin: Origin) -> Any:
        if not origin.session:
            return self._try(wanted)
        floor = max(self.floors.get(origin.session, 0), origin.acknowledged - 1)
        if origin.session not in self.floors and origin.acknowledged > 1:
            return SessionExpiredError
        self.floors[origin.session] = floor
        if origin.sequence <= floor:
            return SessionExpiredError
        at = (origin.session, origin.sequence)
        if at not in self.answers:
            self.answers[at] = self._try(wanted)
        return self.answers[at]

    def _try(self, wanted: Command) -> Any:
        try:
            return self._do(wanted)
        except StoreError as error:
            return type(error)

    def _do(self, wanted: Command) -> Any:
        out_of_space = any(kind is AlarmKind.NOSPACE for kind, _ in self.alarms)
        match wanted:
            case Txn(compare, success, failure):
                if out_of_space and any(isinstance(each, Put) for each in (*success, *failure)):
                    raise NoSpaceError
                succeeded = all(self._holds(each) for each in compare)
                return self._run(succeeded, success if succeeded else failure)
            case LeaseGrant(lease, ttl_s):
                if out_of_space:
                    raise NoSpaceError
                if lease in self.leases:
                    raise LeaseExistsError
                self.leases[lease] = ttl_s
            case LeaseRevoke(lease):
                if lease not in self.leases:
                    raise LeaseNotFoundError
                self._run(True, [Delete(key) for key in self.keys_of(lease)])
                del self.leases[lease]
            case Compact(revision):
                if revision <= self.compacted:
                    raise CompactedError(Revision(0))
                if revision > self.revision:
                    raise FutureRevisionError
                self.compacted = revision
            case Alarm(kind, member, True):
                self.alarms.add((kind, member))
            case Alarm(kind, member, False):
                self.alarms = {
                    each for each in self.alarms if each[0] is not kind or member not in (0, each[1])
                }
        return None

    def keys_of(self, lease: int) -> list[bytes]:
        return sorted(kv.key for kv in self.states[self.revision].values() if kv.lease == lease)

    def _holds(self, compare: Compare) -> bool:
        field = _FIELDS[compare.target.value]
        kvs = self.select(compare.key, compare.end, self.states[self.revision])
        if not kvs:
            if compare.target is Target.VALUE:
                return False
            return bool(_OPERATORS[compare.op](0, compare.value))
        return all(_OPERATORS[compare.op](getattr(kv, field), compare.value) for kv in kvs)

    @staticmethod
    def select(key: bytes, end: bytes | None, state: dict[bytes, KeyValue]) -> list[KeyValue]:
        if end is None:
            return [state[key]] if key in state else []
        return [state[each] for each in sorted(state) if key <= each and (end == b"\0" or each < end)]

    def _run(self, succeeded: bool, operations: Any) -> TxnResult:
        at = self.revision + 1
        state = dict(self.states[self.revision])
        events: list[Event] = []
        for each in operations:
            if isinstance(each, Put):
                if (each.ignore_value or each.ignore_lease) and each.key not in state:
                    raise KeyNotFoundError
                if each.lease and each.lease not in self.leases:
                    raise LeaseNotFoundError
        for each in operations:
            if isinstance(each, Get) and each.revision:
                self.check_readable(each.revision)
        results: list[Any] = []
        for each in operations:
            if isinstance(each, Put):
                old = state.get(each.key)
                value = old.value if old and each.ignore_value else each.value
                lease = old.lease if old and each.ignore_lease else each.lease
                created = old.create_revision if old else Revision(at)
                version = old.version + 1 if old else 1
                kv = KeyValue(each.key, value, created, Revision(at), version, lease)
                before = self.states[self.revision].get(each.key) if version > 1 else None
                events.append(Event(EventType.PUT, kv, before))
                state[each.key] = kv
                results.append(PutResult(old))
            elif isinstance(each, Delete):
                gone = self.select(each.key, each.end, state)
                for kv in gone:
                    del state[kv.key]
                    tombstone = KeyValue(kv.key, b"", Revision(0), Revision(at), 0)
                    before = self.states[self.revision].get(kv.key)
                    events.append(Event(EventType.DELETE, tombstone, before))
                results.append(DeleteResult(gone))
            else:
                results.append(self.read(each, state, at if events else at - 1))
        if events:
            self.states[at] = state
            self.events[at] = events
        return TxnResult(succeeded, Revision(self.revision), results)

    def check_readable(self, revision: int) -> None:
        if revision > self.revision:
            raise FutureRevisionError
        if revision < self.compacted:
            raise CompactedError(Revision(0))

    def read(self, get: Get, state: dict[bytes, KeyValue], now: int) -> RangeResult:
        if get.revision > 0 and get.revision != now:
            state = self.states[get.revision]
        kvs = self.select(get.key, get.end, state)
        count = len(kvs)
        if get.count_only:
            return RangeResult([], Revision(now), count)
        kvs = [
            kv
            for kv in kvs
            if kv.mod_revision >= get.min_mod_revision
            and (not get.max_mod_revision or kv.mod_revision <= get.max_mod_revision)
            and kv.create_revision >= get.min_create_revision
            and (not get.max_create_revision or kv.create_revision <= get.max_create_revision)
        ]
        kvs.sort(key=lambda kv: getattr(kv, _FIELDS.get(get.sort_by.value, "key")), reverse=get.descending)
        more = 0 < get.limit < len(kvs)
        kvs = kvs[: get.limit] if get.limit > 0 else kvs
        if get.keys_only:
            kvs = [kv._replace(value=b"") for kv in kvs]
        return RangeResult(kvs, Revision(now), count, more)


keys = st.sampled_from([b"a", b"b", b"ba", b"bb", b"c"])
ends = st.none() | keys | st.just(b"\0")
leases = st.sampled_from([LeaseId(0), LeaseId(0), LeaseId(0), LeaseId(1), LeaseId(2)])
ages = st.sampled_from([0, 0, 0, 1, 2, 3, 5, 8, -1])
"""Of a revision: how long ago it was. Turned into a revision when the script runs."""
# `builds` would make up what is left out of a tuple.
puts = st.one_of(
    st.tuples(keys, st.binary(max_size=3), leases).map(lambda fields: Put(*fields)),
    st.tuples(keys, st.binary(max_size=3)).map(lambda fields: Put(*fields)),
    st.tuples(keys, st.just(b""), leases, st.just(True)).map(lambda fields: Put(*fields)),
    st.builds(Put, keys, st.binary(max_size=3), st.just(LeaseId(0)), st.just(False), st.just(True)),
)
deletes = st.builds(Delete, keys, ends)
gets = st.builds(
    Get,
    keys,
    ends,
    st.integers(-1, 3),
    ages.map(Revision),
    st.booleans(),
    st.sampled_from([False, False, False, True]),
    st.sampled_from(SortBy),
    st.booleans(),
    *[st.sampled_from([0, 0, 0, 0, 3, 6])] * 4,
)
plain_gets = st.tuples(keys, ends, st.integers(0, 2), ages.map(Revision)).map(lambda fields: Get(*fields))
compares = st.one_of(
    st.builds(
        Compare,
        keys,
        st.sampled_from([Target.MOD, Target.VERSION, Target.CREATE, Target.LEASE]),
        st.sampled_from(Op),
        st.integers(0, 5),
        ends,
    ),
    st.builds(Compare, keys, st.just(Target.VALUE), st.sampled_from(Op), st.binary(max_size=1), ends),
)
operations: st.SearchStrategy[list[Operation]] = st.lists(
    st.one_of(puts, puts, deletes, gets, plain_gets), max_size=4
)
txns = st.builds(Txn, st.lists(compares, max_size=1), operations, operations)
simple = st.one_of(puts, puts, deletes).map(lambda operation: Txn((), (operation,)))
alarms = st.builds(Alarm, st.sampled_from(AlarmKind), st.integers(0, 2), st.booleans())
COMMANDS: list[tuple[int, st.SearchStrategy[Any]]] = [
    (8, simple),
    (6, txns),
    (2, st.builds(LeaseGrant, st.sampled_from([LeaseId(1), LeaseId(2)]), st.integers(1, 9))),
    (1, st.builds(LeaseRevoke, st.sampled_from([LeaseId(1), LeaseId(2)]))),
    (2, st.builds(Compact, ages.map(Revision))),
    (1, alarms),
]
commands: st.SearchStrategy[Command] = st.one_of(
    [strategy for weight, strategy in COMMANDS for _ in range(weight)]
)
origins = st.one_of(
    st.just(Origin()),
    st.just(Origin()),
    st.builds(Origin, st.integers(1, 3), st.integers(1, 6), st.sampled_from([0, 0, 1, 2, 3])),
)


def at_age(wanted: Any, now: int) -> Any:
    """The same command or read, with revisions in place of ages."""
    match wanted:
        case Compact(age):
            return Compact(Revision(now - age))
        case Get() if wanted.revision:
            return wanted._replace(revision=Revision(now - wanted.revision))
        case Txn(compare, success, failure):
            return Txn(
                compare, [at_age(each, now) for each in success], [at_age(each, now) for each in failure]
            )
    return wanted


def through_bytes(space: KeySpace) -> KeySpace:
    return KeySpace.load(iter([msgpack.unpackb(msgpack.packb(part)) for part in space.dump()]))


def outcome(result: Any) -> Any:
    return type(result) if isinstance(result, StoreError) else result


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(commands, origins, gets, st.booleans()), min_size=10, max_size=50))
def test_the_key_space_does_what_the_model_does_and_so_does_its_replica(
    script: list[tuple[Command, Origin, Get, bool]],
) -> None:
    model, space, replica = Model(), KeySpace(), KeySpace()
    for wanted, origin, get, is_reloaded in script:
        wanted, get = at_age(wanted, model.revision), at_age(get, model.revision)
        sent, sent_origin = command.decode(command.encode(wanted, origin))
        try:
            space.check(sent)
        except InvalidRequestError:
            continue
        expected = model.apply(wanted, origin)
        assert outcome(space.apply(wanted, origin)) == expected
        assert outcome(replica.apply(sent, sent_origin)) == expected
        if is_reloaded:
            replica = through_bytes(replica)
        assert replica.state_hash == space.state_hash
        compare_reads(model, space, replica, get)
    for each in (space, replica, through_bytes(space)):
        compare_everything(model, each)
        while each.sweep(1):
            compare_everything(model, each)
        compare_everything(model, each)
    assert list(through_bytes(space).dump()) == list(through_bytes(replica).dump())


def compare_reads(model: Model, space: KeySpace, replica: KeySpace, get: Get) -> None:
    expected: Any
    try:
        if get.revision > 0:
            model.check_readable(get.revision)
        expected = model.read(get, model.states[model.revision], model.revision)
    except StoreError as error:
        expected = type(error)
    for each in (space, replica):
        found: Any
        try:
            found = each.read(get)
        except StoreError as error:
            found = type(error)
        assert found == expected


def compare_everything(model: Model, space: KeySpace) -> None:
    assert space.revision == model.revision
    assert space.compact_revision == max(0, model.compacted)
    assert dict(space.leases) == model.leases
    assert {lease: space.keys_of_lease(lease) for lease in space.leases} == {
        lease: model.keys_of(lease) for lease in model.leases
    }
    assert {(alarm.kind, alarm.member) for alarm in space.alarms} == model.alarms
    for revision in range(max(1, model.compacted), model.revision + 1):
        found = space.range(b"\0", b"\0", revision=Revision(revision))
        assert list(found.kvs) == [kv for _, kv in sorted(model.states[revision].items())]
    first = max(2, model.compacted)
    for revision, events in space.events_since(Revision(first), 1000):
        assert list(events) == [
            event if revision > model.compacted else Event(event.type, event.kv)
            for event in model.events[revision]
        ]
        assert len(space.events_since(revision, 1)) == 1
    assert len(space.events_since(Revision(first), 1000)) == max(0, model.revision - first + 1)
    live = [kv for state in list(model.states.values())[-1:] for kv in state.values()]
    assert len(space) == len(live)


@settings(max_examples=100, deadline=None)
@given(st.lists(commands, min_size=10, max_size=50), st.integers(1, 5))
def test_what_is_kept_is_what_can_be_read_and_live_bytes_counts_it(script: list[Command], sweep: int) -> None:
    space = KeySpace()
    for wanted in script:
        wanted = at_age(wanted, space.revision)
        try:
            space.check(wanted)
        except InvalidRequestError:
            continue
        space.apply(wanted)
    while space.sweep(sweep):
        pass
    loaded = through_bytes(space)
    assert loaded.live_bytes == space.live_bytes
    versions = space.versions
    assert versions._past == loaded.versions._past
    assert versions._newest == loaded.versions._newest
    assert list(versions._keys) == sorted(versions._newest)
    assert versions._log == loaded.versions._log
