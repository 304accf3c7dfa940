"""What the key space adds to etcd's semantics: quota and alarms, hashes, dumps, bounded work."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from gitkube.store.command import Alarm, AlarmKind, Command, Compact, LeaseGrant, LeaseRevoke, Origin, Txn
from gitkube.store.mvcc import SWEPT_REVISIONS_PER_COMMAND, KeySpace
from gitkube.store.protocol import (
    CompactedError,
    CorruptError,
    Delete,
    Get,
    InvalidRequestError,
    LeaseId,
    NoSpaceError,
    Op,
    Put,
    Revision,
    StoreError,
    Target,
)
from gitkube.store.protocol import Compare as Comparison
from gitkube.store.versions import VERSION_OVERHEAD_BYTES


def put(key: bytes = b"k", value: bytes = b"v") -> Txn:
    return Txn((), (Put(key, value),))


def filled(*commands: Command) -> KeySpace:
    space = KeySpace()
    for command in commands:
        assert not isinstance(space.apply(command), StoreError)
    return space


def swept(space: KeySpace) -> KeySpace:
    while space.sweep(1000):
        pass
    return space


# ------------------------------------------------------------------ quota and alarms


def test_bytes_in_use_follow_every_version_that_is_kept() -> None:
    one = 4 + VERSION_OVERHEAD_BYTES
    space = filled(put(b"k", b"123"))
    assert space.live_bytes == one
    space.apply(put(b"k", b"456"))
    assert space.live_bytes == 2 * one
    space.apply(Txn((), (Delete(b"k"),)))
    assert space.live_bytes == 3 * one - 3  # the deletion is a version without a value
    space.apply(Compact(Revision(3)))
    assert swept(space).live_bytes == 2 * one - 3
    space.apply(Compact(Revision(4)))
    assert swept(space).live_bytes == 0


@pytest.mark.parametrize(
    ("command", "exceeds"),
    [
        (put(b"k", b"v" * 600), True),
        (put(b"k", b"v" * 10), False),
        (Txn((), (), (Put(b"k", b"v" * 600),)), True),
        (Txn((), (Put(b"a", b"v" * 100), Put(b"b", b"v" * 100))), True),
        (Txn((), (Delete(b"k"), Get(b"k" * 1000))), False),
        (LeaseGrant(LeaseId(1), 10), False),
        (LeaseRevoke(LeaseId(1)), False),
        (Compact(Revision(1)), False),
    ],
)
def test_the_quota_is_asked_before_a_command_is_proposed(command: Command, exceeds: bool) -> None:
    space = filled(put())
    assert space.would_exceed(command, space.live_bytes + 800) is exceeds
    assert space.would_exceed(command, 0) is False


def test_beyond_the_quota_only_what_shrinks_goes_on() -> None:
    space = filled(put(b"full", b"x"))
    assert space.would_exceed(LeaseGrant(LeaseId(1), 10), 10)
    assert not space.would_exceed(Txn((), (Delete(b"full"),)), 10)


GROWS = [
    put(),
    Txn((), (), (Put(b"k", b"v"),)),
    Txn((Comparison(b"none", Target.MOD, Op.GREATER, 0),), (Put(b"k", b""),), (Delete(b"k"),)),
    LeaseGrant(LeaseId(2), 10),
]
SHRINKS = [Txn((), (Delete(b"k"), Get(b"k"))), Compact(Revision(2)), LeaseRevoke(LeaseId(1))]


def test_while_a_member_is_out_of_space_nothing_grows_anywhere() -> None:
    space = filled(put(), put(), LeaseGrant(LeaseId(1), 10))
    space.apply(Alarm(AlarmKind.NOSPACE, 7))
    before = space.revision, space.state_hash
    for command in GROWS:
        assert isinstance(space.apply(command), NoSpaceError)
    assert (space.revision, space.state_hash) == before
    for command in SHRINKS:
        assert not isinstance(space.apply(command), StoreError)
    assert isinstance(KeySpace.load(space.dump()).apply(put()), NoSpaceError)


def test_the_alarm_holds_until_each_member_has_lifted_its_own() -> None:
    space = filled(Alarm(AlarmKind.NOSPACE, 7), Alarm(AlarmKind.NOSPACE, 8), Alarm(AlarmKind.CORRUPT, 7))
    space.apply(Alarm(AlarmKind.NOSPACE, 7, is_raised=False))
    assert isinstance(space.apply(put()), NoSpaceError)
    assert space.alarms == [Alarm(AlarmKind.NOSPACE, 8), Alarm(AlarmKind.CORRUPT, 7)]
    space.apply(Alarm(AlarmKind.NOSPACE, 0, is_raised=False))
    assert not isinstance(space.apply(put()), StoreError)
    assert space.alarms == [Alarm(AlarmKind.CORRUPT, 7)]


# ------------------------------------------------------------------ hashes

HISTORY: list[Command] = [
    put(b"a", b"1"),
    LeaseGrant(LeaseId(5), 10),
    Txn((), (Put(b"b", b"2", LeaseId(5)), Put(b"a", b"3"))),
    Compact(Revision(2)),
    Txn((), (Delete(b"a"),)),
    Alarm(AlarmKind.CORRUPT, 3),
    LeaseRevoke(LeaseId(5)),
]


def test_each_change_changes_the_running_hash_and_a_refusal_or_a_read_does_not() -> None:
    space = KeySpace()
    hashes = [space.state_hash]
    for command in HISTORY:
        space.apply(command)
        hashes.append(space.state_hash)
    assert len(set(hashes)) == len(hashes)
    for command in (Compact(Revision(1)), Txn((), (Get(b"a"), Delete(b"none"))), LeaseRevoke(LeaseId(9))):
        space.apply(command)
    assert space.state_hash == hashes[-1]
    assert KeySpace.load(space.dump()).state_hash == hashes[-1]


@pytest.mark.parametrize(
    "other",
    [
        put(b"a", b"2"),
        put(b"b", b"1"),
        put(b"a1", b""),
        Txn((), (Put(b"a", b"1"), Put(b"b", b""))),
    ],
)
def test_members_that_differ_in_one_change_never_agree_again(other: Command) -> None:
    one, another = filled(put(b"a", b"1")), filled(other)
    for command in HISTORY:
        one.apply(command)
        another.apply(command)
        assert one.state_hash != another.state_hash


def test_the_hash_of_a_revision_is_of_what_can_be_read_there() -> None:
    space = filled(put(b"a", b"1"), put(b"b", b"2"))
    at_3 = space.hash_at()
    assert (at_3.revision, at_3.compact_revision) == (3, 0)
    for command in (put(b"a", b"3"), Txn((), (Delete(b"b"),))):
        space.apply(command)
    assert space.hash_at(Revision(3)) == at_3
    assert space.hash_at().hash != at_3.hash
    space.apply(Compact(Revision(3)))
    assert swept(space).hash_at(Revision(3)).hash == at_3.hash
    assert KeySpace.load(space.dump()).hash_at(Revision(3)).hash == at_3.hash
    with pytest.raises(CompactedError):
        space.hash_at(Revision(2))


def test_the_hash_of_a_revision_finds_what_changed_in_memory() -> None:
    space = filled(put(b"a", b"1"), put(b"b", b"2"))
    before = space.hash_at()
    versions = space.versions
    versions._newest[b"a"] = versions._newest[b"a"]._replace(value=b"0")
    assert space.hash_at().hash != before.hash


# ------------------------------------------------------------------ compaction in small steps


def test_a_large_compaction_is_done_bit_by_bit_and_nobody_can_tell() -> None:
    space = filled(*(put(b"k%d" % (number % 10), b"%d" % number) for number in range(1000)))
    before = space.live_bytes
    space.apply(Compact(Revision(1001)))
    assert space.live_bytes == before
    with pytest.raises(CompactedError):
        space.range(b"k0", revision=Revision(1000))
    assert KeySpace.load(space.dump()).live_bytes == 10 * (2 + 3 + VERSION_OVERHEAD_BYTES)
    steps = 0
    while not space.versions.is_swept:
        space.apply(Txn((), ()))
        steps += 1
    assert steps == -(-1000 // SWEPT_REVISIONS_PER_COMMAND)
    assert space.live_bytes == 10 * (2 + 3 + VERSION_OVERHEAD_BYTES)


# ------------------------------------------------------------------ dumps


def test_a_dump_does_not_move_while_the_key_space_goes_on() -> None:
    space = filled(*(put(b"k%d" % (number % 7), b"%d" % number) for number in range(100)))
    space.apply(Compact(Revision(50)))
    expected = list(space.dump())
    parts = space.dump()
    found = [next(parts)]
    for number in range(50):
        space.apply(put(b"k%d" % (number % 9), b"later"))
        space.apply(Txn((), (Delete(b"k%d" % (number % 5)),)))
    space.apply(Compact(space.revision))
    swept(space)
    found += parts
    assert found == expected


def test_large_values_do_not_make_large_parts() -> None:
    space = filled(*(put(b"k%d" % number, b"x" * 100_000) for number in range(20)))
    for _ in range(2):
        sizes = [sum(len(item[1]) for item in part[1]) for part in space.dump() if part[0] == "base"]
        assert all(size <= 400_000 for size in sizes)
        space.apply(Compact(Revision(21)))


def test_damage_in_a_dump_is_found() -> None:
    space = filled(put(), put(), Compact(Revision(2)), put(), put())
    parts = list(space.dump())

    def without(kind: str) -> Iterator[list[Any]]:
        return iter([part for part in parts if part[0] != kind])

    for kind in ("first", "changes"):
        with pytest.raises(CorruptError):
            KeySpace.load(without(kind))
    with pytest.raises(CorruptError, match="format 99"):
        KeySpace.load(iter([["space", 99, 1, 1]]))
    with pytest.raises(CorruptError, match="unknown"):
        KeySpace.load(iter([*parts, ["unknown"]]))


def test_after_a_restore_no_revision_is_given_out_again() -> None:
    space = filled(put(b"a", b"1"), LeaseGrant(LeaseId(5), 10), Txn((), (Put(b"b", b"2", LeaseId(5)),)))
    space.apply(put(b"a", b"2"), Origin(9, 1))
    space.move_on(1_000_000)
    for each in (space, KeySpace.load(space.dump())):
        assert each.revision == 1_000_004
        assert [(kv.key, kv.value) for kv in each.range(b"\0", b"\0").kvs] == [(b"a", b"2"), (b"b", b"2")]
        with pytest.raises(CompactedError):
            each.events_since(Revision(5), 10)
        assert each.keys_of_lease(LeaseId(5)) == [b"b"]
        each.apply(put(b"a", b"3"))
        assert [revision for revision, _ in each.events_since(Revision(1_000_005), 10)] == [1_000_005]
        assert each.live_bytes == 3 * (2 + VERSION_OVERHEAD_BYTES)


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    "command",
    [
        put("text", b"v"),  # type: ignore[arg-type]
        put(b"k", "text"),  # type: ignore[arg-type]
        put(b"k", None),  # type: ignore[arg-type]
        Txn((), (Put(b"k", b"", "lease"),)),  # type: ignore[arg-type]
        Txn((Comparison(b"k", Target.VALUE, Op.LESS, 5),), ()),
        Txn((Comparison(b"k", Target.MOD, Op.LESS, b"5"),), ()),
    ],
)
def test_what_would_stop_every_member_is_refused_before_it_is_in_the_log(command: Command) -> None:
    with pytest.raises(InvalidRequestError):
        KeySpace().check(command)


def test_a_transaction_that_only_reads_needs_no_log() -> None:
    space = filled(put(b"a", b"1"), put(b"a", b"2"), Compact(Revision(3)))
    result = space.answer(Txn((Comparison(b"a", Target.VERSION, Op.EQUAL, 2),), (Get(b"a"),)))
    assert result.succeeded
    with pytest.raises(CompactedError):
        space.answer(Txn((), (Get(b"a", revision=Revision(2)),)))


def test_large_and_small_ranges_are_deleted_alike() -> None:
    keys = [b"%05d" % number for number in range(3000)]
    space = filled(*(put(key) for key in keys))
    for first, last in ((10, 20), (1000, 2900), (0, 5), (2950, 3000)):
        space.apply(Txn((), (Delete(b"%05d" % first, b"%05d" % last),)))
        keys = [key for key in keys if not b"%05d" % first <= key < b"%05d" % last]
        assert [kv.key for kv in space.range(b"\0", b"\0").kvs] == keys
        assert len(space) == len(keys)
