"""Corner cases of etcd's key space, each tried on etcd 3.4.23 and written down as it answered.

A case is a story of steps on an empty store; a step is a command or a read, beside what comes out of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from gitkube.store.command import Command, Compact, LeaseGrant, LeaseRevoke, Txn
from gitkube.store.mvcc import KeySpace
from gitkube.store.protocol import (
    CompactedError,
    Compare,
    Delete,
    DeleteResult,
    DuplicateKeyError,
    EventType,
    FutureRevisionError,
    Get,
    InvalidRequestError,
    KeyNotFoundError,
    LeaseExistsError,
    LeaseId,
    LeaseNotFoundError,
    Op,
    Operation,
    Put,
    PutResult,
    RangeResult,
    Revision,
    SortBy,
    StoreError,
    Target,
    TxnResult,
)

L = LeaseId


def do(*operations: Operation) -> Txn:
    return Txn((), operations)


def when(*compares: Compare) -> Txn:
    return Txn(compares, ())


def get(key: str, end: str | None = None, **options: Any) -> Get:
    return Get(key.encode(), None if end is None else end.encode(), **options)


FIVE_KEYS = [do(Put(b"s%d" % number, b"%d" % (9 - number))) for number in range(5)] + [do(Put(b"s1", b"zz"))]
"""s0 to s4 at revisions 2 to 6, then s1 again at 7."""

HOLDS, FAILS = True, False
MISSING_KEY = [
    (Target.VERSION, Op.EQUAL, 0, HOLDS),
    (Target.VERSION, Op.EQUAL, 1, FAILS),
    (Target.CREATE, Op.LESS, 1, HOLDS),
    (Target.MOD, Op.GREATER, 0, FAILS),
    (Target.LEASE, Op.EQUAL, 0, HOLDS),
    (Target.VALUE, Op.EQUAL, b"", FAILS),
    (Target.VALUE, Op.NOT_EQUAL, b"x", FAILS),
]


@pytest.mark.parametrize(("target", "op", "value", "holds"), MISSING_KEY)
@pytest.mark.parametrize("end", [None, b"r", b"a", b"\0"], ids=["single", "range", "reversed", "onward"])
def test_a_missing_key_and_a_range_without_keys_compare_as_zero(
    target: Target, op: Op, value: Any, holds: bool, end: bytes | None
) -> None:
    result = KeySpace().apply(when(Compare(b"q", target, op, value, end)))
    assert isinstance(result, TxnResult)
    assert result.succeeded is holds


@pytest.mark.parametrize(
    ("compare", "holds"),
    [
        (Compare(b"s", Target.CREATE, Op.GREATER, 1, b"t"), HOLDS),
        (Compare(b"s", Target.CREATE, Op.GREATER, 2, b"t"), FAILS),  # s0 was created at 2
        (Compare(b"s1", Target.CREATE, Op.GREATER, 2, b"\0"), HOLDS),
        (Compare(b"s", Target.VERSION, Op.EQUAL, 1, b"t"), FAILS),  # s1 is at 2
        (Compare(b"s", Target.VALUE, Op.LESS, b"9", b"t"), FAILS),
        (Compare(b"s2", Target.VALUE, Op.LESS, b"9", b"t"), HOLDS),
        (Compare(b"s0", Target.VALUE, Op.GREATER, b""), HOLDS),
        (Compare(b"s1", Target.MOD, Op.EQUAL, 7), HOLDS),
    ],
)
def test_a_comparison_of_a_range_must_hold_for_each_key(compare: Compare, holds: bool) -> None:
    space = KeySpace()
    for command in FIVE_KEYS:
        space.apply(command)
    result = space.apply(when(compare))
    assert isinstance(result, TxnResult)
    assert result.succeeded is holds


def read_summary(result: RangeResult) -> tuple[str, int, bool, int]:
    return " ".join(kv.key.decode() for kv in result.kvs), result.count, result.more, result.revision


@pytest.mark.parametrize(
    ("question", "keys", "count", "more"),
    [
        (get("s", "t"), "s0 s1 s2 s3 s4", 5, False),
        (get("s", "t", limit=2), "s0 s1", 5, True),
        (get("s", "t", limit=5), "s0 s1 s2 s3 s4", 5, False),
        (get("s", "t", limit=-1), "s0 s1 s2 s3 s4", 5, False),
        (get("s", "t", limit=2, count_only=True), "", 5, False),
        (get("s", "t", count_only=True, min_mod_revision=7), "", 5, False),
        (get("s", "t", limit=1, min_mod_revision=6), "s1", 5, True),
        (get("s", "t", max_create_revision=3), "s0 s1", 5, False),
        (get("s", "t", min_create_revision=3, max_mod_revision=5), "s2 s3", 5, False),
        (get("s", "t", limit=2, sort_by=SortBy.VALUE, descending=True), "s1 s0", 5, True),
        (get("s", "t", limit=2, sort_by=SortBy.VALUE, descending=True, keys_only=True), "s1 s0", 5, True),
        (get("s", "t", limit=2, sort_by=SortBy.MOD), "s0 s2", 5, True),
        (get("s", "t", limit=2, sort_by=SortBy.VERSION, descending=True), "s1 s0", 5, True),
        (get("s", "t", descending=True), "s4 s3 s2 s1 s0", 5, False),
        (get("s", "t", revision=4), "s0 s1 s2", 3, False),
        (get("s", "t", revision=-1), "s0 s1 s2 s3 s4", 5, False),
        (get("s3", "\0"), "s3 s4", 2, False),
        (get("\0", "\0"), "s0 s1 s2 s3 s4", 5, False),
        (get("t", "s"), "", 0, False),
        (get("s1"), "s1", 1, False),
        (get("s1", count_only=True), "", 1, False),
        (get("s"), "", 0, False),
    ],
)
def test_reads(question: Get, keys: str, count: int, more: bool) -> None:
    space = KeySpace()
    for command in FIVE_KEYS:
        space.apply(command)
    assert read_summary(space.read(question)) == (keys, count, more, 7)
    assert all(kv.value == b"" for kv in space.read(question).kvs) is (
        question.keys_only or question.count_only or count == 0
    )


@dataclass
class Case:
    steps: list[Command]
    gives: Any
    """Of the last step: an error's class, or what `summary` makes of the result."""
    revision: int = 0
    """Afterwards; 0: the test does not care."""


def summary(result: Any) -> Any:
    if isinstance(result, StoreError):
        return type(result)
    if not isinstance(result, TxnResult):
        return result
    found: list[Any] = []
    for each in result.results:
        match each:
            case PutResult(previous):
                found.append(previous and previous.value)
            case DeleteResult(deleted):
                found.append([kv.key for kv in deleted])
            case RangeResult(kvs, revision):
                found.append(([(kv.key, kv.value, kv.mod_revision) for kv in kvs], revision))
    return found


LEASED = [LeaseGrant(L(80), 100), do(Put(b"m", b"1", L(80)), Put(b"n", b"1", L(80)))]
CASES: dict[str, Case] = {
    "several puts share a revision": Case([do(Put(b"b", b""), Put(b"a", b""))], [None, None], 2),
    "deleting nothing takes no revision": Case([do(Delete(b"a", b"z"), Delete(b"b"))], [[], []], 1),
    "a read sees what came before it": Case(
        [do(Put(b"b", b"0")), do(Get(b"a", b"z"), Put(b"a", b"1"), Get(b"a", b"z"), Delete(b"b"), Get(b"b"))],
        [
            ([(b"b", b"0", 2)], 2),
            None,
            ([(b"a", b"1", 3), (b"b", b"0", 2)], 3),
            [b"b"],
            ([], 3),
        ],
        3,
    ),
    "deletions may overlap": Case(
        [do(Put(b"b", b"")), do(Delete(b"a", b"z"), Delete(b"b", b"c"), Delete(b"b"))], [[b"b"], [], []], 3
    ),
    "a put inside a deleted range": Case([do(Delete(b"a", b"z"), Put(b"b", b""))], DuplicateKeyError),
    "in whatever order": Case([do(Put(b"b", b""), Delete(b"a", b"z"))], DuplicateKeyError),
    "a put at the end of a deleted range": Case([do(Put(b"z", b"1"), Delete(b"a", b"z"))], [None, []], 2),
    "a put beside a reversed range": Case([do(Put(b"m", b"1"), Delete(b"z", b"a"))], [None, []], 2),
    "a key put twice": Case([do(Put(b"m", b""), Put(b"m", b""))], DuplicateKeyError),
    "also in the branch that isn't run": Case(
        [Txn((), (), (Put(b"m", b""), Put(b"m", b"")))], DuplicateKeyError
    ),
    "one put in each branch": Case([Txn((), (Put(b"m", b""),), (Put(b"m", b""),))], [None], 2),
    "a deletion without an end, then a put": Case(
        [do(Put(b"a", b"1")), do(Delete(b"a", b"\0"), Put(b"a", b"2"), Get(b"a"))],
        [[b"a"], None, ([(b"a", b"2", 3)], 3)],
        3,
    ),
    "a put, then a deletion without an end": Case(
        [do(Put(b"a", b"1")), do(Put(b"a", b"2"), Delete(b"a", b"\0"), Get(b"a"))],
        [b"1", [b"a"], ([], 3)],
        3,
    ),
    "a read of the past inside a transaction": Case(
        [do(Put(b"m", b"1")), do(Put(b"m", b"2"), Get(b"m", revision=Revision(2)), Get(b"m"))],
        [b"1", ([(b"m", b"1", 2)], 3), ([(b"m", b"2", 3)], 3)],
        3,
    ),
    "a read of a past range inside a transaction": Case(
        [
            do(Put(b"m", b"1")),
            do(Put(b"a", b"2"), Put(b"m", b"2"), Get(b"a", b"z", revision=Revision(2)), Get(b"a", b"z")),
        ],
        [None, b"1", ([(b"m", b"1", 2)], 3), ([(b"a", b"2", 3), (b"m", b"2", 3)], 3)],
        3,
    ),
    "a read of a transaction's own revision": Case(
        [do(Put(b"m", b"1"), Get(b"m", revision=Revision(2)))], FutureRevisionError, 1
    ),
    "a read of what is compacted inside a transaction": Case(
        [do(Put(b"m", b"1")), Compact(Revision(2)), do(Put(b"m", b"2"), Get(b"m", revision=Revision(1)))],
        CompactedError,
        2,
    ),
    "a negative revision inside a transaction, after a compaction": Case(
        [Compact(Revision(1)), do(Get(b"m", revision=Revision(-1)))], CompactedError
    ),
    "compact below zero": Case([Compact(Revision(-1))], CompactedError),
    "compact at zero, once": Case([Compact(Revision(0))], None),
    "compact at zero again": Case([Compact(Revision(0)), Compact(Revision(0))], CompactedError),
    "compact at the current revision": Case([Compact(Revision(1))], None),
    "compact there again": Case([Compact(Revision(1)), Compact(Revision(1))], CompactedError),
    "compact in the future": Case([Compact(Revision(2))], FutureRevisionError),
    "an unknown lease": Case([do(Put(b"m", b"", L(12345)))], LeaseNotFoundError, 1),
    "a negative lease that is unknown": Case([do(Put(b"m", b"", L(-1)))], LeaseNotFoundError, 1),
    "an unknown lease in the branch that isn't run": Case([Txn((), (), (Put(b"m", b"", L(12)),))], [], 1),
    "leases are checked before revisions": Case(
        [do(Get(b"m", revision=Revision(1000)), Put(b"m", b"", L(12345)))], LeaseNotFoundError, 1
    ),
    "keeping the value of a missing key": Case(
        [do(Put(b"new", b"1"), Put(b"nokey", b"", ignore_value=True))], KeyNotFoundError, 1
    ),
    "keeping the lease of a missing key": Case(
        [do(Put(b"nokey", b"1", ignore_lease=True))], KeyNotFoundError, 1
    ),
    "keeping a value and giving one": Case(
        [do(Put(b"m", b"x", ignore_value=True))], InvalidRequestError, 1
    ),
    "keeping a lease and giving one": Case(
        [do(Put(b"m", b"x", L(5), ignore_lease=True))], InvalidRequestError, 1
    ),
    "an empty key in a comparison": Case([when(Compare(b"", Target.MOD, Op.EQUAL, 0))], InvalidRequestError),
    "an empty key in a deletion": Case([do(Delete(b"", b"\0"))], InvalidRequestError),
    "an empty key in a read": Case([do(Get(b"", b"\0"))], InvalidRequestError),
    "too many comparisons": Case(
        [when(*[Compare(b"a", Target.MOD, Op.EQUAL, 0)] * 129)], InvalidRequestError
    ),
    "as many operations as may be": Case([do(*[Get(b"a")] * 128)], [([], 1)] * 128),
    "too many operations in the other branch": Case([Txn((), (), (Get(b"a"),) * 129)], InvalidRequestError),
    "a lease's id is taken": Case([LeaseGrant(L(7), 5), LeaseGrant(L(7), 9)], LeaseExistsError),
    "a lease of too long a time": Case([LeaseGrant(L(7), 9_000_000_001)], InvalidRequestError),
    "a lease may have a negative id": Case([LeaseGrant(L(-79), 100)], None),
    "no lease has the id 0": Case([LeaseGrant(L(0), 100)], LeaseNotFoundError),
    "a lease that ends takes its keys in one revision": Case([*LEASED, LeaseRevoke(L(80))], None, 3),
    "a lease without keys takes no revision": Case([LeaseGrant(L(7), 5), LeaseRevoke(L(7))], None, 1),
    "an ended lease cannot end again": Case(
        [*LEASED, LeaseRevoke(L(80)), LeaseRevoke(L(80))], LeaseNotFoundError, 3
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_corner(name: str) -> None:
    case = CASES[name]
    space = KeySpace()
    for command in case.steps[:-1]:
        assert not isinstance(space.apply(command), StoreError)
    try:
        space.check(case.steps[-1])
        result: Any = space.apply(case.steps[-1])
    except InvalidRequestError as error:
        result = error
    assert summary(result) == case.gives
    if case.revision:
        assert space.revision == case.revision


@pytest.mark.parametrize(
    ("again", "remain"),
    [
        (Put(b"m", b"2"), [b"n"]),
        (Put(b"m", b"2", L(80)), [b"m", b"n"]),
        (Put(b"m", b"2", ignore_lease=True), [b"m", b"n"]),
        (Put(b"m", b"", ignore_value=True), [b"n"]),
        (Put(b"m", b"", ignore_value=True, ignore_lease=True), [b"m", b"n"]),
        (Put(b"m", b"2", L(81)), [b"n"]),
        (Delete(b"m"), [b"n"]),
        (Delete(b"a", b"\0"), []),
    ],
)
def test_a_key_hangs_on_the_lease_that_it_was_last_put_with(again: Operation, remain: list[bytes]) -> None:
    space = KeySpace()
    for command in [LeaseGrant(L(81), 100), *LEASED, do(again)]:
        assert not isinstance(space.apply(command), StoreError)
    assert space.keys_of_lease(L(80)) == remain
    assert KeySpace.load(space.dump()).keys_of_lease(L(80)) == remain
    if isinstance(again, Put) and again.ignore_value:
        assert space.range(b"m").kvs[0].value == b"1"


def test_two_changes_of_a_key_in_one_revision_are_two_events_with_the_same_past() -> None:
    space = KeySpace()
    space.apply(do(Put(b"a", b"1")))
    space.apply(do(Delete(b"a", b"\0"), Put(b"a", b"2")))
    space.apply(do(Put(b"a", b"3"), Delete(b"a", b"\0")))
    for each in (space, KeySpace.load(space.dump())):
        events = [event for _, batch in each.events_since(Revision(3), 10) for event in batch]
        assert [
            (event.type, event.kv.value, event.kv.mod_revision, event.previous and event.previous.value)
            for event in events
        ] == [
            (EventType.DELETE, b"", 3, b"1"),
            (EventType.PUT, b"2", 3, None),
            (EventType.PUT, b"3", 4, b"2"),
            (EventType.DELETE, b"", 4, b"2"),
        ]
        assert [kv.value for kv in each.range(b"a", revision=Revision(3)).kvs] == [b"2"]
        assert list(each.range(b"a", revision=Revision(4)).kvs) == []


def test_reading_and_watching_begin_at_the_compacted_revision() -> None:
    space = KeySpace()
    for value in (b"1", b"2", b"3"):
        space.apply(do(Put(b"w", value)))
    space.apply(Compact(Revision(3)))
    assert space.range(b"w", revision=Revision(3)).kvs[0].value == b"2"
    assert [event.kv.value for _, (event,) in space.events_since(Revision(3), 9)] == [b"2", b"3"]
    for call in (lambda: space.range(b"w", revision=Revision(2)), lambda: space.events_since(Revision(2), 9)):
        with pytest.raises(CompactedError) as caught:
            call()
        assert caught.value.compact_revision == 3
    with pytest.raises(FutureRevisionError):
        space.range(b"w", revision=Revision(5))
    with pytest.raises(InvalidRequestError):
        space.range(b"", b"\0")
